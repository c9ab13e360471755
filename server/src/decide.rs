//! Looking until a connection is decided: by its first bytes, by their absence, by the website, or by
//! the clock. Doubt and lateness decide for the website, never for anything else.

use std::time::Duration;

use postern_shared::sniff::{Interest, Sniff, sniff};
use tokio::time::{Instant, sleep_until};

use crate::early::{Early, WebsiteFirst};
use crate::front::{Front, Glance};
use crate::places::Undecided;
use crate::route::{Seen, Still};

/// What is worth waiting for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub interest: Interest,
    /// When not one byte by then is an answer of its own.
    pub silent_after: Option<Duration>,
    /// When waiting ends.
    pub decide: Duration,
}

/// What decided a connection.
#[derive(Debug)]
pub enum Decided {
    /// With what may still become known, and until when.
    Seen(Seen, Rest),
    WebsiteFirst(WebsiteFirst),
    ClientReset,
}

/// What waiting may still bring.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    pub still: Still,
    pub until: Instant,
}

/// Looks until it is known what the first bytes are, the time is up, or somebody else decides. What routes
/// ask of bytes besides is looked at later: a knock is not to wait for it.
pub async fn decide(
    front: &mut Front,
    early: &mut Early,
    place: &mut Undecided,
    patience: &Patience,
) -> Decided {
    let opened = Instant::now();
    let deadline = opened + patience.decide;
    let rest = |still| Rest { still, until: deadline };
    let mut still = Still::Bytes;
    loop {
        let more = still == Still::Bytes;
        let silence = patience.silent_after.filter(|_| front.seen().is_empty());
        let interest = if more { patience.interest } else { patience.interest.in_protocols() };
        let want = match sniff(front.seen(), &interest) {
            Sniff::Found(protocol) => {
                return Decided::Seen(Seen::Protocol(protocol), rest(still));
            }
            Sniff::NeedMore(want) if more => want,
            Sniff::Unknown if more && silence.is_some() => 1,
            Sniff::NeedMore(_) | Sniff::Unknown | Sniff::Malformed => {
                return Decided::Seen(Seen::Other, rest(still));
            }
        };
        // `biased`: only who has to wait costs timers and a place.
        tokio::select! {
            biased;
            looked = front.look(want) => match looked {
                Ok(Glance::Enough) => {}
                Ok(Glance::NoMore) => still = Still::Answers,
                Err(_) => return Decided::ClientReset,
            },
            first = early.website_first() => return Decided::WebsiteFirst(first),
            () = place.hurried() => still = Still::Nothing,
            // Before the end of all waiting: a route may wait as long.
            () = sleep_until(opened + silence.unwrap_or_default()), if silence.is_some() => {
                front.look_again();
                if front.seen().is_empty() {
                    return Decided::Seen(Seen::Silent(opened.elapsed()), rest(Still::Nothing));
                }
            }
            () = sleep_until(deadline) => still = Still::Nothing,
        }
        if still != Still::Bytes {
            front.look_again();
        }
    }
}
