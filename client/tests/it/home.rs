//! A home directory with one profile, and the client at work in it. Waits for every end with a
//! deadline, so that what hangs fails.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postern_shared::invite::Invite;
use postern_shared::knock::Carrier;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::server;

/// More than anything that ends should need, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(5);

pub(crate) struct Home {
    dir: TempDir,
}

impl Home {
    /// Nothing in it yet.
    pub(crate) fn empty() -> Home {
        Home { dir: tempfile::tempdir().expect("a directory") }
    }

    /// With a profile "bob" for the server there.
    pub(crate) fn with(address: SocketAddr, carriers: &[Carrier]) -> Home {
        Home::joined(&server::invite(address, carriers))
    }

    pub(crate) fn joined(invite: &Invite) -> Home {
        let home = Home::empty();
        let output = home.run(&["join", "bob"], invite.to_link().as_bytes());
        assert!(output.status.success(), "{output:?}");
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn profile(&self) -> PathBuf {
        self.path().join(".config/postern/bob.toml")
    }

    pub(crate) fn edit_profile(&self, from: &str, to: &str) {
        let old = fs::read_to_string(self.profile()).expect("a profile");
        assert!(old.contains(from), "{from} is not in {old}");
        fs::write(self.profile(), old.replacen(from, to, 1)).expect("ours");
    }

    /// The key as the profile has it.
    pub(crate) fn key(&self) -> String {
        let text = fs::read_to_string(self.profile()).expect("a profile");
        let (_, rest) = text.split_once("\nkey = \"").expect("a key");
        rest.split('"').next().expect("digits").to_owned()
    }

    pub(crate) fn last_error(&self) -> Option<String> {
        fs::read_to_string(self.path().join(".local/state/postern/last-error.log")).ok()
    }

    /// Any program, at home here.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .current_dir("/");
        command
    }

    pub(crate) fn postern(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_postern"));
        command.args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        finish(self.postern(arguments), input)
    }

    /// Starts `connect bob` on three pipes, as ssh would.
    pub(crate) fn connect(&self, arguments: &[&str]) -> Client {
        Client::start(self.postern(&["connect", "bob"]).args(arguments))
    }

    /// Runs `connect bob` without input until it fails, which it must not take longer for than
    /// `patience`. Returns the exit code and what it said.
    pub(crate) fn fails(&self, arguments: &[&str], patience: Duration) -> (i32, String) {
        let mut client = self.connect(arguments);
        let stdout = client.read_to_end();
        let (code, stderr) = client.ends_within(patience);
        assert_eq!(stdout.join().expect("read"), b"", "before any acknowledgement");
        assert!((1..=3).contains(&stderr.lines().count()), "{stderr}");
        assert!(stderr.lines().all(|line| line.starts_with("postern: ")), "{stderr}");
        assert!(!stderr.contains(&self.key()), "{stderr}");
        let kept = self.last_error().expect("a last error");
        assert!(kept.contains(stderr.lines().last().expect("one")[9..].trim()), "{kept}");
        (code, stderr)
    }
}

fn finish(mut command: Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Whoever does not read its input may end before it was written.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// A running `connect`; killed when dropped.
pub(crate) struct Client {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    stderr: JoinHandle<String>,
}

impl Client {
    pub(crate) fn start(command: &mut Command) -> Client {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Client::start_as_is(command)
    }

    /// Where standard input and output are already something else.
    pub(crate) fn start_as_is(command: &mut Command) -> Client {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut stderr = child.stderr.take().expect("a pipe");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("text");
            text
        });
        Client { stdin: child.stdin.take(), stdout: child.stdout.take(), child, stderr }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("still open").write_all(bytes).expect("it reads");
    }

    pub(crate) fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stdout.as_mut().expect("still open").read_exact(&mut bytes).expect("it writes");
        bytes
    }

    /// Reads in the background what is still to come.
    pub(crate) fn read_to_end(&mut self) -> JoinHandle<Vec<u8>> {
        let mut stdout = self.stdout.take().expect("still open");
        thread::spawn(move || {
            let mut bytes = Vec::new();
            stdout.read_to_end(&mut bytes).expect("readable");
            bytes
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("ours").is_none()
    }

    /// Waits for the end; the code of a process that a signal killed is minus the signal.
    pub(crate) fn ends_within(&mut self, patience: Duration) -> (i32, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("ours") {
                break status;
            }
            assert!(started.elapsed() < patience, "still running after {patience:?}");
            thread::sleep(Duration::from_millis(5));
        };
        let stderr = std::mem::replace(&mut self.stderr, thread::spawn(String::new));
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        (code, stderr.join().expect("text"))
    }

    /// Waits for an end without error.
    pub(crate) fn ends_well_within(&mut self, patience: Duration) {
        assert_eq!(self.ends_within(patience), (0, String::new()));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
