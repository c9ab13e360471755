//! ssh with the socket that `postern connect --fdpass` hands it (ProxyUseFdpass).

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use postern_tests::client::feed;
use postern_tests::process::{children, exists, text};
use postern_tests::scratch::MIB;
use postern_tests::{World, failure, finish, sha256, success, until};

const FDPASS: [&str; 3] = ["--carrier", "plain", "--fdpass"];

#[test]
fn a_command_with_its_status_and_stderr() {
    let world = World::start();
    let mut ssh = world.client.openssh("ssh");
    let output = feed(ssh.args(["fdpass", "cat; echo err >&2; exit 7"]), b"in");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("in".to_owned(), "err\n".to_owned()));

    let line = world.server.connection(|line| line["client"] == "laptop");
    assert_eq!((&line["outcome"], &line["carrier"]), (&"done".into(), &"plain".into()), "{line}");
}

#[test]
fn a_file_both_ways() {
    let world = World::start();
    let file = world.scratch.random_file("file", 100 * MIB);
    let (there, back) = (world.scratch.path("there"), world.scratch.path("back"));
    let remote = format!("fdpass:{}", there.display());
    success(world.client.openssh("scp").arg(&file).arg(&remote));
    assert_eq!(sha256(&there), sha256(&file));
    success(world.client.openssh("scp").arg(&remote).arg(&back));
    assert_eq!(sha256(&back), sha256(&file));
}

#[test]
fn nothing_stands_between_ssh_and_the_server() {
    let world = World::start();
    let mut ssh = world.client.lasting_ssh();
    ssh.args(["fdpass", "echo $$; exec cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.spawn().expect("start ssh");
    let mut remote = String::new();
    let stdout = ssh.stdout.as_mut().expect("stdout is a pipe");
    BufReader::new(stdout).read_line(&mut remote).expect("the remote shell's process id");
    let remote: u32 = remote.trim().parse().expect("a process id");
    assert!(children(ssh.id()).is_empty(), "postern has left");
    assert!(exists(remote));

    ssh.kill().expect("kill a child");
    ssh.wait().expect("wait for a child");
    until("the remote command to end", || (!exists(remote)).then_some(()));
    assert_eq!(world.server.connection(|line| line["client"] == "laptop")["outcome"], "done");
}

#[test]
fn the_stanza_that_is_printed_works() {
    let world = World::start();
    let stanza = success(&mut world.client.postern(&["ssh-config", "laptop", "--fdpass"]));
    let ours = fs::read_to_string(world.client.ssh_config()).expect("read ssh_config");
    fs::write(world.client.ssh_config(), stanza + &ours).expect("write ssh_config");
    assert_eq!(success(world.client.openssh("ssh").args(["laptop", "echo hello"])), "hello\n");
}

/// postern cannot know, and ssh meets the website.
#[test]
fn a_revoked_key_fails_in_ssh() {
    let world = World::start();
    success(&mut world.server.command(&["client", "revoke", "laptop"]));
    let (_ssh, theirs) = UnixStream::pair().expect("a pair");
    let mut connect = world.client.connect(&FDPASS);
    let input = theirs.try_clone().expect("duplicate a socket");
    connect.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(theirs));
    let output = connect.stderr(Stdio::piped()).spawn().expect("start a client");
    let output = output.wait_with_output().expect("wait for a child");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));

    let message = failure(world.client.openssh("ssh").args(["fdpass", "true"]), 255);
    assert!(!message.contains("postern"), "{message}");
}

#[test]
fn an_ssh_that_takes_no_descriptor_is_told_how_to() {
    let world = World::start();
    let mut ssh = world.client.openssh("ssh");
    let message = failure(ssh.args(["-o", "ProxyUseFdpass=no", "fdpass", "true"]), 255);
    assert!(message.contains("`ProxyUseFdpass yes`"), "{message}");
    let output = finish(&mut world.client.connect(&FDPASS));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
