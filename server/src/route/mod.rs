//! What is known of a visitor to the route that he takes: pure, in file order, first match wins. Never
//! decides on a knock, and never opens a socket.

mod answers;
mod bytes;
mod condition;
mod name;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_shared::hello::HostName;
use postern_shared::sniff::{Kind, Protocol};

pub use answers::{Answered, Answers};
pub use bytes::{BytePattern, Expression, Ruling};
pub use condition::{Asked, Condition};
pub use name::{Glob, NamePattern};
pub use table::{Choice, Routes, Still};

use crate::service::Service;

/// What was seen of a connection when it was decided.
#[derive(Debug)]
pub enum Seen {
    Protocol(Protocol),
    /// Not one byte for this long.
    Silent(Duration),
    /// Bytes of no class that anybody waits for, malformed ones, or none in time: doubt leads to the
    /// website unless a route asks for no more than there is.
    Other,
}

impl Seen {
    /// The word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Seen::Protocol(protocol) => protocol.name(),
            Seen::Silent(_) => "silent",
            Seen::Other => "other",
        }
    }

    /// The server name asked for, where there is one.
    pub fn sni(&self) -> Option<&HostName> {
        match self {
            Seen::Protocol(Protocol::Tls(hello)) => hello.sni(),
            Seen::Protocol(_) | Seen::Silent(_) | Seen::Other => None,
        }
    }

    fn kind(&self) -> Option<Kind> {
        match self {
            Seen::Protocol(protocol) => protocol.kind(),
            Seen::Silent(_) | Seen::Other => None,
        }
    }
}

/// All that a route may ask about.
#[derive(Debug)]
pub struct Facts<'a> {
    pub seen: &'a Seen,
    /// The first bytes that came so far.
    pub bytes: &'a [u8],
    pub from: IpAddr,
    /// The listener, as the configuration calls it.
    pub listener: SocketAddr,
    /// What our own TLS was asked for, where these are the bytes inside it.
    pub inside: Option<&'a Inside>,
    /// What identifiers have said of it so far.
    pub answers: &'a Answers,
    pub now: Timestamp,
}

impl Facts<'_> {
    /// The server name that was asked for, of our own TLS where these are the bytes inside it.
    pub fn name(&self) -> Option<&HostName> {
        match self.inside {
            Some(inside) => inside.name.as_ref(),
            None => self.seen.sni(),
        }
    }
}

/// What is known of TLS that posternd terminated.
#[derive(Clone, Debug)]
pub struct Inside {
    pub name: Option<HostName>,
    /// What was agreed on.
    pub alpn: Option<Vec<u8>>,
}

/// One `[[route]]`: conditions that all hold, and where it leads then.
#[derive(Debug)]
pub struct Route {
    /// Its place among the routes of the file, from 1 on; those that are not enabled count too.
    pub number: usize,
    /// Where it stands in the file.
    pub line: usize,
    pub action: Action,
    /// Whether it is for what comes inside our own TLS; the others are for the connection itself.
    pub terminated: bool,
    /// Whether the connections that take it are logged.
    pub log: bool,
    pub conditions: Vec<Condition>,
}

/// What becomes of whoever takes a route.
#[derive(Clone, Debug)]
pub enum Action {
    Service(Arc<Service>),
    Reject(Rejection),
}

/// How somebody is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// As by a port where nothing listens, but after the handshake.
    Reset,
    /// As by a server that has nothing to say.
    Close,
}

impl Rejection {
    pub const ALL: [Rejection; 2] = [Rejection::Reset, Rejection::Close];

    pub fn name(self) -> &'static str {
        match self {
            Rejection::Reset => "rst",
            Rejection::Close => "close",
        }
    }
}

impl Route {
    pub fn service(&self) -> Option<&Arc<Service>> {
        match &self.action {
            Action::Service(service) => Some(service),
            Action::Reject(_) => None,
        }
    }

    /// Where it leads, in words.
    pub fn leads(&self) -> String {
        match &self.action {
            Action::Service(service) => service.name.clone(),
            Action::Reject(rejection) => format!("rejected ({})", rejection.name()),
        }
    }

    /// Whether all of its conditions hold. The first that fails decides, whatever those behind it wait for;
    /// and nobody is asked before all bytes are there that others wait for.
    pub fn rule(&self, facts: &Facts<'_>) -> Ruling {
        if self.terminated != facts.inside.is_some() {
            return Ruling::Fails;
        }
        let mut all = Ruling::Holds;
        for condition in &self.conditions {
            match condition.asked.rule(facts) {
                Ruling::Fails => return Ruling::Fails,
                Ruling::Holds => {}
                Ruling::Open(want) => {
                    all = match all {
                        Ruling::Open(least) => Ruling::Open(least.min(want)),
                        Ruling::Holds | Ruling::Fails | Ruling::Ask(_) => Ruling::Open(want),
                    };
                }
                Ruling::Ask(identifier) => {
                    if all == Ruling::Holds {
                        all = Ruling::Ask(identifier);
                    }
                }
            }
        }
        all
    }

    /// Whether it can match a visitor of whom all but the first bytes is known.
    pub fn may_match(&self, facts: &Facts<'_>) -> bool {
        let mut known = self.asks().filter(|asked| !asked.is_about_bytes());
        self.terminated == facts.inside.is_some()
            && known.all(|asked| asked.rule(facts) == Ruling::Holds)
    }

    /// Whether nobody takes `later` who does not take this one.
    pub fn covers(&self, later: &Route) -> bool {
        self.terminated == later.terminated
            && self
                .conditions
                .iter()
                .all(|ours| later.conditions.iter().any(|theirs| ours.asked.covers(&theirs.asked)))
    }

    pub(crate) fn asks(&self) -> impl Iterator<Item = &Asked> {
        self.conditions.iter().map(|condition| &condition.asked)
    }
}

#[cfg(test)]
mod tests;
