//! What a new connection costs when there are many already, and a knock when there are many clients:
//! both should cost the same.

use std::fmt::Write;
use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::finish;
use postern_tests::process::text;

use crate::Bench;
use crate::connections::{self, Measured};
use crate::figures::Metric;
use crate::idle::hold;
use crate::proc::connections_within_limit;
use crate::relays::{HAPROXY_TUNED, POSTERND, POSTERND_KNOCK, Relay, names};
use crate::rtt::percentile;

const CONNECTIONS: [(&str, usize); 4] =
    [("1 open", 1), ("1,000 open", 1000), ("7,000 open", 7000), ("9,000 open", 9000)];

const CLIENTS: [(&str, usize); 4] = [
    ("1 client", 1),
    ("100 clients", 100),
    ("10,000 clients", 10_000),
    ("100,000 clients", 100_000),
];

pub fn run(bench: &mut Bench) {
    let count = bench.options.size(2000, 200);
    let names = names(&bench.options);
    bench.rounds(|bench| {
        for (load, open) in CONNECTIONS {
            if connections_within_limit(open) < open {
                bench.figures.remark(format!("growth: not with {load} (limit on open files)"));
                continue;
            }
            for name in [HAPROXY_TUNED, POSTERND] {
                if names.contains(&name) {
                    let measured = with_open(name, open, count);
                    add(bench, load, name, measured);
                }
            }
        }
        for (load, clients) in CLIENTS {
            if names.contains(&POSTERND_KNOCK) {
                let relay = Relay::start(POSTERND_KNOCK);
                match add_clients(&relay, clients) {
                    Ok(seconds) => {
                        let metric = Metric { section: "growth", load, unit: "reload s" };
                        bench.figures.add(metric, POSTERND_KNOCK, seconds);
                    }
                    Err(error) => bench.figures.remark(format!("reload with {load}: {error}")),
                }
                add(
                    bench,
                    load,
                    POSTERND_KNOCK,
                    connections::measure(&relay, connections::CLIENTS, count),
                );
            }
        }
    });
}

fn add(bench: &mut Bench, load: &'static str, name: &str, measured: io::Result<Measured>) {
    match measured {
        Ok(Measured { cpu, mut answers, .. }) => {
            let each = cpu.as_secs_f64() * 1e6 / answers.len() as f64;
            let metric = |unit| Metric { section: "growth", load, unit };
            bench.figures.add(metric("cpu-us"), name, each);
            bench.figures.add(metric("p50 us"), name, percentile(&mut answers, 50));
        }
        Err(error) => bench.figures.remark(format!("{name}, {load}: {error}")),
    }
}

fn with_open(name: &'static str, open: usize, count: usize) -> io::Result<Measured> {
    let relay = Relay::start(name);
    let measured = hold(&relay, open).and_then(|held| {
        let measured = connections::measure(&relay, connections::CLIENTS, count);
        drop(held);
        measured
    });
    relay.backend.let_go();
    measured
}

/// Writes all the others into the clients file and has posternd read it; how long that took.
fn add_clients(relay: &Relay, count: usize) -> Result<f64, String> {
    let server = relay.posternd().expect("posternd");
    let path = server.clients_file();
    let mut file = fs::read_to_string(&path).expect("read the clients file");
    for kid in 1..count {
        let _ = write!(
            file,
            "\n[[client]]\nname = \"c{kid}\"\nkid = {kid}\nkey = \"{kid:064x}\"\n\
             [client.services]\nadmitted = 1\n"
        );
    }
    fs::write(&path, file).expect("write the clients file");
    let started = Instant::now();
    let output = finish(&mut server.command(&["reload"]));
    let took = started.elapsed().as_secs_f64();
    // It also notices by itself that the file changed, within a second: that is over before we go on.
    thread::sleep(Duration::from_secs_f64(1.5 + 2.0 * took));
    if output.status.success() { Ok(took) } else { Err(text(&output.stderr)) }
}
