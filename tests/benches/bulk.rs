//! How fast bytes go through, and what a gigabyte costs the relay: one connection and eight, each way.

use std::io::{self, Read};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::backend::{Request, discard, send};
use crate::figures::Metric;
use crate::relays::{Relay, start_all};

const LOADS: [(&str, usize, Way); 4] = [
    ("1 down", 1, Way::Down),
    ("1 up", 1, Way::Up),
    ("8 down", 8, Way::Down),
    ("8 up", 8, Way::Up),
];

#[derive(Clone, Copy, Debug)]
pub enum Way {
    Down,
    Up,
}

pub fn run(bench: &mut Bench) {
    let total = bench.options.size(1 << 30, 1 << 26);
    let relays = start_all(&bench.options);
    bench.rounds(|bench| {
        for (load, connections, way) in LOADS {
            for relay in &relays {
                match measure(relay, connections, way, total) {
                    Ok(measured) => add(bench, relay, load, total, measured),
                    Err(error) => bench.figures.remark(format!("{}, {load}: {error}", relay.name)),
                }
            }
        }
    });
}

fn add(
    bench: &mut Bench,
    relay: &Relay,
    load: &'static str,
    total: usize,
    (took, cpu): (Duration, Duration),
) {
    let gigabytes = total as f64 / 1e9;
    let metric = |unit| Metric { section: "bulk", load, unit };
    bench.figures.add(metric("GB/s"), relay.name, gigabytes / took.as_secs_f64());
    if relay.costs() {
        bench.figures.add(metric("cpu-s/GB"), relay.name, cpu.as_secs_f64() / gigabytes);
    }
}

/// The time until everything has arrived, and the relay's processor time.
pub fn measure(
    relay: &Relay,
    connections: usize,
    way: Way,
    total: usize,
) -> io::Result<(Duration, Duration)> {
    let each = total / connections;
    let request = match way {
        Way::Down => Request::Down(each),
        Way::Up => Request::Up(each),
    };
    let cpu = relay.cpu();
    let start = Barrier::new(connections + 1);
    let (took, open) = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    transfer(relay.ask(request)?, way, each)
                })
            })
            .collect();
        start.wait();
        let started = Instant::now();
        let open = threads.into_iter().map(|thread| thread.join().expect("a load does not panic"));
        let open = open.collect::<io::Result<Vec<_>>>()?;
        io::Result::Ok((started.elapsed(), open))
    })?;
    let cpu = relay.cpu() - cpu;
    drop(open);
    Ok((took, cpu))
}

fn transfer(mut stream: TcpStream, way: Way, count: usize) -> io::Result<TcpStream> {
    match way {
        Way::Down => discard(&stream, count)?,
        Way::Up => {
            send(&mut stream, count)?;
            stream.read_exact(&mut [0])?;
        }
    }
    Ok(stream)
}
