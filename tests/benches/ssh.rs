//! The main job: a gigabyte through ssh, and the shortest command, by the ways that people use to
//! bring ssh through a web server's port.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, Child, Stdio};
use std::time::Instant;

use postern_tests::posternd::binary;
use postern_tests::process::{finish, text};
use postern_tests::{Scratch, World};

use crate::Bench;
use crate::figures::Metric;
use crate::proc;
use crate::relays::DIRECT;
use crate::stock::{Haproxy, Kind, Splice, Stock};

pub const NC: &str = "nc + haproxy";
pub const SOCAT: &str = "socat + haproxy TLS";
const OPENSSL: &str = "openssl s_client + haproxy TLS";

/// The strongest opponent without TLS.
const TUNED: Haproxy = Haproxy { splice: Splice::Always, pipes: Some(1 << 20), tls: None };

/// A host of the ssh_config, and options for it.
struct Way {
    name: &'static str,
    host: &'static str,
    options: Vec<String>,
}

pub fn run(bench: &mut Bench) {
    let world = World::start();
    let (for_plain, for_tls) = (Scratch::new(), Scratch::new());
    let plain = Stock::start(Kind::Haproxy(&TUNED), &for_plain, world.sshd.address());
    let pem = certificate(&world, &for_tls);
    let tls = Haproxy { splice: Splice::Off, pipes: None, tls: Some(&pem) };
    let tls = Stock::start(Kind::Haproxy(&tls), &for_tls, world.sshd.address());
    let mut ways = ways(plain.address(), tls.address(), &for_tls);
    ways.extend(by_postern(&world));
    ways.retain(|way| bench.options.wants_relay(way.name));

    let bytes = bench.options.size(1 << 30, 1 << 24);
    let size = if bench.options.quick { "16 MiB" } else { "1 GiB" };
    // One alone takes so little that whatever else happens shows.
    let repeats = bench.options.size(5, 2);
    bench.rounds(|bench| {
        for way in &ways {
            let before = proc::cpu(process::id());
            let long = time(&world, way, &format!("head -c {bytes} /dev/zero"), 1);
            // Everybody on the way is our child: ssh, what it runs to connect, relay and sshd.
            let cpu = (proc::cpu(process::id()) - before).as_secs_f64();
            add(bench, way, size, "cpu-s", long.clone().map(|_| cpu));
            add(bench, way, size, "s", long);
            let short = time(&world, way, "true", repeats).map(|seconds| 1000.0 * seconds);
            add(bench, way, "true", "ms", short);
        }
    });
}

fn add(
    bench: &mut Bench,
    way: &Way,
    load: &'static str,
    unit: &'static str,
    value: Result<f64, String>,
) {
    match value {
        Ok(value) => bench.figures.add(Metric { section: "ssh", load, unit }, way.name, value),
        Err(error) => bench.figures.remark(format!("{}, ssh {load}: {error}", way.name)),
    }
}

fn ways(plain: SocketAddr, tls: SocketAddr, scratch: &Scratch) -> Vec<Way> {
    // Without a section stunnel serves its stdin and stdout.
    let stunnel = scratch.write("stunnel.conf", format!("client = yes\nconnect = {tls}\n"));
    let through = |name, command: String| Way {
        name,
        host: "inner",
        options: vec![format!("ProxyCommand={command}")],
    };
    vec![
        Way { name: DIRECT, host: "inner", options: Vec::new() },
        through(NC, format!("nc {} {}", plain.ip(), plain.port())),
        through(SOCAT, format!("socat - OPENSSL:{tls},verify=0")),
        through(OPENSSL, format!("openssl s_client -quiet -connect {tls}")),
        through("stunnel + haproxy TLS", format!("stunnel {}", stunnel.display())),
    ]
}

/// Each carrier by pipes, and where `postern` can hand its socket to ssh, also so.
fn by_postern(world: &World) -> Vec<Way> {
    let carrier = |name, host| Way { name, host, options: Vec::new() };
    let mut ways = vec![
        carrier("postern plain", "plain"),
        carrier("postern tls", "tls"),
        carrier("postern hello", "hello"),
    ];
    let help = finish(&mut world.client.postern(&["connect", "--help"]));
    if text(&help.stdout).contains("--fdpass") {
        let postern = binary("postern");
        let command = format!("{} connect laptop --carrier plain --fdpass", postern.display());
        ways.push(Way {
            name: "postern plain fdpass",
            host: "plain",
            options: vec![format!("ProxyCommand={command}"), "ProxyUseFdpass=yes".to_owned()],
        });
    }
    ways
}

/// The seconds that `ssh HOST COMMAND >/dev/null` takes, the mean of so many.
fn time(world: &World, way: &Way, command: &str, repeats: usize) -> Result<f64, String> {
    let started = Instant::now();
    for _ in 0..repeats {
        let mut ssh = world.client.openssh("ssh");
        for option in &way.options {
            ssh.arg("-o").arg(option);
        }
        // ssh itself writes to the device: a pipe to us would be measured with it.
        ssh.arg(way.host).arg(command).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = ssh.spawn().and_then(Child::wait_with_output).map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, text(&output.stderr).trim()));
        }
    }
    Ok(started.elapsed().as_secs_f64() / repeats as f64)
}

/// As HAProxy wants it: the certificate and its key in one file.
fn certificate(world: &World, scratch: &Scratch) -> PathBuf {
    let read = |name| fs::read(world.scratch.path(name)).expect("posternd cert wrote it");
    scratch.write("tls.pem", [read("tls.crt"), read("tls.key")].concat())
}
