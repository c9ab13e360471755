//! What strangers cannot do to flows by being many, and what a service that is not there does.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use postern_tests::net::local;
use postern_tests::udp::{quic_initial, wireguard};
use postern_tests::{Peer, Posternd, Scratch, UdpService, until};

use crate::udp::{SHORT_HEADER, route, service, udp};

const FLOOD: u16 = 20_000;

/// Flows, with a service that answers and one peer that talks with it.
struct Talk {
    server: Posternd,
    peer: Peer,
    by: (String, u16),
    descriptors: usize,
    _scratch: Scratch,
}

impl Talk {
    fn start(keys: &str) -> Talk {
        let scratch = Scratch::new();
        let h3 = UdpService::named("h3");
        let tables = [service("h3", h3.address()), route("protocol = [\"quic\"]", "h3")].concat();
        let server = Posternd::start(&scratch, &udp("\"0.0.0.0:0\"", keys, &tables));
        let descriptors = server.descriptors();
        let peer = Peer::at(Ipv4Addr::new(127, 0, 0, 200));
        let at = local(server.datagram_listeners()[0].port());
        let by = peer.ask(at, &quic_initial());
        let talk = Talk { server, peer, by, descriptors, _scratch: scratch };
        talk.goes_on();
        talk
    }

    fn at(&self) -> std::net::SocketAddr {
        local(self.server.datagram_listeners()[0].port())
    }

    /// By the same flow: a new one would not begin with this.
    fn goes_on(&self) {
        assert_eq!(self.peer.ask(self.at(), SHORT_HEADER), self.by);
    }

    fn flows(&self) -> u64 {
        self.server.status()["udp"]["flows"].as_u64().expect("a number")
    }

    /// Once nobody says anything, all is as it was.
    fn ends_without_a_trace(&self) {
        until("all flows to end", || (self.flows() == 0).then_some(()));
        until("their descriptors to be closed", || {
            (self.server.descriptors() == self.descriptors).then_some(())
        });
    }
}

#[test]
fn a_flood_from_one_address_pushes_out_its_own() {
    let talk = Talk::start("flows = 1000\nflows-per-address = 16\nidle = \"15s\"");
    let neighbour = Peer::at(Ipv4Addr::new(127, 0, 0, 201));
    // It said one thing only, and is still no prey of another's flood.
    let by = neighbour.ask(talk.at(), &quic_initial());
    let (at, initial) = (talk.at(), quic_initial());
    for _ in 0..FLOOD {
        Peer::local().send(at, &initial);
    }
    assert!(talk.flows() <= 18, "{} flows", talk.flows());
    assert!(talk.server.descriptors() <= talk.descriptors + 18 + 1000 / 8 + 8);
    talk.goes_on();
    assert_eq!(neighbour.ask(at, SHORT_HEADER), by);
    talk.ends_without_a_trace();
}

/// As of forged source addresses: none of them ever hears an answer, and so none goes on.
#[test]
fn a_flood_from_everywhere_leaves_those_who_talk() {
    let talk = Talk::start("flows = 256\nidle = \"10s\"");
    let (at, initial) = (talk.at(), quic_initial());
    let mut most = 0;
    for number in 0..FLOOD {
        let [high, low] = number.to_be_bytes();
        Peer::at(Ipv4Addr::new(127, 1, high, low)).send(at, &initial);
        if number % 2000 == 0 {
            talk.goes_on();
            most = most.max(talk.flows());
        }
    }
    talk.goes_on();
    assert!((200..=256).contains(&most), "{most} flows");
    assert!(talk.server.descriptors() <= talk.descriptors + 256 + 256 / 8 + 8);
    let status = talk.server.status();
    assert!(status["udp"]["outcomes"]["evicted"].as_u64() > Some(1000), "{status}");
    talk.ends_without_a_trace();
}

#[test]
fn garbage_begins_nothing() {
    let talk = Talk::start("idle = \"5s\"");
    let (at, stranger) = (talk.at(), Peer::local());
    for number in 0..5000_u32 {
        stranger.send(at, &[&number.to_be_bytes()[..], &[0x5a; 1300]].concat());
    }
    assert_eq!((stranger.hear(), talk.flows()), (None, 1));
    talk.goes_on();
}

/// ICMP tells that nobody listens there. A peer that asks again begins another flow.
#[test]
fn a_service_that_is_not_there_ends_the_flow() {
    let scratch = Scratch::new();
    let gone = UdpSocket::bind(local(0)).expect("bind").local_addr().expect("bound");
    let tables = [service("vpn", gone), route("protocol = [\"wireguard\"]", "vpn")].concat();
    let server = Posternd::start(&scratch, &udp("\"127.0.0.1:0\"", "", &tables));
    let (at, before) = (server.datagram_listeners()[0], server.descriptors());
    let peer = Peer::local();
    for again in 1..=50 {
        peer.send(at, &wireguard());
        until("the flow to end", || (server.flows().len() == again).then_some(()));
    }
    let flow = server.flows().remove(0);
    assert_eq!((&flow["outcome"], &flow["down"]), (&"upstream-down".into(), &0.into()), "{flow}");
    assert!(flow["failure"].as_str().is_some_and(|why| why.contains("refused")), "{flow}");
    assert_eq!((server.status()["udp"]["flows"].as_u64(), server.descriptors()), (Some(0), before));
    assert_eq!(peer.hear(), None, "the peer is told nothing");

    let back = UdpSocket::bind(gone).expect("bind");
    back.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    peer.send(at, &wireguard());
    assert_eq!(back.recv(&mut [0; 200]).expect("a datagram"), 148);
}

#[test]
fn few_descriptors_are_fewer_flows() {
    let scratch = Scratch::new();
    let h3 = UdpService::named("h3");
    let tables = [service("h3", h3.address()), route("", "h3")].concat();
    let server = Posternd::start(&scratch, &udp("\"0.0.0.0:0\"", "", &tables));
    let hard = 400;
    server.process.limit_descriptors(hard);
    postern_tests::success(&mut server.command(&["reload"]));
    assert!(server.process.log().contains("too low for [udp] flows"));
    let at = local(server.datagram_listeners()[0].port());
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        Peer::at(Ipv4Addr::new(127, 1, high, low)).send(at, b"x");
    }
    // The last to come may have found that those who gave way had not ended yet.
    let most = hard as u64 / 8;
    until("as many flows as there may be", || {
        let flows = server.status()["udp"]["flows"].as_u64()?;
        (most - 1..=most).contains(&flows).then_some(())
    });
    assert!(server.descriptors() < hard);
}
