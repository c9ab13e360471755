//! Reads a connection's first bytes one condition after the other, and knows at the first that is not
//! met, or cannot be yet, what that says of the protocol. It never asks for a byte that no condition is on.

use std::ops::RangeInclusive;

/// Why bytes are not (yet) a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// All bytes so far are as they should be; this many in all can tell more.
    More(usize),
    /// They are something else, whatever comes.
    Other,
}

/// Where in a connection's first bytes the next condition stands. It may stand behind their end, when
/// bytes were passed over that have not come yet.
#[derive(Clone, Debug)]
pub(super) struct Start<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Start<'a> {
    pub(super) fn of(bytes: &'a [u8]) -> Start<'a> {
        Start { bytes, at: 0 }
    }

    pub(super) fn byte(&mut self, may_be: impl FnOnce(u8) -> bool) -> Result<u8, Doubt> {
        let byte = *self.bytes.get(self.at).ok_or(Doubt::More(self.at + 1))?;
        if !may_be(byte) {
            return Err(Doubt::Other);
        }
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn literal(&mut self, text: &[u8]) -> Result<(), Doubt> {
        self.one_of(&[text]).map(|_| ())
    }

    /// The one of these texts that stands here; none may begin with another.
    pub(super) fn one_of<'t>(&mut self, texts: &[&'t [u8]]) -> Result<&'t [u8], Doubt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if let Some(text) = texts.iter().find(|text| rest.starts_with(text)) {
            self.at += text.len();
            Ok(text)
        } else if texts.iter().any(|text| text.starts_with(rest)) {
            Err(Doubt::More(self.at + rest.len() + 1))
        } else {
            Err(Doubt::Other)
        }
    }

    /// Bytes that say something only together.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Doubt> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest.first_chunk().ok_or(Doubt::More(self.at + N))?;
        self.at += N;
        Ok(*array)
    }

    /// A number of `N` bytes, at most four, in network order.
    pub(super) fn number<const N: usize>(
        &mut self,
        within: RangeInclusive<usize>,
    ) -> Result<usize, Doubt> {
        let mut number = 0;
        for behind in (0..N).rev() {
            let so_far = |byte: u8| number << 8 | usize::from(byte);
            let byte = self.byte(|byte| {
                let least = so_far(byte) << (8 * behind);
                let most = least | ((1 << (8 * behind)) - 1);
                least <= *within.end() && *within.start() <= most
            })?;
            number = so_far(byte);
        }
        Ok(number)
    }

    /// At most `longest` bytes that may stand in a word, and the byte that ends it.
    pub(super) fn until(
        &mut self,
        end: u8,
        longest: usize,
        may_have: impl Fn(u8) -> bool,
    ) -> Result<(), Doubt> {
        for room in (0..=longest).rev() {
            if self.byte(|byte| byte == end || (room > 0 && may_have(byte)))? == end {
                break;
            }
        }
        Ok(())
    }

    /// Passes over bytes that may be any.
    pub(super) fn skip(&mut self, n: usize) {
        self.at += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of every prefix, in order.
    fn of_prefixes<T>(
        bytes: &[u8],
        read: impl Fn(&mut Start<'_>) -> Result<T, Doubt>,
    ) -> Vec<Result<T, Doubt>> {
        (0..=bytes.len()).map(|have| read(&mut Start::of(&bytes[..have]))).collect()
    }

    const OTHER: Result<usize, Doubt> = Err(Doubt::Other);

    fn more(n: usize) -> Result<usize, Doubt> {
        Err(Doubt::More(n))
    }

    #[test]
    fn a_number_is_refused_at_the_first_byte_that_puts_it_out_of_range() {
        let read = |start: &mut Start<'_>| start.number::<4>(8..=10_000);
        assert_eq!(
            of_prefixes(&[0, 0, 39, 16], read),
            [more(1), more(2), more(3), more(4), Ok(10_000)]
        );
        for (bytes, refused_at) in [
            ([1, 0, 0, 8], 1),
            ([0, 1, 0, 8], 2),
            ([0, 0, 40, 0], 3),
            ([0, 0, 39, 17], 4),
            ([0, 0, 0, 7], 4),
        ] {
            let said = of_prefixes(&bytes, read);
            assert_eq!(said.iter().position(|said| *said == OTHER), Some(refused_at), "{bytes:?}");
        }
        let all = |start: &mut Start<'_>| start.number::<2>(0..=0xffff);
        assert_eq!(of_prefixes(&[255, 255], all), [more(1), more(2), Ok(0xffff)]);
    }

    #[test]
    fn what_is_passed_over_is_not_asked_for() {
        let read = |start: &mut Start<'_>| {
            start.literal(b"ab")?;
            start.skip(3);
            start.one_of(&[b"xy", b"z"]).map(<[u8]>::len)
        };
        let said = of_prefixes(b"ab...xy", read);
        assert_eq!(said, [more(1), more(2), more(6), more(6), more(6), more(6), more(7), Ok(2)]);
        assert_eq!(read(&mut Start::of(b"ab...z")), Ok(1));
        for other in [&b"b"[..], b"aa", b"ab...a", b"ab...xz"] {
            assert_eq!(read(&mut Start::of(other)), OTHER);
        }
    }

    #[test]
    fn a_word_ends_at_its_end_or_its_length() {
        let read = |start: &mut Start<'_>| {
            start.until(b' ', 2, |byte| byte.is_ascii_digit())?;
            start.array::<2>().map(|[first, _]| usize::from(first - b'0'))
        };
        let said = of_prefixes(b"12 34", read);
        assert_eq!(said, [more(1), more(2), more(3), more(5), more(5), Ok(3)]);
        assert_eq!(read(&mut Start::of(b" 56")), Ok(5));
        for other in [&b"a"[..], b"1a", b"123"] {
            assert_eq!(read(&mut Start::of(other)), OTHER);
        }
    }
}
