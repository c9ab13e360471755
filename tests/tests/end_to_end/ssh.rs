//! OpenSSH through the tunnel: commands, terminals, many at once, masters and jumps.

use std::fs;
use std::process::Stdio;
use std::thread;

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::process::text;
use postern_tests::{Process, World, each_carrier, failure, finish, success, until};

each_carrier!(
    a_command_with_its_status_and_stderr,
    no_stdin,
    a_terminal,
    fifty_sessions_at_once,
    a_jump_host,
    a_master_is_checked_used_and_stopped,
    a_persisting_master_lets_its_parent_go,
);

fn a_command_with_its_status_and_stderr(carrier: Carrier) {
    let world = World::start();
    let output = finish(&mut world.client.ssh(carrier, "echo out; echo err >&2; exit 7"));
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(text(&output.stdout), "out\n");
    assert_eq!(text(&output.stderr), "err\n", "postern is silent when all is well");

    let line = world.server.connection(|line| line["client"] == "laptop");
    assert_eq!(line["outcome"], "done", "{line}");
    assert_eq!(line["service"], "ssh", "{line}");
    assert_eq!(line["carrier"], carrier.name(), "{line}");
    assert!(line["up"].as_u64() > Some(1000) && line["down"].as_u64() > Some(1000), "{line}");
}

fn no_stdin(carrier: Carrier) {
    let world = World::start();
    assert_eq!(success(world.client.ssh(carrier, "true").stdin(Stdio::null())), "");
}

fn a_terminal(carrier: Carrier) {
    let world = World::start();
    let mut shell = world.client.openssh("ssh");
    shell.args(["-tt", carrier.name(), "bash --norc"]);
    let output = feed(&mut shell, b"tty; stty -echo\necho $((6 * 7))\nexit 5\n");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(5), "{shown}{}", text(&output.stderr));
    assert!(shown.contains("/dev/pts/") && shown.contains("42\r\n"), "{shown}");
}

fn fifty_sessions_at_once(carrier: Carrier) {
    const BYTES: usize = 200_000;
    let world = World::start();
    let client = &world.client;
    thread::scope(|scope| {
        let sessions: Vec<_> = (0..50)
            .map(|n| {
                let command = format!("head -c {BYTES} /dev/zero | tr '\\0' x; echo {n}");
                scope.spawn(move || (n, success(&mut client.ssh(carrier, &command))))
            })
            .collect();
        for session in sessions {
            let (n, shown) = session.join().expect("a session");
            assert_eq!(shown.trim_start_matches('x'), format!("{n}\n"));
            assert_eq!(shown.len(), BYTES + format!("{n}\n").len());
        }
    });
}

fn a_jump_host(carrier: Carrier) {
    let world = World::start();
    let mut ssh = world.client.openssh("ssh");
    let shown = success(ssh.args(["-J", carrier.name(), "inner", "echo $SSH_CONNECTION"]));
    assert!(shown.contains(&world.sshd.address().port().to_string()), "{shown}");
}

fn a_master_is_checked_used_and_stopped(carrier: Carrier) {
    let world = World::start();
    let control = world.scratch.path("control");
    let mut command = world.client.lasting_ssh();
    command.args(["-M", "-N", "-S"]).arg(&control).arg(carrier.name());
    let mut master = Process::spawn("ssh -M", &mut command, world.scratch.path("master.log"));
    assert!(master.wrote(&control), "{}", master.log());

    let through = |args: &[&str]| {
        let mut ssh = world.client.openssh("ssh");
        ssh.arg("-S").arg(&control).args(args);
        ssh
    };
    success(&mut through(&["-O", "check", carrier.name()]));
    for n in 0..3 {
        let shown = success(&mut through(&[carrier.name(), &format!("echo {n}")]));
        assert_eq!(shown, format!("{n}\n"));
    }
    assert_eq!(world.server.events("connection").len(), 0, "one tunnel, still open");
    success(&mut through(&["-O", "exit", carrier.name()]));
    master.wait();
    let line = world.server.connection(|line| line["client"] == "laptop");
    assert_eq!(line["outcome"], "done", "{line}");
    failure(&mut through(&["-O", "check", carrier.name()]), 255);
}

/// A ProxyCommand that kept ssh's stderr open would hold up whoever reads it.
fn a_persisting_master_lets_its_parent_go(carrier: Carrier) {
    let world = World::start();
    let control = world.scratch.path("control");
    let persist = |args: &[&str]| {
        let mut ssh = world.client.openssh("ssh");
        ssh.args(["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-S"]).arg(&control);
        ssh.args(args);
        ssh
    };
    assert_eq!(success(&mut persist(&[carrier.name(), "echo one"])), "one\n");
    assert_eq!(success(&mut persist(&[carrier.name(), "echo two"])), "two\n");
    assert_eq!(world.server.events("connection").len(), 0, "the master is still there");
    success(&mut persist(&["-O", "exit", carrier.name()]));
    until("the master to go", || (!control.exists()).then_some(()));
}

#[test]
fn the_stanza_that_is_printed_works() {
    let world = World::start();
    let stanza = success(&mut world.client.postern(&["ssh-config", "laptop"]));
    let ours = fs::read_to_string(world.client.ssh_config()).expect("read ssh_config");
    fs::write(world.client.ssh_config(), stanza + &ours).expect("write ssh_config");
    assert_eq!(success(world.client.openssh("ssh").args(["laptop", "echo hello"])), "hello\n");
}
