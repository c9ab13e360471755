//! Somebody with a right key who does not run our client: what he can do to the server, and to others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use postern_shared::expose::control::{
    FromClient, FromServer, Hello, Offer, Parsed, Refusal, Welcome,
};
use postern_shared::knock::{Carrier, Header, Intent, Status, Token, ack};
use postern_tests::expose::{certify, exposing_config};
use postern_tests::knock::{Knocker, random};
use postern_tests::net::{connect, free_port};
use postern_tests::{Posternd, Scratch, TlsClient};

struct Insider {
    tls: TlsClient,
    knocker: Knocker,
    server: SocketAddr,
    heard: Vec<u8>,
}

fn world(permit: &str, more: &str) -> (Scratch, Posternd, String) {
    let scratch = Scratch::new();
    certify(&scratch, &["ssh.example.com"]);
    let server = Posternd::start(&scratch, &exposing_config(more));
    let invite = server.invite("laptop", &["--expose", permit]);
    (scratch, server, invite)
}

impl Insider {
    fn enter(scratch: &Scratch, server: &Posternd, invite: &str) -> (Insider, Welcome) {
        Insider::enter_as(random(), scratch, server, invite)
    }

    fn enter_as(
        instance: [u8; 16],
        scratch: &Scratch,
        server: &Posternd,
        invite: &str,
    ) -> (Insider, Welcome) {
        let mut knocker = Knocker::new(invite);
        knocker.header.intent = Intent::Expose;
        let server = server.address();
        let trusted = scratch.path("tls.crt");
        let mut tls = TlsClient::connect(connect(server), "ssh.example.com", &trusted);
        let letters = knocker.letters(Carrier::Tls, &tls.exporter());
        tls.write_all(&letters).expect("sent");
        let mut insider = Insider { tls, knocker, server, heard: Vec::new() };
        insider.say(&FromClient::Hello(Hello { instance, epoch: 0 }));
        let FromServer::Welcome(welcome) = insider.hear() else { panic!("no welcome") };
        (insider, welcome)
    }

    fn say(&mut self, message: &FromClient) {
        self.tls.write_all(&message.encode()).expect("sent");
    }

    fn hear(&mut self) -> FromServer {
        loop {
            if let Parsed::Message(message, length) = FromServer::parse(&self.heard) {
                self.heard.drain(..length);
                return message;
            }
            let mut piece = [0; 4096];
            let count = self.tls.read(&mut piece).expect("read");
            assert_ne!(count, 0, "the server closed it");
            self.heard.extend_from_slice(&piece[..count]);
        }
    }

    fn offer(&mut self, id: u16, port: u16) -> FromServer {
        let entrance = format!("tcp:{port}").parse().expect("an entrance");
        self.say(&FromClient::Offer(Offer { id, entrance, terminate: false }));
        self.hear()
    }

    /// Opens a lane by the plain carrier; what the server says to that.
    fn lane(&self, welcome: &Welcome, number: u32) -> (TcpStream, Status) {
        let invite = &self.knocker.invite;
        let on = Carrier::Plain;
        let header = Header {
            ack: true,
            intent: Intent::Accept,
            kid: welcome.pool,
            time: number,
            service: 0,
        };
        let (locator, key) =
            (invite.locator.on(on, &invite.server), welcome.key.on(on, &invite.server));
        let token = Token::seal(&header, random(), &locator, &key, &[]);
        let mut stream = connect(self.server);
        stream.write_all(&token.letters()).expect("sent");
        let mut answer = [0; ack::LENGTH];
        stream.read_exact(&mut answer).expect("an acknowledgement");
        let status = Status::open(&answer, &welcome.key.ack(&invite.server), token.nonce());
        (stream, status.expect("for this pool"))
    }
}

#[test]
fn a_number_that_means_another_entrance_lets_go_of_the_first() {
    let (first, second) = (free_port(), free_port());
    let range = format!("tcp:{}-{}", first.min(second), first.max(second));
    let (scratch, server, invite) = world(&range, "");
    let (mut insider, _) = Insider::enter(&scratch, &server, &invite);
    for port in [first, second] {
        let answer = insider.offer(0, port);
        assert!(matches!(answer, FromServer::Opened { id: 0, .. }), "{answer:?}");
    }
    server.until_free(&format!("tcp:{first}"));
    let held = server.entrance(&format!("tcp:{second}")).expect("there");
    assert_eq!(held["holders"].as_array().map(Vec::len), Some(1));
}

#[test]
fn no_client_has_more_lanes_than_it_may() {
    let (scratch, server, invite) = world("tcp:10", "[limits]\nconnections = 128\n");
    let run = random();
    let (insider, welcome) = Insider::enter_as(run, &scratch, &server, &invite);
    assert_eq!(welcome.most_lanes, 64);
    let lanes: Vec<_> = (1..=68).map(|number| insider.lane(&welcome, number)).collect();
    let statuses: Vec<_> = lanes.iter().map(|(_, status)| *status).collect();
    assert_eq!(statuses[..64], [Status::Ok; 64]);
    assert_eq!(statuses[64..], [Status::Busy; 4]);
    // Also where it comes a second time.
    let (again, welcome) = Insider::enter(&scratch, &server, &invite);
    assert_eq!(again.lane(&welcome, 1).1, Status::Busy);
    // The same run has come back, and lost what it had.
    let (back, welcome) = Insider::enter_as(run, &scratch, &server, &invite);
    assert_eq!(back.lane(&welcome, 1).1, Status::Ok);
}

/// Ports stay bound while their client is away, but not without end.
#[test]
fn no_client_has_all_ports_of_a_range_bound() {
    let (scratch, server, invite) = world("tcp:30000-30999", "");
    let (mut insider, _) = Insider::enter(&scratch, &server, &invite);
    let mut opened = 0;
    for port in 30_000..30_400 {
        while let FromServer::Refused { why: Refusal::TooMany, .. } = insider.offer(0, port) {
            // So many at a time are too many, too.
            thread::sleep(Duration::from_millis(100));
        }
        opened += 1;
    }
    assert_eq!(opened, 400);
    let status = server.status();
    let entrances = status["entrances"].as_array().expect("a list");
    assert!((200..=257).contains(&entrances.len()), "{} ports are bound", entrances.len());
}
