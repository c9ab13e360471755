//! From a service to a stream that leads to it, within the service's deadline. Never retries after
//! the deadline, and never reads from what it connected.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use postern_shared::hello::HostName;
use postern_shared::proxy;
use tokio::io::AsyncWriteExt;
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{Endpoint, Service, Target, exec};
use crate::stream::Stream;
use crate::wire::{Then, Wire};

/// On whose behalf a service is called.
#[derive(Clone, Debug)]
pub struct Dialing {
    /// The peer, as it is to be shown to the service.
    pub peer: SocketAddr,
    /// Our own address that the peer connected to.
    pub local: SocketAddr,
    /// The name that the peer asked for.
    pub sni: Option<HostName>,
    /// Whether the peer's first bytes are there to follow.
    pub bytes_follow: bool,
}

/// Why a service could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("no answer in time")]
    Timeout,
    #[error("{to}: {source}")]
    Connect { to: Endpoint, source: io::Error },
    #[error("{}: {source}", to.display())]
    Unix { to: PathBuf, source: io::Error },
    #[error("TLS with {to}: {source}")]
    Tls { to: Endpoint, source: io::Error },
    #[error("cannot run {program}: {source}")]
    Exec { program: String, source: io::Error },
}

/// Connects to the service and tells it, where it wants to know, who calls.
pub async fn connect(service: &Service, dialing: &Dialing) -> Result<Stream, Failure> {
    timeout(service.connect, open(service, dialing)).await.unwrap_or(Err(Failure::Timeout))
}

async fn open(service: &Service, dialing: &Dialing) -> Result<Stream, Failure> {
    let header = service
        .proxy
        .map(|version| proxy::header(version, dialing.peer, dialing.local))
        .unwrap_or_default();
    let then = match service.proxy {
        Some(_) => Then::Write,
        None if dialing.bytes_follow => Then::Write,
        None => Then::Wait,
    };
    match &service.target {
        Target::Tcp(to) => {
            let failed = |source| Failure::Connect { to: to.clone(), source };
            let mut socket = dial(to, then).await.map_err(failed)?;
            socket.write_all(&header).await.map_err(failed)?;
            Ok(socket.into())
        }
        Target::Unix(path) => {
            let failed = |source| Failure::Unix { to: path.clone(), source };
            let mut socket = Wire::connect_unix(path).await.map_err(failed)?;
            socket.write_all(&header).await.map_err(failed)?;
            Ok(socket.into())
        }
        Target::Tls(to, outward) => {
            let failed = |source| Failure::Connect { to: to.clone(), source };
            let mut socket = dial(to, Then::Write).await.map_err(failed)?;
            // The header goes ahead of TLS: it is for whoever accepts the connection.
            socket.write_all(&header).await.map_err(failed)?;
            let tls = outward
                .connect(socket, dialing.sni.as_ref(), &to.host)
                .await
                .map_err(|source| Failure::Tls { to: to.clone(), source })?;
            Ok(tls.into())
        }
        Target::Exec(command) => exec::spawn(command).map_err(|source| Failure::Exec {
            program: command.first().cloned().unwrap_or_default(),
            source,
        }),
    }
}

/// Tries every address of the name in turn.
async fn dial(to: &Endpoint, then: Then) -> io::Result<Wire> {
    if let Some(address) = to.literal {
        return Wire::connect(address, then).await;
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((to.host.as_str(), to.port)).await? {
        match Wire::connect(address, then).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
