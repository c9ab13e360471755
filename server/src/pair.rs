//! Two sides that were brought together, until they part.

use std::future::poll_fn;
use std::task::Poll;

use crate::house::Entry;
use crate::join::Link;
use crate::ops::outcome::{Outcome, Record};
use crate::places::Seat;

/// Two sides that were brought together, and the places that they hold.
pub(crate) struct Pair {
    pub(crate) link: Link,
    /// A visitor has none.
    pub(crate) entry: Option<Entry>,
    pub(crate) _seat: Seat,
}

impl Pair {
    pub(crate) async fn last(&mut self, record: &mut Record) -> Outcome {
        let Pair { link, entry, .. } = self;
        let mut other_end = link.take_cut();
        let mut cut = poll_fn(|cx| {
            let is_cut = entry.as_ref().is_some_and(|entry| entry.tunnel.poll_cut(cx).is_ready())
                || other_end.as_mut().is_some_and(|cut| cut.poll(cx).is_ready());
            if is_cut { Poll::Ready(()) } else { Poll::Pending }
        });
        let outcome = match link.relay() {
            None => Outcome::Done,
            Some(relay) => {
                let end = relay.run(&mut record.moved, &mut cut).await;
                record.ended_by = relay.ended_by();
                end.into()
            }
        };
        match link.see_off(outcome, cut) {
            None => outcome,
            Some(seen_off) => seen_off.await,
        }
    }
}
