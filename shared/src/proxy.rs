//! The PROXY protocol header that tells an upstream who its visitor is (HAProxy's proxy-protocol.txt,
//! versions 1 and 2). Writes headers and reads them; whom to believe is for others to decide.

mod read;

use std::net::{IpAddr, SocketAddr};

pub use read::{Header, Parse};

const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Which version a service is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// The header for a TCP connection from `source` to `destination`, as the visitor sees the two.
pub fn header(version: Version, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (source, destination) = same_family(source, destination);
    match version {
        Version::V1 => v1(source, destination),
        Version::V2 => v2(source, destination),
    }
}

/// A header holds one family. A v4 address beside a v6 one is written as v4-mapped, which is what
/// the kernel itself would show on a dual-stack socket.
fn same_family(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let mapped = |address: SocketAddr| match address.ip() {
        IpAddr::V4(v4) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port()),
        IpAddr::V6(_) => address,
    };
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (mapped(source), mapped(destination))
    }
}

fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!(
        "PROXY {family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
    .into_bytes()
}

fn v2(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    const PROXY_COMMAND: u8 = 0x21;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;

    let mut addresses = Vec::with_capacity(36);
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(v4) => addresses.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => addresses.extend_from_slice(&v6.octets()),
        }
    }
    for address in [source, destination] {
        addresses.extend_from_slice(&address.port().to_be_bytes());
    }
    let (family, length) = if source.is_ipv4() { (TCP4, 12u16) } else { (TCP6, 36u16) };

    let mut header = Vec::with_capacity(16 + addresses.len());
    header.extend_from_slice(&V2_SIGNATURE);
    header.extend_from_slice(&[PROXY_COMMAND, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn v1_is_one_line_of_text() {
        let header = header(Version::V1, address("192.0.2.7:5000"), address("198.51.100.1:443"));
        assert_eq!(header, b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n");
    }

    #[test]
    fn v2_is_the_specification_s_layout() {
        let header = header(Version::V2, address("192.0.2.7:5000"), address("198.51.100.1:443"));
        let expected =
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x13\x88\x01\xbb";
        assert_eq!(header, expected);
    }

    #[test]
    fn mixed_families_are_written_as_v6() {
        let v1 = header(Version::V1, address("192.0.2.7:5000"), address("[2001:db8::1]:443"));
        assert_eq!(v1, b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 5000 443\r\n");
        let v2 = header(Version::V2, address("192.0.2.7:5000"), address("[2001:db8::1]:443"));
        assert_eq!(v2.len(), 16 + 36);
        assert_eq!(v2.get(13..16), Some(&[0x21, 0, 36][..]));
    }
}
