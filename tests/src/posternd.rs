//! posternd itself, as its users run it: a configuration file, a process, its log and its commands.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Process, bounded, finish, success, until};
use crate::scratch::Scratch;

/// Stands in a configuration for the address that is known only once posternd listens.
const PUBLIC: &str = "PUBLIC";

/// A configuration with the website at `web`. `more` follows the table `[service.web]`.
pub fn config(web: SocketAddr, more: &str) -> String {
    format!(
        r#"listen = ["127.0.0.1:0"]
public = "{PUBLIC}"
fallback = "web"
state = "state"

[log]
format = "json"

[service.web]
to = "tcp://{web}"
{more}"#
    )
}

#[derive(Debug)]
pub struct Posternd {
    pub process: Process,
    file: PathBuf,
    listeners: Vec<SocketAddr>,
}

impl Posternd {
    /// Starts it in the directory of `scratch` and waits until it listens.
    pub fn start(scratch: &Scratch, config: &str) -> Posternd {
        let file = scratch.write("posternd.toml", config.replace(PUBLIC, "127.0.0.1:1"));
        let (process, listeners) = run(&file);
        let server = Posternd { process, file, listeners };
        server.configure(config);
        server
    }

    /// Ends it by this signal.
    pub fn end(&mut self, signal: Signal) {
        self.process.signal(signal);
        self.process.wait();
    }

    /// Starts it again on the same files, and so on the same port if the configuration names one.
    pub fn again(&mut self) {
        (self.process, self.listeners) = run(&self.file);
    }

    /// Where it listens; the first place if there are several.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Writes the configuration file, which it does not read by itself.
    pub fn configure(&self, config: &str) {
        let config = config.replace(PUBLIC, &self.address().to_string());
        fs::write(&self.file, config).expect("write posternd.toml");
    }

    /// A posternd command on its configuration.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = posternd(args);
        command.arg("-c").arg(&self.file);
        command
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Adds a client with grants such as `--service`, who is known at once, and returns its invite.
    pub fn invite(&self, name: &str, grants: &[&str]) -> String {
        let invite = self.add_client(name, grants);
        success(&mut self.command(&["reload"]));
        invite
    }

    /// The same, but it is left to posternd to notice.
    pub fn add_client(&self, name: &str, grants: &[&str]) -> String {
        let invite = success(self.command(&["client", "add", name]).args(grants));
        assert!(invite.starts_with("postern://") && invite.lines().count() == 1, "{invite}");
        invite
    }

    pub fn clients_file(&self) -> PathBuf {
        self.file.with_file_name("state").join("clients.toml")
    }

    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// The log's events of this message.
    pub fn events(&self, message: &str) -> Vec<Value> {
        let log = self.process.log();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["message"] == message).collect()
    }

    /// Waits for the line of a connection that has ended.
    pub fn connection(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        until("a connection's log line", || self.events("connection").into_iter().find(&wanted))
    }

    pub fn status(&self) -> Value {
        let status = success(&mut self.command(&["status", "--json"]));
        serde_json::from_str(&status).expect("JSON")
    }

    /// Waits until this client has a tunnel.
    pub fn tunnel_of(&self, client: &str) {
        until("a tunnel", || {
            let status = self.status();
            let mut tunnels = status["tunnels"].as_array()?.iter();
            tunnels.any(|tunnel| tunnel["client"] == client).then_some(())
        });
    }

    /// Where it receives datagrams.
    pub fn datagram_listeners(&self) -> Vec<SocketAddr> {
        let status = self.status();
        let listeners = status["udp"]["listeners"].as_array().expect("there is [udp]");
        let address = |listener: &Value| listener.as_str().and_then(|text| text.parse().ok());
        listeners.iter().map(|listener| address(listener).expect("an address")).collect()
    }

    /// The log's lines of flows that have ended.
    pub fn flows(&self) -> Vec<Value> {
        self.events("flow")
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.process.pid());
        fs::read_dir(path).expect("list descriptors").count()
    }
}

/// A posternd command that needs no running one.
pub fn posternd(args: &[&str]) -> Command {
    let mut command = bounded(binary("posternd"));
    command.args(args);
    command
}

/// A binary of this workspace, which lies beside the test's own directory.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let binary = profile.join(name);
    assert!(binary.exists(), "no {}: run cargo build --workspace first", binary.display());
    binary
}

/// Runs it, with its log beside the file.
fn run(file: &Path) -> (Process, Vec<SocketAddr>) {
    let mut command = Command::new(binary("posternd"));
    command.args(["run", "-c"]).arg(file);
    let log = file.with_file_name("posternd.log");
    let mut process = Process::spawn("posternd", &mut command, log);
    let listeners = until("posternd to listen", || {
        let exit = process.exited();
        assert!(exit.is_none(), "posternd ended: {}", process.log());
        listeners(file)
    });
    (process, listeners)
}

fn listeners(file: &Path) -> Option<Vec<SocketAddr>> {
    let status = finish(posternd(&["status", "--json", "-c"]).arg(file));
    let status: Value = serde_json::from_slice(&status.stdout).ok()?;
    let listeners = status["listeners"].as_array().expect("status names the listeners");
    let address = |listener: &Value| listener.as_str().and_then(|text| text.parse().ok());
    Some(listeners.iter().map(|l| address(l).expect("a listener is an address")).collect())
}
