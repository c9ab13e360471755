//! What `expose` says of itself: to the server, to whoever asks, and to the service manager.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread;

use postern_shared::expose::control::{FromClient, Health};
use postern_shared::expose::lane::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::edge::{Control, Edge, on_server};
use super::{BOTH, dead, greet, start};
use crate::home::{Client, Home, SOON};
use crate::server;

/// A public port, whose visitors the test brings to a lane, or not.
fn public() -> (String, UnboundedReceiver<TcpStream>) {
    let (visitors, visitors_in) = unbounded_channel();
    let address = server::serve_tcp(move |tcp| {
        let _ = visitors.send(tcp);
        async {}
    });
    (address.port().to_string(), visitors_in)
}

/// A service manager, as sd_notify(3) knows it.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(home: &Home) -> Manager {
        let path = home.path().join("manager");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(SOON)).expect("ours");
        Manager { path, socket }
    }

    /// The first message with these words in it.
    fn hear(&self, words: &str) -> String {
        loop {
            let mut message = [0; 1024];
            let count = self.socket.recv(&mut message).expect("a message");
            let message = String::from_utf8_lossy(&message[..count]).into_owned();
            assert!(message.contains("STATUS="), "{message}");
            if message.contains(words) {
                return message;
            }
        }
    }
}

/// Brings the next visitor to a lane, and the answer back.
async fn carry(edge: &mut Edge, visitors: &mut UnboundedReceiver<TcpStream>, number: u64) {
    let mut visitor = timeout(SOON, visitors.recv()).await.expect("a visitor").expect("served");
    let mut said = vec![0; 65];
    visitor.read_exact(&mut said).await.expect("a line");
    let (_, mut lane) = edge.lane().await;
    let (first, rest) = said.split_at(10);
    lane.bring(number, 0, first).await;
    assert_eq!(lane.frame().await, Some(Frame::Taken));
    lane.say(rest).await;
    lane.end().await;
    assert_eq!(lane.hear_all().await, said, "the probe's own bytes come back");
    visitor.write_all(&said).await.expect("he listens");
}

async fn hear_health(control: &mut Control) -> Health {
    loop {
        let heard = control.hear().await.expect("it is there");
        if let FromClient::Health { id: 0, health } = heard {
            return health;
        }
    }
}

#[test]
fn what_is_reached_is_told_to_all_who_want_to_know() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    let manager = Manager::new(&home);
    // The local service takes connections, and nobody of the probes may talk to it.
    let silent = server::serve_tcp(async |mut tcp: TcpStream| {
        assert_eq!(tcp.read(&mut [0; 1]).await.expect("closed"), 0, "a probe came here");
    });
    let (port, mut visitors) = public();
    let mut command = home.postern(&["expose", "--profile", "bob", &port]);
    command.args(["--to", &silent.to_string()]).env("NOTIFY_SOCKET", &manager.path);
    let _client = Client::start(&mut command);
    on_server(async {
        let mut control = edge.control().await;
        greet(&mut control, 1, 1).await;
        carry(&mut edge, &mut visitors, 1).await;
        assert_eq!(hear_health(&mut control).await, Health::Reached);
        let message = manager.hear("READY=1\nSTATUS=");
        assert!(message.contains("1 of 1 entrances open"), "{message}");

        let second = start(&home, &["80", "--to", "1"]).ends_within(SOON);
        assert!(second.0 == 1 && second.1.contains("another `postern expose` runs"), "{second:?}");

        let asking = thread::spawn({
            let mut command = home.postern(&["expose", "--status", "--profile", "bob"]);
            move || command.output().expect("it ends")
        });
        carry(&mut edge, &mut visitors, 2).await;
        let output = asking.join().expect("asked");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("tcp:{port}: open at 192.0.2.1:80, reached")), "{text}");
        assert!(text.contains("is up; 0 visitors"), "{text}");
    });
}

#[test]
fn what_is_not_reached_or_down_is_not_well() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    let status = || {
        let output = home.postern(&["expose", "--status", "--profile", "bob"]).output();
        let output = output.expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(status().0, Some(4), "nobody to ask");
    let public = dead().port().to_string();
    let _client = start(&home, &[&public, "--to", &dead().to_string()]);
    on_server(async {
        let mut control = edge.control().await;
        greet(&mut control, 1, 1).await;
        assert_eq!(hear_health(&mut control).await, Health::LocalDown);
    });
    let (code, text) = status();
    assert_eq!(code, Some(4));
    assert!(text.contains("NOT REACHED") && text.contains("IS DOWN"), "{text}");
}

/// A laptop starts before its network is there.
#[test]
fn a_server_that_is_not_there_yet_is_waited_for() {
    let address = dead();
    let home = Home::with(address, &BOTH);
    let manager = Manager::new(&home);
    let mut command = home.postern(&["expose", "--profile", "bob", "name:web", "--to", "1"]);
    let _client = Client::start(command.env("NOTIFY_SOCKET", &manager.path));
    manager.hear("trying again");
    let mut edge = Edge::open_at(address);
    on_server(async {
        let mut control = edge.control().await;
        greet(&mut control, 1, 1).await;
    });
    assert!(manager.hear("READY=1").contains("localhost:1 is down"));
}
