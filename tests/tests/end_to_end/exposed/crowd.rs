//! Many visitors: at once, one after the other, and slow ones beside fast ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::expose::Exposing;
use postern_tests::net::{connect, read_all, reset};
use postern_tests::process::{raise_descriptor_limit, resident};
use postern_tests::{TcpService, until};
use socket2::{Domain, Socket, Type};

/// At once, where descriptors allow it: each takes two of the server's, which keeps as many for others, and
/// two of the client's.
const AT_ONCE: usize = 1000;
const DESCRIPTORS: usize = 12;

/// One after the other, unless `POSTERN_VISITORS` says another number.
const VISITORS: usize = 10_000;

fn visitors() -> usize {
    let wanted = std::env::var("POSTERN_VISITORS").ok();
    wanted.map_or(VISITORS, |text| text.parse().expect("POSTERN_VISITORS is a number"))
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("list descriptors").count()
}

#[test]
fn many_at_once_are_all_served() {
    let at_once = AT_ONCE.min(raise_descriptor_limit() / DESCRIPTORS);
    let echo = TcpService::echo();
    let exposing = Exposing::with("expose = \"60s\"", echo.address(), &["--carrier", "plain"]);
    let mut all: Vec<_> = (0..at_once).map(|_| connect(exposing.door)).collect();
    for (number, visitor) in all.iter_mut().enumerate() {
        visitor.write_all(&number.to_be_bytes()).expect("sent");
    }
    for (number, visitor) in all.iter_mut().enumerate() {
        let mut answer = [0; 8];
        visitor.read_exact(&mut answer).expect("an echo");
        assert_eq!(usize::from_be_bytes(answer), number);
    }
    let entrance = exposing.server.entrance(&format!("tcp:{}", exposing.door.port()));
    let busy = &entrance.expect("there")["holders"][0]["busy"];
    assert_eq!(busy.as_u64().and_then(|busy| usize::try_from(busy).ok()), Some(at_once));
}

/// In every way in which a connection ends; none is lost, and nothing is left of them.
#[test]
fn nothing_is_left_of_many_visitors() {
    const AT_A_TIME: usize = 8;
    let echo = TcpService::echo();
    let exposing = Exposing::with("expose = \"60s\"", echo.address(), &["--carrier", "plain"]);
    let (server, client) = (exposing.server.process.pid(), exposing.process.pid());
    let visit = |number: usize| {
        let mut visitor = connect(exposing.door);
        let words = vec![u8::try_from(number % 251).expect("small"); 1 + number * 7 % 3000];
        visitor.write_all(&words).expect("sent");
        let mut answer = vec![0; words.len()];
        match number % 10 {
            0 => reset(visitor),
            1 => drop(visitor),
            2 => {
                visitor.read_exact(&mut answer).expect("an echo");
                reset(visitor);
            }
            _ => {
                visitor.shutdown(std::net::Shutdown::Write).expect("ended");
                let seen = read_all(&mut visitor);
                assert!(seen.bytes == words, "visitor {number} got {seen:?}");
            }
        }
    };
    // What is allocated once is not what is looked for.
    (0..500).for_each(visit);
    let before = (resident(server).expect("alive"), resident(client).expect("alive"));
    let count = visitors();
    thread::scope(|scope| {
        for part in 0..AT_A_TIME {
            scope.spawn(move || (part..count).step_by(AT_A_TIME).for_each(visit));
        }
    });
    let entrance = format!("tcp:{}", exposing.door.port());
    until("the last to be gone", || {
        let entrance = exposing.server.entrance(&entrance)?;
        (entrance["holders"][0]["busy"] == 0).then_some(())
    });
    let lanes = exposing.server.entrance(&entrance).expect("there")["holders"][0]["idle"].clone();
    let lanes = lanes.as_u64().and_then(|lanes| usize::try_from(lanes).ok()).expect("a number");
    // Listeners, reactors, files, and what is idle.
    until("descriptors to be given back", || {
        (descriptors(server) < 120 + lanes && descriptors(client) < 40 + lanes).then_some(())
    });
    let after = (resident(server).expect("alive"), resident(client).expect("alive"));
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        assert!(after < before + 24 * 1024 * 1024, "{before} bytes grew to {after}");
    }
}

#[test]
fn a_slow_visitor_holds_up_nobody() {
    let service = TcpService::start(|mut stream| {
        let mut word = [0; 4];
        if stream.read_exact(&mut word).is_ok() && &word == b"bulk" {
            // Until nothing more fits in between.
            while stream.write_all(&[0; 64 * 1024]).is_ok() {}
        } else {
            let _ = stream.write_all(&word);
        }
    });
    let exposing = Exposing::start(service.address(), &[]);
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_recv_buffer_size(4096).expect("set");
            socket.connect(&exposing.door.into()).expect("connected");
            let mut visitor = TcpStream::from(socket);
            visitor.write_all(b"bulk").expect("sent");
            visitor
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let started = Instant::now();
        let mut visitor = exposing.visit();
        visitor.write_all(b"fast").expect("sent");
        assert_eq!(read_all(&mut visitor).bytes, b"fast");
        slowest = slowest.max(started.elapsed());
    }
    assert_eq!(slow.len(), 20);
    // Nowhere near any time-out; a busy machine is slow, too.
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
}
