//! Programs that are run for each connection: what they see, and that nothing of them stays behind.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use postern_shared::knock::Carrier;
use postern_tests::net::{connect, read_all};
use postern_tests::process::{exists, send, text};
use postern_tests::{End, Posternd, Scratch, World, failure, finish, posternd, success, until};
use rustix::process::{Resource, Signal, geteuid, getrlimit};

use super::serving;

/// The processes that any of its threads started.
fn children(server: &Posternd) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.process.pid())).expect("threads");
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let lists: Vec<_> = lists.collect();
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn without_children(server: &Posternd) {
    until("all children to be gone", || children(server).is_empty().then_some(()));
}

/// A script as a service.
fn script(scratch: &Scratch, lines: &str) -> String {
    let file = scratch.write("script.sh", lines);
    format!("to = \"exec:/bin/sh {}\"", file.display())
}

/// All that it says to one who says `hi` and no more.
fn answer(server: &Posternd) -> String {
    let mut stream = connect(server.address());
    stream.write_all(b"hi\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("ended");
    text(&read_all(&mut stream).bytes)
}

fn sshd_world() -> World {
    let world = World::start();
    let service = format!("tcp://{}", world.sshd.address());
    let program = format!("exec:/usr/sbin/sshd -i -f {}", world.sshd.config().display());
    world.server.configure(&world.config.replace(&service, &program));
    success(&mut world.server.command(&["reload"]));
    world
}

/// The peer and the listener, as `SSH_CONNECTION` would have them.
fn connection_of(peer: &str, server: SocketAddr) -> String {
    let peer: SocketAddr = peer.parse().expect("an address");
    format!("{} {} {} {}\n", peer.ip(), peer.port(), server.ip(), server.port())
}

#[test]
fn sshd_sees_where_a_plain_knock_comes_from() {
    let world = sshd_world();
    let said = success(&mut world.client.ssh(Carrier::Plain, "echo $SSH_CONNECTION"));
    let line = world.server.connection(|line| line["client"] == "laptop");
    let peer = line["peer"].as_str().expect("an address");
    assert_eq!(said, connection_of(peer, world.server.address()));
    assert_eq!(line["outcome"], "done");

    let said = success(&mut world.client.ssh(Carrier::Tls, "echo $SSH_CONNECTION"));
    assert!(said.contains("UNKNOWN"), "through TLS it cannot: {said}");
    let warned = text(&finish(&mut world.server.command(&["check"])).stderr);
    assert!(warned.contains("does not tell his address"), "{warned}");
    without_children(&world.server);
}

#[test]
fn sshd_sees_where_a_visitor_comes_from() {
    let world = sshd_world();
    let service = format!("tcp://{}", world.sshd.address());
    let program = format!("exec:/usr/sbin/sshd -i -f {}", world.sshd.config().display());
    let route = "[[route]]\nprotocol = [\"ssh\"]\nservice = \"ssh\"\n";
    world.server.configure(&(world.config.replace(&service, &program) + route));
    success(&mut world.server.command(&["reload"]));
    let address = world.server.address();
    let mut ssh = world.client.openssh("ssh");
    let said = success(ssh.args(["-o", &format!("HostName={}", address.ip())]).args([
        "-p",
        &address.port().to_string(),
        "elsewhere",
        "echo $SSH_CONNECTION",
    ]));
    let line = world.server.connection(|line| line["route"] == "route");
    assert_eq!(said, connection_of(line["peer"].as_str().expect("an address"), address));
}

#[test]
fn hundreds_leave_neither_children_nor_descriptors_behind() {
    let scratch = Scratch::new();
    let server = serving(&scratch, "to = \"exec:/bin/cat\"\nmax-connections = 200\n");
    // Whatever is opened once is open after this.
    assert_eq!(answer(&server), "hi\n");
    without_children(&server);
    let before = server.descriptors();
    for round in 0..2 {
        let mut streams: Vec<_> = (0..100).map(|_| connect(server.address())).collect();
        for stream in &mut streams {
            stream.write_all(b"hi\n").expect("sent");
            let mut back = [0; 3];
            stream.read_exact(&mut back).expect("the same back");
        }
        assert_eq!(children(&server).len(), 100);
        if round == 0 {
            // As their peers end, or as they are killed: it is the same.
            children(&server).into_iter().for_each(|child| send(child, Signal::KILL));
        }
        drop(streams);
        without_children(&server);
    }
    until("all descriptors to be closed", || (server.descriptors() <= before).then_some(()));
    let places = &server.status()["places"];
    assert_eq!(places["visitors"], 0, "{places}");
}

#[test]
fn no_more_run_than_may() {
    let scratch = Scratch::new();
    let server = serving(&scratch, "to = \"exec:/bin/cat\"\n");
    let visit = || {
        let mut stream = connect(server.address());
        stream.write_all(b"hi\n").expect("sent");
        let mut back = [0; 3];
        stream.read_exact(&mut back).map(|()| stream)
    };
    let mut running: Vec<_> = (0..64).map(|_| visit().expect("a child")).collect();
    assert!(visit().is_err(), "the 65th, where the file does not say how many");
    let line = server.connection(|line| line["outcome"] == "shed");
    assert_eq!(line["failure"], "max-connections");
    assert_eq!(children(&server).len(), 64);
    running.pop();
    until("a place", || visit().ok());
}

#[test]
fn a_program_gets_what_it_needs_and_nothing_else() {
    let scratch = Scratch::new();
    let lines = "echo PID $$; ps -o sid= -p $$; env; ulimit -n; grep SigBlk /proc/self/status; \
                 fd=0; while [ $fd -lt 300 ]; do [ ! -e /proc/$$/fd/$fd ] || echo \"FD $fd\"; \
                 fd=$((fd + 1)); done";
    let server = serving(&scratch, &script(&scratch, lines));
    let mut stream = connect(server.address());
    let own = stream.local_addr().expect("bound");
    stream.write_all(b"hi\n").expect("sent");
    let said = text(&read_all(&mut stream).bytes);
    let has = |line: &str| said.lines().any(|said| said.trim() == line);
    assert!(has(&format!("REMOTE_ADDR={}", own.ip())), "{said}");
    assert!(has(&format!("REMOTE_PORT={}", own.port())), "{said}");
    assert!(said.contains("PATH=") && !said.contains("CARGO"), "{said}");
    let limit =
        getrlimit(Resource::Nofile).current.map_or("unlimited".to_owned(), |n| n.to_string());
    assert!(has(&limit), "{limit} descriptors: {said}");
    assert!(has("SigBlk:\t0000000000000000"), "{said}");
    let pid = said.lines().find_map(|line| line.strip_prefix("PID ")).expect("a pid");
    assert!(has(pid), "it leads its session: {said}");
    let mut open: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("FD ")).collect();
    // The script itself, which the shell keeps open.
    open.retain(|fd| *fd != "10");
    assert_eq!(open, ["0", "1", "2"], "{said}");
}

#[test]
fn a_program_may_run_as_somebody_else() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can run a program as somebody else");
        return;
    }
    let scratch = Scratch::new();
    let server = serving(&scratch, "to = \"exec:/usr/bin/id\"\nuser = \"nobody\"\n");
    let id = success(Command::new("id").arg("nobody"));
    assert_eq!(answer(&server), id);
}

#[test]
fn a_program_that_is_not_there_is_a_service_that_is_down() {
    let world = World::start();
    let service = format!("tcp://{}", world.sshd.address());
    let config = world.config.replace(&service, "exec:/no/such/program");
    world.server.configure(&config);
    success(&mut world.server.command(&["reload"]));
    for carrier in Carrier::ALL {
        let message = failure(&mut world.client.connect(&["--carrier", carrier.name()]), 4);
        assert!(message.contains("'ssh' is down"), "{message}");
    }
    let line = world.server.connection(|line| line["outcome"] == "upstream-down");
    assert!(line["failure"].as_str().is_some_and(|why| why.contains("/no/such/program")), "{line}");
    // One that cannot be run though it is there.
    let data = world.scratch.write("data", "not a program");
    let config = world.config.replace(&service, &format!("exec:{}", data.display()));
    world.server.configure(&config);
    let warned = text(&finish(&mut world.server.command(&["check"])).stderr);
    assert!(warned.contains("cannot be run"), "{warned}");
}

/// A tunnel to a script that does not end by itself, and the process ids that it told of.
fn lasting(lines: &str, carrier: Carrier) -> (World, std::process::Child, Vec<u32>) {
    let world = World::start();
    let file = world.scratch.path("pids");
    let script =
        world.scratch.write("script.sh", lines.replace("PIDS", &file.display().to_string()));
    let service = format!("tcp://{}", world.sshd.address());
    let program = format!("exec:/bin/bash {}", script.display());
    world.server.configure(&world.config.replace(&service, &program));
    success(&mut world.server.command(&["reload"]));
    let mut command = world.client.lasting(postern_tests::posternd::binary("postern"));
    command.args(["connect", "laptop", "--carrier", carrier.name()]);
    let client = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("postern starts");
    let pids = until("the script to run", || pids(&file));
    (world, client, pids)
}

fn pids(file: &Path) -> Option<Vec<u32>> {
    let text = fs::read_to_string(file).ok().filter(|text| text.ends_with("ready\n"))?;
    Some(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

fn gone(pids: &[u32]) {
    assert!(!pids.is_empty());
    until("them to be gone", || (!pids.iter().any(|pid| exists(*pid))).then_some(()));
}

#[test]
fn a_revoked_key_ends_the_program_and_what_it_started() {
    for carrier in [Carrier::Plain, Carrier::Tls] {
        let lines = "sleep 1000 & echo $$ $! ready > PIDS; cat";
        let (world, mut client, pids) = lasting(lines, carrier);
        assert_eq!(pids.len(), 2);
        assert_eq!(world.server.status()["places"]["admitted"], 1);
        success(&mut world.server.command(&["client", "revoke", "laptop"]));
        gone(&pids);
        let line = world.server.connection(|line| line["outcome"] == "revoked");
        assert_eq!(line["client"], "laptop");
        let _ = client.wait();
        without_children(&world.server);
    }
}

#[test]
fn a_program_that_does_not_listen_is_killed() {
    let lines = "trap '' TERM; echo $$ ready > PIDS; while :; do sleep 1; done";
    let (world, mut client, pids) = lasting(lines, Carrier::Plain);
    let start = Instant::now();
    success(&mut world.server.command(&["client", "revoke", "laptop"]));
    gone(&pids);
    assert!(start.elapsed() > Duration::from_secs(4), "it has time to end by itself");
    let _ = client.wait();
}

/// As relayed connections do: they would hold on to a port that the next posternd does not know of.
#[test]
fn programs_end_with_posternd() {
    let lines = "echo $$ ready > PIDS; cat";
    let (mut world, mut client, pids) = lasting(lines, Carrier::Plain);
    world.server.process.signal(Signal::TERM);
    world.server.process.wait();
    gone(&pids);
    let _ = client.wait();
}

/// While it runs nobody else gets its place, also where the client is gone.
#[test]
fn a_place_is_held_until_the_program_ends() {
    let scratch = Scratch::new();
    let go = scratch.path("go");
    let lines = format!("echo hi; while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let server = serving(&scratch, &format!("{}\nmax-connections = 1\n", script(&scratch, &lines)));
    let mut stream = connect(server.address());
    stream.write_all(b"hi\n").expect("sent");
    stream.read_exact(&mut [0; 3]).expect("it runs");
    drop(stream);
    let mut other = connect(server.address());
    other.write_all(b"hi\n").expect("sent");
    assert_eq!(read_all(&mut other).end, End::Reset);
    assert_eq!(server.status()["places"]["visitors"], 1);
    fs::write(&go, "").expect("written");
    without_children(&server);
    until("its place", || (server.status()["places"]["visitors"] == 0).then_some(()));
    assert_eq!(answer(&server), "hi\n");
}

#[test]
fn check_says_what_sshd_would_lack() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can check as somebody else");
        return;
    }
    let scratch = Scratch::new();
    let more = "[service.ssh]\nto = \"exec:/usr/sbin/sshd -i\"\nknock = true\nuser = \"nobody\"\n";
    let file =
        scratch.write("posternd.toml", posternd::config("127.0.0.1:9".parse().expect("one"), more));
    let output = finish(posternd::posternd(&["check", "-c"]).arg(&file));
    assert!(text(&output.stderr).contains("would not run as root"), "{output:?}");
}
