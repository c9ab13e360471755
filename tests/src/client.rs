//! A person's laptop: a home directory with one postern profile, and OpenSSH set up to use it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use postern_shared::knock::Carrier;

use crate::posternd::binary;
use crate::process::{bounded, success};
use crate::scratch::Scratch;
use crate::sshd::Sshd;

#[derive(Debug)]
pub struct Client {
    home: PathBuf,
    name: String,
}

impl Client {
    /// Takes the invite with `postern join NAME`.
    pub fn join(scratch: &Scratch, name: &str, invite: &str) -> Client {
        let client = Client { home: scratch.dir(name), name: name.to_owned() };
        let output = feed(&mut client.postern(&["join", name]), invite.as_bytes());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        client
    }

    /// Somebody who has no invite, but ssh.
    pub fn uninvited(scratch: &Scratch, name: &str) -> Client {
        Client { home: scratch.dir(name), name: name.to_owned() }
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn postern(&self, args: &[&str]) -> Command {
        let mut command = self.at_home(binary("postern"));
        command.args(args);
        command
    }

    /// `postern connect` with this client's profile.
    pub fn connect(&self, args: &[&str]) -> Command {
        let mut command = self.postern(&["connect", &self.name]);
        command.args(args);
        command
    }

    /// A command that finds this client's profile.
    pub fn at_home(&self, program: impl AsRef<Path>) -> Command {
        self.settle(bounded(program))
    }

    /// `ssh`, `scp` or `sftp` with the configuration of [`use_ssh`](Self::use_ssh).
    pub fn openssh(&self, program: &str) -> Command {
        let mut command = self.at_home(program);
        command.arg("-F").arg(self.ssh_config());
        command
    }

    /// An `ssh` that the test ends itself.
    pub fn lasting_ssh(&self) -> Command {
        let mut command = self.lasting("ssh");
        command.arg("-F").arg(self.ssh_config());
        command
    }

    /// A command that the test ends itself: killing `timeout` would spare what it started.
    pub fn lasting(&self, program: impl AsRef<Path>) -> Command {
        self.settle(Command::new(program.as_ref()))
    }

    fn settle(&self, mut command: Command) -> Command {
        command.env("HOME", &self.home).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
        command.env("GIT_SSH_COMMAND", format!("ssh -F {}", self.ssh_config().display()));
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "A").env(format!("GIT_{role}_EMAIL"), "a@b");
        }
        command
    }

    /// A command on the host behind this carrier.
    pub fn ssh(&self, carrier: Carrier, command: &str) -> Command {
        let mut ssh = self.openssh("ssh");
        ssh.args([carrier.name(), command]);
        ssh
    }

    pub fn ssh_config(&self) -> PathBuf {
        self.home.join("ssh_config")
    }

    /// Writes an ssh_config in which the hosts `plain`, `tls` and `hello` are this sshd behind the
    /// carrier of that name, and `fdpass` is it by way of a socket that is handed to ssh.
    pub fn use_ssh(&self, sshd: &Sshd) {
        let known_hosts = self.home.join("known_hosts");
        fs::write(&known_hosts, sshd.known_host()).expect("write known_hosts");
        let user = success(Command::new("id").arg("-un"));
        let config = format!(
            "Host plain tls hello
    ProxyCommand {postern} connect {name} --carrier %n
Host fdpass
    ProxyCommand {postern} connect {name} --carrier plain --fdpass
    ProxyUseFdpass yes
Host inner
    HostName {inner}
    Port {port}
Host *
    User {user}
    IdentityFile {key}
    IdentitiesOnly yes
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    ControlMaster no
",
            postern = binary("postern").display(),
            name = self.name,
            inner = sshd.address().ip(),
            port = sshd.address().port(),
            user = user.trim(),
            key = sshd.user_key().display(),
            known_hosts = known_hosts.display(),
        );
        fs::write(self.ssh_config(), config).expect("write ssh_config");
    }
}

/// Runs the command with these bytes on its stdin, which then ends.
pub fn feed(command: &mut Command, stdin: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    let bytes = stdin.to_vec();
    // A thread of its own: the child may answer before it has read everything.
    let writer = thread::spawn(move || pipe.write_all(&bytes));
    let output = child.wait_with_output().expect("wait for a child");
    let _ = writer.join();
    output
}
