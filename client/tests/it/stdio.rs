//! Standard input and output that are not what ssh gives: each is used as it is, and left as it was.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use postern_shared::knock::Carrier;
use rustix::fs::{OFlags, fcntl_getfl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::home::{Client, Home, SOON};
use crate::server;

/// Answers what it got, once it has all, backwards.
fn echo() -> SocketAddr {
    server::serve(Carrier::Tls, |knocked| async {
        let mut stream = knocked.admit().await;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("half-closed");
        bytes.reverse();
        stream.write_all(&bytes).await.expect("the client reads");
        stream.shutdown().await.expect("closed");
    })
}

fn home() -> Home {
    Home::with(echo(), &[Carrier::Tls])
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).expect("open").contains(OFlags::NONBLOCK)
}

#[test]
fn files_are_read_and_written() {
    let home = home();
    let (input, output) = (home.path().join("in"), home.path().join("out"));
    let bytes: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&input, &bytes).expect("ours");
    let mut command = home.postern(&["connect", "bob"]);
    command.stdin(File::open(&input).expect("there")).stdout(File::create(&output).expect("ours"));
    Client::start_as_is(&mut command).ends_well_within(SOON);
    let answer: Vec<u8> = bytes.into_iter().rev().collect();
    assert!(fs::read(&output).expect("there") == answer);
}

#[test]
fn nothing_at_all_is_an_input_too() {
    let home = home();
    let mut command = home.postern(&["connect", "bob"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Client::start_as_is(&mut command).ends_well_within(SOON);
}

#[test]
fn a_full_disk_is_an_error() {
    let home = home();
    fs::write(home.path().join("in"), "x").expect("ours");
    let mut command = home.postern(&["connect", "bob"]);
    command
        .stdin(File::open(home.path().join("in")).expect("there"))
        .stdout(File::options().write(true).open("/dev/full").expect("there"));
    let (code, stderr) = Client::start_as_is(&mut command).ends_within(SOON);
    assert_eq!(code, 1);
    assert!(stderr.contains("cannot write to standard output: No space left"), "{stderr}");
}

#[test]
fn a_socket_is_used_without_touching_its_flags() {
    let home = home();
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let probe = theirs.try_clone().expect("a copy");
    let mut command = home.postern(&["connect", "bob"]);
    command.stdin(OwnedFd::from(theirs.try_clone().expect("a copy"))).stdout(OwnedFd::from(theirs));
    let mut client = Client::start_as_is(&mut command);
    drop(command);
    ours.write_all(b"question").expect("it reads");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!is_nonblocking(&probe));
    ours.shutdown(Shutdown::Write).expect("half-closed");
    ours.set_read_timeout(Some(SOON)).expect("a socket");
    let mut answer = [0; 8];
    ours.read_exact(&mut answer).expect("the answer");
    assert_eq!(&answer, b"noitseuq");
    client.ends_well_within(SOON);
}

#[test]
fn a_socket_whose_other_end_was_killed_ends_it() {
    let home = home();
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let mut command = home.postern(&["connect", "bob"]);
    command.stdin(OwnedFd::from(theirs.try_clone().expect("a copy"))).stdout(OwnedFd::from(theirs));
    let mut client = Client::start_as_is(&mut command);
    drop(command);
    std::thread::sleep(Duration::from_millis(300));
    assert!(client.is_running());
    drop(ours);
    client.ends_well_within(SOON);
}

#[test]
fn the_flags_of_pipes_are_put_back() {
    let home = home();
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let (mut answer, output) = std::io::pipe().expect("a pipe");
    let ends = (reader.try_clone().expect("a copy"), output.try_clone().expect("a copy"));
    let mut command = home.postern(&["connect", "bob"]);
    let mut client = Client::start_as_is(command.stdin(reader).stdout(output));
    drop(command);
    writer.write_all(b"x").expect("room");
    std::thread::sleep(Duration::from_millis(300));
    assert!(is_nonblocking(&ends.0) && is_nonblocking(&ends.1));
    drop(writer);
    client.ends_well_within(SOON);
    assert!(!is_nonblocking(&ends.0) && !is_nonblocking(&ends.1));
    drop(ends);
    let mut bytes = Vec::new();
    answer.read_to_end(&mut bytes).expect("readable");
    assert_eq!(bytes, b"x");
}

#[test]
fn inherited_descriptors_are_let_go() {
    let home = home();
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = home.command("/bin/sh");
    command
        .args(["-c", "exec \"$0\" connect bob 9>&1 >/dev/null", env!("CARGO_BIN_EXE_postern")])
        .stdin(Stdio::piped())
        .stdout(writer);
    let mut client = Client::start_as_is(&mut command);
    drop(command);
    // Ends only when the client has closed its descriptor 9.
    assert_eq!(reader.read(&mut [0]).expect("readable"), 0);
    assert!(client.is_running());
    drop(client.stdin.take());
    client.ends_well_within(SOON);
}
