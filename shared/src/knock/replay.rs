//! The replay window: which tokens were spent already. Bounded in total and per key, and never
//! entered by a token whose tag and time were not checked first, so strangers cannot fill it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::key::Kid;

/// What became of a token that was offered to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Spend {
    /// Seen for the first time, and from now on spent.
    Fresh,
    /// Spent before.
    Replayed,
    /// There is no room to remember it, so it must not be let in.
    Full,
}

/// Two generations of spent tags: the young one takes what comes, and becomes the old one when its
/// time is up. A tag is thus remembered for at least one generation and at most two.
#[derive(Debug)]
pub struct Replay {
    young: Generation,
    old: Generation,
    turned: Duration,
    lifetime: Duration,
    per_kid: usize,
    total: usize,
}

#[derive(Debug, Default)]
struct Generation {
    tags: HashSet<[u8; 16]>,
    per_kid: HashMap<Kid, usize>,
}

impl Replay {
    /// A window whose tokens are dated within `window` of the server's clock. A tag stays for at
    /// least three windows and 5 s: a token dated one window ahead stays valid for two, and the
    /// third absorbs a clock that is stepped back by up to a window.
    pub fn new(window: Duration, per_kid: usize, total: usize, now: Duration) -> Replay {
        Replay {
            young: Generation::default(),
            old: Generation::default(),
            turned: now,
            lifetime: window * 3 + Duration::from_secs(5),
            per_kid,
            total,
        }
    }

    /// Spends a token, once. `now` is time since boot, suspended time included, so that no clock
    /// change forgets a token early.
    pub fn spend(&mut self, tag: [u8; 16], kid: Kid, now: Duration) -> Spend {
        self.turn(now);
        if self.young.tags.contains(&tag) || self.old.tags.contains(&tag) {
            return Spend::Replayed;
        }
        let used = self.young.per_kid.entry(kid).or_default();
        if *used >= self.per_kid || self.young.tags.len() >= self.total {
            return Spend::Full;
        }
        *used += 1;
        self.young.tags.insert(tag);
        Spend::Fresh
    }

    fn turn(&mut self, now: Duration) {
        let age = now.saturating_sub(self.turned);
        if age < self.lifetime {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age >= self.lifetime * 2 {
            self.old = Generation::default();
        }
        self.turned = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const KEEP: Duration = Duration::from_secs(185);

    fn kid(n: u32) -> Kid {
        Kid::new(n).expect("not 0")
    }

    fn tag(n: u32) -> [u8; 16] {
        let mut tag = [0; 16];
        tag[..4].copy_from_slice(&n.to_be_bytes());
        tag
    }

    #[test]
    fn a_token_is_spent_once_while_it_could_be_valid() {
        for start in [0, 1, 100, 184] {
            let mut replay = Replay::new(WINDOW, 10, 100, Duration::ZERO);
            let start = Duration::from_secs(start);
            assert_eq!(replay.spend(tag(1), kid(1), start), Spend::Fresh);
            for later in 0..=185 {
                let now = start + Duration::from_secs(later);
                assert_eq!(
                    replay.spend(tag(1), kid(1), now),
                    Spend::Replayed,
                    "{start:?} + {later}"
                );
            }
        }
    }

    #[test]
    fn the_window_forgets_and_makes_room() {
        let mut replay = Replay::new(WINDOW, 1, 100, Duration::ZERO);
        assert_eq!(replay.spend(tag(1), kid(1), Duration::ZERO), Spend::Fresh);
        assert_eq!(replay.spend(tag(2), kid(1), Duration::ZERO), Spend::Full);
        assert_eq!(replay.spend(tag(2), kid(1), KEEP), Spend::Fresh);
        assert_eq!(replay.spend(tag(1), kid(1), KEEP * 5), Spend::Fresh, "long forgotten");
    }

    #[test]
    fn one_key_cannot_use_up_the_room_of_others() {
        let mut replay = Replay::new(WINDOW, 3, 5, Duration::ZERO);
        let mut spend = |n, k| replay.spend(tag(n), kid(k), Duration::ZERO);
        for n in 0..3 {
            assert_eq!(spend(n, 1), Spend::Fresh);
        }
        assert_eq!(spend(3, 1), Spend::Full);
        assert_eq!(spend(4, 2), Spend::Fresh);
        assert_eq!(spend(5, 3), Spend::Fresh);
        assert_eq!(spend(6, 4), Spend::Full, "the total is bounded too");
        assert_eq!(spend(0, 1), Spend::Replayed, "what is remembered stays so");
    }
}
