//! New connections, one after the other from a few clients: connect, ask, 64 bytes back, both ends.

use std::io::{self, Read};
use std::thread;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::backend::{Request, SMALL};
use crate::figures::Metric;
use crate::relays::{Relay, SSLH_FORK, start_all};
use crate::rtt::{ENOUGH, percentile};

pub const CLIENTS: usize = 4;

pub fn run(bench: &mut Bench) {
    let count = bench.options.size(4000, 400);
    let relays = start_all(&bench.options);
    bench.rounds(|bench| {
        for relay in &relays {
            match measure(relay, CLIENTS, count) {
                Ok(measured) => add(bench, relay, measured),
                Err(error) => bench.figures.remark(format!("{}, new: {error}", relay.name)),
            }
        }
    });
}

fn add(bench: &mut Bench, relay: &Relay, measured: Measured) {
    let Measured { took, cpu, mut answers } = measured;
    let count = answers.len() as f64;
    let mut add = |unit, value| {
        let metric = Metric { section: "connections", load: "new", unit };
        bench.figures.add(metric, relay.name, value);
    };
    add("per s", count / took.as_secs_f64());
    // The process for a connection is gone with it, and sslh lets the kernel forget what it used.
    if relay.costs() && relay.name != SSLH_FORK {
        add("cpu-us", cpu.as_secs_f64() * 1e6 / count);
    }
    add("p50 us", percentile(&mut answers, 50));
    add("p99 us", percentile(&mut answers, 99));
}

pub struct Measured {
    pub took: Duration,
    pub cpu: Duration,
    /// From connect(2) to the whole answer.
    pub answers: Vec<Duration>,
}

pub fn measure(relay: &Relay, clients: usize, count: usize) -> io::Result<Measured> {
    let openings = relay.openings(Request::Once, count);
    let (cpu, started) = (relay.cpu(), Instant::now());
    let answers = thread::scope(|scope| {
        let clients: Vec<_> = openings
            .chunks(count.div_ceil(clients))
            .map(|openings| {
                scope.spawn(move || {
                    let in_time = openings.iter().take_while(|_| started.elapsed() < ENOUGH);
                    in_time.map(|opening| once(relay, opening)).collect::<io::Result<Vec<_>>>()
                })
            })
            .collect();
        let mut all = Vec::with_capacity(count);
        for client in clients {
            all.extend(client.join().expect("a load does not panic")?);
        }
        io::Result::Ok(all)
    })?;
    Ok(Measured { took: started.elapsed(), cpu: relay.cpu() - cpu, answers })
}

fn once(relay: &Relay, opening: &[u8]) -> io::Result<Duration> {
    let started = Instant::now();
    let mut stream = relay.connect(opening)?;
    let mut answer = Vec::with_capacity(128);
    stream.read_to_end(&mut answer)?;
    if answer.len() != SMALL {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(started.elapsed())
}
