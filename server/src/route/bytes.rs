//! What a route may ask of first bytes that are no protocol posternd knows: that they begin so, or match
//! a regular expression. Pure, and in one pass over bytes that may come one by one: an answer is never
//! taken back when more of them come.

use std::fmt;

use regex_automata::Anchored;
use regex_automata::dfa::Automaton as _;
use regex_automata::dfa::StartKind;
use regex_automata::dfa::dense::{self, DFA};
use regex_automata::util::start;
use regex_automata::util::syntax;

/// Bytes that an expression may look at.
const LONGEST: usize = 1024;

/// Of the automaton that an expression becomes, in bytes. It takes one step for each byte whatever the
/// expression.
const LARGEST: usize = 1 << 20;

/// What bytes that have come say about what is asked of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    Holds,
    Fails,
    /// That is not known before so many have come.
    Open(usize),
    /// That is not known before the identifier of this number is asked.
    Ask(usize),
}

/// What first bytes may be asked to be.
#[derive(Clone, Debug)]
pub enum BytePattern {
    Prefix(Vec<u8>),
    Expression(Expression),
}

impl BytePattern {
    pub fn rule(&self, bytes: &[u8]) -> Ruling {
        match self {
            BytePattern::Prefix(prefix) if bytes.starts_with(prefix) => Ruling::Holds,
            BytePattern::Prefix(prefix) if prefix.starts_with(bytes) => {
                Ruling::Open(bytes.len() + 1)
            }
            BytePattern::Prefix(_) => Ruling::Fails,
            BytePattern::Expression(expression) => expression.rule(bytes),
        }
    }

    /// Whether there are bytes that keep it waiting to the last it may look at.
    pub fn may_wait_for_ever(&self) -> bool {
        match self {
            BytePattern::Prefix(_) => false,
            BytePattern::Expression(expression) => expression.may_wait_for_ever(),
        }
    }

    /// Whether all bytes that match `other` match this one, as far as that is easily seen.
    pub fn covers(&self, other: &BytePattern) -> bool {
        match (self, other) {
            (BytePattern::Prefix(short), BytePattern::Prefix(long)) => long.starts_with(short),
            (BytePattern::Expression(one), BytePattern::Expression(other)) => {
                one.written == other.written
            }
            (BytePattern::Expression(expression), BytePattern::Prefix(prefix)) => {
                expression.rule(prefix) == Ruling::Holds
            }
            (BytePattern::Prefix(_), BytePattern::Expression(_)) => false,
        }
    }
}

/// A regular expression over bytes, matched from the first one.
#[derive(Clone)]
pub struct Expression {
    written: String,
    automaton: Box<DFA<Vec<u32>>>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl Expression {
    /// Letters are bytes here: `.` is any but a line's end, `\xff` one that is no text.
    pub fn parse(text: &str) -> Result<Expression, String> {
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let wrong = |error: &dyn fmt::Display| {
            let words = error.to_string();
            // The last line says what is wrong, those above draw where.
            let what = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("is no regular expression: {what}")
        };
        let hir = syntax::parse_with(text, &syntax).map_err(|error| wrong(&error))?;
        let asks = hir.properties();
        if asks.minimum_len() == Some(0) {
            return Err("matches without one byte; protocol = [\"any\"] is for any byte".to_owned());
        }
        if asks.look_set() != asks.look_set_prefix() {
            return Err("asks for an end (by $ or \\b), but first bytes have none".to_owned());
        }
        let config = dense::Config::new()
            .start_kind(StartKind::Anchored)
            .dfa_size_limit(Some(LARGEST))
            .determinize_size_limit(Some(2 * LARGEST));
        let automaton = dense::Builder::new()
            .configure(config)
            .syntax(syntax)
            .build(text)
            .map_err(|_| "is too large: its automaton has more than a megabyte".to_owned())?;
        Ok(Expression { written: text.to_owned(), automaton: Box::new(automaton) })
    }

    fn rule(&self, bytes: &[u8]) -> Ruling {
        let automaton = &*self.automaton;
        let start = start::Config::new().anchored(Anchored::Yes);
        let Ok(mut state) = automaton.start_state(&start) else { return Ruling::Fails };
        for byte in bytes.iter().take(LONGEST) {
            state = automaton.next_state(state, *byte);
            if automaton.is_match_state(state) {
                return Ruling::Holds;
            }
            if automaton.is_dead_state(state) || automaton.is_quit_state(state) {
                return Ruling::Fails;
            }
        }
        // A match is seen one byte behind its last, or here.
        if automaton.is_match_state(automaton.next_eoi_state(state)) {
            Ruling::Holds
        } else if bytes.len() >= LONGEST {
            Ruling::Fails
        } else {
            Ruling::Open(bytes.len() + 1)
        }
    }

    fn may_wait_for_ever(&self) -> bool {
        // One of these goes on in most classes that people write; what is not found only is not warned of.
        [b'x', b'0', 0, 0xff]
            .iter()
            .any(|byte| matches!(self.rule(&[*byte; LONGEST - 1]), Ruling::Open(_)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expression(text: &str) -> BytePattern {
        BytePattern::Expression(Expression::parse(text).expect(text))
    }

    #[test]
    fn a_prefix_is_known_by_its_first_foreign_byte() {
        let prefix = BytePattern::Prefix(b"\x00\x01\x02".to_vec());
        for (bytes, ruling) in [
            (&b""[..], Ruling::Open(1)),
            (b"\x00\x01", Ruling::Open(3)),
            (b"\x00\x01\x02", Ruling::Holds),
            (b"\x00\x01\x02\xff", Ruling::Holds),
            (b"\x00\x02", Ruling::Fails),
        ] {
            assert_eq!(prefix.rule(bytes), ruling, "{bytes:?}");
        }
    }

    #[test]
    fn an_expression_is_matched_from_the_first_byte() {
        let echo = expression(r"echo [0-9]+\n|\xff+\x00");
        for (bytes, ruling) in [
            (&b""[..], Ruling::Open(1)),
            (b"echo 12", Ruling::Open(8)),
            (b"echo 12\n", Ruling::Holds),
            (b"echo 12\nmore", Ruling::Holds),
            (b" echo 12\n", Ruling::Fails),
            (b"echo x", Ruling::Fails),
            (b"\xff\xff\x00", Ruling::Holds),
        ] {
            assert_eq!(echo.rule(bytes), ruling, "{bytes:?}");
        }
    }

    #[test]
    fn it_looks_at_so_many_and_no_more() {
        let endless = expression("(?s).*needle");
        assert_eq!(endless.rule(&[b'x'; LONGEST - 1]), Ruling::Open(LONGEST));
        assert_eq!(endless.rule(&[b'x'; LONGEST]), Ruling::Fails);
        let Ok(endless) = Expression::parse("(?s).*needle") else { panic!("it is one") };
        assert!(endless.may_wait_for_ever());
        assert!(!Expression::parse("abc|d{3}").expect("one").may_wait_for_ever());
    }

    #[test]
    fn what_cannot_be_asked() {
        for (text, why) in [
            ("", "without one byte"),
            ("a*", "without one byte"),
            ("abc$", "asks for an end"),
            (r"abc\b", "asks for an end"),
            ("(", "no regular expression"),
            ("[ab]*a[ab]{18}", "too large"),
        ] {
            let refused = Expression::parse(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
        assert!(Expression::parse("^abc").is_ok());
    }

    proptest! {
        #[test]
        fn no_answer_is_taken_back(
            bytes in prop::collection::vec(prop::sample::select(b"ab\n0\xff".to_vec()), 0..24),
        ) {
            for text in ["a+b", "^(ab|a0)+\n", "[^a]a", r"\xff{2,4}0", "(a|b)*0"] {
                let pattern = expression(text);
                let mut answer = None;
                for count in 0..=bytes.len() {
                    let now = pattern.rule(&bytes[..count]);
                    if let Some(answer) = answer {
                        prop_assert_eq!(now, answer);
                    }
                    match now {
                        Ruling::Open(want) => prop_assert!(want > count),
                        Ruling::Holds | Ruling::Fails | Ruling::Ask(_) => answer = Some(now),
                    }
                }
            }
        }
    }
}
