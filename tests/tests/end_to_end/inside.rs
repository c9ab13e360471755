//! What comes inside TLS that posternd terminates: tokens that count, and such as do not.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use postern_shared::knock::Carrier;
use postern_tests::net::connect;
use postern_tests::{Knocker, TcpService, TlsClient, World, bounded, success};

/// What neither sshd nor nginx would take from anybody: both hang up.
const GARBAGE: &[u8] = b"SSH-2.0-x\r\n\r\nnot the start of a key exchange\r\n\r\n";

fn inside(world: &World) -> TlsClient {
    let certificate = world.scratch.path("tls.crt");
    TlsClient::connect(connect(world.server.address()), "ssh.example.com", &certificate)
}

fn first_word(tls: &mut TlsClient) -> [u8; 4] {
    let mut word = [0; 4];
    tls.read_exact(&mut word).expect("an answer");
    word
}

#[test]
fn a_token_may_come_in_any_records() {
    let world = World::start();
    for size in [1, 2, 7, 95, 96, 200] {
        let mut tls = inside(&world);
        let letters = Knocker::new(&world.invite).letters(Carrier::Tls, &tls.exporter());
        for piece in [&letters, GARBAGE].concat().chunks(size) {
            tls.write_all(piece).and_then(|()| tls.flush()).expect("sent");
        }
        assert_eq!(&first_word(&mut tls), b"SSH-", "in records of {size}");
    }
}

#[test]
fn a_token_counts_over_tls_1_3_only() {
    let world = World::start();
    let stream = connect(world.server.address());
    let mut tls = TlsClient::by_tls12(stream, "ssh.example.com", &world.scratch.path("tls.crt"));
    let letters = Knocker::new(&world.invite).letters(Carrier::Tls, &tls.exporter());
    tls.write_all(&[&letters, GARBAGE].concat()).expect("sent");
    assert_eq!(&first_word(&mut tls), b"HTTP");
    drop(tls);
    let line = world.server.connection(|line| line["seen"] == "other");
    assert!(line["client"].is_null() && line["refused"].is_null(), "{line}");
}

/// Whoever terminates TLS himself and passes a token on has another session than its maker.
#[test]
fn a_token_of_another_session_is_worthless() {
    let world = World::start();
    let (first, mut second) = (inside(&world), inside(&world));
    let letters = Knocker::new(&world.invite).letters(Carrier::Tls, &first.exporter());
    second.write_all(&[&letters, GARBAGE].concat()).expect("sent");
    assert_eq!(&first_word(&mut second), b"HTTP");
}

#[test]
fn whoever_speaks_http_2_is_a_visitor() {
    let world = World::start();
    let more = format!(
        "visitors-h2 = \"h2c\"\n\n[service.h2c]\nto = \"tcp://{}\"\n\n[timeouts]",
        world.nginx.h2c()
    );
    world.server.configure(&world.config.replacen("[timeouts]", &more, 1));
    success(&mut world.server.command(&["reload"]));
    let address = world.server.address();
    let page = |version: &str| {
        let mut curl = bounded("curl");
        curl.args(["-sk", version, "-w", "%{http_version}", "--resolve"]);
        curl.arg(format!("ssh.example.com:{}:{}", address.port(), address.ip()));
        success(curl.arg(format!("https://ssh.example.com:{}/", address.port())))
    };
    assert!(page("--http2").ends_with("Nothing to see here.\n2"));
    assert!(page("--http1.1").ends_with("Nothing to see here.\n1.1"));
    let log = world.nginx.access_log();
    assert!(log.contains("GET / HTTP/2.0") && log.contains("GET / HTTP/1.1"), "{log}");
    assert_eq!(success(&mut world.client.ssh(Carrier::Tls, "echo in")), "in\n");
}

/// A service that speaks first says nothing to whoever has not knocked, and is not even dialled.
#[test]
fn the_service_is_not_dialled_before_the_token() {
    let dialled = Arc::new(Mutex::new(0));
    let counter = dialled.clone();
    let eager = TcpService::start(move |mut stream| {
        *counter.lock().expect("kept") += 1;
        let _ = stream.write_all(b"first");
    });
    let world = World::with(&format!(
        "[service.eager]\nto = \"tcp://{}\"\nknock = true\n",
        eager.address()
    ));
    let invite = world.server.invite("eager", &["--service", "eager"]);
    let mut tls = inside(&world);
    let letters = Knocker::new(&invite).letters(Carrier::Tls, &tls.exporter());
    let (most, last) = letters.split_at(95);
    tls.write_all(most).and_then(|()| tls.flush()).expect("sent");
    // Another connection is served meanwhile, from its first byte to its last.
    assert_eq!(success(&mut world.client.ssh(Carrier::Plain, "echo in")), "in\n");
    assert_eq!(*dialled.lock().expect("kept"), 0);
    tls.write_all(last).and_then(|()| tls.flush()).expect("sent");
    assert_eq!(&first_word(&mut tls), b"firs");
}
