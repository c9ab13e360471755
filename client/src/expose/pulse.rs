//! Whether the other end still answers. Decides which question is asked next and when its answer is due;
//! sends nothing.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// An answer to the heartbeat is due so soon.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// And so soon after the network has changed, when a connection is as likely dead as alive.
pub(super) const DOUBT: Duration = Duration::from_secs(2);

/// Questions under way; more only say the same again.
const MOST: usize = 4;

/// The questions that are not yet answered.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    asked: u64,
    open: VecDeque<(u64, Instant)>,
}

impl Pulse {
    /// The next question's number, unless one whose answer is due as early is under way.
    pub(super) fn ask(&mut self, now: Instant, patience: Duration) -> Option<u64> {
        let due = now + patience;
        if self.due().is_some_and(|before| before <= due) && patience <= DOUBT
            || self.open.len() == MOST
        {
            return None;
        }
        self.asked += 1;
        self.open.push_back((self.asked, due));
        Some(self.asked)
    }

    /// An answer, which answers what was asked before too.
    pub(super) fn answered(&mut self, number: u64) {
        self.open.retain(|(asked, _)| *asked > number);
    }

    /// When the next answer is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|(_, due)| *due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_due_until_it_comes() {
        let (mut pulse, now) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.due(), None);
        assert_eq!(pulse.ask(now, PATIENCE), Some(1));
        assert_eq!(pulse.due(), Some(now + PATIENCE));
        assert_eq!(pulse.ask(now, DOUBT), Some(2), "sooner than the first");
        assert_eq!(pulse.due(), Some(now + DOUBT));
        assert_eq!(pulse.ask(now, DOUBT), None, "one doubt is enough");
        pulse.answered(1);
        assert_eq!(pulse.due(), Some(now + DOUBT));
        pulse.answered(2);
        assert_eq!(pulse.due(), None);
        pulse.answered(9);
        assert_eq!(pulse.ask(now, PATIENCE), Some(3));
    }

    #[test]
    fn questions_are_bounded() {
        let (mut pulse, now) = (Pulse::default(), Instant::now());
        let asked = (0..100).filter_map(|_| pulse.ask(now, PATIENCE)).count();
        assert_eq!(asked, MOST);
    }
}
