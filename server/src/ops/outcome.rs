//! How a connection ended, as one closed list: the same word in the log, in `status` and in tests.
//! Every connection has exactly one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::info;

use crate::relay::{End, Ended};

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides finished in order.
    Done,
    ClientReset,
    UpstreamReset,
    /// The service could not be reached.
    UpstreamDown,
    /// The service did not answer within its time.
    ConnectTimeout,
    /// The TLS handshake for one of our own names did not complete.
    TlsFailed,
    /// There was no place for it.
    Shed,
    /// Its key was revoked.
    Revoked,
    /// posternd stopped.
    Stopped,
}

impl Outcome {
    pub const ALL: [Outcome; 9] = [
        Outcome::Done,
        Outcome::ClientReset,
        Outcome::UpstreamReset,
        Outcome::UpstreamDown,
        Outcome::ConnectTimeout,
        Outcome::TlsFailed,
        Outcome::Shed,
        Outcome::Revoked,
        Outcome::Stopped,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::ClientReset => "client-reset",
            Outcome::UpstreamReset => "upstream-reset",
            Outcome::UpstreamDown => "upstream-down",
            Outcome::ConnectTimeout => "connect-timeout",
            Outcome::TlsFailed => "tls-failed",
            Outcome::Shed => "shed",
            Outcome::Revoked => "revoked",
            Outcome::Stopped => "stopped",
        }
    }
}

/// By which way a connection came to its service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// It did not get so far.
    #[default]
    None,
    Knock,
    Route,
    Fallback,
    /// Inside TLS that posternd terminates, without a knock.
    Visitors,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::None => "none",
            Way::Knock => "knock",
            Way::Route => "route",
            Way::Fallback => "fallback",
            Way::Visitors => "visitors",
        }
    }
}

/// What is known of a connection at its end.
#[derive(Debug)]
pub struct Record {
    pub peer: SocketAddr,
    pub listener: SocketAddr,
    pub way: Way,
    pub seen: &'static str,
    pub service: Option<String>,
    pub client: Option<String>,
    pub carrier: Option<&'static str>,
    /// Why a key holder's knock was refused.
    pub refused: Option<&'static str>,
    /// What kept the service from answering.
    pub failure: Option<String>,
    pub up: u64,
    pub down: u64,
}

impl Record {
    pub fn new(peer: SocketAddr, listener: SocketAddr) -> Record {
        Record {
            peer,
            listener,
            way: Way::None,
            seen: "",
            service: None,
            client: None,
            carrier: None,
            refused: None,
            failure: None,
            up: 0,
            down: 0,
        }
    }

    /// Takes over what a relay moved, and says how it ended; `cut` is why it was cut if it was.
    pub fn outcome(&mut self, ended: Ended, cut: Outcome) -> Outcome {
        (self.up, self.down) = (ended.up, ended.down);
        match ended.end {
            End::Closed => Outcome::Done,
            End::ClientReset => Outcome::ClientReset,
            End::UpstreamReset => Outcome::UpstreamReset,
            End::Cut => cut,
        }
    }

    /// The connection's one line.
    pub fn log(&self, outcome: Outcome, took: Duration) {
        info!(
            peer = %self.peer,
            listener = %self.listener,
            seen = self.seen,
            route = self.way.name(),
            service = self.service,
            client = self.client,
            carrier = self.carrier,
            refused = self.refused,
            failure = self.failure,
            outcome = outcome.name(),
            up = self.up,
            down = self.down,
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "connection"
        );
    }
}

/// Connections counted by outcome, and knocks.
#[derive(Debug, Default)]
pub struct Counts {
    pub accepted: AtomicU64,
    pub knocks_admitted: AtomicU64,
    pub knocks_refused: AtomicU64,
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl Counts {
    pub fn add(&self, outcome: Outcome) {
        if let Some(count) = Outcome::ALL
            .iter()
            .position(|other| *other == outcome)
            .and_then(|at| self.outcomes.get(at))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Outcomes by name, those that never happened too.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.outcomes.iter().map(|count| count.load(Ordering::Relaxed));
        Outcome::ALL.into_iter().map(Outcome::name).zip(counts)
    }
}
