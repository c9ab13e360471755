//! The socket that is handed to ssh: what is sent before, and when it is refused.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use postern_shared::knock::Carrier;

use crate::home::{Client, Home, SOON};

/// With both of ssh's pipes replaced by one end of a pair, as ssh has it.
fn connect(home: &Home, arguments: &[&str]) -> (UnixStream, Client) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut command = home.postern(&["connect", "bob", "--fdpass"]);
    command
        .args(arguments)
        .stdin(OwnedFd::from(theirs.try_clone().expect("a copy")))
        .stdout(OwnedFd::from(theirs));
    (ours, Client::start_as_is(&mut command))
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

#[test]
fn the_letters_are_all_it_sends() {
    let listener = listener();
    let home = Home::with(listener.local_addr().expect("bound"), &[Carrier::Plain]);
    let (mut ssh, mut client) = connect(&home, &[]);
    ssh.write_all(b"not for postern").expect("room");
    client.ends_well_within(SOON);
    let (mut server, _) = listener.accept().expect("a connection");
    // The socket travels with the byte, and goes with the pair.
    drop(ssh);
    let mut seen = Vec::new();
    server.read_to_end(&mut seen).expect("readable");
    assert_eq!(seen.len(), 96);
    assert!(seen.iter().all(|letter| (b'A'..=b'P').contains(letter)));
}

#[test]
fn another_carrier_than_plain_is_refused_and_never_replaced() {
    let listener = listener();
    let address = listener.local_addr().expect("bound");
    let home = Home::with(address, &[Carrier::Tls, Carrier::Plain]);
    for arguments in [&[][..], &["--carrier", "tls"]] {
        let (_ssh, mut client) = connect(&home, arguments);
        let (code, stderr) = client.ends_within(SOON);
        assert_eq!(code, 2);
        assert!(stderr.contains("--carrier plain"), "{stderr}");
    }
    connect(&home, &["--carrier", "plain"]).1.ends_well_within(SOON);
}

#[test]
fn a_pipe_takes_no_descriptor() {
    let listener = listener();
    let home = Home::with(listener.local_addr().expect("bound"), &[Carrier::Plain]);
    let (code, stderr) = home.fails(&["--fdpass"], SOON);
    assert_eq!(code, 2);
    assert!(stderr.contains("`ProxyUseFdpass yes`"), "{stderr}");
}

#[test]
fn an_ssh_that_was_killed_before_ends_it() {
    let listener = listener();
    let home = Home::with(listener.local_addr().expect("bound"), &[Carrier::Plain]);
    let key = home.key();
    home.edit_profile(&format!("\"{key}\""), "\"command:exec sleep 8\"");
    let (ssh, mut client) = connect(&home, &[]);
    // Long enough to wait for the key.
    thread::sleep(Duration::from_millis(300));
    assert!(client.is_running());
    drop(ssh);
    client.ends_well_within(SOON);
}

#[test]
fn a_stanza_needs_the_carrier() {
    let address = ([127, 0, 0, 1], 1).into();
    for (carriers, code) in [(&[Carrier::Tls][..], 2), (&[Carrier::Tls, Carrier::Plain], 0)] {
        let output = Home::with(address, carriers).run(&["ssh-config", "bob", "--fdpass"], b"");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    }
}
