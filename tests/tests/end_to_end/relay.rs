//! What lies between a visitor and a service that is not nginx: ends and resets, each way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use postern_tests::client::feed;
use postern_tests::net::{connect, read_all, reset};
use postern_tests::posternd::config;
use postern_tests::process::{DEADLINE, text};
use postern_tests::scratch::MIB;
use postern_tests::{End, Posternd, Scratch, Seen, TcpService, bounded};

/// A posternd whose website is the given service.
fn before(service: SocketAddr) -> (Posternd, Scratch) {
    let scratch = Scratch::new();
    let server = Posternd::start(&scratch, &config(service, ""));
    (server, scratch)
}

/// A service that hands its connections to the test.
fn caught() -> (TcpService, Receiver<TcpStream>) {
    let (give, take) = channel();
    (TcpService::start(move |stream| drop(give.send(stream))), take)
}

/// A visitor and the service's side of its connection, both of which have spoken.
fn pair() -> (TcpStream, TcpStream, Posternd, Scratch) {
    let (service, connections) = caught();
    let (server, scratch) = before(service.address());
    let mut visitor = connect(server.address());
    visitor.write_all(b"hello\r\n").expect("write");
    let mut upstream = connections.recv_timeout(DEADLINE).expect("a connection");
    let mut buffer = [0; 7];
    upstream.read_exact(&mut buffer).expect("what the visitor said");
    assert_eq!(&buffer, b"hello\r\n");
    upstream.write_all(b"welcome").expect("write");
    visitor.read_exact(&mut buffer).expect("what the service said");
    assert_eq!(&buffer, b"welcome");
    (visitor, upstream, server, scratch)
}

fn seen(bytes: &[u8], end: End) -> Seen {
    Seen { bytes: bytes.to_vec(), end }
}

#[test]
fn the_answer_after_a_visitors_end_arrives() {
    let (server, _scratch) = before(TcpService::echo_after_eof().address());
    let mut visitor = connect(server.address());
    visitor.write_all(b"banner\r\n").expect("write");
    visitor.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(read_all(&mut visitor), seen(b"banner\r\n", End::Fin));
    let line = server.connection(|_| true);
    assert_eq!((line["up"].as_u64(), line["down"].as_u64()), (Some(8), Some(8)), "{line}");
    assert_eq!(line["outcome"], "done", "{line}");
}

#[test]
fn stock_tools_get_their_answer_too() {
    let (server, _scratch) = before(TcpService::echo_after_eof().address());
    let (host, port) = (server.address().ip().to_string(), server.address().port().to_string());
    let mut nc = bounded("nc");
    let mut socat = bounded("socat");
    for tool in [nc.args(["-N", &host, &port]), socat.args(["-", &format!("TCP:{host}:{port}")])] {
        assert_eq!(text(&feed(tool, b"banner\r\n").stdout), "banner\r\n", "{tool:?}");
    }
}

#[test]
fn what_a_visitor_says_after_the_services_end_arrives() {
    let (mut visitor, mut upstream, _server, _scratch) = pair();
    upstream.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(read_all(&mut visitor), seen(b"", End::Fin));
    visitor.write_all(b"one more thing").expect("write");
    visitor.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(read_all(&mut upstream), seen(b"one more thing", End::Fin));
}

#[test]
fn a_visitors_reset_reaches_the_service_after_its_data() {
    let (mut visitor, mut upstream, server, _scratch) = pair();
    visitor.write_all(b"last words").expect("write");
    reset(visitor);
    assert_eq!(read_all(&mut upstream), seen(b"last words", End::Reset));
    assert_eq!(server.connection(|_| true)["outcome"], "client-reset");
}

#[test]
fn a_services_reset_reaches_the_visitor_after_its_data() {
    let (mut visitor, mut upstream, server, _scratch) = pair();
    upstream.write_all(b"last words").expect("write");
    reset(upstream);
    assert_eq!(read_all(&mut visitor), seen(b"last words", End::Reset));
    assert_eq!(server.connection(|_| true)["outcome"], "upstream-reset");
}

#[test]
fn a_reset_after_an_end_is_still_a_reset() {
    let (mut visitor, mut upstream, _server, _scratch) = pair();
    visitor.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(read_all(&mut upstream), seen(b"", End::Fin));
    upstream.write_all(b"last words").expect("write");
    reset(upstream);
    assert_eq!(read_all(&mut visitor), seen(b"last words", End::Reset));
}

/// A slow reader must slow the writer down, not make posternd hoard.
#[test]
fn a_slow_reader_holds_the_writer_back() {
    let (mut visitor, upstream, server, _scratch) = pair();
    upstream.set_nonblocking(true).expect("set O_NONBLOCK");
    let chunk = vec![7; MIB];
    let (mut sent, mut idle) = (0, 0);
    while idle < 50 {
        match (&upstream).write(&chunk) {
            Ok(n) => (sent, idle) = (sent + n, 0),
            Err(_) => {
                idle += 1;
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        assert!(sent < 64 * MIB, "nobody reads, and yet {sent} bytes were taken");
    }
    drop(upstream);
    let seen = read_all(&mut visitor);
    assert_eq!((seen.bytes.len(), seen.end), (sent, End::Fin));
    drop(visitor);
    assert_eq!(server.connection(|_| true)["outcome"], "done");
}
