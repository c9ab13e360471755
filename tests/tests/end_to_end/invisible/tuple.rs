//! What of a sight can be compared: no clock, no random bytes, no exact time.

use std::fmt;
use std::time::Duration;

use postern_tests::net::without_date;

use super::records;
use super::witness::{End, Sight};

/// What happens within so long of each other happened at the same time: a bucket that has no edge to
/// fall off. The website's timers are set to more than three times that, and posternd's own deadline
/// lies further from them, so that none of these can be taken for another. The close of a slow stranger
/// may come 50 ms late, which is a stated limit; the rest is for a busy machine.
const SAME_TIME: Duration = Duration::from_millis(300);

pub(crate) struct Tuple {
    answer: Vec<String>,
    end: End,
    first_byte: Option<Duration>,
    ended: Duration,
}

impl Tuple {
    pub(crate) fn of(sight: &Sight) -> Tuple {
        let answer = records::describe(&sight.bytes).unwrap_or_else(|| {
            let masked = without_date(&sight.bytes);
            String::from_utf8_lossy(&masked).lines().map(str::to_owned).collect()
        });
        Tuple { answer, end: sight.end, first_byte: sight.first_byte, ended: sight.ended }
    }

    /// Whether a stranger could not tell the two apart.
    pub(crate) fn is_like(&self, other: &Tuple) -> bool {
        let same_time = |one: Duration, another: Duration| one.abs_diff(another) < SAME_TIME;
        let first_bytes = match (self.first_byte, other.first_byte) {
            (Some(one), Some(another)) => same_time(one, another),
            (one, another) => one == another,
        };
        self.answer == other.answer
            && self.end == other.end
            && first_bytes
            && same_time(self.ended, other.ended)
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after {:?}, first byte after {:?}", self.end, self.ended, self.first_byte)?;
        self.answer.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}
