//! Decides which bytes come next: a cursor over a slice whose every read either fits or is refused.
//! It never indexes and never panics, and a refused read leaves the cursor where it was.

/// A cursor over bytes. Cloning it is a cheap look ahead.
#[derive(Clone, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// TLS writes the length of a handshake message in three bytes.
    pub fn u24(&mut self) -> Option<u32> {
        let [high, middle, low] = self.array()?;
        Some(u32::from_be_bytes([0, high, middle, low]))
    }

    /// A reader that cannot leave the next `n` bytes.
    pub fn sub(&mut self, n: usize) -> Option<Reader<'a>> {
        self.take(n).map(Reader)
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub fn left(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_in_network_order() {
        let mut reader = Reader::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(reader.u8(), Some(1));
        assert_eq!(reader.u16(), Some(0x0203));
        assert_eq!(reader.u24(), Some(0x04_0506));
        assert_eq!(reader.array(), Some([7]));
        assert_eq!(reader.take(2), Some(&[8, 9][..]));
        assert_eq!((reader.left(), reader.is_empty()), (1, false));
        assert_eq!(reader.rest(), [10]);
        assert_eq!((reader.left(), reader.is_empty()), (0, true));
        assert_eq!(reader.rest(), []);
    }

    #[test]
    fn a_refused_read_moves_nothing() {
        let mut reader = Reader::new(&[1, 2]);
        assert_eq!(reader.u24(), None);
        assert_eq!(reader.take(3), None);
        assert_eq!(reader.array::<3>(), None);
        assert!(reader.sub(usize::MAX).is_none());
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(reader.u8(), None);
        assert_eq!(reader.take(0), Some(&[][..]));
    }

    #[test]
    fn a_sub_reader_ends_where_it_was_told_to() {
        let mut reader = Reader::new(&[1, 2, 3]);
        let mut sub = reader.sub(2).expect("two of three");
        assert_eq!((sub.u24(), sub.u16()), (None, Some(0x0102)));
        assert_eq!(reader.rest(), [3]);
    }
}
