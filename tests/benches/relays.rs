//! The relays that are compared: direct, those of others, and posternd by its two ways, each in front
//! of a backend of its own.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_tests::{Knocker, Posternd, Scratch};

use crate::backend::{Backend, Request, patient};
use crate::expose::Tunnel;
use crate::options::Options;
use crate::proc;
use crate::stock::{Haproxy, Kind, Splice, Stock, find};

pub const DIRECT: &str = "direct";
pub const HAPROXY: &str = "haproxy";
pub const HAPROXY_SPLICE: &str = "haproxy splice-auto";
pub const HAPROXY_TUNED: &str = "haproxy splice-auto 1 MiB";
pub const HAPROXY_ALWAYS: &str = "haproxy splice always 1 MiB";
pub const SSLH_FORK: &str = "sslh-fork";
pub const SSLH_SELECT: &str = "sslh-select";
pub const POSTERND: &str = "posternd visitor";
pub const POSTERND_KNOCK: &str = "posternd plain knock";

const STOCK: [(&str, Kind); 8] = [
    (HAPROXY, Kind::Haproxy(&Haproxy { splice: Splice::Off, pipes: None, tls: None })),
    (HAPROXY_SPLICE, Kind::Haproxy(&Haproxy { splice: Splice::Auto, pipes: None, tls: None })),
    (
        HAPROXY_TUNED,
        Kind::Haproxy(&Haproxy { splice: Splice::Auto, pipes: Some(1 << 20), tls: None }),
    ),
    (
        HAPROXY_ALWAYS,
        Kind::Haproxy(&Haproxy { splice: Splice::Always, pipes: Some(1 << 20), tls: None }),
    ),
    ("nginx stream", Kind::Nginx),
    ("sslh-ev", Kind::Sslh("sslh-ev")),
    (SSLH_SELECT, Kind::Sslh("sslh-select")),
    // Debian calls the forking variant just so.
    (SSLH_FORK, Kind::Sslh("sslh")),
];

/// What a posternd of a bench is told. Like the others it logs no connections.
const POSTERND_CONFIG: &str = r#"listen = ["127.0.0.1:0"]
public = "PUBLIC"
fallback = "visitors"
state = "state"

[knock]
carriers = ["plain"]

[service.visitors]
to = "tcp://BACKEND"

[service.admitted]
to = "tcp://BACKEND"
knock = true

[limits]
connections = 20000

[log]
level = "warn"
"#;

/// The replay cache holds 16,384 knocks of one key for three minutes; more would make visitors of
/// those who knock for the connections.
const KNOCKERS: usize = 8;

pub struct Relay {
    pub name: &'static str,
    pub backend: Backend,
    running: Running,
    /// Empty for those through whom one does not knock.
    knockers: Vec<Knocker>,
    _scratch: Scratch,
}

enum Running {
    Direct,
    Stock(Stock),
    Posternd(Posternd),
    Tunnel(Tunnel),
}

/// The relays that are wanted and installed.
pub fn names(options: &Options) -> Vec<&'static str> {
    let stock = STOCK.into_iter().filter(|(name, kind)| {
        let found = find(kind.program()).is_some();
        if !found && options.wants_relay(name) {
            eprintln!("   {name} is not installed");
        }
        found
    });
    let mut names = vec![DIRECT];
    names.extend(stock.map(|(name, _)| name));
    names.extend([POSTERND, POSTERND_KNOCK]);
    names.retain(|name| options.wants_relay(name));
    names
}

pub fn start_all(options: &Options) -> Vec<Relay> {
    names(options).into_iter().map(Relay::start).collect()
}

impl Relay {
    pub fn start(name: &'static str) -> Relay {
        let (scratch, backend) = (Scratch::new(), Backend::start());
        let to = backend.address();
        let stock = STOCK.into_iter().find(|(stock, _)| *stock == name);
        let running = match stock {
            Some((_, kind)) => Running::Stock(Stock::start(kind, &scratch, to)),
            None if name == DIRECT => Running::Direct,
            None => {
                let config = POSTERND_CONFIG.replace("BACKEND", &to.to_string());
                Running::Posternd(Posternd::start(&scratch, &config))
            }
        };
        let knockers = match &running {
            Running::Posternd(server) if name == POSTERND_KNOCK => {
                let invite = |n| server.invite(&format!("bench-{n}"), &["--service", "admitted"]);
                (0..KNOCKERS).map(|n| Knocker::new(&invite(n))).collect()
            }
            Running::Direct | Running::Stock(_) | Running::Posternd(_) | Running::Tunnel(_) => {
                Vec::new()
            }
        };
        Relay { name, backend, running, knockers, _scratch: scratch }
    }

    /// A tunnel that leads to this backend; direct without one.
    pub fn through(name: &'static str, backend: Backend, tunnel: Option<Tunnel>) -> Relay {
        let running = tunnel.map_or(Running::Direct, Running::Tunnel);
        Relay { name, backend, running, knockers: Vec::new(), _scratch: Scratch::new() }
    }

    fn address(&self) -> SocketAddr {
        match &self.running {
            Running::Direct => self.backend.address(),
            Running::Stock(stock) => stock.address(),
            Running::Posternd(server) => server.address(),
            Running::Tunnel(tunnel) => tunnel.public(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match &self.running {
            Running::Direct => Vec::new(),
            Running::Stock(stock) => vec![stock.pid()],
            Running::Posternd(server) => vec![server.process.pid()],
            Running::Tunnel(tunnel) => tunnel.pids(),
        }
    }

    /// Whether it takes processor time; direct does not.
    pub fn costs(&self) -> bool {
        !matches!(self.running, Running::Direct)
    }

    pub fn posternd(&self) -> Option<&Posternd> {
        match &self.running {
            Running::Posternd(server) => Some(server),
            Running::Direct | Running::Stock(_) | Running::Tunnel(_) => None,
        }
    }

    pub fn cpu(&self) -> Duration {
        self.pids().into_iter().map(proc::cpu).sum()
    }

    pub fn resident(&self) -> u64 {
        self.pids().into_iter().map(proc::resident).sum()
    }

    /// The first bytes of so many connections that ask for this: made beforehand, since it is the
    /// relay's time that counts and not the knocker's.
    pub fn openings(&self, request: Request, count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|number| self.opening(request, number)).collect()
    }

    fn opening(&self, request: Request, number: usize) -> Vec<u8> {
        let mut bytes = match self.knockers.len() {
            0 => Vec::new(),
            knockers => knock(&self.knockers[number % knockers]),
        };
        bytes.extend(request.bytes());
        bytes
    }

    pub fn connect(&self, opening: &[u8]) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address())?;
        patient(&stream)?;
        stream.write_all(opening)?;
        Ok(stream)
    }

    pub fn ask(&self, request: Request) -> io::Result<TcpStream> {
        self.connect(&self.opening(request, 0))
    }
}

/// A knock of now: the run takes longer than the window.
fn knock(knocker: &Knocker) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let mut knocker = Knocker { invite: knocker.invite.clone(), header: knocker.header };
    knocker.header.time = u32::try_from(now.as_secs()).expect("before 2106");
    knocker.plain()
}
