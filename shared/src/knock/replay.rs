//! The memory of spent tokens: which were seen already, and up to which date it can no longer tell.
//! Bounded in total and per key; never entered by a token whose tag and time were not checked first, so
//! strangers cannot fill it.

use std::collections::HashMap;
use std::time::Duration;

use super::key::Kid;

/// What became of a token that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Spend {
    /// Seen for the first time, and from now on spent.
    Fresh,
    /// Spent before.
    Replayed,
    /// There is no room to remember it, so it must not be let in.
    Full,
    /// Dated so early that it may have been spent and forgotten.
    Early,
    /// The clock cannot be trusted just now.
    Closed,
    /// That it is spent could not be written down: a restart would forget it.
    Unwritten,
}

/// A token that was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub tag: [u8; 16],
    pub kid: Kid,
    /// Seconds since the Unix epoch, as the token says.
    pub date: u32,
    /// When it was spent: seconds since boot, suspended time included, so that no step of the clock
    /// makes it forgotten early.
    pub at: u32,
}

/// For how long a token is remembered where clocks may differ by `window`: one that is dated a window
/// ahead stays valid for two, and the third absorbs a clock that is stepped back by up to a window.
pub fn lifetime(window: Duration) -> u32 {
    let seconds = (window * 3 + Duration::from_secs(5)).as_secs();
    u32::try_from(seconds).unwrap_or(u32::MAX)
}

/// Two generations of spent tokens: the young one takes what comes, and becomes the old one when its
/// time is up. A token is thus remembered for one lifetime at least and for two at most.
///
/// What is forgotten raises the `floor`, and no token dated at or below that is fresh: so none is ever
/// fresh twice, however the clock is stepped. While it is not stepped the floor lies below all that is
/// in time.
#[derive(Debug)]
pub struct Replay {
    young: Generation,
    old: Generation,
    floor: u32,
    per_kid: usize,
    total: usize,
}

#[derive(Debug, Default)]
struct Generation {
    /// The first second of its tokens.
    since: u32,
    /// The latest date among them.
    newest: u32,
    spent: HashMap<[u8; 16], Note>,
    per_kid: HashMap<Kid, usize>,
}

#[derive(Debug)]
struct Note {
    kid: Kid,
    date: u32,
    at: u32,
}

impl Replay {
    /// An empty memory that takes `total` tokens in one lifetime, of these `per_kid` of one key.
    pub fn new(per_kid: usize, total: usize, floor: u32) -> Replay {
        Replay { young: Generation::default(), old: Generation::default(), floor, per_kid, total }
    }

    /// Takes back what a memory held before; what has outlived its time raises the floor.
    pub fn restore(&mut self, all: impl IntoIterator<Item = Spent>, now: u32, lifetime: u32) {
        self.young.since = now;
        for spent in all {
            if now.saturating_sub(spent.at) > lifetime {
                self.raise_floor(spent.date);
            } else {
                self.young.since = self.young.since.min(spent.at);
                self.young.enter(spent);
            }
        }
    }

    /// Spends a token, once. Lifetimes may differ from call to call.
    pub fn spend(&mut self, spent: Spent, lifetime: u32) -> Spend {
        self.turn(spent.at, lifetime);
        if self.young.spent.contains_key(&spent.tag) || self.old.spent.contains_key(&spent.tag) {
            return Spend::Replayed;
        }
        if spent.date <= self.floor {
            return Spend::Early;
        }
        let used = self.young.per_kid.get(&spent.kid).copied().unwrap_or_default();
        if used >= self.per_kid || self.young.spent.len() >= self.total {
            return Spend::Full;
        }
        self.young.enter(spent);
        Spend::Fresh
    }

    /// No token dated at or below this is fresh.
    pub fn floor(&self) -> u32 {
        self.floor
    }

    pub fn raise_floor(&mut self, date: u32) {
        self.floor = self.floor.max(date);
    }

    /// All that is remembered.
    pub fn iter(&self) -> impl Iterator<Item = Spent> {
        self.old.spent.iter().chain(&self.young.spent).map(|(tag, note)| {
            let Note { kid, date, at } = *note;
            Spent { tag: *tag, kid, date, at }
        })
    }

    pub fn len(&self) -> usize {
        self.old.spent.len() + self.young.spent.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn turn(&mut self, now: u32, lifetime: u32) {
        let age = now.saturating_sub(self.young.since);
        if age <= lifetime {
            return;
        }
        let young = std::mem::take(&mut self.young);
        let gone = std::mem::replace(&mut self.old, young);
        self.raise_floor(gone.newest);
        if age > lifetime.saturating_mul(2) {
            let gone = std::mem::take(&mut self.old);
            self.raise_floor(gone.newest);
        }
        self.young.since = now;
    }
}

impl Generation {
    fn enter(&mut self, Spent { tag, kid, date, at }: Spent) {
        if self.spent.insert(tag, Note { kid, date, at }).is_none() {
            *self.per_kid.entry(kid).or_default() += 1;
        }
        self.newest = self.newest.max(date);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: u32 = 185;
    /// On both clocks: dates are what the clock shows when a token is spent.
    const START: u32 = 1000;

    fn spent(n: u32, kid: u32, at: u32) -> Spent {
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&n.to_be_bytes());
        Spent { tag, kid: Kid::new(kid).expect("not 0"), date: at, at }
    }

    #[test]
    fn a_window_is_remembered_three_times_and_a_little() {
        assert_eq!(lifetime(Duration::from_secs(60)), KEEP);
    }

    #[test]
    fn a_token_is_spent_once_while_it_could_be_valid() {
        for start in [0, 1, 100, 184, 185, 186] {
            let mut replay = Replay::new(10, 100, 0);
            assert_eq!(replay.spend(spent(9, 1, START), KEEP), Spend::Fresh);
            let start = START + start;
            assert_eq!(replay.spend(spent(1, 1, start), KEEP), Spend::Fresh);
            for later in 0..=185 {
                let again = spent(1, 1, start + later);
                assert_eq!(replay.spend(again, KEEP), Spend::Replayed, "{start} + {later}");
            }
        }
    }

    #[test]
    fn what_is_forgotten_is_not_fresh_either() {
        let mut replay = Replay::new(1, 100, 0);
        assert_eq!(replay.spend(spent(1, 1, START), KEEP), Spend::Fresh);
        assert_eq!(replay.spend(spent(2, 1, START), KEEP), Spend::Full);
        let later = START + 3 * KEEP;
        assert_eq!(replay.spend(spent(2, 1, later), KEEP), Spend::Fresh, "there is room again");
        // As after the clock was set back, so that the date is in time once more.
        let again = Spent { at: later, ..spent(1, 1, START) };
        assert_eq!(replay.spend(again, KEEP), Spend::Early);
        assert_eq!(replay.floor(), START);
    }

    #[test]
    fn a_changed_lifetime_forgets_nothing_unnoticed() {
        let mut replay = Replay::new(10, 100, 0);
        assert_eq!(replay.spend(spent(1, 1, START), KEEP), Spend::Fresh);
        assert_eq!(replay.spend(spent(2, 1, START + 50), 20), Spend::Fresh);
        let again = Spent { at: START + 60, ..spent(1, 1, START) };
        assert_ne!(replay.spend(again, KEEP), Spend::Fresh);
    }

    #[test]
    fn one_key_cannot_use_up_the_room_of_others() {
        let mut replay = Replay::new(3, 5, 0);
        let mut spend = |n, kid| replay.spend(spent(n, kid, START), KEEP);
        for n in 0..3 {
            assert_eq!(spend(n, 1), Spend::Fresh);
        }
        assert_eq!(spend(3, 1), Spend::Full);
        assert_eq!(spend(4, 2), Spend::Fresh);
        assert_eq!(spend(5, 3), Spend::Fresh);
        assert_eq!(spend(6, 4), Spend::Full, "the total is bounded too");
        assert_eq!(spend(0, 1), Spend::Replayed, "what is remembered stays so");
    }

    #[test]
    fn what_is_restored_counts_as_before() {
        let mut before = Replay::new(2, 5, 7);
        for (n, at) in [(1, START), (2, START + 150), (3, START + 200)] {
            assert_eq!(before.spend(spent(n, 1, at), KEEP), Spend::Fresh);
        }
        let now = START + 190;
        let mut after = Replay::new(2, 5, before.floor());
        after.restore(before.iter(), now, KEEP);
        assert_eq!((after.len(), after.floor()), (2, START), "the first has had its time");
        assert_eq!(after.spend(spent(2, 1, now), KEEP), Spend::Replayed);
        assert_eq!(after.spend(spent(4, 1, now), KEEP), Spend::Full, "of this key");
        assert_eq!(after.spend(spent(5, 2, now), KEEP), Spend::Fresh);
    }
}
