//! What a stranger with a good clock sees: the time from his bytes to the website's first, by what he
//! sent, in turns whose order is drawn anew each time.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use postern_shared::knock::{Carrier, Kid};
use postern_shared::sniff::LETTERS;
use postern_tests::knock::{SESSION_ID, random, with_session_id};
use postern_tests::net::{connect, reset};
use postern_tests::posternd::config;
use postern_tests::{Knocker, Nginx, Posternd, Scratch, TcpService};

use super::likeness::{chance, distance, one_in_twenty};
use crate::Bench;
use crate::figures::Metric;
use crate::rtt::percentile;

/// Spent ones that are shown again and again.
const SPENT: usize = 50;

/// Before those that count.
const WARM_UP: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stranger {
    /// Random letters, or a browser's random session id: what the others are compared with.
    NoKnock,
    /// The same once more: how far apart two are that nobody could tell apart.
    NoKnockAgain,
    WrongTag,
    UnknownKid,
    Replayed,
    /// One letter that no knock has, or a session id that is a byte too short.
    OtherForm,
}

impl Stranger {
    const ALL: [Stranger; 6] = [
        Stranger::NoKnock,
        Stranger::NoKnockAgain,
        Stranger::WrongTag,
        Stranger::UnknownKid,
        Stranger::Replayed,
        Stranger::OtherForm,
    ];

    fn name(self) -> &'static str {
        match self {
            Stranger::NoKnock => "no knock",
            Stranger::NoKnockAgain => "no knock, again",
            Stranger::WrongTag => "wrong tag",
            Stranger::UnknownKid => "unknown kid",
            Stranger::Replayed => "replayed",
            Stranger::OtherForm => "another form",
        }
    }
}

pub fn run(bench: &mut Bench) {
    let count = bench.options.size(5000, 200);
    bench.figures.remark(format!(
        "knock: {count} connections of each kind a round; of two alike, one in twenty is {:.4} apart",
        one_in_twenty(count)
    ));
    let (scratch, service) = (Scratch::new(), TcpService::echo());
    let nginx = Nginx::start(&scratch);
    let more = format!(
        "[service.echo]\nto = \"tcp://{}\"\nknock = true\n\
         [knock]\nsni = \"www.example.com\"\nwindow = \"300s\"\n",
        service.address()
    );
    let server = Posternd::start(&scratch, &config(nginx.https(), &more));
    let invite = server.invite("bench", &["--service", "echo"]);
    bench.rounds(|bench| {
        for carrier in [Carrier::Hello, Carrier::Plain] {
            match measure(server.address(), &Knocker::new(&invite), carrier, count) {
                Ok(times) => add(bench, carrier, times),
                Err(error) => bench.figures.remark(format!("knock, {carrier}: {error}")),
            }
        }
    });
}

type Times = Vec<(Stranger, Vec<Duration>)>;

fn add(bench: &mut Bench, carrier: Carrier, mut times: Times) {
    let load = carrier.name();
    let unlike = times.first().map(|(_, times)| times.clone()).unwrap_or_default();
    for (stranger, times) in &mut times {
        let mut add = |unit, value| {
            bench.figures.add(Metric { section: "knock", load, unit }, stranger.name(), value);
        };
        add("us to an answer", percentile(times, 50));
        add("us to an answer, p99", percentile(times, 99));
        if *stranger != Stranger::NoKnock {
            let apart = distance(&unlike, times);
            add("Kolmogorov-Smirnov distance", apart);
            add("Kolmogorov-Smirnov chance", chance(apart, times.len()));
        }
    }
}

fn measure(to: SocketAddr, knocker: &Knocker, carrier: Carrier, count: usize) -> io::Result<Times> {
    let spent: Vec<_> = (0..SPENT).map(|_| knock(knocker, carrier)).collect();
    for knock in &spent {
        answer(to, knock)?;
    }
    let mut all: Times = Stranger::ALL.map(|stranger| (stranger, Vec::new())).into();
    for number in 0..WARM_UP + count {
        all.sort_by_cached_key(|_| random::<8>());
        // All of them beforehand: what is made just before it is shown finds other caches.
        let spent = &spent[number % SPENT];
        let show = |stranger| show(stranger, knocker, carrier, spent);
        let shown: Vec<_> = all.iter().map(|(stranger, _)| show(*stranger)).collect();
        for ((_, times), bytes) in all.iter_mut().zip(shown) {
            let took = answer(to, &bytes)?;
            if number >= WARM_UP {
                times.push(took);
            }
        }
    }
    all.sort_by_key(|(stranger, _)| *stranger);
    Ok(all)
}

/// From the write of the bytes to the first byte that comes back.
fn answer(to: SocketAddr, bytes: &[u8]) -> io::Result<Duration> {
    let mut stream = connect(to);
    let started = Instant::now();
    stream.write_all(bytes)?;
    stream.read_exact(&mut [0])?;
    let took = started.elapsed();
    reset(stream);
    Ok(took)
}

fn show(stranger: Stranger, knocker: &Knocker, carrier: Carrier, spent: &[u8]) -> Vec<u8> {
    match stranger {
        Stranger::NoKnock | Stranger::NoKnockAgain => {
            let mut bytes = knock(knocker, carrier);
            match carrier {
                Carrier::Hello => bytes[SESSION_ID].copy_from_slice(&random::<32>()),
                Carrier::Plain | Carrier::Tls => {
                    let letters = random::<LETTERS>().map(|byte| b'A' + byte % 16);
                    bytes[..LETTERS].copy_from_slice(&letters);
                }
            }
            bytes
        }
        Stranger::WrongTag => knock(&knocker.clone().with_wrong_key(), carrier),
        Stranger::UnknownKid => {
            let mut knocker = knocker.clone();
            knocker.header.kid = Kid::new(1).expect("not 0");
            knock(&knocker, carrier)
        }
        Stranger::Replayed => spent.to_vec(),
        Stranger::OtherForm => {
            let mut bytes = knock(knocker, carrier);
            if carrier == Carrier::Hello {
                return with_session_id(bytes, &random::<31>());
            }
            bytes[LETTERS - 1] = b'Q';
            bytes
        }
    }
}

/// Letters are followed by what makes the website answer.
fn knock(knocker: &Knocker, carrier: Carrier) -> Vec<u8> {
    match carrier {
        Carrier::Hello => knocker.hello(),
        Carrier::Plain | Carrier::Tls => [&knocker.plain()[..], b"\r\n\r\n"].concat(),
    }
}
