//! What goes through: every byte and every end, both ways, on each kind of lane.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use postern_shared::knock::Carrier;
use postern_tests::expose::Exposing;
use postern_tests::net::{End, connect, free_port, local, read_all, reset};
use postern_tests::scratch::{MIB, random_file};
use postern_tests::{Nginx, Scratch, TcpService, bounded, each_carrier, sha256, success, until};

each_carrier!(a_website, both_ways_at_once, an_answer_after_the_end);

fn by(carrier: Carrier) -> [&'static str; 2] {
    ["--carrier", carrier.name()]
}

fn a_website(carrier: Carrier) {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let file = nginx.publish("big", 20 * MIB);
    let exposing = Exposing::start(nginx.http(), &by(carrier));
    let fetched = scratch.path("fetched");
    for _ in 0..3 {
        let mut curl = bounded("curl");
        curl.args(["-sS", "--fail", &format!("http://{}/big", exposing.door), "-o"]).arg(&fetched);
        success(&mut curl);
        assert_eq!(sha256(&fetched), sha256(&file));
    }
}

fn both_ways_at_once(carrier: Carrier) {
    let echo = TcpService::echo();
    let exposing = Exposing::start(echo.address(), &by(carrier));
    let scratch = Scratch::new();
    let sent = scratch.path("sent");
    random_file(&sent, 30 * MIB);
    let bytes = std::fs::read(&sent).expect("read");
    // Twice, so that the second has a lane that was used.
    for _ in 0..2 {
        let mut visitor = exposing.visit();
        let mut writing = visitor.try_clone().expect("cloned");
        let to_send = bytes.clone();
        let writer = thread::spawn(move || {
            writing.write_all(&to_send).expect("sent");
            writing.shutdown(Shutdown::Write).expect("ended");
        });
        let seen = read_all(&mut visitor);
        writer.join().expect("sent");
        assert_eq!(seen.end, End::Fin);
        assert!(
            seen.bytes == bytes,
            "other bytes came back: {} of {}",
            seen.bytes.len(),
            bytes.len()
        );
    }
}

fn an_answer_after_the_end(carrier: Carrier) {
    let service = TcpService::echo_after_eof();
    let exposing = Exposing::start(service.address(), &by(carrier));
    for words in [&b"short"[..], &[b'x'; 300_000]] {
        let mut visitor = exposing.visit();
        visitor.write_all(words).expect("sent");
        visitor.shutdown(Shutdown::Write).expect("ended");
        let seen = read_all(&mut visitor);
        assert!(seen.bytes == words && seen.end == End::Fin, "{} bytes", seen.bytes.len());
    }
}

#[test]
fn a_service_that_speaks_first() {
    let service = TcpService::start(|mut stream| {
        let _ = stream.write_all(b"220 hello\r\n");
        let _ = std::io::copy(&mut &stream, &mut &stream);
    });
    let exposing = Exposing::start(service.address(), &[]);
    let mut visitor = exposing.visit();
    let mut banner = [0; 11];
    visitor.read_exact(&mut banner).expect("a banner");
    assert_eq!(&banner, b"220 hello\r\n");
    visitor.write_all(b"more").expect("sent");
    visitor.read_exact(&mut banner[..4]).expect("an echo");
}

/// Also what goes along with the visitor.
#[test]
fn every_byte_is_counted() {
    let service = TcpService::echo_after_eof();
    let exposing = Exposing::start(service.address(), &[]);
    let entrance = format!("tcp:{}", exposing.door.port());
    let mut visitor = exposing.visit();
    visitor.write_all(b"hi there").expect("sent");
    visitor.shutdown(Shutdown::Write).expect("ended");
    assert_eq!(read_all(&mut visitor).bytes, b"hi there");
    // Probes are visitors, too, with other words.
    exposing
        .server
        .connection(|line| line["service"] == entrance && line["up"] == 8 && line["down"] == 8);
}

/// A service that reads first bytes, and then resets.
fn resetting() -> TcpService {
    TcpService::start(|mut stream| {
        if stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {
            let _ = stream.write_all(b"so far");
            // Read by the relay before the reset overtakes it.
            let mut go_on = [0; 1];
            let _ = stream.read(&mut go_on);
            reset(stream);
        }
    })
}

#[test]
fn a_reset_by_the_service_reaches_the_visitor() {
    let service = resetting();
    let exposing = Exposing::start(service.address(), &[]);
    let mut visitor = exposing.visit();
    visitor.write_all(b"hi").expect("sent");
    let mut words = [0; 6];
    visitor.read_exact(&mut words).expect("what came before");
    visitor.write_all(b"!").expect("sent");
    assert_eq!(read_all(&mut visitor).end, End::Reset);
    // And the next one is served.
    let mut visitor = exposing.visit();
    visitor.write_all(b"hi").expect("sent");
    visitor.read_exact(&mut words).expect("served");
}

#[test]
fn a_reset_by_the_visitor_reaches_the_service() {
    let (heard, ends) = std::sync::mpsc::channel();
    let service = TcpService::start(move |mut stream| {
        let seen = read_all(&mut stream);
        // The client itself looks whether somebody listens, and says nothing then.
        if !seen.bytes.is_empty() {
            let _ = heard.send(seen);
        }
    });
    let exposing = Exposing::start(service.address(), &[]);
    let mut visitor = exposing.visit();
    visitor.write_all(b"half a requ").expect("sent");
    until("the first bytes to be through", || {
        let holder = exposing.server.entrance(&format!("tcp:{}", exposing.door.port()))?;
        (holder["holders"][0]["busy"] == 1).then_some(())
    });
    // What was sent must have arrived: a reset discards what is queued.
    thread::sleep(std::time::Duration::from_millis(200));
    reset(visitor);
    let seen = ends.recv().expect("the service's end");
    assert_eq!((&*seen.bytes, seen.end), (&b"half a requ"[..], End::Reset));
}

#[test]
fn the_service_learns_who_its_visitor_is() {
    let heads = TcpService::start(|mut stream| {
        let mut head = [0; 28];
        if stream.read_exact(&mut head).is_ok() {
            let _ = stream.write_all(&head);
        }
    });
    let exposing = Exposing::start(heads.address(), &["--proxy-protocol", "v2"]);
    let mut visitor = exposing.visit();
    let (own, door) = (visitor.local_addr().expect("bound"), exposing.door);
    visitor.write_all(b"x").expect("sent");
    let mut head = [0; 28];
    visitor.read_exact(&mut head).expect("a header");
    assert_eq!(&head[..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(&head[16..24], &[127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(&head[24..26], own.port().to_be_bytes());
    assert_eq!(&head[26..28], door.port().to_be_bytes());
}

/// One request on a connection that is kept; the answer is what the server had of the request's headers.
fn ask(stream: &mut TcpStream, more: &str) -> String {
    let request = format!("GET /headers HTTP/1.1\r\nHost: laptop.example.com\r\n{more}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let (mut answer, mut piece) = (String::new(), [0; 4096]);
    while !answer.ends_with("END") {
        let count = stream.read(&mut piece).expect("an answer");
        assert_ne!(count, 0, "ended after {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    answer
}

/// A web server that answers with what it was told of the visitor, in a server of its own.
const HEADERS: &str = "server { listen 127.0.0.1:PORT; location / { return 200 \
    'for=$http_x_forwarded_for proto=$http_x_forwarded_proto host=$http_x_forwarded_host END'; } }";

#[test]
fn each_request_says_for_whom_it_is() {
    let scratch = Scratch::new();
    let port = free_port();
    let _nginx = Nginx::start_with(&scratch, &HEADERS.replace("PORT", &port.to_string()));
    let exposing = Exposing::start(local(port), &["--forwarded"]);
    let mut visitor = exposing.visit();
    for forged in ["", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\n", ""] {
        let answer = ask(&mut visitor, forged);
        let expected = "for=127.0.0.1 proto=http host=laptop.example.com END";
        assert!(answer.ends_with(expected), "{answer}");
    }
    // Not so without it.
    let exposing = Exposing::start(local(port), &[]);
    let answer = ask(&mut connect(exposing.door), "");
    assert!(answer.ends_with("for= proto= host= END"), "{answer}");
}
