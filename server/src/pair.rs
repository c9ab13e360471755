//! Two sides that were brought together, until they part.

use std::future::poll_fn;
use std::task::Poll;

use crate::house::Entry;
use crate::join::Link;
use crate::ops::outcome::Outcome;
use crate::places::Seat;
use crate::relay::Moved;

/// Two sides that were brought together, and the places that they hold.
pub(crate) struct Pair {
    pub(crate) link: Link,
    /// A visitor has none.
    pub(crate) entry: Option<Entry>,
    pub(crate) _seat: Seat,
}

impl Pair {
    pub(crate) async fn last(&mut self, moved: &mut Moved) -> Outcome {
        let Pair { link, entry, .. } = self;
        let mut cut = poll_fn(|cx| match entry {
            Some(entry) => entry.tunnel.poll_cut(cx),
            None => Poll::Pending,
        });
        let outcome = match link.relay() {
            None => Outcome::Done,
            Some(relay) => relay.run(moved, &mut cut).await.into(),
        };
        match link.see_off(outcome, cut) {
            None => outcome,
            Some(seen_off) => seen_off.await,
        }
    }
}
