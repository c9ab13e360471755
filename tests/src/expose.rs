//! A laptop that exposes its services at a public server: posternd, a client with permission, and
//! `postern expose` as it runs for days.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::client::Client;
use crate::net::{TcpService, connect, free_port, local};
use crate::posternd::{Posternd, binary, config, posternd};
use crate::process::{Process, success, until};
use crate::scratch::Scratch;

/// Dropped from top to bottom: the laptop goes before the server.
#[derive(Debug)]
pub struct Exposing {
    pub process: Process,
    pub client: Client,
    pub server: Posternd,
    /// The entrance of the first service.
    pub door: SocketAddr,
    pub scratch: Scratch,
}

/// What posternd is told beside its website. Patient with the undecided: a busy machine may take seconds from
/// a connection to its first bytes.
pub fn exposing_config(more: &str) -> String {
    let web = TcpService::named("web");
    let config = config(
        web.address(),
        &format!(
            r#"
[knock]
sni = "www.example.com"

[tls]
certificate = "tls.crt"
key = "tls.key"
names = ["ssh.example.com"]
visitors = "web"

[timeouts]
decide = "30s"
{more}"#
        ),
    );
    // It may be started again, on the same port.
    config.replace("127.0.0.1:0", &local(free_port()).to_string())
}

/// Where posternd finds its certificate, which is for these names.
pub fn certify(scratch: &Scratch, names: &[&str]) {
    let mut cert = posternd(&["cert", "--out"]);
    cert.arg(scratch.path(""));
    for name in names {
        cert.args(["--name", name]);
    }
    success(&mut cert);
}

impl Exposing {
    /// Exposes the service at `to` by a port, with further arguments of `postern expose`.
    pub fn start(to: SocketAddr, args: &[&str]) -> Exposing {
        Exposing::with("", to, args)
    }

    /// `more` follows `[timeouts]` in posternd's configuration.
    pub fn with(more: &str, to: SocketAddr, args: &[&str]) -> Exposing {
        let scratch = Scratch::new();
        certify(&scratch, &["ssh.example.com"]);
        let config = exposing_config(more);
        let server = Posternd::start(&scratch, &config);
        let port = free_port();
        let entrance = format!("tcp:{port}");
        let invite = server.invite("laptop", &["--expose", &entrance]);
        let client = Client::join(&scratch, "laptop", &invite);
        let to = to.to_string();
        let args = [&[&*entrance, "--to", &to], args].concat();
        let process = expose(&scratch, &client, "expose", &args);
        let exposing = Exposing { process, client, server, door: local(port), scratch };
        exposing.server.until_held(&entrance);
        exposing
    }

    /// Starts `postern expose` again, with its output in another file.
    pub fn again(&mut self, name: &str, to: SocketAddr) {
        let (entrance, to) = (format!("tcp:{}", self.door.port()), to.to_string());
        self.process = expose(&self.scratch, &self.client, name, &[&entrance, "--to", &to]);
    }

    pub fn visit(&self) -> TcpStream {
        connect(self.door)
    }

    /// What `postern expose --status` says, and its exit code.
    pub fn status(&self) -> (String, i32) {
        let mut command = self.client.postern(&["expose", "--status", "--profile", "laptop"]);
        let output = crate::process::finish(&mut command);
        (crate::process::text(&output.stdout), output.status.code().unwrap_or(-1))
    }
}

/// Runs `postern expose` with the profile `laptop`.
pub fn expose(scratch: &Scratch, client: &Client, name: &str, args: &[&str]) -> Process {
    let log = scratch.path(&format!("{name}.log"));
    Process::spawn("postern expose", &mut exposing(client, args), log)
}

/// The command, for a test that has more to tell it.
pub fn exposing(client: &Client, args: &[&str]) -> Command {
    let mut command = client.lasting(binary("postern"));
    command.arg("expose").args(args).args(["--profile", "laptop"]);
    command
}

impl Posternd {
    /// What status says of an entrance.
    pub fn entrance(&self, entrance: &str) -> Option<Value> {
        let status = self.status();
        let all = status["entrances"].as_array()?;
        all.iter().find(|one| one["entrance"] == entrance).cloned()
    }

    /// Waits until a client holds it, and has lanes there.
    pub fn until_held(&self, entrance: &str) {
        until("an entrance to be held", || {
            let entrance = self.entrance(entrance)?;
            let holder = entrance["holders"].as_array()?.first()?;
            holder["idle"].as_u64().filter(|idle| *idle > 0)
        });
    }

    /// Waits until nobody holds it.
    pub fn until_free(&self, entrance: &str) {
        until("an entrance to be free", || {
            let entrance = self.entrance(entrance)?;
            entrance["holders"].as_array()?.is_empty().then_some(())
        });
    }
}

/// Where a profile is kept.
pub fn profile(client: &Client) -> PathBuf {
    client.home().join(".config/postern/laptop.toml")
}
