//! The server's side of `expose`, as little of it as the tests need: it admits control connections and
//! lanes, and hands them to the test.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use postern_shared::expose::control::{FromClient, FromServer, Parsed, Welcome};
use postern_shared::expose::lane::{Frame, HEADER, Opening};
use postern_shared::knock::{Carrier, ClientKey, Header, Intent, Kid, Status, Token};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::home::SOON;
use crate::server::{self, RUNTIME, Tunnel, kid, locator};

/// The first byte of a TLS record that begins a handshake.
const HANDSHAKE: u8 = 22;

fn pool() -> Kid {
    Kid::new(0x7070).expect("not 0")
}

fn pool_key() -> ClientKey {
    ClientKey::new([0x44; 32])
}

/// What comes in.
pub(super) struct Edge {
    pub(super) address: SocketAddr,
    controls: UnboundedReceiver<Tunnel>,
    lanes: UnboundedReceiver<(Carrier, Tunnel)>,
}

struct Door {
    controls: UnboundedSender<Tunnel>,
    lanes: UnboundedSender<(Carrier, Tunnel)>,
    numbers: Mutex<HashSet<u32>>,
}

impl Edge {
    pub(super) fn open() -> Edge {
        Edge::open_at((Ipv4Addr::LOCALHOST, 0).into())
    }

    pub(super) fn open_at(at: SocketAddr) -> Edge {
        let (controls, control_in) = unbounded_channel();
        let (lanes, lane_in) = unbounded_channel();
        let door = Arc::new(Door { controls, lanes, numbers: Mutex::default() });
        let address = server::serve_tcp_at(at, move |tcp| admit(tcp, door.clone()));
        Edge { address, controls: control_in, lanes: lane_in }
    }

    pub(super) async fn control(&mut self) -> Control {
        let stream = timeout(SOON, self.controls.recv()).await.expect("a control connection");
        Control { stream: stream.expect("it serves"), heard: Vec::new() }
    }

    pub(super) async fn lane(&mut self) -> (Carrier, Visit) {
        let lane = timeout(SOON, self.lanes.recv()).await.expect("a lane");
        let (carrier, stream) = lane.expect("it serves");
        (carrier, Visit { stream })
    }

    /// The next control connection has begun before, and brings lanes of its own.
    pub(super) fn forget_lanes(&mut self) {
        while self.lanes.try_recv().is_ok() {}
    }
}

async fn admit(tcp: TcpStream, door: Arc<Door>) {
    let mut first = [0];
    if tcp.peek(&mut first).await.unwrap_or(0) == 0 {
        return;
    }
    if first != [HANDSHAKE] {
        return judge(Box::new(tcp), Carrier::Plain, b"", &door).await;
    }
    let Ok(tls) = TlsAcceptor::from(server::tls_config()).accept(tcp).await else { return };
    let mut binding = [0; 32];
    let session = tls.get_ref().1;
    session
        .export_keying_material(&mut binding, b"EXPORTER-postern-v1", None)
        .expect("a finished handshake");
    judge(Box::new(tls), Carrier::Tls, &binding, &door).await;
}

async fn judge(mut stream: Tunnel, carrier: Carrier, binding: &[u8], door: &Door) {
    let mut letters = [0; 96];
    stream.read_exact(&mut letters).await.expect("a knock");
    let token = Token::from_letters(&letters).expect("letters");
    let header = token.unmask(&locator().on(carrier, &server::SERVER)).expect("a knock");
    let Header { ack, intent, kid: who, time, service } = header;
    assert!(ack && service == 0);
    let key = match intent {
        Intent::Expose => server::key(),
        Intent::Accept => pool_key(),
        Intent::Pipe | Intent::Arm => panic!("{intent:?}"),
    };
    assert!(bool::from(token.verify(&key.on(carrier, &server::SERVER), binding)));
    let status = Status::Ok.seal(&key.ack(&server::SERVER), token.nonce());
    stream.write_all(&status).await.expect("the client is there");
    stream.flush().await.expect("the client is there");
    if intent == Intent::Expose {
        assert_eq!((who, carrier), (kid(), Carrier::Tls));
        door.numbers.lock().expect("nobody panicked").clear();
        let _ = door.controls.send(stream);
    } else {
        assert_eq!(who, pool());
        assert!(door.numbers.lock().expect("nobody panicked").insert(time) && time > 0);
        let _ = door.lanes.send((carrier, stream));
    }
}

/// A control connection.
pub(super) struct Control {
    stream: Tunnel,
    heard: Vec<u8>,
}

impl Control {
    pub(super) async fn say(&mut self, said: &FromServer) {
        self.stream.write_all(&said.encode()).await.expect("the client is there");
        self.stream.flush().await.expect("the client is there");
    }

    pub(super) async fn welcome(&mut self, epoch: u64, most_lanes: u16) {
        let welcome = Welcome { epoch, pool: pool(), key: pool_key(), most_lanes };
        self.say(&FromServer::Welcome(welcome)).await;
    }

    /// The next message; `None` at the end.
    pub(super) async fn hear(&mut self) -> Option<FromClient> {
        loop {
            match FromClient::parse(&self.heard) {
                Parsed::Message(message, length) => {
                    self.heard.drain(..length);
                    return Some(message);
                }
                Parsed::NeedMore => {}
                Parsed::Malformed => panic!("malformed"),
            }
            let read = timeout(SOON, self.stream.read_buf(&mut self.heard)).await;
            if read.expect("something is said").unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

impl Control {
    /// Whether the client ends it.
    pub(super) async fn hear_to_end(&mut self) -> bool {
        for _ in 0..1000 {
            if self.hear().await.is_none() {
                return true;
            }
        }
        false
    }
}

/// A lane, and whoever is on it.
pub(super) struct Visit {
    stream: Tunnel,
}

impl Visit {
    pub(super) async fn bring(&mut self, visitor: u64, offer: u16, said: &[u8]) {
        let address = |text: &str| text.parse().expect(text);
        let (peer, local) = (address("192.0.2.1:5"), address("198.51.100.7:80"));
        let body = Opening { visitor, offer, peer, local }.encode();
        let mut bytes = [&Frame::Open(body.len()).header()[..], &body].concat();
        bytes.extend(data(said));
        self.send(&bytes).await;
    }

    pub(super) async fn say(&mut self, said: &[u8]) {
        self.send(&data(said)).await;
    }

    pub(super) async fn end(&mut self) {
        self.send(&Frame::Fin.header()).await;
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the client is there");
        self.stream.flush().await.expect("the client is there");
    }

    /// The next frame and its data; `None` at the end of the lane.
    pub(super) async fn hear(&mut self) -> Option<(Frame, Vec<u8>)> {
        let mut header = [0; HEADER];
        let read = timeout(SOON, self.stream.read_exact(&mut header)).await.expect("a frame");
        read.ok()?;
        let frame = Frame::parse(header).expect("a frame");
        let mut body = Vec::new();
        if let Frame::Data(length) = frame {
            body.resize(length, 0);
            self.stream.read_exact(&mut body).await.expect("its data");
        }
        Some((frame, body))
    }

    /// What is said up to the end, which must be an orderly one.
    pub(super) async fn hear_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.hear().await.expect("an end") {
                (Frame::Data(_), data) => all.extend(data),
                (Frame::Fin, _) => return all,
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    pub(super) async fn frame(&mut self) -> Option<Frame> {
        self.hear().await.map(|(frame, _)| frame)
    }
}

fn data(said: &[u8]) -> Vec<u8> {
    if said.is_empty() {
        return Vec::new();
    }
    [&Frame::Data(said.len()).header()[..], said].concat()
}

/// Does what a test does with the server.
pub(super) fn on_server<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}
