//! The other end of a helper's lines: a child process on pipes, or who listens on a unix socket. Decides
//! how a child is started and ended; never what is said.

use std::future::pending;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::time::Duration;

use postern_relay::sys::on_reactor;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Address;
use crate::program::Program;

/// How long a child that is told to end (by the end of its input and SIGTERM) may take for it before SIGKILL.
const GRACE: Duration = Duration::from_millis(500);

/// Of what it says on stderr: bytes of a line, and lines in a second.
const REMARK: usize = 256;
const REMARKS: u32 = 10;

pub(super) struct Peer {
    pub(super) answers: Pin<Box<dyn AsyncRead + Send>>,
    pub(super) questions: Pin<Box<dyn AsyncWrite + Send>>,
    pub(super) process: Process,
    pub(super) remarks: Remarks,
}

impl Peer {
    pub(super) async fn open(address: &Address) -> io::Result<Peer> {
        match address {
            Address::Exec(program) => spawn(program),
            Address::Unix(path) => connect(path).await,
            #[cfg(feature = "wasm")]
            Address::Wasm(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Hangs up; a child has ended and is reaped when this returns.
    pub(super) async fn end(self) {
        let Peer { answers, questions, process, remarks } = self;
        drop((answers, questions, remarks));
        if let Process(Some(mut running)) = process {
            running.end().await;
        }
    }
}

async fn connect(path: &Path) -> io::Result<Peer> {
    let (answers, questions) = UnixStream::connect(path).await?.into_split();
    let (process, remarks) = (Process(None), Remarks::new(None));
    Ok(Peer { answers: Box::pin(answers), questions: Box::pin(questions), process, remarks })
}

fn spawn(program: &Program) -> io::Result<Peer> {
    let mut command = program.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // Its status is taken here and by nobody else: std keeps nothing but the number.
    let mut running = Running { pid: Pid::from_child(&child), reaped: false, ended: None };
    drop(child);
    let ended = pidfd_open(running.pid, PidfdFlags::empty())?;
    running.ended = Some(on_reactor(ended, Interest::READABLE)?);
    let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
    let questions = pipe::Sender::from_owned_fd(stdin.ok_or_else(missing)?.into())?;
    let answers = pipe::Receiver::from_owned_fd(stdout.ok_or_else(missing)?.into())?;
    let remarks = pipe::Receiver::from_owned_fd(stderr.ok_or_else(missing)?.into())?;
    let (process, remarks) = (Process(Some(running)), Remarks::new(Some(remarks)));
    Ok(Peer { answers: Box::pin(answers), questions: Box::pin(questions), process, remarks })
}

/// The child, where there is one.
pub(super) struct Process(Option<Running>);

struct Running {
    pid: Pid,
    reaped: bool,
    /// A descriptor that becomes readable when the process ends (pidfd_open(2)).
    ended: Option<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Completes when it has ended, and says how. May be cancelled and called again.
    pub(super) async fn ended(&self) -> String {
        let Some(Running { pid, ended: end, .. }) = &self.0 else { return pending().await };
        ended(end).await;
        // Not taken yet: until then the number of its group is nobody else's.
        let status = waitid(WaitId::Pid(*pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let status = status.ok().flatten();
        match status.as_ref().map(|status| (status.exit_status(), status.terminating_signal())) {
            Some((Some(code), _)) => format!("it ended with status {code}"),
            Some((None, Some(signal))) => format!("it was ended by signal {signal}"),
            Some((None, None)) | None => "it ended".to_owned(),
        }
    }
}

async fn ended(ended: &Option<AsyncFd<OwnedFd>>) {
    if let Some(ended) = ended
        && ended.readable().await.is_ok()
    {
        return;
    }
    // An error of the reactor itself: it is shutting down.
    pending().await
}

impl Running {
    async fn end(&mut self) {
        self.signal(Signal::TERM);
        let _ = timeout(GRACE, ended(&self.ended)).await;
        // Also where it has ended: what it started may not have.
        self.signal(Signal::KILL);
        ended(&self.ended).await;
        self.reap();
    }

    /// To all of its process group.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.pid, signal);
    }

    fn reap(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        self.reaped = self.reaped || !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None));
    }
}

impl Drop for Running {
    /// Something of ours failed. A child that was killed cannot hold this up.
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            let _ = waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED);
        }
    }
}

/// What a child says on stderr, for the log.
pub(super) struct Remarks {
    /// Until it ends.
    from: Option<pipe::Receiver>,
    line: Vec<u8>,
    second: Instant,
    said: u32,
}

impl Remarks {
    fn new(from: Option<pipe::Receiver>) -> Remarks {
        Remarks { from, line: Vec::new(), second: Instant::now(), said: 0 }
    }

    /// Logs what comes next; waits for ever where nothing can.
    pub(super) async fn pass_on(&mut self, name: &str) {
        let mut buffer = [0; 1024];
        let Some(from) = &mut self.from else { return pending().await };
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                self.from = None;
                return;
            }
            Ok(count) => count,
        };
        for byte in buffer.iter().take(count) {
            if *byte == b'\n' {
                self.log(name);
            } else if self.line.len() < REMARK {
                self.line.push(*byte);
            }
        }
    }

    fn log(&mut self, name: &str) {
        if self.second.elapsed() > Duration::from_secs(1) {
            (self.second, self.said) = (Instant::now(), 0);
        }
        self.said += 1;
        if self.said <= REMARKS {
            debug!(helper = name, said = %self.line.escape_ascii(), "a helper's remark");
        }
        self.line.clear();
    }
}
