//! The lines that posternd and its helpers exchange: a question with its number, an answer with the
//! question's number, in any order. Pure; what is not an answer to the letter is garbage, of which nothing
//! is kept.

use std::fmt;

use postern_shared::hex;

use super::{Question, Reply, Role};

/// The longest answer, a line's end included.
const LONGEST: usize = 64;

/// Appends the line that asks this.
pub(super) fn write(out: &mut Vec<u8>, number: u64, question: &Question) {
    out.extend_from_slice(number.to_string().as_bytes());
    out.push(b' ');
    match question {
        Question::Bytes(bytes) => out.extend_from_slice(hex::encode(bytes).as_bytes()),
        Question::Words(words) => out.extend_from_slice(words.as_bytes()),
    }
    out.push(b'\n');
}

/// What came that is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage(Vec<u8>);

impl fmt::Display for Garbage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it said \"{}\", which is no answer", self.0.escape_ascii())
    }
}

/// A line that has begun.
#[derive(Debug, Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Takes what came and tells of each answer in it.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        role: Role,
        mut each: impl FnMut(u64, Reply) -> bool,
    ) -> Result<(), Garbage> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let fits = piece.len().min(LONGEST - self.begun.len());
            let (fitting, rest) = piece.split_at(fits);
            self.begun.extend_from_slice(fitting);
            match self.begun.strip_suffix(b"\n") {
                Some(line) => {
                    let heard =
                        answer(line, role).is_some_and(|(number, reply)| each(number, reply));
                    if !heard {
                        return Err(self.garbage());
                    }
                    self.begun.clear();
                }
                None if !rest.is_empty() || self.begun.len() == LONGEST => {
                    return Err(self.garbage());
                }
                None => {}
            }
        }
        Ok(())
    }

    fn garbage(&mut self) -> Garbage {
        Garbage(std::mem::take(&mut self.begun))
    }
}

/// `NUMBER WORD`, and for `more` how many bytes there must be, if the helper knows.
fn answer(line: &[u8], role: Role) -> Option<(u64, Reply)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_suffix('\r').unwrap_or(line).split(' ');
    let number = digits(words.next()?)?;
    let reply = match (role, words.next()?) {
        (Role::Identify, "yes") | (Role::Access, "allow") => Reply::Yes,
        (Role::Identify, "no") | (Role::Access, "deny") => Reply::No,
        (Role::Identify, "more") => {
            let count = words.next().map(|count| digits(count).ok_or(())).transpose().ok()?;
            Reply::More(count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
        }
        (Role::Identify | Role::Access, _) => return None,
    };
    words.next().is_none().then_some((number, reply))
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that is heard when the text comes in pieces of this size.
    fn heard(text: &[u8], size: usize, role: Role) -> Result<Vec<(u64, Reply)>, Garbage> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for piece in text.chunks(size.max(1)) {
            lines.take(piece, role, |number, reply| {
                all.push((number, reply));
                true
            })?;
            assert!(lines.begun.len() < LONGEST);
        }
        Ok(all)
    }

    #[test]
    fn questions_are_lines() {
        let mut out = Vec::new();
        write(&mut out, 7, &Question::Bytes(b"\x00\xffA".to_vec()));
        write(&mut out, 8, &Question::Bytes(Vec::new()));
        write(&mut out, 9, &Question::Words("::1 5 6 ssh -".to_owned()));
        assert_eq!(out, b"7 00ff41\n8 \n9 ::1 5 6 ssh -\n");
    }

    #[test]
    fn answers_in_any_order() {
        let all =
            [(2, Reply::No), (1, Reply::Yes), (3, Reply::More(None)), (4, Reply::More(Some(12)))];
        let text = b"2 no\n1 yes\r\n3 more\n4 more 12\n";
        for size in 1..text.len() {
            assert_eq!(heard(text, size, Role::Identify).as_deref(), Ok(&all[..]), "{size}");
        }
        let all = [(1, Reply::No), (0, Reply::Yes)];
        assert_eq!(heard(b"1 deny\n0 allow\n", 5, Role::Access).as_deref(), Ok(&all[..]));
    }

    #[test]
    fn what_is_no_answer() {
        for bad in [
            "\n",
            "1\n",
            "1 \n",
            "yes\n",
            "-1 yes\n",
            "+1 yes\n",
            "1  yes\n",
            "1 yes \n",
            "1 YES\n",
            "1 yes 2\n",
            "1 more x\n",
            "1 more 1 2\n",
            "1 maybe\n",
            "18446744073709551616 yes\n",
            "1 allow\n",
            "1 \u{fc}\n",
        ] {
            assert!(heard(bad.as_bytes(), 3, Role::Identify).is_err(), "{bad:?}");
        }
        for bad in ["1 yes\n", "1 no\n", "1 more\n"] {
            assert!(heard(bad.as_bytes(), 3, Role::Access).is_err(), "{bad:?}");
        }
        // Said before its end comes, so that it is not waited for.
        assert!(heard(&[b'1'; LONGEST], 7, Role::Identify).is_err());
        let longest = format!("{:0>60} no\n", 1);
        assert_eq!(heard(longest.as_bytes(), 9, Role::Identify), Ok(vec![(1, Reply::No)]));
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_garbage() {
        let taken = Lines::default().take(b"5 yes\n", Role::Identify, |_, _| false);
        assert_eq!(taken, Err(Garbage(b"5 yes\n".to_vec())));
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            parts in prop::collection::vec(
                prop::sample::select(vec!["1", "2 ", " ", "yes", "no\n", " more", "\n", "\r\n", "0 yes\n", "x"]),
                0..40,
            ),
            size in 1_usize..70,
        ) {
            let text = parts.concat();
            let (cut, whole) =
                (heard(text.as_bytes(), size, Role::Identify), heard(text.as_bytes(), text.len(), Role::Identify));
            prop_assert_eq!(cut.is_ok(), whole.is_ok());
            if let (Ok(cut), Ok(whole)) = (cut, whole) {
                prop_assert_eq!(cut, whole);
            }
        }

        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..70) {
            let _ = heard(&bytes, size, Role::Access);
        }
    }
}
