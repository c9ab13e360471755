//! How a connection ended, as one closed list: the same word in the log, in `status` and in tests.
//! Every connection has exactly one.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postern_relay::{End, Moved, Side};
use postern_shared::knock::Status;
use tokio::time::Instant;
use tracing::info;

use crate::conn::Arrival;
use crate::gate::{Entrant, Holder};
use crate::house::House;
use crate::service::{Failure, Kept, Service, Target};

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
    /// A proxy that is trusted did not say for whom it speaks.
    NoProxyHeader,
    /// There was no place for it.
    Shed,
    /// A route, an access program or the terms of its key turned it away.
    Rejected,
    /// Neither side said anything for as long as the service allows.
    IdleTimeout,
    /// Another process has it now.
    HandedOver,
    /// It is a lane now, and waits for visitors.
    Pooled,
    /// Another run of its client took over what it exposed.
    Superseded,
    /// Its key was revoked.
    Revoked,
    /// posternd stopped.
    Stopped,
    /// A panic, which is a bug of ours; it ended this connection alone.
    Bug,
}

impl Outcome {
    pub const ALL: [Outcome; 16] = [
        Outcome::Done,
        Outcome::ClientReset,
        Outcome::UpstreamReset,
        Outcome::UpstreamDown,
        Outcome::ConnectTimeout,
        Outcome::TlsFailed,
        Outcome::NoProxyHeader,
        Outcome::Shed,
        Outcome::Rejected,
        Outcome::IdleTimeout,
        Outcome::HandedOver,
        Outcome::Pooled,
        Outcome::Superseded,
        Outcome::Revoked,
        Outcome::Stopped,
        Outcome::Bug,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::ClientReset => "client-reset",
            Outcome::UpstreamReset => "upstream-reset",
            Outcome::UpstreamDown => "upstream-down",
            Outcome::ConnectTimeout => "connect-timeout",
            Outcome::TlsFailed => "tls-failed",
            Outcome::NoProxyHeader => "no-proxy-header",
            Outcome::Shed => "shed",
            Outcome::Rejected => "rejected",
            Outcome::IdleTimeout => "idle-timeout",
            Outcome::HandedOver => "handed-over",
            Outcome::Pooled => "pooled",
            Outcome::Superseded => "superseded",
            Outcome::Revoked => "revoked",
            Outcome::Stopped => "stopped",
            Outcome::Bug => "bug",
        }
    }
}

impl From<End> for Outcome {
    fn from(end: End) -> Outcome {
        match end {
            End::Closed => Outcome::Done,
            End::ClientReset => Outcome::ClientReset,
            End::UpstreamReset => Outcome::UpstreamReset,
            End::Idle => Outcome::IdleTimeout,
            End::Cut => Outcome::Revoked,
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
    /// From an armed address.
    Memory,
    Route,
    Fallback,
    /// Inside TLS that posternd terminates, without a knock.
    Visitors,
    /// By an entrance that a client holds.
    Exposed,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::None => "none",
            Way::Knock => "knock",
            Way::Memory => "memory",
            Way::Route => "route",
            Way::Fallback => "fallback",
            Way::Visitors => "visitors",
            Way::Exposed => "exposed",
        }
    }
}

/// What becomes known of a connection. There are as many as connections: what few have stands apart.
#[derive(Debug, Default)]
pub struct Record {
    pub way: Way,
    /// Whether a byte came.
    pub spoke: bool,
    /// Whether its end is nobody's news.
    pub quiet: bool,
    /// Whose end of data was passed on first.
    pub ended_by: Option<Side>,
    /// Which of the file's routes, from 1 on.
    pub route: Option<NonZeroU32>,
    pub seen: &'static str,
    pub service: Option<Arc<Service>>,
    pub holder: Option<Holder>,
    /// The name of a carrier, or `memory`.
    pub by: Option<&'static str>,
    pub moved: Moved,
    details: Option<Box<Details>>,
}

/// What is known of few connections.
#[derive(Debug, Default)]
pub struct Details {
    /// Who it is by the word of a proxy that is trusted.
    pub introduced: Option<SocketAddr>,
    /// Why a key holder's knock, or whoever asked for a service, was refused.
    pub refused: Option<&'static str>,
    /// What kept the service from answering; or the limit of it that kept the connection out.
    pub failure: Option<Box<str>>,
}

impl Record {
    pub fn details(&mut self) -> &mut Details {
        self.details.get_or_insert_default()
    }

    /// Why the service could not be reached.
    pub fn note_failure(&mut self, failure: &Failure) -> Outcome {
        self.details().failure = Some(failure.to_string().into());
        match failure {
            Failure::Timeout => Outcome::ConnectTimeout,
            Failure::Connect { .. }
            | Failure::Unix { .. }
            | Failure::Tls { .. }
            | Failure::Exec { .. }
            | Failure::Away
            | Failure::Untaken => Outcome::UpstreamDown,
        }
    }

    /// Why somebody was not led to the service, and what he is told if he knocked.
    pub fn note_kept(&mut self, kept: Kept) -> (Outcome, Status) {
        match kept {
            Kept::Denied => {
                self.details().refused = Some(kept.name());
                (Outcome::Rejected, Status::Denied)
            }
            Kept::MaxConnections | Kept::Rate => {
                self.details().failure = Some(kept.name().into());
                (Outcome::Shed, Status::Busy)
            }
        }
    }

    pub fn note(&mut self, entrant: &Entrant) {
        self.holder = Some(entrant.holder());
        self.by = Some(entrant.by());
    }
}

/// A connection from its first byte to its one outcome. Its end is counted and logged however it comes:
/// also where its task is dropped because posternd stops, or unwinds.
#[derive(Debug)]
pub struct Life {
    pub house: Arc<House>,
    pub record: Record,
    peer: SocketAddr,
    listener: SocketAddr,
    started: Instant,
    outcome: Outcome,
    even_if_empty: bool,
}

impl Life {
    pub fn begin(house: Arc<House>, arrival: &Arrival) -> Life {
        house.counts.accepted.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        Life {
            house,
            record: Record::default(),
            peer: arrival.peer,
            listener: arrival.local,
            started,
            outcome: Outcome::Stopped,
            even_if_empty: arrival.policy.log.empty,
        }
    }

    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Life {
    /// Whether nobody said a byte: scanners open connections and leave, by the thousand.
    fn is_empty(&self) -> bool {
        let Record { spoke, service, holder, moved, details, .. } = &self.record;
        let unremarkable = details.as_ref().is_none_or(|details| {
            let Details { refused, failure, .. } = &**details;
            refused.is_none() && failure.is_none()
        });
        let unremarkable = unremarkable && holder.is_none();
        // What is said to a program on the client's own socket does not pass here.
        let relayed = service.as_ref().is_none_or(|service| {
            matches!(service.target, Target::Upstreams(_) | Target::Tunnel(_))
        });
        let ended_by_itself =
            matches!(self.outcome, Outcome::Done | Outcome::ClientReset | Outcome::UpstreamReset);
        let silent = !spoke && moved.up + moved.down == 0;
        silent && relayed && unremarkable && ended_by_itself
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let outcome = if std::thread::panicking() { Outcome::Bug } else { self.outcome };
        self.house.counts.add(outcome);
        if self.record.quiet || !self.even_if_empty && self.is_empty() {
            return;
        }
        let details = self.record.details.take().unwrap_or_default();
        let Details { introduced, refused, failure } = *details;
        let Record { way, route: rule, seen, service, holder, by, moved, ended_by, .. } =
            &self.record;
        info!(
            peer = %introduced.unwrap_or(self.peer),
            proxy = introduced.map(|_| tracing::field::display(self.peer)),
            listener = %self.listener,
            seen,
            route = way.name(),
            rule = rule.map(NonZeroU32::get),
            service = service.as_ref().map(|service| service.name.as_str()),
            client = holder.as_ref().map(Holder::name),
            carrier = by,
            refused,
            failure = failure.as_deref(),
            outcome = outcome.name(),
            by = ended_by.filter(|_| outcome == Outcome::Done).map(Side::name),
            up = moved.up,
            down = moved.down,
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
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
