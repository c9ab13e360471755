//! Child processes with an end: daemons that die with the test that started them, and commands that
//! may not run for ever. Signals go to a process of ours by its own id only.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

use crate::net::{free_port, local, on_free_ports};
use crate::scratch::Scratch;

/// Generous: the machine may be small and busy. Nothing waits that long unless it fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running program whose output is kept, and shown if the test fails.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command with its output in the file `log`.
    pub fn spawn(name: &'static str, command: &mut Command, log: PathBuf) -> Process {
        let out = File::create(&log).expect("create a log file");
        let err = out.try_clone().expect("duplicate the log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}; see tests/run"));
        Process { name, child, log }
    }

    /// Starts a program that listens on an address of its own, which `command` tells it; with its log in
    /// `NAME.log`.
    pub fn listening(
        scratch: &Scratch,
        name: &'static str,
        command: impl Fn(SocketAddr) -> Command,
    ) -> (SocketAddr, Process) {
        on_free_ports(|| {
            let address = local(free_port());
            let log = scratch.path(&format!("{name}.log"));
            let mut process = Process::spawn(name, &mut command(address), log);
            until(name, || match process.exited() {
                Some(_) => Some(Err(process.log())),
                None => TcpStream::connect(address).ok().map(|_| Ok(())),
            })?;
            Ok((address, process))
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Leaves it with so many descriptors at most.
    pub fn limit_descriptors(&self, most: usize) {
        let most = u64::try_from(most).ok();
        let limit = Rlimit { current: most, maximum: most };
        prlimit(Some(id(self.pid())), Resource::Nofile, limit).expect("limit a child");
    }

    /// Lets it write no file beyond so many bytes.
    pub fn limit_file_size(&self, most: Option<u64>) {
        let limit = Rlimit { current: most, maximum: None };
        prlimit(Some(id(self.pid())), Resource::Fsize, limit).expect("limit a child");
    }

    /// How long it kept processors busy.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("read stat");
        // Behind the name, in which anything may stand: proc_pid_stat(5), fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>());
        let ticks: u64 = ticks.map(|ticks| ticks.expect("a number")).sum();
        Duration::from_millis(1000 * ticks / rustix::param::clock_ticks_per_second())
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let name = self.name;
        until(&format!("{name} to exit"), || self.exited())
    }

    /// Waits for a file that it writes when it is ready; `false` if it ended before.
    pub fn wrote(&mut self, file: &Path) -> bool {
        let name = self.name;
        until(&format!("{name} to be ready"), || match self.exited() {
            Some(_) => Some(false),
            None => file.exists().then_some(true),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, self.log());
        }
    }
}

/// Resident bytes of this process.
pub fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Lets this process, and what it starts from now on, have as many descriptors as may be; says how many.
pub fn raise_descriptor_limit() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let enough = maximum.map(|maximum| maximum.max(65_536));
    // Root may go beyond what it was given.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: enough, maximum: enough });
    if raised.is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Sends a signal to a process that this test started.
pub fn send(pid: u32, signal: Signal) {
    kill_process(id(pid), signal).expect("signal a child");
}

fn id(pid: u32) -> Pid {
    i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id")
}

/// Whether a process of this id exists.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The processes that this one started, on whichever of its threads.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| fs::read_to_string(task.path().join("children")));
    let lists: String = lists.map(Result::unwrap_or_default).collect();
    lists.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Polls until there is an answer.
pub fn until<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = poll() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A command that is ended, with all that it started, when it takes too long.
pub fn bounded(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "180"]).arg(program.as_ref()).stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub fn finish(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_ne!(output.status.code(), Some(124), "{command:?} hangs\n{}", text(&output.stderr));
    output
}

/// Runs the command, which must succeed, and returns what it printed.
pub fn success(command: &mut Command) -> String {
    let output = finish(command);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Runs the command, which must fail with this exit code, and returns its error message.
pub fn failure(command: &mut Command, code: i32) -> String {
    let output = finish(command);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}", text(&output.stderr));
    text(&output.stderr)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
