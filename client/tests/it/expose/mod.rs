//! Services of this machine, exposed: what the client says to the server, and what it does with visitors.

mod edge;
mod forwarded;
mod health;

use std::io::ErrorKind;
use std::net::SocketAddr;

use postern_shared::expose::control::{FromClient, FromServer, Gone, Health, Hello, Refusal};
use postern_shared::expose::lane::Frame;
use postern_shared::knock::Carrier;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::timeout;

use crate::home::{Client, Home, SOON};
use crate::server;
use edge::{Control, Edge, on_server};

const BOTH: [Carrier; 2] = [Carrier::Plain, Carrier::Tls];

fn start(home: &Home, arguments: &[&str]) -> Client {
    Client::start(home.postern(&["expose", "--profile", "bob"]).args(arguments))
}

/// Says to each visitor what he said, behind `hello`.
fn echo() -> SocketAddr {
    server::serve_tcp(async |mut tcp: TcpStream| {
        let mut heard = Vec::new();
        tcp.write_all(b"hello ").await.expect("he is there");
        tcp.read_to_end(&mut heard).await.expect("he says his last");
        tcp.write_all(&heard).await.expect("he is there");
    })
}

fn dead() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port")
}

/// Hears the hello and so many offers, and opens all.
async fn greet(control: &mut Control, epoch: u64, offers: u16) -> Hello {
    let Some(FromClient::Hello(hello)) = control.hear().await else { panic!("no hello") };
    let mut offered = Vec::new();
    for _ in 0..offers {
        match control.hear().await {
            Some(FromClient::Offer(offer)) => offered.push(offer.id),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(offered, (0..offers).collect::<Vec<_>>());
    control.welcome(epoch, 64).await;
    for id in offered {
        control.say(&FromServer::Opened { id, at: "192.0.2.1:80".to_owned() }).await;
    }
    hello
}

#[test]
fn a_lane_carries_one_visitor_after_the_other() {
    let mut count = 0;
    for arguments in [&["--carrier", "plain"][..], &["--carrier", "tls"]] {
        let mut edge = Edge::open();
        let home = Home::with(edge.address, &BOTH);
        let to = echo().to_string();
        let mut client = start(&home, &[&["name:web", "--to", &to], arguments].concat());
        on_server(async {
            let mut control = edge.control().await;
            greet(&mut control, 1, 1).await;
            let (carrier, mut lane) = edge.lane().await;
            assert_eq!(carrier.name(), arguments[1]);
            for visitor in 1..4 {
                lane.bring(visitor, 0, b"I am").await;
                assert_eq!(lane.frame().await, Some(Frame::Taken));
                lane.say(b" here").await;
                lane.end().await;
                assert_eq!(lane.hear_all().await, b"hello I am here");
            }
            let (_, mut other) = edge.lane().await;
            other.bring(3, 0, b"once more").await;
            assert_eq!(other.frame().await, Some(Frame::Passed));
            other.end().await;
            assert_eq!(other.hear_all().await, b"");
            other.bring(4, 0, b"").await;
            assert_eq!(other.frame().await, Some(Frame::Taken));
            count += 1;
        });
        client.signal(Signal::TERM);
        assert_eq!(client.ends_within(SOON).0, 128 + 15);
    }
    assert_eq!(count, 2);
}

#[test]
fn a_service_that_is_down_is_told_at_once() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    let _client = start(&home, &["name:web", "--to", &dead().to_string()]);
    on_server(async {
        let mut control = edge.control().await;
        greet(&mut control, 1, 1).await;
        loop {
            match control.hear().await {
                Some(FromClient::Health { id, health }) => {
                    assert_eq!((id, health), (0, Health::LocalDown));
                    break;
                }
                Some(_) => {}
                None => panic!("gone"),
            }
        }
        let (_, mut lane) = edge.lane().await;
        lane.bring(1, 0, b"hello?").await;
        assert_eq!(lane.frame().await, Some(Frame::Taken));
        assert_eq!(lane.frame().await, Some(Frame::Failed));
        assert_eq!(lane.frame().await, Some(Frame::Fin));
        lane.end().await;
        lane.bring(2, 9, b"an entrance that was never offered").await;
        assert_eq!(lane.frame().await, Some(Frame::Taken));
        assert_eq!(lane.frame().await, Some(Frame::Failed));
    });
}

/// Neither end is taken for an orderly one, and what is broken is replaced.
#[test]
fn a_reset_on_one_side_is_one_on_the_other() {
    let mut count = 0;
    for carrier in ["plain", "tls"] {
        let mut edge = Edge::open();
        let home = Home::with(edge.address, &BOTH);
        let (ends, mut ends_in) = unbounded_channel();
        let service = server::serve_tcp(move |mut tcp: TcpStream| {
            let ends = ends.clone();
            async move {
                let mut heard = [0; 5];
                tcp.read_exact(&mut heard).await.expect("a word");
                if &heard == b"break" {
                    tcp.set_zero_linger().expect("a socket");
                    return;
                }
                let end = tcp.read(&mut heard).await;
                ends.send(end.map_err(|error| error.kind())).expect("somebody asks");
            }
        });
        let line = ["name:web", "--to", &service.to_string(), "--carrier", carrier];
        let _client = start(&home, &line);
        on_server(async {
            let mut control = edge.control().await;
            greet(&mut control, 1, 1).await;
            let mut lanes = Vec::new();
            for _ in 0..8 {
                lanes.push(edge.lane().await.1);
            }
            let mut lane = lanes.pop().expect("eight");
            lane.bring(1, 0, b"hello").await;
            assert_eq!(lane.frame().await, Some(Frame::Taken));
            drop(lane);
            let end = timeout(SOON, ends_in.recv()).await.expect("an end");
            assert_eq!(end, Some(Err(ErrorKind::ConnectionReset)), "{carrier}");

            let mut lane = lanes.pop().expect("seven");
            lane.bring(2, 0, b"break").await;
            assert_eq!(lane.frame().await, Some(Frame::Taken));
            assert_eq!(lane.frame().await, None, "no Fin");
            for _ in 0..2 {
                lanes.push(edge.lane().await.1);
            }
            count += 1;
        });
    }
    assert_eq!(count, 2);
}

#[test]
fn as_many_lanes_come_as_are_wanted_and_no_more_than_allowed() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    let _client = start(&home, &["name:web", "--to", &echo().to_string()]);
    on_server(async {
        let mut control = edge.control().await;
        greet(&mut control, 1, 1).await;
        let mut lanes = Vec::new();
        for _ in 0..8 {
            lanes.push(edge.lane().await);
        }
        control.say(&FromServer::Want(100)).await;
        for _ in 8..64 {
            lanes.push(edge.lane().await);
        }
        let more = timeout(std::time::Duration::from_millis(200), edge.lane()).await;
        assert!(more.is_err(), "most_lanes is 64");
    });
}

#[test]
fn a_connection_that_ends_is_restored_with_lanes_of_its_own() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    let _client = start(&home, &["name:a", "--to", &echo().to_string(), "name:b", "--to", "1"]);
    on_server(async {
        let mut control = edge.control().await;
        let hello = greet(&mut control, 7, 2).await;
        assert_eq!(hello.epoch, 0);
        let (_, mut busy) = edge.lane().await;
        busy.bring(1, 0, b"I ").await;
        assert_eq!(busy.frame().await, Some(Frame::Taken));
        let (_, mut idle) = edge.lane().await;
        drop(control);
        assert_eq!(idle.frame().await, None, "who waits is sent home");
        let mut control = edge.control().await;
        edge.forget_lanes();
        let again = greet(&mut control, 8, 2).await;
        assert_eq!((again.instance, again.epoch), (hello.instance, 7));
        busy.say(b"stay").await;
        busy.end().await;
        assert_eq!(busy.hear_all().await, b"hello I stay");
        let (_, mut lane) = edge.lane().await;
        lane.bring(1, 0, b"").await;
        assert_eq!(
            lane.frame().await,
            Some(Frame::Passed),
            "whoever was here is known in every pool"
        );
    });
}

/// Its numbers begin by its clock.
#[test]
fn a_server_that_comes_back_with_an_earlier_clock_has_new_visitors() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    let _client = start(&home, &["name:a", "--to", &echo().to_string()]);
    on_server(async {
        for (epoch, visitor) in [(1_000_000, 1_000_001), (500_000, 500_001)] {
            let mut control = edge.control().await;
            edge.forget_lanes();
            greet(&mut control, epoch, 1).await;
            let (_, mut lane) = edge.lane().await;
            lane.bring(visitor, 0, b"").await;
            assert_eq!(lane.frame().await, Some(Frame::Taken), "{epoch}");
        }
    });
}

#[test]
fn final_words_have_their_exit_codes() {
    for (said, code, words) in [
        (FromServer::Gone(Gone::Superseded), 10, "another `postern expose`"),
        (FromServer::Gone(Gone::Revoked), 7, "revoked"),
        (FromServer::Refused { id: 0, why: Refusal::PortTaken }, 11, "tcp:80 cannot be had"),
    ] {
        let mut edge = Edge::open();
        let home = Home::with(edge.address, &BOTH);
        let mut client = start(&home, &["80", "--to", &echo().to_string(), "--strict"]);
        on_server(async {
            let mut control = edge.control().await;
            assert!(matches!(control.hear().await, Some(FromClient::Hello(_))));
            control.welcome(1, 8).await;
            control.say(&said).await;
            control.hear_to_end().await;
        });
        let (ended, stderr) = client.ends_within(SOON);
        assert_eq!(ended, code, "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert!(home.last_error().expect("kept").contains(words));
    }
}

#[test]
fn what_cannot_be_is_refused_before_a_connection() {
    let home = Home::with(dead(), &[Carrier::Plain]);
    let (code, stderr) = start(&home, &["80", "--to", "1"]).ends_within(SOON);
    assert_eq!(code, 2);
    assert!(stderr.contains("plain carrier alone"), "{stderr}");
    let home = Home::with(dead(), &BOTH);
    let line = ["sni:a.example", "--to", "1", "--terminate", "--carrier", "plain"];
    let (code, stderr) = start(&home, &line).ends_within(SOON);
    assert_eq!(code, 2);
    assert!(stderr.contains("in the clear"), "{stderr}");
}
