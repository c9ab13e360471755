//! How other people's tunnels are started: over plain TCP on loopback, each for speed where it has a
//! choice. Decides their command lines and files; starts nothing. None of them logs connections.

use std::net::SocketAddr;
use std::process::Command;

use postern_tests::Scratch;

use crate::stock::find;

/// A program for each end, or one for both.
#[derive(Clone, Copy, Debug)]
pub enum Pair {
    Rathole,
    Wstunnel,
    Chisel,
    Frp,
    Bore,
}

impl Pair {
    /// The server's first.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Pair::Rathole => &["rathole"],
            Pair::Wstunnel => &["wstunnel"],
            Pair::Chisel => &["chisel"],
            Pair::Frp => &["frps", "frpc"],
            Pair::Bore => &["bore"],
        }
    }

    /// For those whose server listens on no other.
    pub fn fixed_port(self) -> Option<u16> {
        match self {
            Pair::Bore => Some(7835),
            Pair::Rathole | Pair::Wstunnel | Pair::Chisel | Pair::Frp => None,
        }
    }

    /// The half that listens: on `at` for the other half, and on `public` for visitors.
    pub fn server(self, scratch: &Scratch, at: SocketAddr, public: SocketAddr) -> Command {
        let mut command = self.command(self.programs().first());
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        match self {
            Pair::Rathole => {
                let config = format!(
                    "[server]\nbind_addr = \"{at}\"\n{RATHOLE}\
                     bind_addr = \"{public}\"\n"
                );
                let config = config.replace("HALF", "server");
                command.arg("--server").arg(scratch.write("server.toml", config));
            }
            Pair::Wstunnel => {
                command.args(["server", &format!("ws://{at}")]);
            }
            Pair::Chisel => {
                command.args(["server", "--reverse", "--host", &host, "--port", &port]);
            }
            Pair::Frp => {
                let config = format!(
                    "bindAddr = \"{host}\"\nbindPort = {port}\nproxyBindAddr = \"{host}\"\n\
                     log.level = \"error\"\ntransport.maxPoolCount = 16\n"
                );
                command.arg("-c").arg(scratch.write("frps.toml", config));
            }
            Pair::Bore => {
                let public = public.ip().to_string();
                command.args(["server", "--bind-addr", &host, "--bind-tunnels", &public]);
            }
        }
        command
    }

    /// The half that finds the other at `reach`, and leads its visitors `to` the service.
    pub fn client(
        self,
        scratch: &Scratch,
        reach: SocketAddr,
        public: SocketAddr,
        to: SocketAddr,
    ) -> Command {
        let mut command = self.command(self.programs().last());
        let (host, port) = (reach.ip(), reach.port());
        match self {
            Pair::Rathole => {
                let config = format!(
                    "[client]\nremote_addr = \"{reach}\"\n{RATHOLE}\
                     local_addr = \"{to}\"\n"
                );
                let config = config.replace("HALF", "client");
                command.arg("--client").arg(scratch.write("client.toml", config));
            }
            Pair::Wstunnel => {
                let forwarding = format!("tcp://{public}:{to}");
                command.args(["client", "-R", &forwarding, &format!("ws://{reach}")]);
            }
            Pair::Chisel => {
                command.args(["client", &reach.to_string(), &format!("R:{public}:{to}")]);
            }
            Pair::Frp => {
                let config = format!(
                    "serverAddr = \"{host}\"\nserverPort = {port}\nlog.level = \"error\"\n\
                     transport.poolCount = 16\ntransport.tls.enable = false\n\
                     [[proxies]]\nname = \"bench\"\ntype = \"tcp\"\nlocalIP = \"{}\"\n\
                     localPort = {}\nremotePort = {}\n",
                    to.ip(),
                    to.port(),
                    public.port()
                );
                command.arg("-c").arg(scratch.write("frpc.toml", config));
            }
            Pair::Bore => {
                command.args(["local", &to.port().to_string(), "--to", &host.to_string()]);
                command.args(["--local-host", &to.ip().to_string()]);
                command.args(["--port", &public.port().to_string()]);
            }
        }
        command
    }

    fn command(self, program: Option<&&str>) -> Command {
        let program = program.and_then(|program| find(program)).expect("it is installed");
        let mut command = Command::new(program);
        command.env("RUST_LOG", "error");
        command
    }
}

/// What its two files have in common; the service's table goes on.
const RATHOLE: &str = r#"
[HALF.transport]
type = "tcp"
[HALF.transport.tcp]
nodelay = true
[HALF.services.bench]
token = "bench"
nodelay = true
"#;

/// What brings visitors to a forwarding of sshd's, which listens on loopback only.
pub fn socat(public: SocketAddr, to: SocketAddr) -> Command {
    let mut command = Command::new(find("socat").expect("it is installed"));
    let options = format!("bind={},fork,reuseaddr,nodelay,backlog=1024", public.ip());
    command.args(["-b", "65536", &format!("TCP-LISTEN:{},{options}", public.port())]);
    command.arg(format!("TCP:{to},nodelay"));
    command
}
