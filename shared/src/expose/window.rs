//! Numbers that count once: a sliding window of those that were seen (as RFC 4303, 3.4.3, has it against
//! replay). Decides whether a number is new; never says so twice of one.

/// How far behind the highest a number may come: as many lanes may be on their way at a time.
const WIDTH: u64 = 8192;
const WORD: u64 = 64;
/// One more than the width has, as the window seldom begins where a word does.
const WORDS: u64 = WIDTH / WORD + 1;

/// The numbers that were seen. 0 is not one.
#[derive(Clone, Debug)]
pub struct Window {
    highest: u64,
    /// One bit for each number, in a ring.
    seen: Box<[u64; WORDS as usize]>,
}

impl Default for Window {
    fn default() -> Window {
        Window { highest: 0, seen: Box::new([0; WORDS as usize]) }
    }
}

impl Window {
    /// Takes note of a number; whether it is new. What lies below the window is not.
    pub fn admit(&mut self, number: u64) -> bool {
        let (from, to) = (self.highest / WORD, number / WORD);
        if number == 0 || to + WORDS <= from {
            return false;
        }
        // The words that the window moves over are freed; in a ring no more than all.
        for word in (from + 1..=to).rev().take(WORDS as usize) {
            if let Some(word) = self.word(word) {
                *word = 0;
            }
        }
        self.highest = self.highest.max(number);
        let bit = 1 << (number % WORD);
        let Some(word) = self.word(number / WORD) else { return false };
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    fn word(&mut self, number: u64) -> Option<&mut u64> {
        let at = usize::try_from(number % WORDS).ok()?;
        self.seen.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_number_counts_once() {
        let mut window = Window::default();
        for (number, is_new) in [
            (0, false),
            (1, true),
            (1, false),
            (3, true),
            (2, true),
            (2, false),
            (10_000, true),
            (1, false),
            (u64::MAX, true),
            (u64::MAX, false),
            (u64::MAX - 1, true),
        ] {
            assert_eq!(window.admit(number), is_new, "{number}");
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((0u64..200, any::<bool>()), 1..400)) {
            let (mut window, mut seen, mut at) = (Window::default(), HashSet::new(), 1u64);
            for (step, back) in steps {
                // Forwards by up to two windows, or backwards within one.
                let number = if back { at.saturating_sub(step * 40).max(1) } else { at + step * 90 };
                at = at.max(number);
                let expected = seen.insert(number);
                let admitted = window.admit(number);
                // What lies further behind may be refused, and what was seen must be.
                if number + WIDTH > at {
                    prop_assert_eq!(admitted, expected, "{} of {}", number, at);
                } else {
                    prop_assert!(!admitted || expected);
                }
            }
        }
    }
}
