//! Everything on one machine, without set-up: a website, posternd in front of it, a key, and ssh behind
//! the knock. Lives in a directory of its own, which goes when it ends.

mod sshd;
mod trial;
mod website;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, bail};
use postern_shared::knock::Carrier;
use postern_shared::pin::Pin;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::boot::{self, Running};
use crate::certificate;
use crate::cli::{ClientCommand, ConfigFile, NewKey};
use crate::commands;
use crate::config::LogLevel;
use crate::inherit::Inherited;
use crate::ops::log::{self, Logging};
use crate::policy::Policy;

use sshd::Sshd;

/// The name whose TLS posternd terminates for the tls carrier.
const KNOCK_NAME: &str = "ssh.demo.example";

/// The website's name.
const WEBSITE: &str = "localhost";

/// The profile.
const PROFILE: &str = "demo";

/// The ssh host of a carrier.
fn host(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Hello => "demo",
        Carrier::Tls => "demo-tls",
        Carrier::Plain => "demo-plain",
    }
}

/// Runs the demo until it is interrupted; with `once`, until its own check is done.
pub async fn run(listen: SocketAddr, once: bool) -> anyhow::Result<()> {
    log::start(&Logging { level: LogLevel::Warn, ..Logging::default() });
    let demo = Demo::set_up(listen).await?;
    if once {
        let passed = trial::run(&demo).await;
        demo.running.stop().await;
        return passed;
    }
    say(&demo.welcome())?;
    let mut signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()?;
    if let [interrupt, terminate, hangup] = signals.as_mut_slice() {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
    demo.running.stop().await;
    Ok(())
}

/// What is set up, and where.
struct Demo {
    dir: TempDir,
    running: Arc<Running>,
    address: SocketAddr,
    website_pin: Pin,
    postern: PathBuf,
    /// `None` where there is no sshd: the tunnel then leads to an echo.
    sshd: Option<Sshd>,
}

impl Demo {
    async fn set_up(listen: SocketAddr) -> anyhow::Result<Demo> {
        let postern = find_postern()?;
        let dir = tempfile::Builder::new().prefix("postern-demo-").tempdir()?;
        let at = |name: &str| dir.path().join(name);

        let website_pin = make_certificate(WEBSITE, &at("website"))?;
        make_certificate(KNOCK_NAME, &at("knock"))?;
        let website = website::serve(&at("website")).await?;
        let echo = echo().await?;
        let sshd = Sshd::set_up(&at("sshd"))?;

        let file = |public: &str| {
            let ssh = sshd.as_ref().map_or(format!("tcp://{echo}"), Sshd::target);
            configuration(listen, public, website, &ssh, echo)
        };
        let config = at("posternd.toml");
        fs::write(&config, file("localhost"))?;
        let running =
            boot::start(&config, Policy::load(&config)?, Vec::new(), Inherited::default())?;
        let address = *running.addresses().first().context("no listener")?;
        // Invites name the port, which is known only now.
        fs::write(&config, file(&reachable(address).to_string()))?;

        let demo = Demo { dir, running, address: reachable(address), website_pin, postern, sshd };
        demo.join(PROFILE, &demo.invite(PROFILE)?)?;
        if let Some(sshd) = &demo.sshd {
            sshd.write_ssh_config(&demo)?;
        }
        Ok(demo)
    }

    /// Adds a client and answers its invite.
    fn invite(&self, name: &str) -> anyhow::Result<String> {
        let file = ConfigFile { config: self.dir.path().join("posternd.toml") };
        let add = ClientCommand::Add(NewKey::named(name, file));
        let invite = commands::client(&add)?.text;
        self.running.reload_clients()?;
        Ok(invite)
    }

    /// Joins as a client would.
    fn join(&self, profile: &str, invite: &str) -> anyhow::Result<()> {
        let mut child = self
            .postern(&["join", profile])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not run", self.postern.display()))?;
        child.stdin.take().context("no stdin")?.write_all(invite.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("postern join failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// The client, with its profiles in the demo's directory.
    fn postern(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.postern);
        command.args(arguments);
        for (variable, directory) in self.client_environment() {
            command.env(variable, directory);
        }
        command
    }

    fn client_environment(&self) -> [(&'static str, PathBuf); 2] {
        ["config", "state"]
            .map(|name| self.dir.path().join("client").join(name))
            .into_iter()
            .zip(["XDG_CONFIG_HOME", "XDG_STATE_HOME"])
            .map(|(directory, variable)| (variable, directory))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap_or_default()
    }

    fn welcome(&self) -> String {
        let address = self.address;
        let tunnel = match &self.sshd {
            Some(sshd) => {
                let config = sshd.ssh_config().display().to_string();
                let command = sshd.command();
                format!(
                    "Knock, and the same port leads to ssh; in the TLS hello, inside TLS, or by bare letters:\n\n    \
                     ssh -F {config} demo{command}\n    ssh -F {config} demo-tls{command}\n    \
                     ssh -F {config} demo-plain{command}\n"
                )
            }
            None => {
                let [(config, config_dir), (state, state_dir)] = self.client_environment();
                format!(
                    "There is no sshd here, so a knock leads to an echo on the same port:\n\n    \
                     {config}={} {state}={} {} connect demo\n",
                    config_dir.display(),
                    state_dir.display(),
                    self.postern.display()
                )
            }
        };
        format!(
            "posternd listens on {address}. Whoever comes sees a website:\n\n    \
             curl -k https://{address}/\n\n{tunnel}\n\
             All of it lives in {} and goes when you press Ctrl-C.\n",
            self.dir.path().display()
        )
    }
}

/// `0.0.0.0` is where to listen, not where to connect.
fn reachable(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let loopback = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(loopback, address.port())
}

fn configuration(
    listen: SocketAddr,
    public: &str,
    website: SocketAddr,
    ssh: &str,
    echo: SocketAddr,
) -> String {
    format!(
        "listen = [\"{listen}\"]\n\
         public = \"{public}\"\n\
         fallback = \"web\"\n\
         state = \"state\"\n\
         [knock]\n\
         sni = \"{WEBSITE}\"\n\
         [tls]\n\
         certificate = \"knock/tls.crt\"\n\
         key = \"knock/tls.key\"\n\
         names = [\"{KNOCK_NAME}\"]\n\
         visitors = \"web-inside\"\n\
         [service.web]\n\
         to = \"tcp://{website}\"\n\
         [service.web-inside]\n\
         to = \"tls://{website}\"\n\
         [service.ssh]\n\
         to = {ssh:?}\n\
         knock = true\n\
         [service.echo]\n\
         to = \"tcp://{echo}\"\n\
         knock = true\n"
    )
}

fn make_certificate(name: &str, directory: &Path) -> anyhow::Result<Pin> {
    Ok(certificate::make(&[name.to_owned()], directory, false)?)
}

/// The client's binary: beside ours, where cargo and packages put it, or on PATH.
fn find_postern() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("postern");
    if beside.is_file() {
        return Ok(beside);
    }
    find_on_path("postern").context(
        "the demo needs the client too, and there is no `postern` beside posternd; run: cargo build --release",
    )
}

fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Daemons are often not on a user's PATH.
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Sends back what it gets: the tunnel's end where there is no sshd.
async fn echo() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reading, mut writing) = socket.split();
                // Whoever hangs up early just ends its echo.
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut writing).await;
            });
        }
    });
    Ok(address)
}

/// The demo speaks to a person, on stdout.
fn say(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
