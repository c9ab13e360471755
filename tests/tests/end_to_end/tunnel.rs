//! The tunnel itself, seen from `postern connect`: its end, its failures, and what it leaves behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use postern_shared::knock::{Carrier, Status};
use postern_tests::client::feed;
use postern_tests::net::{Refusing, connect};
use postern_tests::posternd::binary;
use postern_tests::process::{children, exists, send, text};
use postern_tests::scratch::MIB;
use postern_tests::{Client, Knocker, TcpService, World, each_carrier, failure, success, until};
use rustix::process::Signal;

each_carrier!(
    sshd_that_is_down_is_a_clear_error,
    sshd_may_be_started_for_each_connection,
    the_answer_after_the_end_of_stdin_arrives,
    the_end_of_the_service_ends_the_client_at_once,
    both_directions_at_once,
    a_service_that_is_down_is_told_apart,
    a_service_beyond_the_invite_is_refused_by_the_client,
    a_revoked_key_loses_its_tunnel_and_is_not_admitted,
    a_killed_client_leaves_nothing_behind,
    a_killed_ssh_takes_its_proxy_along,
    many_tunnels_leak_no_descriptor,
);

/// A world whose client may also use a service `raw` at this address.
fn world_with(raw: impl std::fmt::Display) -> (World, Client) {
    let world = World::with(&format!("[service.raw]\nto = \"tcp://{raw}\"\nknock = true\n"));
    let invite = world.server.invite("raw", &["--service", "raw"]);
    let client = Client::join(&world.scratch, "raw", &invite);
    (world, client)
}

fn open(client: &Client, carrier: Carrier) -> Child {
    spawn(&mut client.connect(&["--carrier", carrier.name()]))
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("start a client")
}

fn the_answer_after_the_end_of_stdin_arrives(carrier: Carrier) {
    let (_world, client) = world_with(TcpService::echo_after_eof().address());
    let sent = b"what is asked last is answered\n".repeat(100_000);
    let output = feed(&mut client.connect(&["--carrier", carrier.name()]), &sent);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
}

/// As when sshd disconnects: ssh still holds the other pipe, and would wait for us.
fn the_end_of_the_service_ends_the_client_at_once(carrier: Carrier) {
    let service = TcpService::start(|mut stream| {
        stream.write_all(b"goodbye").expect("write");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (_world, client) = world_with(service.address());
    let mut child = open(&client, carrier);
    let stdin = child.stdin.take();
    let output = child.wait_with_output().expect("wait for a child");
    drop(stdin);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "goodbye".to_owned()));
}

fn both_directions_at_once(carrier: Carrier) {
    let service = TcpService::start(|stream: TcpStream| {
        let mut back = stream.try_clone().expect("duplicate a socket");
        let _ = std::io::copy(&mut &stream, &mut back);
    });
    let (world, client) = world_with(service.address());
    let file = world.scratch.random_file("file", 50 * MIB);
    let sent = std::fs::read(file).expect("read a file");
    let output = feed(&mut client.connect(&["--carrier", carrier.name()]), &sent);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
}

fn sshd_that_is_down_is_a_clear_error(carrier: Carrier) {
    let mut world = World::start();
    world.sshd.process.signal(Signal::TERM);
    world.sshd.process.wait();
    let message = failure(&mut world.client.connect(&["--carrier", carrier.name()]), 4);
    assert!(message.contains("'ssh' is down") && message.lines().count() == 1, "{message}");
    let ssh = failure(&mut world.client.ssh(carrier, "true"), 255);
    assert!(ssh.contains(message.trim()), "{ssh}");
}

fn sshd_may_be_started_for_each_connection(carrier: Carrier) {
    let world = World::start();
    let service = format!("tcp://{}", world.sshd.address());
    let program = format!("exec:/usr/sbin/sshd -i -f {}", world.sshd.config().display());
    world.server.configure(&world.config.replace(&service, &program));
    success(&mut world.server.command(&["reload"]));
    world.sshd.process.signal(Signal::TERM);
    let sent = "what is asked last is answered\n".repeat(50_000);
    let output = feed(&mut world.client.ssh(carrier, "cat; echo $?; exit 3"), sent.as_bytes());
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stdout) == sent + "0\n");
}

fn a_service_that_is_down_is_told_apart(carrier: Carrier) {
    let down = Refusing::bind();
    let (world, client) = world_with(down.address());
    let message = failure(&mut client.connect(&["--carrier", carrier.name()]), 4);
    assert!(message.contains("raw") && message.lines().count() == 1, "{message}");
    let line = world.server.connection(|line| line["client"] == "raw");
    assert_eq!(line["outcome"], "upstream-down", "{line}");
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let world = World::start();
    let silent = TcpService::start(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let address = silent.address().to_string();
    // On plain there is no telling a stranger's server from one that does not know the key.
    for (carrier, code) in [(Carrier::Tls, 9), (Carrier::Plain, 7)] {
        let args = ["--address", &address, "--carrier", carrier.name()];
        let message = failure(&mut world.client.connect(&args), code);
        assert!(message.contains(&address), "{message}");
    }
}

#[test]
fn nobody_at_the_address_is_a_clear_error() {
    let world = World::start();
    let nobody = Refusing::bind();
    let address = nobody.address().to_string();
    let message = failure(&mut world.client.connect(&["--address", &address]), 4);
    assert!(message.contains(&address) && message.lines().count() == 1, "{message}");
}

fn a_service_beyond_the_invite_is_refused_by_the_client(carrier: Carrier) {
    let world = World::start();
    let args = ["--service", "raw", "--carrier", carrier.name()];
    let message = failure(&mut world.client.connect(&args), 2);
    assert!(message.contains("raw") && message.contains("ssh"), "{message}");
}

fn a_revoked_key_loses_its_tunnel_and_is_not_admitted(carrier: Carrier) {
    let world = World::start();
    let mut held = spawn(&mut world.client.connect(&["--carrier", carrier.name()]));
    let stdin = held.stdin.take();
    let mut banner = [0; 8];
    let stdout = held.stdout.as_mut().expect("stdout is a pipe");
    stdout.read_exact(&mut banner).expect("sshd's banner");
    assert_eq!(&banner, b"SSH-2.0-");

    success(&mut world.server.command(&["client", "revoke", "laptop"]));
    until("the live tunnel to close", || held.try_wait().expect("wait for a child"));
    drop(stdin);
    let line = world.server.connection(|line| line["client"] == "laptop");
    assert_eq!(line["outcome"], "revoked", "{line}");
    let message = failure(&mut world.client.connect(&["--carrier", carrier.name()]), 7);
    assert!(message.contains("not admitted"), "{message}");
}

/// An ssh session that holds a remote `cat`: ssh, its ProxyCommand, and the remote process.
fn session(world: &World, carrier: Carrier) -> (Child, u32, u32) {
    let mut ssh = world.client.lasting_ssh();
    let mut ssh = spawn(ssh.args([carrier.name(), "echo $$; exec cat"]));
    let mut remote = String::new();
    let stdout = ssh.stdout.as_mut().expect("stdout is a pipe");
    BufReader::new(stdout).read_line(&mut remote).expect("the remote shell's process id");
    let remote = remote.trim().parse().expect("a process id");
    let started = children(ssh.id());
    assert!(exists(remote) && started.len() == 1, "{started:?} by ssh");
    (ssh, started[0], remote)
}

fn a_killed_client_leaves_nothing_behind(carrier: Carrier) {
    let world = World::start();
    let (mut ssh, postern, remote) = session(&world, carrier);
    send(postern, Signal::KILL);
    ssh.wait().expect("wait for a child");
    until("the remote command to end", || (!exists(remote)).then_some(()));
    world.server.connection(|line| line["client"] == "laptop");
}

fn a_killed_ssh_takes_its_proxy_along(carrier: Carrier) {
    let world = World::start();
    let (mut ssh, postern, remote) = session(&world, carrier);
    ssh.kill().expect("kill a child");
    ssh.wait().expect("wait for a child");
    for process in [postern, remote] {
        until("both ends to go", || (!exists(process)).then_some(()));
    }
    assert_eq!(world.server.connection(|line| line["client"] == "laptop")["outcome"], "done");
}

fn many_tunnels_leak_no_descriptor(carrier: Carrier) {
    let (world, client) = world_with(TcpService::echo_after_eof().address());
    let use_it = || {
        let output = feed(&mut client.connect(&["--carrier", carrier.name()]), b"x");
        assert_eq!(text(&output.stdout), "x");
    };
    thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(use_it))));
    let before = world.server.descriptors();
    for _ in 0..10 {
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(use_it))));
        let mut killed = client.lasting(binary("postern"));
        let mut killed = spawn(killed.args(["connect", "raw", "--carrier", carrier.name()]));
        world.server.tunnel_of("raw");
        killed.kill().expect("kill a child");
        killed.wait().expect("wait for a child");
    }
    until("descriptors to be closed", || (world.server.descriptors() <= before).then_some(()));
}

#[test]
fn a_knock_made_by_hand_is_acknowledged() {
    let world = World::start();
    let mut knocker = Knocker::new(&world.invite);
    knocker.header.ack = true;
    let letters = knocker.plain();
    let mut stream = connect(world.server.address());
    stream.write_all(&letters).expect("knock");
    let mut answer = [0; 16 + 8];
    stream.read_exact(&mut answer).expect("acknowledgement and banner");
    assert_eq!(knocker.acknowledged(&letters, &answer), Some(Status::Ok));
    assert_eq!(&answer[16..], b"SSH-2.0-");
}
