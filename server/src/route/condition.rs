//! One condition of a route, and whether it holds. Pure.

use std::net::SocketAddr;
use std::time::Duration;

use postern_shared::sniff::{Kind, Kinds, Protocol};

use super::bytes::{BytePattern, Ruling};
use super::name::{Glob, NamePattern};
use super::{Answered, Facts, Seen};
use crate::hours::Hours;
use crate::nets::Nets;

/// What is asked, and how the file says it.
#[derive(Clone, Debug)]
pub struct Condition {
    pub written: String,
    pub asked: Asked,
}

/// Of a list any one suffices.
#[derive(Clone, Debug)]
pub enum Asked {
    Sni(Vec<NamePattern>),
    /// TLS without a server name.
    NoSni,
    /// A protocol of TLS's application layer, among those that are offered.
    Alpn(Vec<Glob>),
    Protocol {
        kinds: Kinds,
        /// At least one byte, and no protocol at all.
        any: bool,
    },
    Bytes(Vec<BytePattern>),
    Silent {
        after: Duration,
    },
    From(Nets),
    NotFrom(Nets),
    Hours(Hours),
    /// The listener that was connected to.
    Listen(Vec<SocketAddr>),
    /// Identifiers, by their number, of which one says yes.
    External(Vec<usize>),
}

impl Asked {
    /// The names that are asked for.
    pub fn names(&self) -> Option<&[NamePattern]> {
        if let Asked::Sni(patterns) = self { Some(patterns) } else { None }
    }

    pub fn bytes(&self) -> Option<&[BytePattern]> {
        if let Asked::Bytes(patterns) = self { Some(patterns) } else { None }
    }

    /// How long silence must last.
    pub fn silence(&self) -> Option<Duration> {
        if let Asked::Silent { after } = self { Some(*after) } else { None }
    }

    pub fn rule(&self, facts: &Facts<'_>) -> Ruling {
        let holds = match self {
            Asked::Bytes(patterns) => return self::bytes(patterns, facts),
            Asked::External(identifiers) => return external(identifiers, facts),
            Asked::Sni(patterns) => {
                facts.name().is_some_and(|name| patterns.iter().any(|one| one.matches(name)))
            }
            Asked::NoSni => match facts.inside {
                Some(inside) => inside.name.is_none(),
                None => facts.seen.kind() == Some(Kind::Tls) && facts.seen.sni().is_none(),
            },
            Asked::Alpn(globs) => {
                alpn(facts, |offered| globs.iter().any(|one| one.matches(offered)))
            }
            Asked::Protocol { kinds, any } => match facts.seen {
                Seen::Other => *any && !facts.bytes.is_empty(),
                Seen::Protocol(protocol) => {
                    protocol.kind().is_some_and(|kind| kinds.contains(kind))
                }
                Seen::Silent(_) => false,
            },
            Asked::Silent { after } => {
                matches!(facts.seen, Seen::Silent(time) if time >= after)
            }
            Asked::From(nets) => nets.contains(facts.from),
            Asked::NotFrom(nets) => !nets.contains(facts.from),
            Asked::Hours(hours) => hours.contain(facts.now),
            Asked::Listen(listeners) => listeners.contains(&facts.listener),
        };
        if holds { Ruling::Holds } else { Ruling::Fails }
    }

    /// Whether it is about bytes, or their absence: the others hold or fail before there are any.
    pub fn is_about_bytes(&self) -> bool {
        match self {
            Asked::Sni(_)
            | Asked::NoSni
            | Asked::Alpn(_)
            | Asked::Protocol { .. }
            | Asked::Bytes(_)
            | Asked::External(_)
            | Asked::Silent { .. } => true,
            Asked::From(_) | Asked::NotFrom(_) | Asked::Hours(_) | Asked::Listen(_) => false,
        }
    }

    /// Whether this holds wherever `narrower` does, as far as that is easily seen.
    pub fn covers(&self, narrower: &Asked) -> bool {
        match (self, narrower) {
            (Asked::Sni(wide), Asked::Sni(narrow)) => {
                narrow.iter().all(|one| wide.iter().any(|wide| wide.covers(one)))
            }
            (Asked::NoSni, Asked::NoSni) => true,
            (Asked::Alpn(wide), Asked::Alpn(narrow)) => narrow.iter().all(|one| wide.contains(one)),
            (Asked::Protocol { kinds: wide, any }, Asked::Protocol { kinds, any: narrow }) => {
                wide.union(*kinds) == *wide && (*any || !narrow)
            }
            (Asked::Protocol { kinds, .. }, Asked::Sni(_) | Asked::NoSni | Asked::Alpn(_)) => {
                kinds.contains(Kind::Tls)
            }
            (Asked::Bytes(wide), Asked::Bytes(narrow)) => {
                narrow.iter().all(|one| wide.iter().any(|wide| wide.covers(one)))
            }
            (Asked::Silent { after: early }, Asked::Silent { after: late }) => early <= late,
            (Asked::From(wide), Asked::From(narrow)) => wide.cover(narrow),
            (Asked::NotFrom(few), Asked::NotFrom(many)) => many.cover(few),
            (Asked::Hours(one), Asked::Hours(other)) => one == other,
            (Asked::Listen(wide), Asked::Listen(narrow)) => {
                narrow.iter().all(|one| wide.contains(one))
            }
            (Asked::External(wide), Asked::External(narrow)) => {
                narrow.iter().all(|one| wide.contains(one))
            }
            (_, _) => false,
        }
    }
}

fn bytes(patterns: &[BytePattern], facts: &Facts<'_>) -> Ruling {
    // A refused knock is nobody's bytes.
    if let Seen::Protocol(Protocol::Letters(_)) | Seen::Silent(_) = facts.seen {
        return Ruling::Fails;
    }
    let mut least = None;
    for pattern in patterns {
        match pattern.rule(facts.bytes) {
            Ruling::Holds => return Ruling::Holds,
            Ruling::Fails => {}
            Ruling::Open(want) => least = Some(least.map_or(want, |least: usize| least.min(want))),
            // Nobody is asked about a pattern.
            Ruling::Ask(_) => {}
        }
    }
    least.map_or(Ruling::Fails, Ruling::Open)
}

/// Who has said yes suffices; else one is asked who has not answered yet; else bytes are waited for.
fn external(identifiers: &[usize], facts: &Facts<'_>) -> Ruling {
    if let Seen::Protocol(Protocol::Letters(_)) | Seen::Silent(_) = facts.seen {
        return Ruling::Fails;
    }
    let (mut ask, mut least) = (None, None);
    for identifier in identifiers {
        match facts.answers.of(*identifier) {
            Some(Answered::Yes) => return Ruling::Holds,
            Some(Answered::No) => {}
            Some(Answered::Wants(want)) if want > facts.bytes.len() => {
                least = Some(least.map_or(want, |least: usize| least.min(want)));
            }
            None if facts.bytes.is_empty() => least = Some(1),
            Some(Answered::Wants(_)) | None => ask = ask.or(Some(*identifier)),
        }
    }
    ask.map(Ruling::Ask).or(least.map(Ruling::Open)).unwrap_or(Ruling::Fails)
}

fn alpn(facts: &Facts<'_>, wanted: impl Fn(&str) -> bool) -> bool {
    let wanted = |name: &[u8]| std::str::from_utf8(name).is_ok_and(&wanted);
    match (facts.inside, facts.seen) {
        (Some(inside), _) => inside.alpn.as_deref().is_some_and(wanted),
        (None, Seen::Protocol(Protocol::Tls(hello))) => hello.alpn().any(wanted),
        (None, _) => false,
    }
}
