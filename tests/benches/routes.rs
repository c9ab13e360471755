//! The time to decide where a hello goes, in process, and what `check` takes, with few routes and many.

use std::fmt::Write;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use postern_shared::sniff::{Protocol, Sniff, sniff};
use postern_tests::posternd::posternd;
use postern_tests::{Scratch, success};
use posternd::policy::Policy;
use posternd::route::{Answers, Choice, Facts, Seen, Still};

use crate::Bench;
use crate::figures::Metric;
use crate::in_process::{browser_hello, each};

const ROUTES: [(&str, usize); 3] =
    [("1 route", 1), ("1,000 routes", 1000), ("10,000 routes", 10_000)];

pub fn run(bench: &mut Bench) {
    let count = bench.options.size(20_000, 2000);
    let scratch = Scratch::new();
    bench.rounds(|bench| {
        for (load, routes) in ROUTES {
            let text = config(routes);
            let policy = Policy::parse(Path::new("posternd.toml"), &text).expect("sound");
            let mut add = |unit, who, value| {
                bench.figures.add(Metric { section: "routes", load, unit }, who, value);
            };
            for (who, name) in [
                ("an exact name", format!("shop-{}.example.com", routes - 1)),
                ("below a name", format!("a.b.c.shop-{}.example.org", routes - 1)),
                ("no route's name", "www.example.net".to_owned()),
            ] {
                let record = browser_hello(&name);
                let interest = policy.outer_interest();
                let look = || match sniff(&record, &interest) {
                    Sniff::Found(protocol @ Protocol::Tls(_)) => Seen::Protocol(protocol),
                    Sniff::Found(_) | Sniff::NeedMore(_) | Sniff::Malformed | Sniff::Unknown => {
                        panic!("no hello")
                    }
                };
                let choose = |seen: &Seen| {
                    let facts = Facts {
                        seen,
                        bytes: &record,
                        from: IpAddr::from(Ipv4Addr::LOCALHOST),
                        listener: policy.listen[0],
                        inside: None,
                        answers: Answers::NONE,
                        now: Timestamp::UNIX_EPOCH,
                    };
                    let Choice::Found(route) = policy.routes.choose(&facts, Still::Bytes) else {
                        panic!("all is there");
                    };
                    assert_eq!(route.is_some(), who != "no route's name");
                };
                let times: Vec<()> = vec![(); count];
                let seen = look();
                add("us to choose a route", who, each(&times, |()| choose(black_box(&seen))));
                add("us to read a hello and choose", who, each(&times, |()| choose(&look())));
            }
            let file = scratch.write("posternd.toml", &text);
            let started = Instant::now();
            success(posternd(&["check", "-c"]).arg(file));
            add("ms for check", "posternd", started.elapsed().as_secs_f64() * 1e3);
        }
    });
}

/// Each is for an exact name and for those below another.
fn config(routes: usize) -> String {
    let mut text = "listen = [\"127.0.0.1:0\"]\nfallback = \"web\"\nstate = \"state\"\n\
                    [service.web]\nto = \"tcp://127.0.0.1:9\"\n"
        .to_owned();
    for number in 0..routes {
        let _ = write!(
            text,
            "[[route]]\nsni = [\"shop-{number}.example.com\", \"*.shop-{number}.example.org\"]\n\
             service = \"web\"\n"
        );
    }
    text
}
