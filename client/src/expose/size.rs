//! How many lanes a pool should have. Decides how many more are to be opened and how many may go; opens and
//! closes none. As many wait as there were visitors at one time lately, so that a page's worth of
//! connections finds lanes again.

use std::time::Duration;

/// Lanes that wait however few visitors come: what a browser opens at once for one page.
const LEAST: usize = 8;

/// However many came: a lane costs memory at both ends, and with so many one visitor in a burst waits for
/// the opening of his own only when all others came within a round trip.
const MOST_IDLE: usize = 512;

/// On their way at a time: each is a handshake at both ends.
const MOST_OPENING: usize = 64;

/// Two of these are remembered.
pub(super) const PERIOD: Duration = Duration::from_secs(30);

/// The lanes of a pool, by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lanes {
    pub(super) opening: usize,
    pub(super) idle: usize,
    pub(super) busy: usize,
}

impl Lanes {
    pub(super) fn all(&self) -> usize {
        self.opening + self.idle + self.busy
    }
}

/// What is remembered of a pool to judge its size by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    most: usize,
    /// The server asked for so many that have not come yet.
    wanted: usize,
    now: Period,
    before: Period,
}

#[derive(Clone, Copy, Debug, Default)]
struct Period {
    /// The most visitors at one time.
    busiest: usize,
    /// The fewest lanes that waited.
    unused: usize,
}

impl Size {
    pub(super) fn new(most: usize) -> Size {
        Size { most, wanted: 0, now: Period::default(), before: Period::default() }
    }

    /// Takes note of how things stand.
    pub(super) fn note(&mut self, lanes: Lanes) {
        self.now.busiest = self.now.busiest.max(lanes.busy);
        self.now.unused = self.now.unused.min(lanes.idle);
    }

    /// The server has visitors waiting for so many.
    pub(super) fn want(&mut self, count: usize, lanes: Lanes) {
        self.wanted = (lanes.opening + count).min(self.most);
    }

    /// An opening has come to its end, good or bad.
    pub(super) fn answered(&mut self) {
        self.wanted = self.wanted.saturating_sub(1);
    }

    /// How many more are to be opened now.
    pub(super) fn missing(&self, lanes: Lanes) -> usize {
        let needed = self.idle().saturating_sub(lanes.idle).max(self.wanted);
        needed
            .saturating_sub(lanes.opening)
            .min(self.most.saturating_sub(lanes.all()))
            .min(MOST_OPENING.saturating_sub(lanes.opening))
    }

    /// Ends a [`PERIOD`]; answers how many that wait may go: half of those that nobody needed in two.
    pub(super) fn settle(&mut self, lanes: Lanes) -> usize {
        let unused = self.now.unused.min(self.before.unused);
        self.before = self.now;
        self.now = Period { busiest: lanes.busy, unused: lanes.idle };
        lanes.idle.saturating_sub(self.idle()).min(unused).div_ceil(2)
    }

    fn idle(&self) -> usize {
        self.now.busiest.max(self.before.busiest).clamp(LEAST, MOST_IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(opening: usize, idle: usize, busy: usize) -> Lanes {
        Lanes { opening, idle, busy }
    }

    #[test]
    fn a_pool_begins_with_the_least() {
        let mut size = Size::new(1000);
        assert_eq!(size.missing(lanes(0, 0, 0)), LEAST);
        assert_eq!(size.missing(lanes(3, 0, 0)), LEAST - 3);
        assert_eq!(size.missing(lanes(0, LEAST, 0)), 0);
        size.note(lanes(0, 6, 2));
        assert_eq!(size.missing(lanes(0, 6, 2)), 2, "who comes next finds as many as before");
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(Size::new(10).missing(lanes(1, 2, 6)), 1, "most_lanes");
        assert_eq!(
            Size::new(10).missing(lanes(0, 0, 12)),
            0,
            "a server that allows fewer than before"
        );
        let mut size = Size::new(10_000);
        size.note(lanes(0, 0, 5000));
        assert_eq!(size.missing(lanes(0, 0, 5000)), MOST_OPENING);
        assert_eq!(size.missing(lanes(0, MOST_IDLE, 5000)), 0);
        size.want(300, lanes(10, 0, 0));
        assert_eq!(size.missing(lanes(10, 0, 0)), MOST_OPENING - 10);
    }

    #[test]
    fn what_the_server_wants_comes_beside_what_is_on_its_way() {
        let mut size = Size::new(1000);
        size.want(20, lanes(8, 0, 0));
        assert_eq!(size.missing(lanes(8, 0, 0)), 20);
        for _ in 0..28 {
            size.answered();
        }
        assert_eq!(size.missing(lanes(0, LEAST, 20)), 0);
    }

    #[test]
    fn what_nobody_needs_for_a_minute_goes_slowly() {
        let mut size = Size::new(1000);
        size.note(lanes(0, 0, 100));
        let mut idle = 100;
        assert_eq!(size.settle(lanes(0, idle, 0)), 0, "just now");
        assert_eq!(size.settle(lanes(0, idle, 0)), 0, "the last period had them");
        let mut steps = Vec::new();
        for _ in 0..10 {
            let gone = size.settle(lanes(0, idle, 0));
            idle -= gone;
            steps.push(gone);
        }
        assert_eq!(steps.first(), Some(&46));
        assert_eq!(idle, LEAST);
        assert_eq!(steps.last(), Some(&0));
    }

    #[test]
    fn what_was_needed_meanwhile_stays() {
        let mut size = Size::new(1000);
        for _ in 0..4 {
            size.note(lanes(0, 0, 100));
            assert_eq!(size.settle(lanes(0, 150, 0)), 0);
        }
    }
}
