//! What a service bears: how many connections, how often, and how long without a word.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use postern_shared::knock::{Carrier, Status};
use postern_tests::net::{connect, connect_from, read_all, reset};
use postern_tests::process::text;
use postern_tests::{End, Knocker, Posternd, Scratch, TcpService, World, failure, success, until};

use super::{serving, text as configuration};

/// `None` if it was reset.
fn echoed(mut stream: TcpStream) -> Option<TcpStream> {
    let _ = stream.write_all(b"hi\n");
    let mut back = [0; 3];
    stream.read_exact(&mut back).ok().map(|()| stream)
}

fn visit(server: &Posternd) -> Option<TcpStream> {
    echoed(connect(server.address()))
}

#[test]
fn no_more_than_so_many_are_served_at_once() {
    let (scratch, echo) = (Scratch::new(), TcpService::echo());
    let lines = format!("to = \"tcp://{}\"\nmax-connections = 3\n", echo.address());
    let server = serving(&scratch, &lines);
    let mut open: Vec<_> = (0..3).map(|_| visit(&server).expect("a place")).collect();
    let mut fourth = connect(server.address());
    fourth.write_all(b"hi\n").expect("sent");
    let seen = read_all(&mut fourth);
    assert_eq!((seen.bytes.len(), seen.end), (0, End::Reset), "as where nobody listens");
    let line = server.connection(|line| line["outcome"] == "shed");
    assert_eq!(line["failure"], "max-connections");

    // A reload forgets nobody who is there.
    server.configure(&configuration(&lines.replace("= 3", "= 4")));
    success(&mut server.command(&["reload"]));
    open.push(visit(&server).expect("a fourth now"));
    assert!(visit(&server).is_none());
    drop(open);
    for _ in 0..10 {
        until("a place", || visit(&server));
    }
}

#[test]
fn so_many_wait_and_are_served_in_their_order() {
    let (scratch, echo) = (Scratch::new(), TcpService::echo());
    let lines = format!(
        "to = \"tcp://{}\"\nmax-connections = 1\nqueue = 2\nconnect = \"60s\"\n",
        echo.address()
    );
    let server = serving(&scratch, &lines);
    let first = visit(&server).expect("a place");
    let queued = |count: u64| {
        until("them to wait", || (server.status()["places"]["visitors"] == count).then_some(()));
    };
    let mut waiting = Vec::new();
    for count in 2..=3 {
        let mut stream = connect(server.address());
        stream.write_all(b"hi\n").expect("sent");
        waiting.push(stream);
        queued(count);
    }
    assert!(visit(&server).is_none(), "no more than two wait");
    drop(first);
    for mut stream in waiting {
        let mut back = [0; 3];
        stream.read_exact(&mut back).expect("its turn");
    }
    queued(0);
}

#[test]
fn whoever_waits_too_long_is_sent_away() {
    let (scratch, echo) = (Scratch::new(), TcpService::echo());
    let lines = format!(
        "to = \"tcp://{}\"\nmax-connections = 1\nqueue = 2\nconnect = \"300ms\"\n",
        echo.address()
    );
    let server = serving(&scratch, &lines);
    let first = visit(&server).expect("a place");
    let start = Instant::now();
    assert!(visit(&server).is_none());
    assert!(start.elapsed() >= Duration::from_millis(300), "it had its time");
    drop(first);
    assert!(until("the place", || visit(&server)).peer_addr().is_ok());
}

#[test]
fn an_address_may_come_so_often_and_others_too() {
    let (scratch, echo) = (Scratch::new(), TcpService::echo());
    let lines = format!("to = \"tcp://{}\"\nrate = \"5/1h\"\n", echo.address());
    let server = serving(&scratch, &lines);
    let from = |last| connect_from(Ipv4Addr::new(127, 0, 0, last), server.address());
    for last in [2, 3] {
        let come = (0..8).filter(|_| echoed(from(last)).is_some()).count();
        assert_eq!(come, 5, "from 127.0.0.{last}");
    }
    let line = server.connection(|line| line["outcome"] == "shed");
    assert_eq!(line["failure"], "rate");
    success(&mut server.command(&["reload"]));
    assert!(echoed(from(2)).is_none(), "a reload forgets nobody");
    assert!(echoed(from(4)).is_some());
}

#[test]
fn whoever_knocks_is_told_that_it_is_busy() {
    let world = World::start();
    let limits = "knock = true\nmax-connections = 1\n";
    world.server.configure(&world.config.replace("knock = true\n", limits));
    success(&mut world.server.command(&["reload"]));
    let knocker = Knocker::new(&world.invite);
    let mut inside = connect(world.server.address());
    inside.write_all(&knocker.plain()).expect("knock");
    let mut banner = [0; 4];
    inside.read_exact(&mut banner).expect("sshd speaks");
    for carrier in Carrier::ALL {
        let message = failure(&mut world.client.connect(&["--carrier", carrier.name()]), 4);
        assert!(message.contains("no place left"), "{message}");
    }
    let mut asking = knocker;
    asking.header.ack = true;
    let letters = asking.plain();
    let mut stream = connect(world.server.address());
    stream.write_all(&letters).expect("knock");
    let answer = read_all(&mut stream).bytes;
    assert_eq!(asking.acknowledged(&letters, &answer), Some(Status::Busy));
    let line = world.server.connection(|line| line["outcome"] == "shed");
    assert_eq!((&line["failure"], &line["client"]), (&"max-connections".into(), &"laptop".into()));
    drop(inside);
    until("the place", || {
        world.client.ssh(Carrier::Plain, "true").status().is_ok_and(|s| s.success()).then_some(())
    });
}

#[test]
fn a_key_that_is_revoked_while_it_waits_is_not_let_in() {
    let world = World::start();
    let limits = "knock = true\nmax-connections = 1\nqueue = 1\nconnect = \"10m\"\n";
    world.server.configure(&world.config.replace("knock = true\n", limits));
    success(&mut world.server.command(&["reload"]));
    let mut inside = connect(world.server.address());
    inside.write_all(&Knocker::new(&world.invite).plain()).expect("knock");
    inside.read_exact(&mut [0; 4]).expect("sshd speaks");

    let mut waiting = Knocker::new(&world.server.invite("waiting", &["--service", "ssh"]));
    waiting.header.ack = true;
    let mut stream = connect(world.server.address());
    stream.write_all(&waiting.plain()).expect("knock");
    world.server.tunnel_of("waiting");
    success(&mut world.server.command(&["client", "revoke", "waiting"]));
    drop(inside);
    assert_eq!(read_all(&mut stream).bytes, b"", "not even that it was let in");
    let line = world.server.connection(|line| line["client"] == "waiting");
    assert_eq!(line["outcome"], "revoked");
}

#[test]
fn whoever_resets_while_he_waits_leaves_the_queue() {
    let (scratch, echo) = (Scratch::new(), TcpService::echo());
    let lines = format!(
        "to = \"tcp://{}\"\nmax-connections = 1\nqueue = 2\nconnect = \"10m\"\n",
        echo.address()
    );
    let server = serving(&scratch, &lines);
    let first = visit(&server).expect("a place");
    let visitors = |count: u64| {
        until("them", || (server.status()["places"]["visitors"] == count).then_some(()));
    };
    for _ in 0..2 {
        let mut gone = connect(server.address());
        gone.write_all(b"hi\n").expect("sent");
        visitors(2);
        reset(gone);
        visitors(1);
    }
    drop(first);
    assert!(until("the place", || visit(&server)).peer_addr().is_ok());
}

#[test]
fn a_connection_without_a_word_ends_and_one_with_words_does_not() {
    let (scratch, echo) = (Scratch::new(), TcpService::echo());
    let lines = format!("to = \"tcp://{}\"\nidle = \"1s\"\n", echo.address());
    let server = serving(&scratch, &lines);
    let mut idle = visit(&server).expect("served");
    let idler = thread::spawn(move || {
        let start = Instant::now();
        (read_all(&mut idle), start.elapsed())
    });
    let mut busy = visit(&server).expect("served");
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        busy = echoed(busy).expect("it is not idle");
    }
    let (seen, after) = idler.join().expect("ended");
    assert_eq!((seen.bytes.len(), seen.end), (0, End::Fin));
    assert!(after > Duration::from_millis(900), "{after:?}");
    let line = server.connection(|line| line["outcome"] == "idle-timeout");
    assert_eq!((&line["up"], &line["down"]), (&3.into(), &3.into()));
    // Also where one half has ended.
    let half = echoed(busy).expect("not yet");
    let _ = half.shutdown(std::net::Shutdown::Write);
    until("no connection to be left", || {
        (server.status()["places"]["visitors"] == 0).then_some(())
    });
}

#[test]
fn an_idle_tunnel_ends_inside_tls_too() {
    let world = World::start();
    world
        .server
        .configure(&world.config.replace("knock = true\n", "knock = true\nidle = \"1s\"\n"));
    success(&mut world.server.command(&["reload"]));
    for carrier in Carrier::ALL {
        let mut connect = world.client.connect(&["--carrier", carrier.name()]);
        connect.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut postern = connect.spawn().expect("postern runs");
        // For as long as this is open it has something to wait for.
        let _stdin = postern.stdin.take();
        let mut said = String::new();
        postern.stdout.take().expect("a pipe").read_to_string(&mut said).expect("read to its end");
        assert!(said.starts_with("SSH-2.0-"), "{said}");
        let _ = postern.wait();
        world.server.connection(|line| {
            line["outcome"] == "idle-timeout" && line["carrier"] == carrier.name()
        });
    }
}

#[test]
fn check_warns_of_limits_that_strangers_could_see() {
    let scratch = Scratch::new();
    let config =
        postern_tests::posternd::config("127.0.0.1:9".parse().expect("one"), "idle = \"1m\"\n");
    let file = scratch.write("posternd.toml", config);
    let output =
        postern_tests::finish(postern_tests::posternd::posternd(&["check", "-c"]).arg(file));
    assert!(text(&output.stderr).contains("show strangers"), "{output:?}");
}
