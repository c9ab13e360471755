//! The round trip of 64 bytes on an established connection.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::Bench;
use crate::backend::{Request, SMALL};
use crate::figures::Metric;
use crate::relays::{Relay, start_all};

/// Round trips before those that count: caches, and whatever a relay does at first.
const WARM_UP: usize = 200;

/// By then it has shown how slow it is.
pub const ENOUGH: Duration = Duration::from_secs(10);

pub fn run(bench: &mut Bench) {
    let count = bench.options.size(10_000, 500);
    let relays = start_all(&bench.options);
    bench.rounds(|bench| {
        let mut direct = None;
        for relay in &relays {
            match measure(relay, count) {
                Ok(mut trips) => {
                    let p50 = percentile(&mut trips, 50);
                    let mut add = |unit, value| {
                        let metric = Metric { section: "rtt", load: "64 bytes", unit };
                        bench.figures.add(metric, relay.name, value);
                    };
                    add("p50 us", p50);
                    add("p99 us", percentile(&mut trips, 99));
                    // Direct comes first, always.
                    match direct {
                        Some(direct) => add("us over direct", p50 - direct),
                        None => direct = Some(p50),
                    }
                }
                Err(error) => bench.figures.remark(format!("{}, rtt: {error}", relay.name)),
            }
        }
    });
}

pub fn measure(relay: &Relay, count: usize) -> io::Result<Vec<Duration>> {
    let mut stream = relay.ask(Request::Echo)?;
    let mut trips = Vec::with_capacity(count);
    let first = Instant::now();
    for number in 0..WARM_UP + count {
        let started = Instant::now();
        if !trips.is_empty() && started - first > ENOUGH {
            break;
        }
        stream.write_all(&[b'x'; SMALL])?;
        stream.read_exact(&mut [0; SMALL])?;
        if number >= WARM_UP {
            trips.push(started.elapsed());
        }
    }
    Ok(trips)
}

/// In microseconds.
pub fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
