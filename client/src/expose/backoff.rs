//! How long to wait before the next attempt: nothing at first, then a random part of a time that doubles
//! from failure to failure, so that the clients of a server that comes back do not come all at once.
//! Draws no random number itself.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const MOST: Duration = Duration::from_secs(10);

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// After one more failure: how long after the beginning of the attempt that failed the next one
    /// begins. `random` is any number.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let most = self.most().as_nanos();
        self.0 = self.0.saturating_add(1);
        let part = (most * u128::from(random)) >> u64::BITS;
        Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
    }

    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    fn most(&self) -> Duration {
        let Some(doublings) = self.0.checked_sub(1) else { return Duration::ZERO };
        FIRST.saturating_mul(1 << doublings.min(16)).min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_at_once_and_no_wait_is_long() {
        let mut backoff = Backoff::default();
        let most: Vec<_> = (0..12).map(|_| backoff.next(u64::MAX).as_millis()).collect();
        assert_eq!(most, [0, 49, 99, 199, 399, 799, 1599, 3199, 6399, 9999, 9999, 9999]);
        assert_eq!(backoff.next(0), Duration::ZERO);
        assert_eq!(backoff.next(u64::MAX / 2).as_secs(), 4);
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), Duration::ZERO);
        for _ in 0..100 {
            backoff.next(1);
        }
        assert_eq!(Backoff(u32::MAX).next(u64::MAX).as_secs(), 9, "for ever");
    }
}
