//! What ssh forwards: ports and streams, through the tunnel and under load.

use std::path::Path;
use std::thread;

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::net::{free_port, local};
use postern_tests::scratch::MIB;
use postern_tests::{Process, TcpService, World, bounded, each_carrier, sha256, success, until};

each_carrier!(local_and_dynamic_ports_under_load, stdio_forwarding_keeps_the_half_close);

fn local_and_dynamic_ports_under_load(carrier: Carrier) {
    let world = World::start();
    let file = world.nginx.publish("big", 20 * MIB);
    let (website, socks) = (world.nginx.http(), local(free_port()).to_string());
    let door = world.scratch.path("door");
    let mut command = world.client.lasting_ssh();
    command.args(["-N", "-o", "ExitOnForwardFailure=yes", "-D", &socks]);
    command.args(["-L", &format!("{}:{website}", door.display()), carrier.name()]);
    let mut forwarding = Process::spawn("ssh -N", &mut command, world.scratch.path("ssh.log"));
    assert!(forwarding.wrote(&door), "{}", forwarding.log());
    until("the SOCKS port", || std::net::TcpStream::connect(&socks).ok());

    let (url, expected) = (format!("http://{website}/big"), sha256(&file));
    let fetch = |n: usize| {
        let to = world.scratch.path(&format!("fetched-{n}"));
        let mut curl = curl(&url, &to);
        if n.is_multiple_of(2) {
            success(curl.arg("--unix-socket").arg(&door));
        } else {
            success(curl.args(["--socks5-hostname", &socks]));
        }
        sha256(&to)
    };
    thread::scope(|scope| {
        let fetches: Vec<_> = (0..8).map(|n| scope.spawn(move || fetch(n))).collect();
        for fetch in fetches {
            assert_eq!(fetch.join().expect("a download"), expected);
        }
    });
}

fn curl(url: &str, to: &Path) -> std::process::Command {
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", url, "-o"]).arg(to);
    curl
}

fn stdio_forwarding_keeps_the_half_close(carrier: Carrier) {
    let world = World::start();
    let service = TcpService::echo_after_eof();
    let sent = b"what is asked last is answered\n".repeat(10_000);
    let mut ssh = world.client.openssh("ssh");
    let output = feed(ssh.args(["-W", &service.address().to_string(), carrier.name()]), &sent);
    assert!(output.status.success());
    assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
}
