//! Listeners that were bound before posternd started, as a service manager passes them.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use postern_tests::net::{connect, local};
use postern_tests::posternd::{binary, config};
use postern_tests::process::{Process, bounded};
use postern_tests::{Peer, Scratch, TcpService, UdpService, failure, until};
use rustix::io::{FdFlags, fcntl_setfd};

use crate::udp::{route, service, udp};

/// Runs posternd with `descriptor` as its third, as sd_listen_fds(3) has it.
fn passing(command: &mut Command, descriptor: impl AsFd, config: &std::path::Path) {
    fcntl_setfd(&descriptor, FdFlags::empty()).expect("let it be inherited");
    let number = descriptor.as_fd().as_raw_fd();
    let moved = if number == 3 { String::new() } else { format!("exec 3<&{number} {number}<&-;") };
    let script = format!("{moved} LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(binary("posternd")).args(["run", "-c"]).arg(config);
}

#[test]
fn a_listener_that_was_passed_is_served_also_from_before_the_start() {
    let scratch = Scratch::new();
    let echo = TcpService::echo();
    let listener = TcpListener::bind(local(0)).expect("bind");
    let address = listener.local_addr().expect("bound");
    // While nobody serves it yet: the kernel keeps them.
    let mut early: Vec<_> = (0..20).map(|_| connect(address)).collect();

    let listen = config(echo.address(), "").replace("127.0.0.1:0", &address.to_string());
    let file = scratch.write("posternd.toml", listen.replace("PUBLIC", "127.0.0.1:1"));
    let mut command = Command::new("bash");
    passing(&mut command, &listener, &file);
    let server = Process::spawn("posternd", &mut command, scratch.path("posternd.log"));
    drop(listener);
    for (number, stream) in (0..).zip(&mut early) {
        stream.write_all(&[b'a' + number]).expect("write");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("the same back");
        assert_eq!(answer, [b'a' + number]);
    }
    until("it to say so", || server.log().contains("listening").then_some(()));
    assert!(!server.log().contains("is not used"), "{}", server.log());
}

#[test]
fn a_datagram_socket_that_was_passed_is_served_also_from_before_the_start() {
    let scratch = Scratch::new();
    let h3 = UdpService::named("h3");
    let socket = UdpSocket::bind(local(0)).expect("bind");
    let address = socket.local_addr().expect("bound");
    let early = Peer::local();
    early.send(address, b"x");

    let tables = [service("h3", h3.address()), route("", "h3")].concat();
    let config = udp(&format!("\"{address}\""), "", &tables);
    let file = scratch.write("posternd.toml", config.replace("PUBLIC", "127.0.0.1:1"));
    let mut command = Command::new("bash");
    passing(&mut command, &socket, &file);
    let server = Process::spawn("posternd", &mut command, scratch.path("posternd.log"));
    drop(socket);
    until("the answer", || early.hear());
    assert!(!server.log().contains("is not used"), "{}", server.log());
}

#[test]
fn a_listener_that_nobody_wants_is_named() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind(local(0)).expect("bind");
    let address = listener.local_addr().expect("bound");
    let file =
        scratch.write("posternd.toml", config(local(9), "").replace("PUBLIC", "127.0.0.1:1"));
    let mut command = Command::new("bash");
    passing(&mut command, &listener, &file);
    let server = Process::spawn("posternd", &mut command, scratch.path("posternd.log"));
    until("the warning", || {
        let log = server.log();
        (log.contains("is not used") && log.contains(&address.to_string())).then_some(())
    });
}

#[test]
fn what_is_no_listener_is_refused() {
    let scratch = Scratch::new();
    let file =
        scratch.write("posternd.toml", config(local(9), "").replace("PUBLIC", "127.0.0.1:1"));
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let mut command = bounded("bash");
    passing(&mut command, &reader, &file);
    let message = failure(&mut command, 1);
    assert!(
        message.contains("no listening TCP socket and no UDP socket")
            && message.contains("ListenStream= or ListenDatagram="),
        "{message}"
    );
}
