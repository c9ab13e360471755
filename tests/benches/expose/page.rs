//! A page as a browser loads it: 30 objects of 10 kB over six connections that are kept alive, with
//! 50 ms each way between the visitor and the service.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::net::local;

use super::delay::{self, ONE_WAY};
use super::tunnel::{Kind, Tunnel};
use crate::Bench;
use crate::backend::patient;
use crate::figures::{Metric, Spread};
use crate::relays::DIRECT;

const CONNECTIONS: usize = 6;
const OBJECTS: usize = 30;
const OBJECT: usize = 10_000;

/// Time in which a tunnel that keeps connections in reserve replaces those that were used.
const BETWEEN: Duration = Duration::from_millis(500);

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n";

/// Where the network is slow: between the visitor and the service when there is nothing else, and between
/// the halves of a tunnel, whose public port is near the visitor.
struct Way {
    name: &'static str,
    address: SocketAddr,
    _tunnel: Option<Tunnel>,
}

pub fn run(bench: &mut Bench, kinds: &[(&'static str, Kind)]) {
    let visits = bench.options.size(3, 1);
    let direct = delay::start(local(0), serve()).expect("listen");
    let mut ways = vec![Way { name: DIRECT, address: direct, _tunnel: None }];
    for (name, kind) in kinds {
        match Tunnel::start(*kind, serve(), Some(delay::start), |at| object(&connect(at)?)) {
            Ok(tunnel) => {
                let address = tunnel.public();
                ways.push(Way { name, address, _tunnel: Some(tunnel) });
            }
            Err(error) => bench.figures.remark(format!("{name}, page: {error}")),
        }
    }
    bench.figures.remark(format!(
        "page: {} ms each way; direct pays for TCP's handshake over it, and who has connections in \
         reserve does not: such a one can be a round trip less than direct",
        ONE_WAY.as_millis()
    ));
    bench.rounds(|bench| {
        let mut direct = None;
        for way in &ways {
            let visits: io::Result<Vec<_>> = (0..visits).map(|_| visit(way.address)).collect();
            let ms = match visits {
                Ok(visits) => Spread::of(visits).map_or(f64::NAN, |visits| visits.median),
                Err(error) => {
                    bench.figures.remark(format!("{}, page: {error}", way.name));
                    continue;
                }
            };
            let mut add = |unit, value| {
                let metric = Metric { section: "expose", load: "page", unit };
                bench.figures.add(metric, way.name, value);
            };
            add("ms", ms);
            // Direct comes first, always.
            let direct = *direct.get_or_insert(ms);
            if way.name != DIRECT {
                let trip = 2.0 * ONE_WAY.as_secs_f64() * 1000.0;
                add("round trips over direct", (ms - direct) / trip);
            }
        }
    });
}

/// The milliseconds until all has come.
fn visit(to: SocketAddr) -> io::Result<f64> {
    thread::sleep(BETWEEN);
    let start = Barrier::new(CONNECTIONS + 1);
    thread::scope(|scope| {
        let fetch = || {
            start.wait();
            let stream = connect(to)?;
            (0..OBJECTS / CONNECTIONS).try_for_each(|_| object(&stream))
        };
        let connections: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(fetch)).collect();
        start.wait();
        let started = Instant::now();
        for connection in connections {
            connection.join().expect("a load does not panic")?;
        }
        Ok(started.elapsed().as_secs_f64() * 1000.0)
    })
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    patient(&stream)?;
    Ok(stream)
}

fn object(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut answer = [0; HEAD.len() + OBJECT];
    stream.read_exact(&mut answer)?;
    if answer.starts_with(HEAD.as_bytes()) {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A web server with one object, and where it listens.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind(local(0)).expect("a listener");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(&stream));
        }
    });
    address
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    patient(stream)?;
    let answer = [HEAD.as_bytes(), &[b'x'; OBJECT]].concat();
    for line in BufReader::new(stream).lines() {
        // The empty line that ends a request.
        if line?.is_empty() {
            stream.write_all(&answer)?;
        }
    }
    Ok(())
}
