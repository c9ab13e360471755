//! A child process as a service, as inetd runs them: its standard input and output are the client's own
//! socket, or one end of a socket pair where that is not possible. Never involves a shell, and leaves no
//! child behind unreaped, whichever way a connection ends.
//!
//! Besides what every program gets (`program.rs`) it has REMOTE_ADDR and REMOTE_PORT, the client's (as
//! systemd.exec(5) has it), also where the socket does not tell. Its standard error is posternd's.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use postern_relay::sys::on_reactor;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

use super::Dialing;
use crate::program::Program;

/// How long a child that is told to end (SIGTERM) may take for it (before SIGKILL).
const GRACE: Duration = Duration::from_secs(5);

/// Starts the program on this socket, which is in blocking mode: programs expect that of their stdin.
pub(crate) async fn spawn(
    program: &Program,
    socket: OwnedFd,
    dialing: &Dialing,
) -> io::Result<Child> {
    let mut command = program.command();
    command.env("REMOTE_ADDR", dialing.peer.ip().to_string());
    command.env("REMOTE_PORT", dialing.peer.port().to_string());
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
    Ok(Child { process, ended: on_reactor(ended, Interest::READABLE)? })
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
