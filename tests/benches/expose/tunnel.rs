//! Tunnels as processes: a half where the visitors are and a half beside the service, started in this
//! order, seen to work, and ended in the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_shared::knock::Carrier;
use postern_tests::net::{free_port, local};
use postern_tests::posternd::binary;
use postern_tests::{Client, Posternd, Process, Scratch, Sshd, until};

use super::peers::{self, Pair};
use crate::options::Options;
use crate::stock::find;

pub const RATHOLE: &str = "rathole";
pub const WSTUNNEL: &str = "wstunnel -R";
pub const BORE: &str = "bore";
pub const SSH: &str = "ssh -R + socat";

const TUNNELS: [(&str, Kind); 8] = [
    (RATHOLE, Kind::Pair(Pair::Rathole)),
    (WSTUNNEL, Kind::Pair(Pair::Wstunnel)),
    ("chisel", Kind::Pair(Pair::Chisel)),
    ("frp", Kind::Pair(Pair::Frp)),
    (BORE, Kind::Pair(Pair::Bore)),
    (SSH, Kind::Ssh),
    ("postern expose plain", Kind::Postern(Carrier::Plain)),
    ("postern expose hello", Kind::Postern(Carrier::Hello)),
];

/// The control connection goes by hello whichever carrier the visitors' bytes take.
const POSTERND_CONFIG: &str = r#"listen = ["127.0.0.1:0"]
public = "PUBLIC"
fallback = "website"
state = "state"

[knock]
carriers = ["hello", "plain"]
sni = "www.example.com"

[service.website]
to = "tcp://BACKEND"

[limits]
connections = 20000

[log]
level = "warn"
"#;

/// A tunnel that has not served anybody by then does not work.
const SETTLED: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Pair(Pair),
    Ssh,
    /// The carrier of the lanes.
    Postern(Carrier),
}

/// Puts what is slow between the halves: from a place where it is to listen to where it leads.
pub type Between = fn(SocketAddr, SocketAddr) -> io::Result<SocketAddr>;

/// Ended from top to bottom, so that the server's half does not outlive whom it serves.
#[derive(Debug)]
pub struct Tunnel {
    beside: Process,
    halves: Vec<Half>,
    public: SocketAddr,
    _scratch: Scratch,
}

/// What a tunnel runs where the visitors are.
#[derive(Debug)]
enum Half {
    Program(Process),
    Sshd(Sshd),
    Posternd(Posternd),
}

/// Those that are wanted and installed.
pub fn installed(options: &Options) -> Vec<(&'static str, Kind)> {
    let mut tunnels = Vec::from(TUNNELS);
    tunnels.retain(|(name, kind)| {
        let wanted = options.wants_relay(name);
        let found = kind.programs().iter().all(|program| find(program).is_some());
        if wanted && !found {
            eprintln!("   {name} is not installed");
        }
        wanted && found
    });
    tunnels
}

impl Kind {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Pair(pair) => pair.programs(),
            Kind::Ssh => &["ssh", "sshd", "ssh-keygen", "socat"],
            Kind::Postern(_) => &[],
        }
    }
}

impl Tunnel {
    /// Leads visitors to `to`, and is left alone once one of them was served.
    pub fn start(
        kind: Kind,
        to: SocketAddr,
        between: Option<Between>,
        serves: impl Fn(SocketAddr) -> io::Result<()>,
    ) -> Result<Tunnel, String> {
        let scratch = Scratch::new();
        let public = local(free_port());
        let reach = |at, server| match between {
            Some(between) => between(at, server).map_err(|error| error.to_string()),
            None => Ok(server),
        };
        let (halves, mut command) = match kind {
            Kind::Pair(pair) => {
                let (server, slow) = meeting(pair);
                let command = pair.server(&scratch, server, public);
                let half = listening(&scratch, "server", command, server)?;
                let command = pair.client(&scratch, reach(slow, server)?, public, to);
                (vec![Half::Program(half)], command)
            }
            Kind::Ssh => {
                let sshd = Sshd::start(&scratch);
                let reach = reach(local(0), sshd.address())?;
                let inner = local(free_port());
                let socat = listening(&scratch, "socat", peers::socat(public, inner), public)?;
                let command = ssh(&scratch, &sshd, reach, &format!("{inner}:{to}"));
                (vec![Half::Program(socat), Half::Sshd(sshd)], command)
            }
            Kind::Postern(lanes) => {
                let config = POSTERND_CONFIG.replace("BACKEND", &to.to_string());
                let server = Posternd::start(&scratch, &config);
                let entrance = format!("tcp:{}", public.port());
                let invite = server.invite("bench", &["--expose", &entrance]);
                let client = Client::join(&scratch, "bench", &invite);
                let reach = reach(local(0), server.address())?;
                let mut command = client.lasting(binary("postern"));
                command.args(["expose", &entrance, "--to", &to.to_string(), "--profile", "bench"]);
                command.args(["--address", &reach.to_string(), "--carrier", lanes.name()]);
                (vec![Half::Posternd(server)], command)
            }
        };
        let beside = Process::spawn("client", &mut command, scratch.path("client.log"));
        let mut tunnel = Tunnel { beside, halves, public, _scratch: scratch };
        tunnel.settle(serves)?;
        Ok(tunnel)
    }

    fn settle(&mut self, serves: impl Fn(SocketAddr) -> io::Result<()>) -> Result<(), String> {
        let started = Instant::now();
        while let Err(error) = serves(self.public) {
            let log = self.beside.log();
            if self.beside.exited().is_some() {
                return Err(format!("ended: {}", first_line(&log)));
            }
            if started.elapsed() > SETTLED {
                return Err(format!("serves nobody: {error}; {}", first_line(&log)));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Where visitors come in.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Both halves.
    pub fn pids(&self) -> Vec<u32> {
        let halves = self.halves.iter().map(|half| match half {
            Half::Program(process) => process.pid(),
            Half::Sshd(sshd) => sshd.process.pid(),
            Half::Posternd(server) => server.process.pid(),
        });
        [self.beside.pid()].into_iter().chain(halves).collect()
    }
}

/// Where the halves meet, and where to listen for who puts something between them.
fn meeting(pair: Pair) -> (SocketAddr, SocketAddr) {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    match pair.fixed_port() {
        None => (local(free_port()), local(0)),
        // Loopback has addresses enough for everybody to have the same port.
        Some(port) => {
            let [.., a, b] = std::process::id().to_be_bytes();
            let next = || {
                let last = NEXT.fetch_add(1, Ordering::Relaxed);
                SocketAddr::new(IpAddr::from(Ipv4Addr::new(127, a, b, last)), port)
            };
            (next(), next())
        }
    }
}

fn listening(
    scratch: &Scratch,
    name: &'static str,
    mut command: Command,
    at: SocketAddr,
) -> Result<Process, String> {
    let log = scratch.path(&format!("{name}.log"));
    let mut process = Process::spawn(name, &mut command, log);
    until(&format!("{name} to listen"), || {
        if process.exited().is_some() {
            return Some(Err(format!("{name} ended: {}", first_line(&process.log()))));
        }
        TcpStream::connect(at).ok().map(|_| Ok(()))
    })?;
    Ok(process)
}

/// Without a terminal or a command, for the forwarding alone: ADDRESS:PORT:ADDRESS:PORT.
fn ssh(scratch: &Scratch, sshd: &Sshd, reach: SocketAddr, forwarding: &str) -> Command {
    let client = Client::uninvited(scratch, "laptop");
    client.use_ssh(sshd);
    let mut command = client.lasting_ssh();
    command.arg("-o").arg(format!("Port={}", reach.port()));
    command.args(["-o", "ExitOnForwardFailure=yes", "-N", "-R", forwarding, "inner"]);
    command
}

fn first_line(log: &str) -> &str {
    log.trim().lines().next().unwrap_or("it says nothing")
}
