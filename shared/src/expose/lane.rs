//! The frames of a lane: `kind 1 | length 3 | body`. Decides what a header means; bodies of data are passed
//! on as they are.

use std::net::{IpAddr, SocketAddr};

use crate::reader::Reader;

/// Bytes of a frame's header.
pub const HEADER: usize = 4;

/// The longest body of data.
pub const MOST_DATA: usize = (1 << 24) - 1;

/// The longest body of an opening.
pub const MOST_OPENING: usize = 64;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// So many bytes of the visitor's or the service's.
    Data(usize),
    /// There is no more to come in this direction.
    Fin,
    /// A visitor; the body is an [`Opening`] of so many bytes.
    Open(usize),
    /// The client has the visitor.
    Taken,
    /// The client has this visitor on another lane.
    Passed,
    /// The local service could not be reached.
    Failed,
}

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const FIN: u8 = 1;
    pub(super) const OPEN: u8 = 2;
    pub(super) const TAKEN: u8 = 3;
    pub(super) const PASSED: u8 = 4;
    pub(super) const FAILED: u8 = 5;
}

impl Frame {
    pub fn header(self) -> [u8; HEADER] {
        let (kind, length) = match self {
            Frame::Data(length) => (kind::DATA, length.min(MOST_DATA)),
            Frame::Open(length) => (kind::OPEN, length.min(MOST_OPENING)),
            Frame::Fin => (kind::FIN, 0),
            Frame::Taken => (kind::TAKEN, 0),
            Frame::Passed => (kind::PASSED, 0),
            Frame::Failed => (kind::FAILED, 0),
        };
        let [.., high, middle, low] = length.to_be_bytes();
        [kind, high, middle, low]
    }

    /// `None` for what no peer of ours says.
    pub fn parse(header: [u8; HEADER]) -> Option<Frame> {
        let [kind, high, middle, low] = header;
        let length = usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()?;
        match (kind, length) {
            (kind::DATA, 1..) => Some(Frame::Data(length)),
            (kind::OPEN, 1..=MOST_OPENING) => Some(Frame::Open(length)),
            (kind::FIN, 0) => Some(Frame::Fin),
            (kind::TAKEN, 0) => Some(Frame::Taken),
            (kind::PASSED, 0) => Some(Frame::Passed),
            (kind::FAILED, 0) => Some(Frame::Failed),
            _ => None,
        }
    }
}

/// Who has come, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Counts visitors of the pool: one who is brought again on another lane has the same.
    pub visitor: u64,
    /// The entrance, by its offer.
    pub offer: u16,
    pub peer: SocketAddr,
    /// The address that he connected to.
    pub local: SocketAddr,
}

impl Opening {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.visitor.to_be_bytes().to_vec();
        bytes.extend(self.offer.to_be_bytes());
        for address in [self.peer, self.local] {
            match address.ip() {
                IpAddr::V4(ip) => {
                    bytes.push(4);
                    bytes.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    bytes.push(6);
                    bytes.extend(ip.octets());
                }
            }
            bytes.extend(address.port().to_be_bytes());
        }
        bytes
    }

    pub fn parse(body: &[u8]) -> Option<Opening> {
        let mut body = Reader::new(body);
        let visitor = u64::from_be_bytes(body.array()?);
        let offer = body.u16()?;
        let mut address = || {
            let ip = match body.u8()? {
                4 => IpAddr::from(body.array::<4>()?),
                6 => IpAddr::from(body.array::<16>()?),
                _ => return None,
            };
            Some(SocketAddr::new(ip, body.u16()?))
        };
        Some(Opening { visitor, offer, peer: address()?, local: address()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back() {
        for frame in [
            Frame::Data(1),
            Frame::Data(MOST_DATA),
            Frame::Fin,
            Frame::Open(27),
            Frame::Taken,
            Frame::Passed,
            Frame::Failed,
        ] {
            assert_eq!(Frame::parse(frame.header()), Some(frame));
        }
        for nonsense in [[0, 0, 0, 0], [1, 0, 0, 1], [2, 0, 0, 0], [2, 1, 0, 0], [6, 0, 0, 0]] {
            assert_eq!(Frame::parse(nonsense), None, "{nonsense:?}");
        }
    }

    #[test]
    fn openings_are_read_back() {
        for (peer, local) in
            [("192.0.2.1:5", "198.51.100.7:80"), ("[2001:db8::1]:65535", "[::1]:443")]
        {
            let address = |text: &str| text.parse().expect(text);
            let (peer, local) = (address(peer), address(local));
            let opening = Opening { visitor: 1 << 40, offer: 3, peer, local };
            let bytes = opening.encode();
            assert!(bytes.len() <= MOST_OPENING);
            assert_eq!(Opening::parse(&bytes), Some(opening));
            for end in 0..bytes.len() {
                assert_eq!(Opening::parse(&bytes[..end]), None, "{end}");
            }
        }
    }
}
