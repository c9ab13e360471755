//! What TCP itself shows of who listens: the packets that answer a stranger's first two.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use postern_tests::net::{connect_from, listen_in};
use postern_tests::posternd::config;
use postern_tests::tls::hello;
use postern_tests::{Nginx, Posternd, Scratch};

/// No other test uses it.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 10, 0, 1);

/// A packet without what is another in every connection: ports, numbers, times and sums.
#[derive(Debug, PartialEq, Eq)]
struct Packet {
    service: u8,
    time_to_live: u8,
    fragments: [u8; 2],
    flags: u8,
    window: [u8; 2],
    options: Vec<u8>,
}

const TIMESTAMPS: u8 = 8;

impl Packet {
    /// RFC 791, 3.1 and RFC 9293, 3.1; `None` if it belongs to another connection.
    fn of(bytes: &[u8], from: SocketAddr, to: SocketAddr) -> Option<Packet> {
        let (ip, tcp) = bytes.split_at(4 * usize::from(bytes[0] & 15));
        let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
        if !tcp.starts_with(&ports) {
            return None;
        }
        let mut options = tcp[20..4 * usize::from(tcp[12] >> 4)].to_vec();
        let mut rest = &mut options[..];
        while let [kind, length, ..] = *rest {
            // No operation, the only one without a length that may stand in between.
            let length = if kind == 1 { 1 } else { usize::from(length) };
            if kind == TIMESTAMPS {
                rest[2..length].fill(0);
            }
            rest = &mut rest[length..];
        }
        Some(Packet {
            service: ip[1],
            time_to_live: ip[8],
            fragments: [ip[6], ip[7]],
            flags: tcp[13],
            window: [tcp[14], tcp[15]],
            options,
        })
    }
}

/// The answers to a SYN and to half a hello; `None` where nobody may listen in.
fn answers(server: SocketAddr, half: &[u8]) -> Option<[Packet; 2]> {
    let heard = match listen_in(STRANGER) {
        Ok(heard) => heard,
        Err(error) => {
            eprintln!("not compared: listening in needs CAP_NET_RAW ({error})");
            return None;
        }
    };
    let mut stream = connect_from(STRANGER, server);
    stream.write_all(half).expect("write");
    let own = stream.local_addr().expect("bound");
    let mut packets = heard.filter_map(|bytes| Packet::of(&bytes, server, own));
    Some([(); 2].map(|()| packets.next().expect("a packet")))
}

/// Options, windows, time to live: where a listener was given other buffers than the system's, or
/// another congestion control, it shows here.
#[test]
fn posternd_answers_as_the_websites_own_listener_does() {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let server = Posternd::start(&scratch, &config(nginx.https(), ""));
    let hello = hello(Some("www.example.com"));
    let half = &hello[..hello.len() / 2];
    let Some(direct) = answers(nginx.https(), half) else { return };
    let through = answers(server.address(), half).expect("it was allowed before");
    assert_eq!(through, direct);
    let [accepted, acknowledged] = direct;
    assert_eq!((accepted.flags, acknowledged.flags), (0x12, 0x10), "SYN and ACK, then ACK");
    assert!(accepted.options.len() >= 4, "at least the largest segment: {accepted:?}");
}
