//! Datagrams as tests need them: a service that says who it is and by which port it is asked, peers at
//! any loopback address, and first datagrams of each protocol.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::net::local;
use crate::process::until;

/// The header of the sample in RFC 9001, appendix A.2, and as much behind it as it says.
pub fn quic_initial() -> Vec<u8> {
    let mut bytes = vec![0xc0, 0, 0, 0, 1];
    bytes.extend([8, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 8, 0, 0, 0x44, 0x9e]);
    bytes.resize(1200, 0x55);
    bytes
}

/// A handshake initiation of WireGuard.
pub fn wireguard() -> Vec<u8> {
    let mut bytes = vec![1, 0, 0, 0];
    bytes.resize(148, 0x55);
    bytes
}

/// A datagram service inside the test.
#[derive(Debug)]
pub struct UdpService(SocketAddr);

impl UdpService {
    /// Answers each datagram with its name, the port that asks, and the first bytes of it.
    pub fn named(name: &'static str) -> UdpService {
        let socket = UdpSocket::bind(local(0)).expect("bind");
        let address = socket.local_addr().expect("bound");
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                // An error tells of a peer that is gone.
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
                let said = &buffer[..length.min(4)];
                let answer = [format!("{name} {} ", peer.port()).as_bytes(), said].concat();
                let _ = socket.send_to(&answer, peer);
            }
        });
        UdpService(address)
    }

    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

/// One port at one of the machine's loopback addresses.
#[derive(Debug)]
pub struct Peer(UdpSocket);

impl Peer {
    pub fn at(from: Ipv4Addr) -> Peer {
        Peer(UdpSocket::bind((from, 0)).expect("bind"))
    }

    pub fn local() -> Peer {
        Peer::at(Ipv4Addr::LOCALHOST)
    }

    pub fn send(&self, to: SocketAddr, bytes: &[u8]) {
        self.0.send_to(bytes, to).expect("send");
    }

    /// What comes, and whence, within a moment.
    pub fn hear(&self) -> Option<(Vec<u8>, SocketAddr)> {
        self.0.set_read_timeout(Some(Duration::from_millis(500))).expect("set a timeout");
        let mut buffer = vec![0; 64 * 1024];
        match self.0.recv_from(&mut buffer) {
            Ok((length, from)) => Some((buffer[..length].to_vec(), from)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("receive: {error}"),
        }
    }

    /// Asks until there is an answer, since datagrams may be lost: the name of the service, and the port
    /// by which it is asked.
    pub fn ask(&self, to: SocketAddr, bytes: &[u8]) -> (String, u16) {
        let (answer, from) = until("an answer", || {
            self.send(to, bytes);
            self.hear()
        });
        assert_eq!(from, to, "answers come from where was asked");
        let text = String::from_utf8_lossy(&answer);
        let mut words = text.split(' ');
        let name = words.next().expect("a name").to_owned();
        (name, words.next().and_then(|port| port.parse().ok()).expect("a port"))
    }
}
