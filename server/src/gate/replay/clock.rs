//! Both clocks, and whether the one that people set was set back. Decides how long a step back is
//! answered by keeping closed; never forgives one early.

use std::time::Duration;

/// A moment on both clocks, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Since the Unix epoch: what tokens are dated by, and may be set.
    pub unix: u64,
    /// Since boot, suspended time included: nobody can set it.
    pub boot: u32,
}

impl Moment {
    /// What the settable clock showed at zero of the other; changes only when it is set.
    fn offset(self) -> i64 {
        i64::try_from(self.unix).unwrap_or(i64::MAX).saturating_sub(i64::from(self.boot))
    }

    /// What the clock, as it is now, would have shown at an earlier second since boot.
    pub(super) fn unix_at(self, boot: u32) -> u32 {
        let ago = u64::from(self.boot.saturating_sub(boot));
        u32::try_from(self.unix.saturating_sub(ago)).unwrap_or(u32::MAX)
    }
}

#[derive(Debug)]
pub(super) struct Clock {
    /// The latest that it was set to.
    furthest: i64,
    closed_until: u32,
}

impl Clock {
    pub(super) fn new(now: Moment) -> Clock {
        Clock { furthest: now.offset(), closed_until: 0 }
    }

    /// Takes a look. A step back by more than a window closes for two.
    pub(super) fn look(&mut self, now: Moment, window: Duration) {
        let window = i64::try_from(window.as_secs()).unwrap_or(i64::MAX);
        let offset = now.offset();
        self.furthest = self.furthest.max(offset);
        // Both are cut to whole seconds, so that they may seem one apart.
        if self.furthest.saturating_sub(offset) > window.saturating_add(1) {
            self.furthest = offset;
            let closed = u32::try_from(window.saturating_mul(2)).unwrap_or(u32::MAX);
            self.closed_until = now.boot.saturating_add(closed);
        }
    }

    /// For how many seconds it stays closed.
    pub(super) fn closed_for(&self, now: Moment) -> Option<u32> {
        self.closed_until.checked_sub(now.boot).filter(|left| *left > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const START: Moment = Moment { unix: 1_800_000_000, boot: 1000 };

    /// So many seconds later, on a clock that was set by `step` in between.
    fn later(seconds: u32, step: i64) -> Moment {
        let unix = START.unix + u64::from(seconds);
        Moment { unix: unix.saturating_add_signed(step), boot: START.boot + seconds }
    }

    #[test]
    fn steps_that_close_and_steps_that_do_not() {
        for (step, closed) in
            [(0, None), (-60, None), (3600, None), (-62, Some(120)), (-3600, Some(120))]
        {
            let mut clock = Clock::new(START);
            clock.look(later(10, step), WINDOW);
            assert_eq!(clock.closed_for(later(10, step)), closed, "{step}");
        }
    }

    #[test]
    fn small_steps_add_up() {
        let mut clock = Clock::new(START);
        for step in [-20, -40, -60] {
            clock.look(later(10, step), WINDOW);
            assert_eq!(clock.closed_for(later(10, step)), None);
        }
        clock.look(later(10, -80), WINDOW);
        assert_eq!(clock.closed_for(later(10, -80)), Some(120));
    }

    #[test]
    fn it_opens_again_after_two_windows() {
        let mut clock = Clock::new(START);
        for (seconds, closed) in
            [(10, Some(120)), (11, Some(119)), (129, Some(1)), (130, None), (500, None)]
        {
            let now = later(seconds, -3600);
            clock.look(now, WINDOW);
            assert_eq!(clock.closed_for(now), closed, "after {seconds} s");
        }
    }

    #[test]
    fn a_wrong_clock_that_is_put_right_is_a_step_back_too() {
        let mut clock = Clock::new(START);
        clock.look(later(10, 3600), WINDOW);
        assert_eq!(clock.closed_for(later(10, 3600)), None);
        clock.look(later(20, 0), WINDOW);
        assert_eq!(clock.closed_for(later(20, 0)), Some(120));
    }

    #[test]
    fn the_past_is_told_in_todays_terms() {
        assert_eq!(later(50, 3600).unix_at(START.boot), 1_800_003_600);
    }
}
