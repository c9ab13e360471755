//! The admin socket: one word in, one line of JSON out, for whoever may open a socket in the state
//! directory. Shows no secret and takes no key.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_shared::expose::Entrance as Way;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::boot::Running;
use crate::expose::{Exposure, Held};
use crate::places::Taken;
use crate::service::Service;

/// A request is one word; a reply to a posternd with very many tunnels is still below this.
const MOST_REQUEST: u64 = 64;
const MOST_REPLY: u64 = 64 * 1024 * 1024;
/// The longest that any request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Status,
    Reload,
    /// The clients file only.
    Clients,
}

impl Request {
    const ALL: [Request; 3] = [Request::Status, Request::Reload, Request::Clients];

    /// How long to wait for the answer. `client revoke` must not leave anybody waiting to hear whether a
    /// key still opens; a reload of 100,000 clients takes about a second, and on a busy machine longer.
    fn patience(self) -> Duration {
        match self {
            Request::Status | Request::Clients => Duration::from_secs(2),
            Request::Reload => PATIENCE,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Request::Status => "status",
            Request::Reload => "reload",
            Request::Clients => "clients",
        }
    }
}

/// The reply to every request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reply {
    /// Why it was not done.
    pub error: Option<String>,
    pub status: Option<Status>,
}

/// What a running posternd says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub listeners: Vec<String>,
    pub clients: usize,
    pub accepted: u64,
    pub places: Taken,
    pub knocks: Knocks,
    pub outcomes: BTreeMap<String, u64>,
    pub tunnels: Vec<Tunnel>,
    pub targets: Vec<Target>,
    /// What clients expose, or may.
    #[serde(default)]
    pub entrances: Vec<Entrance>,
    /// `None` where no datagrams are received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<Datagrams>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entrance {
    pub entrance: String,
    /// Where it listens; empty for one without a port of its own.
    pub at: Vec<String>,
    pub visitors: u64,
    /// Empty while its clients are away.
    pub holders: Vec<Holder>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Holder {
    pub client: String,
    pub peer: String,
    pub seconds: u64,
    /// Lanes that wait for a visitor, and that have one.
    pub idle: usize,
    pub busy: usize,
    /// What its own probe found: `reached`, `local-down`, `not-reached`.
    pub health: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Datagrams {
    pub listeners: Vec<String>,
    /// Flows that there are now.
    pub flows: usize,
    pub begun: u64,
    /// Datagrams that no route takes, or for whose flow there was no room.
    pub dropped: u64,
    pub outcomes: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Knocks {
    pub admitted: u64,
    pub refused: u64,
    /// Why knocks by some carriers are refused, if they are.
    pub closed: Option<Closed>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closed {
    pub carriers: Vec<String>,
    pub why: String,
    /// `None`: until that is mended.
    pub until: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Tunnel {
    pub client: String,
    pub service: String,
    pub carrier: String,
    pub peer: String,
    pub seconds: u64,
}

/// One of several of a service, or one that is probed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Target {
    pub service: String,
    pub target: String,
    pub up: bool,
    pub backup: bool,
    pub connections: usize,
}

/// Why a running posternd could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("no posternd is running with this configuration (no answer at {0})")]
    NotRunning(String),
    #[error("posternd does not answer at {path}: {source}")]
    NoAnswer { path: String, source: io::Error },
    #[error("the answer at {0} is not understood; is it another version of posternd?")]
    NotUnderstood(String),
    #[error("{0}")]
    Refused(String),
}

/// Binds the socket; one that a dead posternd left behind is replaced, a living one is not.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    if StdUnixStream::connect(path).is_ok() {
        let what = "another posternd runs with this state directory";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // The directory keeps others out already; this keeps them out if its mode is changed.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests, each connection one.
pub async fn serve(listener: UnixListener, running: Arc<Running>) {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let running = running.clone();
                tokio::spawn(async move {
                    // Whoever asks and goes away loses only the answer.
                    let _ = timeout(PATIENCE, answer(socket, &running)).await;
                });
            }
            Err(error) => {
                warn!(%error, "the admin socket cannot accept");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut socket: UnixStream, running: &Running) -> io::Result<()> {
    let (reading, mut writing) = socket.split();
    let mut word = String::new();
    tokio::io::BufReader::new(reading.take(MOST_REQUEST)).read_line(&mut word).await?;
    let request = Request::ALL.into_iter().find(|request| request.word() == word.trim());
    let mut reply = Reply { error: None, status: None };
    match request {
        Some(Request::Status) => reply.status = Some(status(running)),
        Some(Request::Reload) => {
            reply.error = running.reload().err().map(|error| error.to_string())
        }
        Some(Request::Clients) => {
            reply.error = running.reload_clients().err().map(|error| error.to_string());
        }
        None => reply.error = Some("unknown request".to_owned()),
    }
    let mut line = serde_json::to_vec(&reply)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

fn status(running: &Running) -> Status {
    let house = running.house();
    let counts = &house.counts;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: house.started.elapsed().as_secs(),
        listeners: running.addresses().iter().map(ToString::to_string).collect(),
        clients: house.gate.clients().len(),
        accepted: counts.accepted.load(Ordering::Relaxed),
        places: house.places.taken(),
        knocks: Knocks {
            admitted: counts.knocks_admitted.load(Ordering::Relaxed),
            refused: counts.knocks_refused.load(Ordering::Relaxed),
            closed: house.gate.closed().map(|closed| Closed {
                carriers: closed.carriers.iter().map(ToString::to_string).collect(),
                why: closed.why,
                until: closed.until.map(|until| until.to_string()),
            }),
        },
        outcomes: counts.outcomes().map(|(name, count)| (name.to_owned(), count)).collect(),
        tunnels: house
            .tunnels()
            .list()
            .into_iter()
            .map(|tunnel| Tunnel {
                client: tunnel.holder.name().to_owned(),
                service: tunnel
                    .service
                    .as_ref()
                    .map_or("expose", |service| &service.name)
                    .to_owned(),
                carrier: tunnel.by.to_owned(),
                peer: tunnel.peer.to_string(),
                seconds: tunnel.since.elapsed().as_secs(),
            })
            .collect(),
        targets: house.policy().services.values().flat_map(|service| targets(service)).collect(),
        entrances: entrances(running),
        udp: datagrams(running),
    }
}

fn entrances(running: &Running) -> Vec<Entrance> {
    let doors = running.door_addresses();
    let entrance = |exposure: Arc<Exposure>| {
        let holders = exposure.holders();
        let at = doors.iter().filter(|door| exposure.entrance == Way::Tcp(door.port()));
        Entrance {
            entrance: exposure.entrance.to_string(),
            at: at.map(ToString::to_string).collect(),
            visitors: exposure.visitors(),
            holders: holders.iter().map(holder).collect(),
        }
    };
    running.house().exposures.all().into_iter().map(entrance).collect()
}

fn holder(held: &Held) -> Holder {
    let (idle, busy) = held.pool.counts();
    Holder {
        client: held.pool.client.name.clone(),
        peer: held.peer().to_string(),
        seconds: held.since.elapsed().as_secs(),
        idle,
        busy,
        health: held.health.map(|health| health.name().to_owned()),
    }
}

fn targets(service: &Service) -> Vec<Target> {
    service
        .target
        .known()
        .map(|known| Target {
            service: service.name.clone(),
            target: known.name.to_owned(),
            up: known.is_up,
            backup: known.is_backup,
            connections: known.open,
        })
        .collect()
}

fn datagrams(running: &Running) -> Option<Datagrams> {
    let listeners = running.datagram_addresses();
    let flows = &running.house().flows;
    (!listeners.is_empty()).then(|| Datagrams {
        listeners: listeners.iter().map(ToString::to_string).collect(),
        flows: flows.len(),
        begun: flows.counts.begun.load(Ordering::Relaxed),
        dropped: flows.counts.dropped.load(Ordering::Relaxed),
        outcomes: flows.counts.outcomes().map(|(name, count)| (name.to_owned(), count)).collect(),
    })
}

/// Asks the posternd that serves this socket; for the commands, which need no runtime.
pub fn ask(path: &Path, request: Request) -> Result<Option<Status>, AskError> {
    let shown = path.display().to_string();
    let reply = || -> io::Result<Reply> {
        let mut socket = StdUnixStream::connect(path)?;
        socket.set_read_timeout(Some(request.patience()))?;
        socket.set_write_timeout(Some(request.patience()))?;
        writeln!(socket, "{}", request.word())?;
        let mut line = String::new();
        BufReader::new(socket.take(MOST_REPLY)).read_line(&mut line)?;
        serde_json::from_str(&line).map_err(io::Error::other)
    };
    match reply() {
        Ok(Reply { error: Some(error), .. }) => Err(AskError::Refused(error)),
        Ok(Reply { status, .. }) => Ok(status),
        Err(error) if error.kind() == io::ErrorKind::Other => Err(AskError::NotUnderstood(shown)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Err(AskError::NotRunning(shown))
        }
        Err(source) => Err(AskError::NoAnswer { path: shown, source }),
    }
}
