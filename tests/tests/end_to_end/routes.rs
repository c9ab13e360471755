//! Where visitors go: by the name in their ClientHello however it is cut, by protocol, by silence.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use postern_tests::net::{Then, connect, connect_from, read_all};
use postern_tests::posternd::config;
use postern_tests::process::text;
use postern_tests::tls::{hello, send};
use postern_tests::{Nginx, Pace, Posternd, Scratch, TcpService, TlsClient, exchange};

/// A website, a shop, another service and one that speaks first, with the given routes.
fn routed(routes: &str) -> (Posternd, Scratch) {
    let scratch = Scratch::new();
    let greeter = TcpService::start(|mut stream| drop(stream.write_all(b"greeter")));
    let services = [
        ("shop", TcpService::named("shop").address()),
        ("other", TcpService::named("other").address()),
        ("greeter", greeter.address()),
    ];
    let services = services.map(|(name, to)| format!("[service.{name}]\nto = \"tcp://{to}\"\n"));
    let config = config(TcpService::named("web").address(), &(services.concat() + routes));
    (Posternd::start(&scratch, &config), scratch)
}

fn answer(server: &Posternd, bytes: &[u8]) -> String {
    let seen = exchange(server.address(), bytes, Then::Wait);
    String::from_utf8(seen.bytes).expect("a service's name")
}

/// With time enough to send a hello byte by byte on a busy machine.
const NAMES: &str = r#"
[timeouts]
decide = "60s"

[[route]]
sni = ["shop.example.com", "*.example.org"]
service = "shop"

[[route]]
no-sni = true
service = "other"
"#;

#[test]
fn names_exact_by_suffix_in_any_case_and_none() {
    let (server, _scratch) = routed(NAMES);
    for (name, service) in [
        (Some("shop.example.com"), "shop"),
        (Some("SHOP.Example.COM"), "shop"),
        (Some("a.example.org"), "shop"),
        (Some("A.B.EXAMPLE.ORG"), "shop"),
        (Some("example.org"), "web"),
        (Some("myexample.org"), "web"),
        (Some("shop.example.com.evil.net"), "web"),
        (None, "other"),
    ] {
        assert_eq!(answer(&server, &hello(name)), service, "{name:?}");
    }
}

#[test]
fn a_hello_is_read_however_it_is_cut() {
    let (server, _scratch) = routed(NAMES);
    for pace in [Pace::Whole, Pace::TwoSegments, Pace::TwoRecords, Pace::ByteByByte] {
        let mut stream = connect(server.address());
        send(&mut stream, &hello(Some("shop.example.com")), pace);
        assert_eq!(read_all(&mut stream).bytes, b"shop", "{pace:?}");
    }
}

#[test]
fn a_website_finishes_its_handshake_however_the_hello_was_cut() {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let server = Posternd::start(&scratch, &config(nginx.https(), ""));
    for pace in [Pace::Whole, Pace::TwoSegments, Pace::TwoRecords, Pace::ByteByByte] {
        let stream = connect(server.address());
        let mut tls = TlsClient::paced(stream, "www.example.com", &nginx.certificate(), pace);
        assert!(tls.get("/").contains("Nothing to see here"), "{pace:?}");
    }
}

#[test]
fn a_protocol_from_some_addresses() {
    let (server, _scratch) = routed(
        r#"
[[route]]
protocol = ["ssh"]
from = ["127.0.0.64/26"]
service = "greeter"

[[route]]
protocol = ["http"]
service = "other"
"#,
    );
    let ask = |from, bytes: &[u8]| {
        let mut stream = connect_from(from, server.address());
        stream.write_all(bytes).expect("write");
        String::from_utf8(read_all(&mut stream).bytes).expect("a service's name")
    };
    let (inside, outside) = (Ipv4Addr::new(127, 0, 0, 66), Ipv4Addr::new(127, 0, 0, 6));
    assert_eq!(ask(inside, b"SSH-2.0-x\r\n"), "greeter");
    assert_eq!(ask(outside, b"SSH-2.0-x\r\n"), "web");
    assert_eq!(ask(inside, b"GET / HTTP/1.1\r\n\r\n"), "other");
    assert_eq!(ask(inside, b"\x01\x02\x03\x04"), "web");
}

const SILENT: &str = r#"
[[route]]
silent = true
after = "1500ms"
service = "greeter"
"#;

#[test]
fn the_silent_go_to_whoever_speaks_first() {
    let (server, _scratch) = routed(SILENT);
    assert_eq!(answer(&server, b""), "greeter");
}

#[test]
fn late_but_in_time_is_not_silent() {
    let (server, _scratch) = routed(SILENT);
    let mut stream = connect(server.address());
    // Longer than it takes to dial the website in advance, shorter than the route waits.
    thread::sleep(Duration::from_millis(200));
    stream.write_all(&hello(Some("www.example.com"))).expect("write");
    assert_eq!(read_all(&mut stream).bytes, b"web");
}

/// The website was dialled while the connection was undecided, and its timers run since then.
#[test]
fn a_route_to_the_website_takes_the_connection_that_is_there() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let website = TcpService::start(move |mut stream| {
        let number = accepted.fetch_add(1, Ordering::Relaxed) + 1;
        if stream.read(&mut [0; 64]).is_ok() {
            let _ = write!(stream, "connection {number}");
        }
    });
    let scratch = Scratch::new();
    let silent = SILENT.replace("1500ms", "200ms").replace("greeter", "web");
    let server = Posternd::start(&scratch, &config(website.address(), &silent));
    let mut stream = connect(server.address());
    // Longer than the route waits.
    thread::sleep(Duration::from_millis(400));
    stream.write_all(b"hello").expect("write");
    assert_eq!(text(&read_all(&mut stream).bytes), "connection 1");
}
