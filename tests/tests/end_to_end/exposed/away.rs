//! While the client is away: the port stays bound, visitors wait, and whoever comes back has them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::expose::Exposing;
use postern_tests::net::{End, connect, read_all};
use postern_tests::{Posternd, TcpService, until};
use rustix::process::Signal;

fn entrance(exposing: &Exposing) -> String {
    format!("tcp:{}", exposing.door.port())
}

/// A visitor in a thread of his own; what he was told.
fn visitor(exposing: &Exposing, words: &'static [u8]) -> thread::JoinHandle<(Vec<u8>, End)> {
    let mut stream = exposing.visit();
    thread::spawn(move || {
        stream.write_all(words).expect("sent");
        let seen = read_all(&mut stream);
        (seen.bytes, seen.end)
    })
}

fn gone(exposing: &mut Exposing, signal: Signal) {
    exposing.process.signal(signal);
    exposing.process.wait();
    exposing.server.until_free(&entrance(exposing));
}

#[test]
fn visitors_wait_for_the_client_to_come_back() {
    let service = TcpService::named("laptop");
    for signal in [Signal::TERM, Signal::KILL] {
        let mut exposing = Exposing::with("expose = \"60s\"", service.address(), &[]);
        gone(&mut exposing, signal);
        let waiting: Vec<_> = (0..3).map(|_| visitor(&exposing, b"hi")).collect();
        // As long as it takes to be sure that they do wait.
        thread::sleep(Duration::from_millis(300));
        assert!(waiting.iter().all(|one| !one.is_finished()));
        exposing.again("again", service.address());
        for one in waiting {
            assert_eq!(one.join().expect("served"), (b"laptop".to_vec(), End::Fin), "{signal:?}");
        }
    }
}

#[test]
fn visitors_do_not_wait_for_ever() {
    let service = TcpService::named("laptop");
    let mut exposing = Exposing::with("expose = \"300ms\"", service.address(), &[]);
    gone(&mut exposing, Signal::KILL);
    let (page, end) =
        visitor(&exposing, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").join().expect("told");
    let page = String::from_utf8(page).expect("text");
    assert!(page.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{page}");
    assert_eq!(end, End::Fin);
    assert_eq!(visitor(&exposing, b"SSH-2.0-x\r\n").join().expect("told"), (vec![], End::Reset));
    let line = exposing.server.connection(|line| line["outcome"] == "upstream-down");
    assert_eq!(
        (&line["route"], &line["service"]),
        (&"exposed".into(), &entrance(&exposing).into())
    );
}

#[test]
fn a_server_that_comes_back_finds_its_clients() {
    let service = TcpService::named("laptop");
    let mut exposing = Exposing::with("expose = \"60s\"", service.address(), &[]);
    for signal in [Signal::TERM, Signal::KILL] {
        exposing.server.end(signal);
        exposing.server.again();
        // It listens before its client knows that it is there.
        let served = visitor(&exposing, b"hi").join().expect("served");
        assert_eq!(served, (b"laptop".to_vec(), End::Fin), "{signal:?}");
    }
}

#[test]
fn another_run_takes_over_and_the_first_one_ends() {
    let (old, new) = (TcpService::named("old"), TcpService::named("new"));
    let mut exposing = Exposing::start(old.address(), &[]);
    let entrance = entrance(&exposing);
    // The same key on another machine: with a home of its own.
    let other = exposing.scratch.dir("other");
    let profile = postern_tests::expose::profile(&exposing.client);
    let copy = other.join(".config/postern/laptop.toml");
    std::fs::create_dir_all(copy.parent().expect("a directory")).expect("made");
    std::fs::copy(&profile, &copy).expect("copied");
    let log = exposing.scratch.path("other.log");
    let mut command = postern_tests::expose::exposing(
        &exposing.client,
        &[&entrance, "--to", &new.address().to_string()],
    );
    command.env("HOME", &other);
    let _other = postern_tests::Process::spawn("another postern expose", &mut command, log);
    assert_eq!(exposing.process.wait().code(), Some(10), "{}", exposing.process.log());
    exposing.server.until_held(&entrance);
    assert_eq!(visitor(&exposing, b"hi").join().expect("served").0, b"new");
}

#[test]
fn a_revoked_key_ends_all_that_it_had() {
    let echo = TcpService::echo();
    let mut exposing = Exposing::with("expose = \"1s\"", echo.address(), &[]);
    let mut visitor = exposing.visit();
    visitor.write_all(b"hi").expect("sent");
    visitor.read_exact(&mut [0; 2]).expect("an echo");
    postern_tests::success(&mut exposing.server.command(&["client", "revoke", "laptop"]));
    assert_eq!(exposing.process.wait().code(), Some(7), "{}", exposing.process.log());
    assert_ne!(read_rest(&mut visitor), Some(b"more".to_vec()));
    // Nobody may open the entrance any more, so that it closes.
    until("the port to be closed", || TcpStream::connect(exposing.door).err());
}

fn read_rest(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).ok().map(|_| rest)
}

#[test]
fn what_is_taken_from_a_key_is_closed_and_what_is_given_is_opened() {
    let service = TcpService::named("laptop");
    let mut exposing = Exposing::with("expose = \"60s\"", service.address(), &[]);
    let entrance = entrance(&exposing);
    let set = |server: &Posternd, what: &[&str]| {
        let args = [&["client", "expose", "laptop"], what].concat();
        postern_tests::success(&mut server.command(&args));
    };
    set(&exposing.server, &["name:other"]);
    until("the port to be closed", || TcpStream::connect(exposing.door).err());
    until("the client to be told", || exposing.process.log().contains("may not").then_some(()));
    assert!(exposing.process.exited().is_none(), "it waits for better times");
    set(&exposing.server, &[&entrance]);
    exposing.server.until_held(&entrance);
    assert_eq!(visitor(&exposing, b"hi").join().expect("served").0, b"laptop");
}

#[test]
fn a_key_whose_time_is_over_exposes_no_more() {
    let service = TcpService::named("laptop");
    let mut exposing = Exposing::with("expose = \"60s\"", service.address(), &[]);
    let (entrance, file) = (entrance(&exposing), exposing.server.clients_file());
    let text = std::fs::read_to_string(&file).expect("read");
    let over = text.replace("[[client]]\n", "[[client]]\nuntil = \"2020-01-01T00:00:00Z\"\n");
    assert_ne!(over, text);
    std::fs::write(&file, over).expect("written");
    exposing.server.until_free(&entrance);
    std::fs::write(&file, text).expect("written");
    exposing.server.until_held(&entrance);
    assert!(exposing.process.exited().is_none(), "it waits for better times");
    assert_eq!(visitor(&exposing, b"hi").join().expect("served").0, b"laptop");
}

#[test]
fn a_visitor_who_leaves_while_he_waits_is_forgotten() {
    let service = TcpService::named("laptop");
    let mut exposing = Exposing::with("expose = \"60s\"", service.address(), &[]);
    gone(&mut exposing, Signal::KILL);
    let before = exposing.server.descriptors();
    let waiting: Vec<_> = (0..20).map(|_| connect(exposing.door)).collect();
    until("them to be accepted", || (exposing.server.descriptors() >= before + 20).then_some(()));
    let started = Instant::now();
    waiting.into_iter().for_each(postern_tests::net::reset);
    until("them to be gone", || (exposing.server.descriptors() <= before).then_some(()));
    assert!(started.elapsed() < Duration::from_secs(50), "before their time was up");
}
