//! Decides which protocol a datagram begins: the first that a client of it sends. It never takes for
//! one what has only its first bits: what comes without any of these marks is of no protocol.

use super::binary;
use super::start::Start;
use crate::reader::Reader;

/// A protocol over UDP that a route can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DatagramKind {
    Quic,
    WireGuard,
    OpenVpn,
    Dtls,
    Stun,
}

impl DatagramKind {
    pub const ALL: [DatagramKind; 5] = [
        DatagramKind::Quic,
        DatagramKind::WireGuard,
        DatagramKind::OpenVpn,
        DatagramKind::Dtls,
        DatagramKind::Stun,
    ];

    /// The word in configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            DatagramKind::Quic => "quic",
            DatagramKind::WireGuard => "wireguard",
            DatagramKind::OpenVpn => "openvpn",
            DatagramKind::Dtls => "dtls",
            DatagramKind::Stun => "stun",
        }
    }

    pub fn from_name(name: &str) -> Option<DatagramKind> {
        DatagramKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What this datagram begins. No two fit the same bytes: each has a first byte of its own.
    pub fn of(datagram: &[u8]) -> Option<DatagramKind> {
        let is = |kind: &DatagramKind| match kind {
            DatagramKind::Quic => quic(datagram),
            DatagramKind::WireGuard => wireguard(datagram),
            DatagramKind::OpenVpn => openvpn(datagram),
            DatagramKind::Dtls => dtls(datagram).is_some(),
            DatagramKind::Stun => stun(datagram).is_some(),
        };
        DatagramKind::ALL.into_iter().find(is)
    }
}

/// The least datagram with a client's Initial packet, and that a server answers with the versions it has
/// (RFC 9000, sections 14.1 and 6.1).
const LEAST_INITIAL: usize = 1200;

/// The connection ids of a client's first packet (RFC 9000, sections 7.2 and 17.2).
const LEAST_DESTINATION: u8 = 8;
const LONGEST_ID: u8 = 20;

fn quic(datagram: &[u8]) -> bool {
    datagram.len() >= LEAST_INITIAL && initial(datagram).is_some()
}

/// A long header (RFC 8999, section 5.1) of version 1 or 2 with the type Initial and lengths that fit, or
/// of a version that a server of these asks to be changed: one that only exercises that, or a draft.
fn initial(datagram: &[u8]) -> Option<()> {
    const VERSION_1: u32 = 1;
    const VERSION_2: u32 = 0x6b33_43cf;
    /// Version and what of the first byte: form 1, fixed bit 1, type (RFC 9000, 17.2.2; RFC 9369, 3.2).
    const FORM_AND_TYPE: u8 = 0b1111_0000;
    const INITIAL_1: u8 = 0b1100_0000;
    const INITIAL_2: u8 = 0b1101_0000;
    /// Of a packet number and what is encrypted at least as much as its protection takes a sample of
    /// (RFC 9001, section 5.4.2).
    const LEAST_PAYLOAD: u64 = 20;

    let mut reader = Reader::new(datagram);
    let first = reader.u8()?;
    let version = reader.array().map(u32::from_be_bytes)?;
    let sound = match version {
        VERSION_1 => first & FORM_AND_TYPE == INITIAL_1,
        VERSION_2 => first & FORM_AND_TYPE == INITIAL_2,
        _ => first & 0x80 != 0 && is_to_be_changed(version),
    };
    let destination = reader.u8().filter(|len| (LEAST_DESTINATION..=LONGEST_ID).contains(len))?;
    reader.take(destination.into())?;
    let source = reader.u8().filter(|len| *len <= LONGEST_ID)?;
    reader.take(source.into())?;
    if matches!(version, VERSION_1 | VERSION_2) {
        let token = varint(&mut reader)?;
        reader.take(usize::try_from(token).ok()?)?;
        let payload = varint(&mut reader).filter(|length| *length >= LEAST_PAYLOAD)?;
        reader.take(usize::try_from(payload).ok()?)?;
    }
    sound.then_some(())
}

/// `0x?a?a?a?a` is reserved for that (RFC 9000, section 15); drafts were `0xff0000??`.
fn is_to_be_changed(version: u32) -> bool {
    version & 0x0f0f_0f0f == 0x0a0a_0a0a || version & 0xffff_ff00 == 0xff00_0000
}

/// RFC 9000, section 16.
fn varint(reader: &mut Reader<'_>) -> Option<u64> {
    let first = reader.u8()?;
    let (more, mut number) = ((1 << (first >> 6)) - 1, u64::from(first & 0x3f));
    for byte in reader.take(more)? {
        number = number << 8 | u64::from(*byte);
    }
    Some(number)
}

/// A handshake initiation, and data, which is what comes first where the address of a peer has changed or
/// posternd was restarted: no handshake is due then (its paper, section 5.4).
fn wireguard(datagram: &[u8]) -> bool {
    const INITIATION: [u8; 4] = [1, 0, 0, 0];
    const INITIATION_LEN: usize = 148;
    const DATA: [u8; 4] = [4, 0, 0, 0];
    /// Receiver and counter, and the tag of data that may be none; data is filled up to blocks.
    const EMPTY_DATA_LEN: usize = 4 + 4 + 8 + 16;
    const BLOCK: usize = 16;

    let len = datagram.len();
    match datagram.first_chunk() {
        Some(&INITIATION) => len == INITIATION_LEN,
        Some(&DATA) => len >= EMPTY_DATA_LEN && len.is_multiple_of(BLOCK),
        Some(_) | None => false,
    }
}

/// As over TCP, without its length in front; a first one that was lost is sent again with another packet id.
fn openvpn(datagram: &[u8]) -> bool {
    /// OpenVPN gives up after a minute, in which it tries a handful of times.
    const MOST_SENT: u8 = 63;
    binary::openvpn_packet(Start::of(datagram), datagram.len(), MOST_SENT).is_ok()
}

/// A ClientHello, or its first fragment, alone in an unencrypted record (RFC 6347, sections 4.1 and
/// 4.2.2; DTLS 1.3 begins as 1.2 does, RFC 9147, section 5.3).
fn dtls(datagram: &[u8]) -> Option<()> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    /// The first hello, and the one with a cookie.
    const LAST_MESSAGE: u16 = 1;
    let is_version = |version: [u8; 2]| matches!(version, [0xfe, 0xff | 0xfd]);

    let mut reader = Reader::new(datagram);
    let typ = reader.u8()?;
    let version = reader.array()?;
    let epoch_and_high_sequence: [u8; 6] = reader.array()?;
    let _low_sequence = reader.u16()?;
    let length = reader.u16()?;
    let mut record = reader.sub(length.into())?;
    let message_type = record.u8()?;
    let message = record.u24()?;
    let number = record.u16()?;
    let (offset, fragment) = (record.u24()?, record.u24()?);
    let hello_version = record.array()?;
    let fits = offset == 0
        && fragment <= message
        && usize::try_from(fragment).is_ok_and(|fragment| fragment == 2 + record.left());
    let sound = typ == HANDSHAKE
        && is_version(version)
        && epoch_and_high_sequence == [0; 6]
        && message_type == CLIENT_HELLO
        && number <= LAST_MESSAGE
        && is_version(hello_version);
    (sound && fits).then_some(())
}

/// A request or an indication with the magic cookie and the length of what is there (RFC 8489, section 5).
fn stun(datagram: &[u8]) -> Option<()> {
    const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
    /// The two bits that make it a response.
    const RESPONSE: u16 = 0x0100;
    const HEADER: usize = 20;

    let mut reader = Reader::new(datagram);
    let typ = reader.u16()?;
    let length = usize::from(reader.u16()?);
    let cookie: [u8; 4] = reader.array()?;
    let sound = typ >> 14 == 0
        && typ & RESPONSE == 0
        && length.is_multiple_of(4)
        && datagram.len() == HEADER + length
        && cookie == COOKIE;
    sound.then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The header of the sample in RFC 9001, appendix A.2, and as much behind it.
    fn quic_initial() -> Vec<u8> {
        let mut bytes = vec![0xc0, 0, 0, 0, 1];
        bytes.extend([8, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 8, 0, 0, 0x44, 0x9e]);
        padded(&bytes, 1200)
    }

    fn dtls_hello() -> Vec<u8> {
        let mut bytes = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 58];
        bytes.extend([1, 0, 0, 46, 0, 0, 0, 0, 0, 0, 0, 46, 0xfe, 0xfd]);
        bytes.resize(13 + 58, 3);
        bytes
    }

    fn padded(start: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = start.to_vec();
        bytes.resize(len, 0x33);
        bytes
    }

    fn openvpn_bare() -> Vec<u8> {
        [&[7 << 3][..], &[5; 8], &[0; 5]].concat()
    }

    fn samples() -> Vec<(DatagramKind, Vec<u8>)> {
        let mut version_2 = quic_initial();
        // As in RFC 9369, appendix A.2.
        version_2.splice(..5, [0xd7, 0x6b, 0x33, 0x43, 0xcf]);
        let mut reserved = quic_initial();
        reserved.splice(..5, [0x80, 0x1a, 0x2a, 0x3a, 0xfa]);
        let mut with_token = quic_initial();
        with_token.splice(15..18, [2, 9, 9, 0x44, 0x9c]);
        let mut draft = quic_initial();
        draft.splice(..5, [0xc0, 0xff, 0, 0, 29]);
        let crypt = |id: u8| [&[7 << 3][..], &[5; 8], &[0, 0, 0, id], &[6; 41]].concat();
        let mut cookie = dtls_hello();
        cookie[10] = 1;
        cookie[18] = 1;
        vec![
            (DatagramKind::Quic, quic_initial()),
            (DatagramKind::Quic, with_token[..1200].to_vec()),
            (DatagramKind::Quic, version_2),
            (DatagramKind::Quic, reserved),
            (DatagramKind::Quic, draft),
            (DatagramKind::WireGuard, padded(&[1, 0, 0, 0], 148)),
            (DatagramKind::WireGuard, padded(&[4, 0, 0, 0], 32)),
            (DatagramKind::OpenVpn, openvpn_bare()),
            (DatagramKind::OpenVpn, crypt(1)),
            (DatagramKind::OpenVpn, crypt(5)),
            (DatagramKind::Dtls, dtls_hello()),
            (DatagramKind::Dtls, cookie),
            (DatagramKind::Stun, [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[1; 12]].concat()),
        ]
    }

    #[test]
    fn each_is_told_and_no_part_of_it_is() {
        let mut told = Vec::new();
        for (kind, bytes) in samples() {
            assert_eq!(DatagramKind::of(&bytes), Some(kind), "{:?}", bytes.first_chunk::<20>());
            told.push(kind);
            for have in 0..bytes.len() {
                let part = DatagramKind::of(&bytes[..have]);
                assert_eq!(part, None, "{have} bytes of {kind:?}");
            }
        }
        assert!(DatagramKind::ALL.iter().all(|kind| told.contains(kind)));
    }

    #[test]
    fn what_is_fixed_is_asked_for() {
        let bent = |mut bytes: Vec<u8>, at: usize, to: u8| {
            bytes[at] = to;
            DatagramKind::of(&bytes)
        };
        // Short header, Handshake, no version, too short and too long an id, a length beyond the end.
        for (at, to) in [(0, 0x43), (0, 0xe3), (4, 0), (5, 7), (5, 21), (14, 21), (17, 0x9f)] {
            assert_eq!(bent(quic_initial(), at, to), None, "byte {at} as {to:#x}");
        }
        // Another type, version or epoch; a length too long; a ServerHello; a later fragment.
        for (at, to) in [(0, 23), (2, 0xfc), (4, 1), (12, 59), (13, 2), (21, 1), (25, 3)] {
            assert_eq!(bent(dtls_hello(), at, to), None, "byte {at} as {to:#x}");
        }
        for at in 0..4 {
            assert_eq!(bent(padded(&[1, 0, 0, 0], 148), at, 9), None);
        }
        assert_eq!(DatagramKind::of(&padded(&[4, 0, 0, 0], 33)), None);
        let stun = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[1; 12]].concat();
        for (at, to) in [(0, 0x40), (0, 1), (3, 4), (4, 0x20)] {
            assert_eq!(bent(stun.clone(), at, to), None, "byte {at} as {to:#x}");
        }
        assert_eq!(bent(openvpn_bare(), 0, 4 << 3), None);
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for kind in DatagramKind::ALL {
            assert_eq!(DatagramKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(DatagramKind::from_name("any"), None);
    }

    proptest! {
        #[test]
        fn random_datagrams_are_none(
            bytes in prop::collection::vec(any::<u8>(), 0..1600),
        ) {
            prop_assert_eq!(DatagramKind::of(&bytes), None);
        }

        /// Whatever is behind their first bytes.
        #[test]
        fn bent_ones_are_never_another(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            to in any::<u8>(),
            len in 0..1600usize,
        ) {
            let samples = samples();
            let (kind, mut bytes) = which.get(&samples).clone();
            let at = at.index(bytes.len());
            bytes[at] = to;
            bytes.resize(len, to);
            let seen = DatagramKind::of(&bytes);
            prop_assert!(seen.is_none() || seen == Some(kind), "{:?} as {:?}", kind, seen);
        }
    }
}
