//! The three signals that end a tunnel, and the exit codes that answer them. Never acts on one itself.

use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{self, SignalKind, signal};

/// What ended the tunnel from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// How ssh itself takes leave of its ProxyCommand.
    Hangup,
    Interrupt,
    Terminate,
}

impl Signal {
    /// 128 plus the number, as shells have it; ssh's own signal is no failure.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Signal::Hangup => ExitCode::SUCCESS,
            Signal::Interrupt => ExitCode::from(128 + 2),
            Signal::Terminate => ExitCode::from(128 + 15),
        }
    }
}

/// Listens for as long as it lives.
pub struct Signals {
    hangup: unix::Signal,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    pub fn listen() -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
