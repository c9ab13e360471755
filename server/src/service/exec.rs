//! A child process as a service, as inetd runs them: its standard input and output are the client's own
//! socket, or one end of a socket pair where that is not possible. Never involves a shell, and leaves no
//! child behind unreaped, whichever way a connection ends.
//!
//! The child leads a session of its own. Of posternd's environment it gets PATH, LANG and TZ; REMOTE_ADDR
//! and REMOTE_PORT are the client's (as systemd.exec(5) has it), also where the socket does not tell.
//! HOME, USER, LOGNAME and SHELL are there where it runs as another user. Its standard error is
//! posternd's, and its limit on open files the one that posternd was started with. Capabilities that posternd
//! has without being root (AmbientCapabilities=) it has not.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use super::Dialing;
use crate::sys::{self, Account, Settled};

/// How long a child that is told to end (SIGTERM) may take for it (before SIGKILL).
const GRACE: Duration = Duration::from_secs(5);

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The limit on open files that posternd was started with; its own is raised.
static OPEN_FILES: OnceLock<Rlimit> = OnceLock::new();

/// Says with which limit on open files children are to run.
pub fn set_open_files(limit: Rlimit) {
    // A posternd that is started twice in one process, as in tests, was raised before the second time.
    let _ = OPEN_FILES.set(limit);
}

/// Settles a child, for the rights of this account or posternd's own.
pub(crate) fn settle(command: &mut Command, account: Option<Account>) {
    sys::settle(command, Settled { open_files: OPEN_FILES.get().cloned(), account });
}

/// What `exec:` runs.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program's absolute path.
    pub path: String,
    pub arguments: Vec<String>,
    /// Whose rights it has, where those are not posternd's own.
    pub(crate) account: Option<Account>,
}

impl Program {
    /// Whether there is something that can be run; told before the client is told that it is let in.
    pub(crate) fn is_there(&self) -> io::Result<()> {
        Ok(rustix::fs::access(self.path.as_str(), rustix::fs::Access::EXEC_OK)?)
    }

    fn command(&self, dialing: &Dialing) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear();
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        command.env("PATH", path);
        for name in ["LANG", "TZ"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("REMOTE_ADDR", dialing.peer.ip().to_string());
        command.env("REMOTE_PORT", dialing.peer.port().to_string());
        if let Some(account) = &self.account {
            command.env("HOME", &account.home).env("SHELL", &account.shell);
            command.env("USER", &account.name).env("LOGNAME", &account.name);
        }
        settle(&mut command, self.account.clone());
        command
    }
}

/// Starts the program on this socket, which is in blocking mode: programs expect that of their stdin.
pub(crate) async fn spawn(
    program: &Program,
    socket: OwnedFd,
    dialing: &Dialing,
) -> io::Result<Child> {
    let mut command = program.command(dialing);
    // Starting one copies posternd's page tables and may wait for a disk: others are served meanwhile.
    let started = spawn_blocking(move || {
        command.stdin(Stdio::from(socket.try_clone()?)).stdout(Stdio::from(socket));
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let process = Process { pid, reaped: false };
        // What std keeps of it are its pipes, of which it has none.
        drop(child);
        // With CLOEXEC and without need of a flag (pidfd_open(2)).
        let ended = pidfd_open(pid, PidfdFlags::empty())?;
        Ok::<_, io::Error>((process, ended))
    });
    let (process, ended) = started.await.map_err(io::Error::other)??;
    Ok(Child { process, ended: sys::on_reactor(ended, Interest::READABLE)? })
}

/// A child that runs. Dropped before it ends, it is told to end.
#[derive(Debug)]
pub struct Child {
    process: Process,
    /// A descriptor that becomes readable when the process ends (pidfd_open(2)).
    ended: AsyncFd<OwnedFd>,
}

impl Child {
    /// Completes when it has ended by itself. What it started in the background goes on, as with inetd.
    pub async fn ended(&mut self) {
        self.wait().await;
        self.process.reap();
    }

    /// Ends it, and all of its process group.
    pub async fn end(&mut self) {
        self.process.signal(Signal::TERM);
        let _ = timeout(GRACE, self.wait()).await;
        // Also where it has ended: until it is reaped the number of the group is nobody else's.
        self.process.signal(Signal::KILL);
        self.ended().await;
    }

    async fn wait(&self) {
        // An error of the reactor itself: it is shutting down.
        if self.ended.readable().await.is_err() {
            std::future::pending().await
        }
    }
}

/// A process that nobody else waits for.
#[derive(Debug)]
struct Process {
    pid: Pid,
    reaped: bool,
}

impl Process {
    fn signal(&self, signal: Signal) {
        signal_group(self.pid, signal);
    }

    /// Takes its status, if it has ended.
    fn reap(&mut self) {
        if !self.reaped {
            self.reaped = reap(self.pid);
        }
    }
}

impl Drop for Process {
    /// posternd stops, or something of ours failed: the child loses its connection, as a relayed one does.
    fn drop(&mut self) {
        self.reap();
        if self.reaped {
            return;
        }
        self.signal(Signal::TERM);
        let pid = self.pid;
        let reaper = move || {
            const STEP: Duration = Duration::from_millis(50);
            let mut waited = Duration::ZERO;
            while !reap(pid) {
                if waited == GRACE {
                    signal_group(pid, Signal::KILL);
                }
                thread::sleep(STEP);
                waited += STEP;
            }
        };
        // Where there is no thread to be had posternd is at its end, and its children are init's.
        let _ = thread::Builder::new().name("reaper".to_owned()).spawn(reaper);
    }
}

/// To the process group of which it is the leader.
fn signal_group(leader: Pid, signal: Signal) {
    let _ = kill_process_group(leader, signal);
}

/// Whether it has ended; its number may be another's then.
fn reap(pid: Pid) -> bool {
    match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(None) => false,
        Ok(Some(status)) => {
            let (code, signal) = (status.exit_status(), status.terminating_signal());
            debug!(pid = pid.as_raw_nonzero(), code, signal, "child ended");
            true
        }
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{
        CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
    };

    use super::*;

    #[test]
    fn a_child_has_no_ambient_capability() {
        let low_ports = CapabilitySet::NET_BIND_SERVICE;
        let mut own = capabilities(None).expect("told");
        if !own.permitted.contains(low_ports) {
            eprintln!("skipped: there is no capability to pass on; run as root");
            return;
        }
        // This thread's, and so of no other test.
        own.inheritable |= low_ports;
        set_capabilities(None, own).expect("set");
        configure_capability_in_ambient_set(low_ports, true).expect("raised");
        let ambient = |settled: bool| {
            let mut command = Command::new("/bin/grep");
            command.args(["CapAmb", "/proc/self/status"]);
            if settled {
                settle(&mut command, None);
            }
            String::from_utf8(command.output().expect("it runs").stdout).expect("text")
        };
        assert_eq!(ambient(false), "CapAmb:\t0000000000000400\n");
        assert_eq!(ambient(true), "CapAmb:\t0000000000000000\n");
    }
}
