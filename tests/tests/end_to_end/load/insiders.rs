//! Those whom strangers must not disturb: a visitor with a browser, a client who comes, and clients
//! whose tunnels are there already.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use postern_shared::knock::Carrier;
use postern_tests::process::resident;
use postern_tests::{World, success};

use crate::limits::page;

pub(super) struct Insiders<'a> {
    world: &'a World,
    tunnels: Vec<Tunnel>,
    /// How often they were let in.
    pub(super) admitted: u64,
}

impl<'a> Insiders<'a> {
    /// Opens a tunnel by either carrier that strangers could take part in.
    pub(super) fn enter(world: &'a World) -> Insiders<'a> {
        let tunnels = [Carrier::Hello, Carrier::Plain].map(|carrier| Tunnel::open(world, carrier));
        let mut insiders = Insiders { world, admitted: 2, tunnels: tunnels.into() };
        insiders.go_on();
        insiders
    }

    /// The website answers, a client gets in by each carrier, and what is said in a tunnel comes back.
    pub(super) fn go_on(&mut self) {
        let World { nginx, server, client, .. } = self.world;
        assert!(page(nginx, server.address()).contains("Nothing to see here"));
        for tunnel in &mut self.tunnels {
            assert_eq!(success(&mut client.ssh(tunnel.carrier, "echo in")), "in\n");
            self.admitted += 1;
            tunnel.echo();
        }
    }

    /// Bytes of posternd.
    pub(super) fn resident(&self) -> u64 {
        resident(self.world.server.process.pid()).expect("posternd runs")
    }
}

/// An ssh session that says what it hears.
struct Tunnel {
    carrier: Carrier,
    ssh: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Tunnel {
    fn open(world: &World, carrier: Carrier) -> Tunnel {
        let mut ssh = world.client.lasting_ssh();
        ssh.args([carrier.name(), "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        // It would make ours non-blocking.
        ssh.stderr(Stdio::null());
        let mut ssh = ssh.spawn().expect("start ssh");
        let (stdin, stdout) = (ssh.stdin.take(), ssh.stdout.take());
        Tunnel {
            carrier,
            stdin: stdin.expect("a pipe"),
            stdout: BufReader::new(stdout.expect("a pipe")),
            ssh,
        }
    }

    fn echo(&mut self) {
        self.stdin.write_all(b"still there\n").expect("write");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("read");
        assert_eq!(line, "still there\n", "by {}", self.carrier);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}
