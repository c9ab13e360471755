//! The replay journal as bytes: a header, then a record for each spent token. Takes all of it or
//! nothing: whatever does not read back exactly is damage, and the caller's to answer.

use aws_lc_rs::digest::{SHA256, digest};
use postern_shared::knock::{Kid, Spent};

const MAGIC: [u8; 8] = *b"postern\x01";
const CHECK: usize = 4;
pub(super) const HEADER: usize = 8 + 16 + 4 + 4 + 4 + CHECK;
pub(super) const RECORD: usize = 16 + 4 + 4 + 4 + CHECK;

/// What holds for the journal as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The boot that the records' times count from; zero where the system does not tell.
    pub boot: [u8; 16],
    /// No token dated at or below this is fresh.
    pub floor: u32,
    /// The widest window under which tokens were taken, in seconds.
    pub window: u32,
    /// Nothing was spent after this was written, and it was synced to the disk.
    pub clean: bool,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let clean = u32::from(self.clean).to_be_bytes();
        let (floor, window) = (self.floor.to_be_bytes(), self.window.to_be_bytes());
        checked(&[&MAGIC, &self.boot, &floor, &window, &clean])
    }

    fn take(bytes: &mut &[u8]) -> Option<Header> {
        let fields = &mut unchecked(bytes, HEADER)?;
        let magic: [u8; 8] = take(fields)?;
        let (boot, floor, window) = (take(fields)?, number(fields)?, number(fields)?);
        let clean = match number(fields)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        (magic == MAGIC).then_some(Header { boot, floor, window, clean })
    }
}

pub(super) fn encode(spent: &Spent) -> Vec<u8> {
    let (kid, date) = (spent.kid.value().to_be_bytes(), spent.date.to_be_bytes());
    checked(&[&spent.tag, &kid, &date, &spent.at.to_be_bytes()])
}

/// The whole journal; `None` if any part of it is damaged.
pub(super) fn read(mut bytes: &[u8]) -> Option<(Header, Vec<Spent>)> {
    let header = Header::take(&mut bytes)?;
    let mut all = Vec::with_capacity(bytes.len() / RECORD);
    while !bytes.is_empty() {
        let fields = &mut unchecked(&mut bytes, RECORD)?;
        let (tag, kid) = (take(fields)?, Kid::new(number(fields)?)?);
        all.push(Spent { tag, kid, date: number(fields)?, at: number(fields)? });
    }
    Some((header, all))
}

/// The fields, and by what one sees that they are whole. It is no secret: whoever may write here may
/// write anything.
fn checked(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = fields.concat();
    let check = check(&bytes);
    bytes.extend_from_slice(&check);
    bytes
}

fn unchecked<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (fields, rest) = bytes.split_at_checked(length - CHECK)?;
    let (found, rest) = rest.split_first_chunk::<CHECK>()?;
    *bytes = rest;
    (*found == check(fields)).then_some(fields)
}

fn check(bytes: &[u8]) -> [u8; CHECK] {
    let hash = digest(&SHA256, bytes);
    let mut check = [0; CHECK];
    for (to, from) in check.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    check
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spent() -> impl Strategy<Value = Spent> {
        (any::<[u8; 16]>(), 1u32.., any::<u32>(), any::<u32>()).prop_map(|(tag, kid, date, at)| {
            Spent { tag, kid: Kid::new(kid).expect("not 0"), date, at }
        })
    }

    fn journal() -> impl Strategy<Value = (Header, Vec<Spent>)> {
        let header = (any::<[u8; 16]>(), any::<u32>(), any::<u32>(), any::<bool>())
            .prop_map(|(boot, floor, window, clean)| Header { boot, floor, window, clean });
        (header, prop::collection::vec(spent(), 0..8))
    }

    fn written((header, all): &(Header, Vec<Spent>)) -> Vec<u8> {
        let records = all.iter().flat_map(encode);
        header.encode().into_iter().chain(records).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(journal in journal()) {
            let bytes = written(&journal);
            prop_assert_eq!(bytes.len(), HEADER + journal.1.len() * RECORD);
            prop_assert_eq!(read(&bytes), Some(journal));
        }

        #[test]
        fn every_changed_byte_is_noticed(journal in journal(), at: prop::sample::Index, by in 1u8..) {
            let mut bytes = written(&journal);
            bytes[at.index(journal.1.len() * RECORD + HEADER)] ^= by;
            prop_assert_eq!(read(&bytes), None);
        }

        #[test]
        fn a_cut_within_a_record_is_noticed(journal in journal(), at: prop::sample::Index) {
            let bytes = written(&journal);
            let length = at.index(bytes.len());
            let whole = length >= HEADER && (length - HEADER).is_multiple_of(RECORD);
            prop_assert_eq!(read(&bytes[..length]).is_some(), whole);
        }

        #[test]
        fn foreign_bytes_are_no_journal(bytes: Vec<u8>) {
            prop_assert_eq!(read(&bytes), None);
        }
    }
}
