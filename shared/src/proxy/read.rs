//! Reading a header, over any split of it, strictly: whatever is not one is malformed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::V2_SIGNATURE;
use crate::reader::Reader;

/// With its line end, section 2.1.
const LONGEST_V1: usize = 107;

/// What stands before the addresses of version 2, section 2.2.
const V2_HEAD: usize = 16;

/// Addresses have 216 bytes at the most; the rest are remarks (TLVs), which nobody needs so many of.
const LONGEST_V2: usize = 4096;

/// What was found at a connection's start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Parse {
    /// The least number of bytes, counted from the start, that can change the answer.
    NeedMore(usize),
    Found(Header),
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes in it.
    pub len: usize,
    /// Where the connection is from and what it was made to. `None` where the proxy speaks for itself
    /// (a health check), or for somebody who has no address of TCP.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
}

impl Header {
    pub fn parse(bytes: &[u8]) -> Parse {
        const V1_SIGNATURE: &[u8] = b"PROXY ";
        if bytes.starts_with(&V2_SIGNATURE) {
            v2(bytes)
        } else if V2_SIGNATURE.starts_with(bytes) || V1_SIGNATURE.starts_with(bytes) {
            Parse::NeedMore(bytes.len() + 1)
        } else if bytes.starts_with(V1_SIGNATURE) {
            v1(bytes)
        } else {
            Parse::Malformed
        }
    }
}

fn v1(bytes: &[u8]) -> Parse {
    let head = bytes.get(..LONGEST_V1).unwrap_or(bytes);
    let Some(end) = head.windows(2).position(|two| two == b"\r\n") else {
        let open = bytes.len() < LONGEST_V1;
        return if open { Parse::NeedMore(bytes.len() + 1) } else { Parse::Malformed };
    };
    let line = head.get(..end).and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(v1_addresses) {
        Some(addresses) => Parse::Found(Header { len: end + 2, addresses }),
        None => Parse::Malformed,
    }
}

/// `None` if it is none; `Some(None)` for a proxy that does not know.
fn v1_addresses(line: &str) -> Option<Option<(SocketAddr, SocketAddr)>> {
    let rest = line.strip_prefix("PROXY ")?;
    // What follows is for nobody, section 2.1.
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let fields: Vec<&str> = rest.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = fields[..] else {
        return None;
    };
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let port = |text: &str| -> Option<u16> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let padded = text.len() > 1 && text.starts_with('0');
        text.parse().ok().filter(|_| plain && !padded)
    };
    let source = SocketAddr::new(address(source)?, port(source_port)?);
    let destination = SocketAddr::new(address(destination)?, port(destination_port)?);
    Some(Some((source, destination)))
}

fn v2(bytes: &[u8]) -> Parse {
    let Some((head, rest)) = bytes.split_first_chunk::<V2_HEAD>() else {
        return Parse::NeedMore(V2_HEAD);
    };
    let [.., command, family, high, low] = *head;
    let count = usize::from(u16::from_be_bytes([high, low]));
    // Version 2; LOCAL or PROXY.
    let (0x20 | 0x21) = command else { return Parse::Malformed };
    let (0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32) = family else { return Parse::Malformed };
    if count > LONGEST_V2 {
        return Parse::Malformed;
    }
    let len = V2_HEAD + count;
    let Some(data) = rest.get(..count) else { return Parse::NeedMore(len) };
    let addresses = match (command, family) {
        (0x21, 0x11) => v2_addresses::<4>(data).map(Some),
        (0x21, 0x21) => v2_addresses::<16>(data).map(Some),
        _ => Some(None),
    };
    match addresses {
        Some(addresses) => Parse::Found(Header { len, addresses }),
        None => Parse::Malformed,
    }
}

fn v2_addresses<const LENGTH: usize>(data: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; LENGTH]>,
{
    let mut reader = Reader::new(data);
    let (source, destination) = (reader.array::<LENGTH>()?, reader.array::<LENGTH>()?);
    let (from, to) = (reader.u16()?, reader.u16()?);
    Some((SocketAddr::new(source.into(), from), SocketAddr::new(destination.into(), to)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Version, header};
    use super::*;

    fn found(bytes: &[u8]) -> Option<Header> {
        match Header::parse(bytes) {
            Parse::Found(header) => Some(header),
            Parse::NeedMore(_) | Parse::Malformed => None,
        }
    }

    fn addresses(source: &str, destination: &str) -> (SocketAddr, SocketAddr) {
        (source.parse().expect("an address"), destination.parse().expect("an address"))
    }

    #[test]
    fn what_is_written_is_read_at_any_split() {
        for (source, destination) in [
            addresses("192.0.2.1:1", "198.51.100.2:443"),
            addresses("[2001:db8::1]:65535", "[2001:db8::2]:443"),
        ] {
            for version in [Version::V1, Version::V2] {
                let header = header(version, source, destination);
                for have in 0..header.len() {
                    let Parse::NeedMore(want) = Header::parse(&header[..have]) else {
                        panic!("{version:?} cut at {have}");
                    };
                    assert!((have + 1..=header.len()).contains(&want), "{version:?} at {have}");
                }
                let expected = Header { len: header.len(), addresses: Some((source, destination)) };
                assert_eq!(found(&header), Some(expected));
                assert_eq!(found(&[&header[..], b"PROXY "].concat()), Some(expected));
            }
        }
    }

    #[test]
    fn who_speaks_for_himself_has_no_addresses() {
        let local = [&V2_SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(found(&local), Some(Header { len: 16, addresses: None }));
        let unix = [&V2_SIGNATURE[..], &[0x21, 0x31, 0, 2, 9, 9]].concat();
        assert_eq!(found(&unix), Some(Header { len: 18, addresses: None }));
        let unknown = b"PROXY UNKNOWN ffff:: 1 2 3\r\n";
        assert_eq!(found(unknown), Some(Header { len: unknown.len(), addresses: None }));
    }

    #[test]
    fn remarks_are_passed_over() {
        let mut header = [&V2_SIGNATURE[..], &[0x21, 0x11, 0, 15]].concat();
        header.extend([192, 0, 2, 1, 192, 0, 2, 2, 0, 7, 1, 187, 4, 0, 0]);
        let expected = addresses("192.0.2.1:7", "192.0.2.2:443");
        assert_eq!(found(&header), Some(Header { len: 31, addresses: Some(expected) }));
    }

    #[test]
    fn what_is_none() {
        let long = format!("PROXY TCP4 {}", "1".repeat(200));
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 +2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            b"PROXY TCP4 ::1 ::2 1 2\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"PROXY \xff\r\n",
            b"PROXY UNKNOWNX\r\n",
            long.as_bytes(),
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x01\x02\x03\x04",
        ] {
            assert_eq!(Header::parse(bytes), Parse::Malformed, "{:?}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_taken_back(
            head in prop::sample::select(vec![&b"PROXY "[..], b"PROXY TCP4 1.1.1.1 ", &V2_SIGNATURE, b""]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [head, &rest].concat();
            let whole = Header::parse(&bytes);
            for have in 0..bytes.len() {
                match Header::parse(&bytes[..have]) {
                    Parse::NeedMore(want) => prop_assert!(want > have),
                    answer @ (Parse::Found(_) | Parse::Malformed) => {
                        prop_assert_eq!(&answer, &whole);
                    }
                }
            }
        }
    }
}
