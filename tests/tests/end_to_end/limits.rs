//! What strangers cannot do by being many, slow or silent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use postern_shared::knock::Carrier;
use postern_tests::net::{connect, read_all};
use postern_tests::posternd::config;
use postern_tests::process::text;
use postern_tests::{
    End, Knocker, Nginx, Posternd, Scratch, TcpService, World, bounded, success, until,
};
use rustix::process::Signal;
use socket2::SockRef;

pub(crate) fn page(nginx: &Nginx, at: SocketAddr) -> String {
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", "--max-time", "20", "--cacert"]).arg(nginx.certificate());
    success(curl.args(["--connect-to", &format!("::{at}"), "https://www.example.com/"]))
}

/// More silent connections than one address may hold undecided: the oldest become visitors.
#[test]
fn many_silent_connections_do_not_keep_the_next_visitor_out() {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let limits = "[timeouts]\ndecide = \"60s\"\n[limits]\nundecided-per-address = 256\n";
    let server = Posternd::start(&scratch, &config(nginx.https(), limits));
    let silent: Vec<_> = (0..300).map(|_| connect(server.address())).collect();
    assert!(page(&nginx, server.address()).contains("Nothing to see here"));
    // Whoever became a visitor by that is one still, and so is everybody else.
    for mut stream in silent {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("write");
        assert!(text(&read_all(&mut stream).bytes).contains("400 The plain HTTP request"));
    }
}

#[test]
fn a_full_house_still_admits_and_resets_the_rest() {
    // A tenth of the places, and at least 64, are kept for the admitted.
    let world = World::with("[limits]\nconnections = 128\n");
    let visit = |request: &[u8]| {
        let mut stream = connect(world.server.address());
        stream.write_all(request).expect("write");
        stream
    };
    let mut visitors = Vec::new();
    until("the house to be full", || {
        visitors.push(visit(b"GET / HTTP/1.1\r\n"));
        let seen = read_all(&mut visit(b"GET / HTTP/1.0\r\n\r\n"));
        (seen.end == End::Reset && seen.bytes.is_empty()).then_some(())
    });
    assert!((60..128).contains(&visitors.len()), "{} visitors", visitors.len());
    for carrier in Carrier::ALL {
        assert_eq!(success(&mut world.client.ssh(carrier, "echo in")), "in\n");
    }
    drop(visitors);
    until("room for visitors", || {
        let mut curl = bounded("curl");
        curl.args(["-sS", "-k", "--connect-to", &format!("::{}", world.server.address())]);
        let output = curl.arg("https://www.example.com/").output().expect("run curl");
        output.status.success().then_some(())
    });
}

/// As after a suspend, or on a starved machine: what came in time counts, though time is up.
#[test]
fn a_stalled_machine_refuses_no_knock_that_came_in_time() {
    let world = World::start();
    world.server.configure(&world.config.replace("decide = \"30s\"", "decide = \"1s\""));
    success(&mut world.server.command(&["reload"]));
    for _ in 0..3 {
        let mut stream = connect(world.server.address());
        // Long enough to be accepted.
        thread::sleep(Duration::from_millis(50));
        world.server.process.signal(Signal::STOP);
        stream.write_all(&Knocker::new(&world.invite).plain()).expect("knock");
        thread::sleep(Duration::from_millis(1100));
        world.server.process.signal(Signal::CONT);
        stream.write_all(b"SSH-2.0-x\r\n\r\n").expect("write");
        let mut banner = [0; 8];
        stream.read_exact(&mut banner).expect("a banner");
        assert_eq!(text(&banner), "SSH-2.0-");
    }
}

fn behind_a_knock(echo: &TcpService, more: &str) -> String {
    format!("[service.echo]\nto = \"tcp://{}\"\nknock = true\n{more}", echo.address())
}

/// A tunnel to the echo, which has answered.
fn admitted(server: &Posternd) -> TcpStream {
    let mut stream = connect(server.address());
    stream.write_all(&Knocker::new(&server.invite("bob", &[])).plain()).expect("knock");
    stream.write_all(b"in").expect("write");
    stream.read_exact(&mut [0; 2]).expect("the same back");
    stream
}

/// What `ss -tno` says of our end of a connection.
fn socket_of(server: &Posternd, stream: &TcpStream) -> String {
    let (server, client) = (server.address().port(), stream.local_addr().expect("bound").port());
    let ends = format!("sport = :{server} and dport = :{client}");
    success(bounded("ss").args(["-tnoH", "state", "established", &ends]))
}

/// A website's own listener shows no such probes.
#[test]
fn only_the_admitted_are_asked_whether_they_are_still_there() {
    let scratch = Scratch::new();
    let echo = TcpService::echo();
    let more = "[timeouts]\nkeepalive = \"9s\"\n[limits]\nbacklog = 77\n";
    let server = Posternd::start(&scratch, &config(echo.address(), &behind_a_knock(&echo, more)));
    let tunnel = admitted(&server);
    let mut visitor = connect(server.address());
    visitor.write_all(b"hello\r\n").expect("write");
    visitor.read_exact(&mut [0; 7]).expect("the same back");
    assert!(socket_of(&server, &tunnel).contains("timer:(keepalive,"), "of the admitted");
    let of_visitor = socket_of(&server, &visitor);
    assert!(!of_visitor.is_empty() && !of_visitor.contains("keepalive"), "{of_visitor}");
    let listener = format!("sport = :{}", server.address().port());
    let shown = success(bounded("ss").args(["-tnlH", &listener]));
    assert!(shown.split_whitespace().any(|word| word == "77"), "the backlog: {shown}");
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let echo = TcpService::echo();
    let server = Posternd::start(&scratch, &config(nginx.https(), &behind_a_knock(&echo, "")));
    let mut tunnel = admitted(&server);
    server.process.limit_descriptors(server.descriptors() + 20);
    let ask = || {
        let mut stream = connect(server.address());
        stream.write_all(b"GET / HTTP/1.1\r\n").expect("write");
        stream
    };
    let visitors: Vec<_> = (0..100).map(|_| ask()).collect();
    until("the complaint", || server.process.log().contains("limit on open files").then_some(()));
    let before = server.process.cpu_time();
    thread::sleep(Duration::from_secs(1));
    let spent = server.process.cpu_time() - before;
    assert!(spent < Duration::from_millis(200), "{spent:?} of the processor in 1 s");
    // Who is in has all he needs, also where a pipe for bulk cannot be had.
    let sent = vec![b'x'; 1 << 20];
    let mut got = vec![0; sent.len()];
    let mut writing = tunnel.try_clone().expect("clone");
    thread::scope(|scope| {
        scope.spawn(|| writing.write_all(&sent).expect("write"));
        tunnel.read_exact(&mut got).expect("all of it back");
    });
    assert!(got == sent);
    drop(visitors);
    assert!(page(&nginx, server.address()).contains("Nothing to see here"));
}

#[test]
fn waiting_costs_nothing() {
    let (give, take) = channel();
    let service = TcpService::start(move |stream| drop(give.send(stream)));
    let scratch = Scratch::new();
    let patient = "[timeouts]\ndecide = \"60s\"\n";
    let server = Posternd::start(&scratch, &config(service.address(), patient));
    let open = |bytes: &[u8]| {
        let mut stream = connect(server.address());
        stream.write_all(bytes).expect("write");
        stream
    };
    // Held: a hello that is not complete, letters, nothing. Relayed: one side's end, urgent data.
    let held = [open(b"\x16\x03\x01\x02\x00half"), open(b"LETTERS"), open(b"")];
    let half_closed = open(b"hello\r\n");
    half_closed.shutdown(Shutdown::Write).expect("shut down");
    let urgent = open(b"hello\r\n");
    SockRef::from(&urgent).send_out_of_band(b"!").expect("send");
    let urgent_first = connect(server.address());
    SockRef::from(&urgent_first).send_out_of_band(b"!").expect("send");
    thread::sleep(Duration::from_millis(500));

    let before = server.process.cpu_time();
    thread::sleep(Duration::from_secs(2));
    let spent = server.process.cpu_time() - before;
    assert!(spent < Duration::from_millis(200), "{spent:?} of the processor in 2 s");
    drop((held, half_closed, urgent, urgent_first, take));
}
