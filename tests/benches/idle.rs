//! What connections cost that do nothing: each asks once, is answered, and stays.

use std::io::{self, Read};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::Bench;
use crate::backend::Request;
use crate::figures::Metric;
use crate::proc::connections_within_limit;
use crate::relays::{DIRECT, Relay, SSLH_FORK, SSLH_SELECT, names};

const CONNECTIONS: usize = 4000;

/// A process for each connection, and select(2)'s 1,024 descriptors: not for thousands.
const NOT_FOR_MANY: [&str; 2] = [SSLH_FORK, SSLH_SELECT];

pub fn run(bench: &mut Bench) {
    let count = connections_within_limit(bench.options.size(CONNECTIONS, 400));
    if count < CONNECTIONS && !bench.options.quick {
        bench.figures.remark(format!("idle: only {count} connections (limit on open files)"));
    }
    let rest = Duration::from_secs(if bench.options.quick { 1 } else { 5 });
    let mut names = names(&bench.options);
    names.retain(|name| *name != DIRECT && !NOT_FOR_MANY.contains(name));
    bench.rounds(|bench| {
        for name in &names {
            // A new process each time: allocators keep what they once had.
            let relay = Relay::start(name);
            match measure(&relay, count, rest) {
                Ok((bytes, cpu)) => {
                    let metric = |unit| Metric { section: "idle", load: "connections", unit };
                    bench.figures.add(metric("bytes each"), name, bytes);
                    bench.figures.add(metric("cpu-ms/s"), name, cpu);
                }
                Err(error) => bench.figures.remark(format!("{name}, idle: {error}")),
            }
        }
    });
}

fn measure(relay: &Relay, count: usize, rest: Duration) -> io::Result<(f64, f64)> {
    // What the first connection makes a relay allocate is not the price of the others.
    drop(hold(relay, 10)?);
    relay.backend.let_go();
    thread::sleep(Duration::from_millis(500));
    let before = relay.resident();
    let held = hold(relay, count)?;
    thread::sleep(Duration::from_secs(1));
    let bytes = relay.resident().saturating_sub(before) as f64 / count as f64;
    let cpu = relay.cpu();
    thread::sleep(rest);
    let cpu = (relay.cpu() - cpu).as_secs_f64() * 1000.0 / rest.as_secs_f64();
    drop(held);
    relay.backend.let_go();
    Ok((bytes, cpu))
}

pub fn hold(relay: &Relay, count: usize) -> io::Result<Vec<TcpStream>> {
    let hold = |opening: Vec<u8>| {
        let mut stream = relay.connect(&opening)?;
        stream.read_exact(&mut [0])?;
        Ok(stream)
    };
    relay.openings(Request::Hold, count).into_iter().map(hold).collect()
}
