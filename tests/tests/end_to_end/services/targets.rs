//! Several targets: which of them gets a connection, and what becomes of those that are down.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::net::{Refusing, connect, connect_from, local, read_all};
use postern_tests::{Nginx, Posternd, Scratch, TcpService, bounded, success, until};

use super::{serving, text as configuration};

/// Three targets that say their names and stay.
fn three() -> [SocketAddr; 3] {
    ["a", "b", "c"].map(|name| {
        let service = TcpService::start(move |mut stream| {
            if stream.read(&mut [0; 16]).is_ok_and(|n| n > 0) {
                let _ = stream.write_all(name.as_bytes());
                let _ = stream.read(&mut [0; 16]);
            }
        });
        service.address()
    })
}

fn to(targets: &[SocketAddr]) -> String {
    let targets: Vec<_> = targets.iter().map(|to| format!("\"tcp://{to}\"")).collect();
    format!("to = [{}]\n", targets.join(", "))
}

/// Who it is that answers, and the connection to him.
fn named(mut stream: TcpStream) -> (char, TcpStream) {
    stream.write_all(b"hi\n").expect("sent");
    let mut name = [0];
    stream.read_exact(&mut name).expect("a name");
    (char::from(name[0]), stream)
}

fn visit(server: &Posternd) -> char {
    named(connect(server.address())).0
}

fn visits(server: &Posternd, count: usize) -> String {
    (0..count).map(|_| visit(server)).collect()
}

#[test]
fn targets_are_tried_in_their_order_until_one_answers() {
    let scratch = Scratch::new();
    let [a, b, c] = three();
    let (down, also) = (Refusing::bind(), Refusing::bind());
    let server = serving(&scratch, &to(&[down.address(), a, b]));
    assert_eq!(visits(&server, 3), "aaa");
    let all_down = to(&[down.address(), also.address()]);
    server.configure(&configuration(&format!("{all_down}backup = [\"tcp://{c}\"]\n")));
    success(&mut server.command(&["reload"]));
    assert_eq!(visits(&server, 3), "ccc");
    server.configure(&configuration(&all_down));
    success(&mut server.command(&["reload"]));
    let mut stream = connect(server.address());
    stream.write_all(b"hi\n").expect("sent");
    assert!(read_all(&mut stream).bytes.is_empty());
    let line = server.connection(|line| line["outcome"] == "upstream-down");
    assert!(line["failure"].as_str().is_some_and(|why| why.contains("refused")), "{line}");
}

/// A full backlog answers nothing, as does a machine that is switched off.
#[test]
fn a_target_that_says_nothing_leaves_the_others_time() {
    let scratch = Scratch::new();
    let [a, ..] = three();
    let silent =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("one");
    silent.bind(&local(0).into()).expect("bind");
    silent.listen(0).expect("listen");
    let address = silent.local_addr().expect("bound").as_socket().expect("an address");
    let _filling: Vec<_> =
        (0..2).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
    let server = serving(&scratch, &format!("{}connect = \"2s\"\n", to(&[address, a])));
    let start = Instant::now();
    assert_eq!(visit(&server), 'a');
    let first = start.elapsed();
    assert!(first > Duration::from_millis(900), "{first:?}: it was silent");
    let start = Instant::now();
    assert_eq!(visits(&server, 5), "aaaaa");
    assert!(start.elapsed() < first, "it is passed over for a while");
}

#[test]
fn turns_fewest_and_addresses_choose() {
    let scratch = Scratch::new();
    let targets = three();
    let [round, fewest, source] = ["round-robin", "least-connections", "source"]
        .map(|balance| format!("{}balance = \"{balance}\"\n", to(&targets)));
    let server = serving(&scratch, &round);
    let mut turns: Vec<_> = visits(&server, 9).chars().collect();
    turns.sort_unstable();
    assert_eq!(turns, ['a', 'a', 'a', 'b', 'b', 'b', 'c', 'c', 'c']);

    server.configure(&configuration(&fewest));
    success(&mut server.command(&["reload"]));
    let mut open = BTreeMap::<char, Vec<_>>::new();
    for _ in 0..6 {
        let (name, stream) = named(connect(server.address()));
        open.entry(name).or_default().push(stream);
    }
    assert!(open.values().all(|streams| streams.len() == 2), "{open:?}");
    // Those of b end: it is the one that has fewest until it has as many again.
    open.remove(&'b');
    until("them to end", || (server.status()["places"]["visitors"] == 4).then_some(()));
    success(&mut server.command(&["reload"]));
    let (first, _kept) = named(connect(server.address()));
    let (second, _kept) = named(connect(server.address()));
    assert_eq!((first, second), ('b', 'b'), "also after a reload");

    server.configure(&configuration(&source));
    success(&mut server.command(&["reload"]));
    let who = |server: &Posternd, last| {
        named(connect_from(Ipv4Addr::new(127, 0, 1, last), server.address())).0
    };
    let before: Vec<_> = (1..60).map(|last| who(&server, last)).collect();
    assert_eq!(
        before,
        (1..60).map(|last| who(&server, last)).collect::<Vec<_>>(),
        "the same again"
    );
    for name in ['a', 'b', 'c'] {
        assert!(before.iter().filter(|chosen| **chosen == name).count() > 5, "{before:?}");
    }
    // Without c only those of c move.
    let less = format!("{}balance = \"source\"\n", to(&targets[..2]));
    server.configure(&configuration(&less));
    success(&mut server.command(&["reload"]));
    for (last, before) in (1..60).zip(before) {
        let after = who(&server, last);
        assert!(after == before || before == 'c', "127.0.1.{last} moved from {before} to {after}");
    }
}

/// The lines that say that this target changed.
fn changes(server: &Posternd, message: &str) -> usize {
    server.events(message).len()
}

#[test]
fn health_is_watched_and_told_of_once() {
    let scratch = Scratch::new();
    let [b, ..] = three();
    let first = TcpListener::bind(local(0)).expect("bind");
    let address = first.local_addr().expect("bound");
    let lines = format!("{}health = \"100ms\"\nbackup = [\"tcp://{b}\"]\n", to(&[address]));
    // Accepting is the kernel's: nobody reads there.
    let server = serving(&scratch, &lines);
    drop(first);
    until("it to be down", || (changes(&server, "a target is down") == 1).then_some(()));
    let event = &server.events("a target is down")[0];
    assert_eq!(
        (&event["service"], &event["target"]),
        (&"it".into(), &format!("tcp://{address}").into())
    );
    assert_eq!(visits(&server, 3), "aaa");
    let said = success(&mut server.command(&["status"]));
    assert!(said.contains(&format!("tcp://{address} of it, down, 0 open")), "{said}");
    assert!(said.contains(&format!("tcp://{b} of it, backup, up, ")), "{said}");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(changes(&server, "a target is down"), 1, "told once");

    // A reload knows what was known.
    success(&mut server.command(&["reload"]));
    assert_eq!(visits(&server, 3), "aaa");
    let again = TcpListener::bind(address).expect("bind again");
    thread::spawn(move || {
        for mut stream in again.incoming().flatten() {
            let _ = stream.write_all(b"z");
        }
    });
    until("it to be up", || (changes(&server, "a target is up again") == 1).then_some(()));
    assert_eq!(visits(&server, 3), "zzz");
    assert_eq!(changes(&server, "a target is down"), 1);
}

#[test]
fn probes_end_with_the_policy_that_asks_for_them() {
    let scratch = Scratch::new();
    let counted = TcpListener::bind(local(0)).expect("bind");
    counted.set_nonblocking(true).expect("set");
    let address = counted.local_addr().expect("bound");
    let lines = to(&[address]);
    let server = serving(&scratch, &format!("{lines}health = \"100ms\"\n"));
    let count = || std::iter::from_fn(|| counted.accept().ok()).count();
    until("probes", || (count() > 0).then_some(()));
    let before = server.descriptors();
    for _ in 0..10 {
        success(&mut server.command(&["reload"]));
    }
    thread::sleep(Duration::from_millis(300));
    count();
    thread::sleep(Duration::from_secs(1));
    let of_one = count();
    assert!((5..=13).contains(&of_one), "{of_one} in a second, as of one prober");
    assert!(server.descriptors() <= before + 2);
    server.configure(&configuration(&lines));
    success(&mut server.command(&["reload"]));
    thread::sleep(Duration::from_millis(300));
    count();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(count(), 0);
}

/// Real web servers, of which one is stopped and started while visitors come.
#[test]
fn no_visitor_notices_that_a_web_server_stops() {
    let scratch = Scratch::new();
    let one = Nginx::start(&scratch);
    let other_scratch = Scratch::new();
    let other = Nginx::start(&other_scratch);
    let lines = to(&[one.https(), other.https()]) + "balance = \"round-robin\"\n";
    let server = serving(&scratch, &lines);
    // Each has a certificate of its own.
    let page = || {
        let mut curl = bounded("curl");
        curl.args(["-sS", "--fail", "--max-time", "20", "-k"]);
        let to = format!("::{}", server.address());
        success(curl.args(["--connect-to", &to, "https://www.example.com/"]))
    };
    for _ in 0..4 {
        assert_eq!(page(), postern_tests::nginx::PAGE);
    }
    drop(one);
    for _ in 0..10 {
        assert_eq!(page(), postern_tests::nginx::PAGE);
    }
}
