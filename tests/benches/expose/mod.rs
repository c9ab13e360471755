//! A service behind a tunnel: what it adds for visitors to have come to a server's port instead of the
//! service's own, by the tunnels that people use for it and by `postern expose`.

mod delay;
mod page;
mod peers;
mod tunnel;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Bench;
use crate::backend::{Backend, Request, SMALL};
use crate::bulk::{self, Way};
use crate::connections;
use crate::figures::Metric;
use crate::relays::{DIRECT, Relay};
use crate::rtt::{self, percentile};
pub use tunnel::{BORE, RATHOLE, SSH, Tunnel, WSTUNNEL};

const AT_ONCE: usize = 16;

const BULK: [(&str, Way); 2] = [("1 down", Way::Down), ("1 up", Way::Up)];

pub fn run(bench: &mut Bench) {
    let kinds = tunnel::installed(&bench.options);
    let mut relays = vec![Relay::through(DIRECT, Backend::with(AT_ONCE), None)];
    for (name, kind) in &kinds {
        let backend = Backend::with(AT_ONCE);
        match Tunnel::start(*kind, backend.address(), None, serves) {
            Ok(tunnel) => relays.push(Relay::through(name, backend, Some(tunnel))),
            Err(error) => bench.figures.remark(format!("{name}: {error}")),
        }
    }
    bench.rounds(|bench| {
        for relay in &relays {
            new(bench, relay);
        }
        for relay in &relays {
            at_once(bench, relay);
        }
        for (load, way) in BULK {
            for relay in &relays {
                bulk(bench, relay, load, way);
            }
        }
        let mut direct = None;
        for relay in &relays {
            round_trip(bench, relay, &mut direct);
        }
    });
    // These keep quiet no more than others who are not measured just now.
    drop(relays);
    page::run(bench, &kinds);
}

fn new(bench: &mut Bench, relay: &Relay) {
    let count = bench.options.size(1000, 48);
    let measured = connections::measure(relay, 1, count);
    add(bench, relay, "new", measured, |measured, add| {
        add("p50 us", percentile(&mut measured.answers, 50));
        add("p99 us", percentile(&mut measured.answers, 99));
    });
}

fn at_once(bench: &mut Bench, relay: &Relay) {
    let count = bench.options.size(4000, 160);
    let measured = connections::measure(relay, AT_ONCE, count);
    add(bench, relay, "16 at once", measured, |measured, add| {
        let count = measured.answers.len() as f64;
        add("per s", count / measured.took.as_secs_f64());
        if relay.costs() {
            add("cpu-us", measured.cpu.as_secs_f64() * 1e6 / count);
        }
    });
}

fn bulk(bench: &mut Bench, relay: &Relay, load: &'static str, way: Way) {
    let total = bench.options.size(1 << 30, 1 << 26);
    let gigabytes = total as f64 / 1e9;
    let measured = bulk::measure(relay, 1, way, total);
    add(bench, relay, load, measured, |(took, cpu), add| {
        add("GB/s", gigabytes / took.as_secs_f64());
        if relay.costs() {
            add("cpu-s/GB", cpu.as_secs_f64() / gigabytes);
        }
    });
}

/// Direct comes first, always.
fn round_trip(bench: &mut Bench, relay: &Relay, direct: &mut Option<f64>) {
    let count = bench.options.size(10_000, 200);
    let measured = rtt::measure(relay, count);
    add(bench, relay, "64 bytes", measured, |trips, add| {
        let p50 = percentile(trips, 50);
        add("p50 us", p50);
        match direct {
            Some(direct) => add("us over direct", p50 - *direct),
            None => *direct = Some(p50),
        }
    });
}

fn add<T>(
    bench: &mut Bench,
    relay: &Relay,
    load: &'static str,
    measured: io::Result<T>,
    figures: impl FnOnce(&mut T, &mut dyn FnMut(&'static str, f64)),
) {
    match measured {
        Ok(mut measured) => figures(&mut measured, &mut |unit, value| {
            bench.figures.add(Metric { section: "expose", load, unit }, relay.name, value);
        }),
        Err(error) => bench.figures.remark(format!("{}, {load}: {error}", relay.name)),
    }
}

/// Whether a visitor gets an answer, soon.
fn serves(at: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&Request::Once.bytes())?;
    stream.read_exact(&mut [0; SMALL])
}
