//! From a service to a stream that leads to it, within the service's deadline. Never retries after
//! the deadline, and never reads from what it connected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use postern_relay::wire::{Then, Wire};
use postern_shared::hello::HostName;
use postern_shared::proxy;
use tokio::io::AsyncWriteExt;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::exec::{self, Child};
use super::pass::Taker;
use super::upstream::{Address, Load, Upstream, Upstreams};
use super::{Endpoint, Service, Target};
use crate::program::Program;
use crate::stream::Stream;

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
    #[error("no client that exposes it had a lane in time")]
    Away,
    #[error("the client that exposes it was lost while it took the visitor")]
    Untaken,
}

/// The other end of a service's connection, and what is held for as long as it lasts.
#[derive(Debug)]
pub struct Reached {
    pub stream: Stream,
    pub load: Option<Load>,
    pub child: Option<Child>,
    /// Whether it can be cut off without the connection being closed.
    pub is_far: bool,
}

impl Reached {
    fn near(stream: impl Into<Stream>) -> Reached {
        Reached { stream: stream.into(), load: None, child: None, is_far: false }
    }
}

/// Connects to the service and tells it, where it wants to know, who calls.
pub async fn connect(service: &Service, dialing: &Dialing) -> Result<Reached, Failure> {
    match &service.target {
        Target::Upstreams(upstreams) => match upstreams.only() {
            Some(only) => {
                let reached = reach(service, only, dialing, service.connect);
                timeout(service.connect, reached).await.unwrap_or(Err(Failure::Timeout))
            }
            None => reach_one_of(service, upstreams, dialing).await,
        },
        Target::Exec(program) => run(program, dialing).await,
        // A visitor is led there with his first bytes, see `join`.
        Target::Tunnel(_) => Err(Failure::Away),
        Target::Pass(handing) => {
            let handed = async {
                let taker = Taker::connect(&handing.socket).await?;
                let (ours, theirs) = Wire::pair()?;
                taker.hand_over(theirs, &header(service, dialing)).await?;
                Ok(Reached::near(ours))
            };
            let handed = timeout(service.connect, handed).await;
            match (
                handed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
                &handing.otherwise,
            ) {
                (Ok(reached), _) => Ok(reached),
                (Err(_), Some(program)) => run(program, dialing).await,
                (Err(source), None) => Err(Failure::Unix { to: handing.socket.clone(), source }),
            }
        }
    }
}

/// The program on one end of a socket pair.
async fn run(program: &Program, dialing: &Dialing) -> Result<Reached, Failure> {
    let failed = |source| Failure::Exec { program: program.path.clone(), source };
    program.is_there().map_err(failed)?;
    let (ours, theirs) = Wire::pair().map_err(failed)?;
    let child = exec::spawn(program, theirs, dialing).await.map_err(failed)?;
    Ok(Reached { child: Some(child), ..Reached::near(ours) })
}

/// The PROXY header for the service; empty where it wants none.
pub(crate) fn header(service: &Service, dialing: &Dialing) -> Vec<u8> {
    let header = |version| proxy::header(version, dialing.peer, dialing.local);
    service.proxy.map(header).unwrap_or_default()
}

/// Tries the targets in turn, each for its share of the time that is left: one that says nothing must
/// not use up the others'.
async fn reach_one_of(
    service: &Service,
    upstreams: &Upstreams,
    dialing: &Dialing,
) -> Result<Reached, Failure> {
    let end = Instant::now() + service.connect;
    let order = upstreams.order(dialing.peer.ip());
    let mut last = Failure::Timeout;
    for (left, upstream) in (1..=order.len()).rev().zip(order) {
        let part = share(end, left);
        let reached = timeout(part, reach(service, upstream, dialing, part)).await;
        let reached = reached.unwrap_or(Err(Failure::Timeout));
        match reached {
            Ok(reached) => {
                upstream.state().tried(true);
                return Ok(Reached { load: Some(upstream.state().load()), ..reached });
            }
            Err(failure) => {
                if says_of_the_target(&failure, service, dialing) {
                    upstream.state().tried(false);
                }
                last = failure;
            }
        }
    }
    Err(last)
}

/// Whether the next peer would fare no better. A stranger must not be able to have a target passed over:
/// by a name that its certificate does not have, or an address that it cannot answer.
fn says_of_the_target(failure: &Failure, service: &Service, dialing: &Dialing) -> bool {
    match failure {
        Failure::Tls { .. } => false,
        Failure::Timeout
        | Failure::Connect { .. }
        | Failure::Unix { .. }
        | Failure::Exec { .. }
        | Failure::Away
        | Failure::Untaken => source(service, dialing).is_none(),
    }
}

/// The address to connect from, where that is not posternd's own.
fn source(service: &Service, dialing: &Dialing) -> Option<IpAddr> {
    // From a loopback address another machine's answers would not come back.
    let peer = dialing.peer.ip();
    (service.transparent && !peer.is_loopback()).then_some(peer)
}

async fn reach(
    service: &Service,
    upstream: &Upstream,
    dialing: &Dialing,
    within: Duration,
) -> Result<Reached, Failure> {
    let header = header(service, dialing);
    let then = if dialing.bytes_follow || !header.is_empty() { Then::Write } else { Then::Wait };
    let source = source(service, dialing);
    let stream: Stream = match &upstream.address {
        Address::Tcp(to) => {
            let failed = |source| Failure::Connect { to: to.clone(), source };
            let mut socket = dial(to, then, source, within).await.map_err(failed)?;
            socket.write_all(&header).await.map_err(failed)?;
            socket.into()
        }
        Address::Unix(path) => {
            let failed = |source| Failure::Unix { to: path.clone(), source };
            let mut socket = Wire::connect_unix(path).await.map_err(failed)?;
            socket.write_all(&header).await.map_err(failed)?;
            socket.into()
        }
        Address::Tls(to, outward) => {
            let failed = |source| Failure::Connect { to: to.clone(), source };
            let mut socket = dial(to, Then::Write, source, within).await.map_err(failed)?;
            // The header goes ahead of TLS: it is for whoever accepts the connection.
            socket.write_all(&header).await.map_err(failed)?;
            let tls = outward
                .connect(socket, dialing.sni.as_ref(), &to.host)
                .await
                .map_err(|source| Failure::Tls { to: to.clone(), source })?;
            tls.into()
        }
    };
    Ok(Reached { is_far: !upstream.address.is_on_this_machine(), ..Reached::near(stream) })
}

/// Whether somebody accepts connections there.
pub(super) async fn probe(upstream: &Upstream, within: Duration) -> io::Result<()> {
    match &upstream.address {
        Address::Tcp(to) | Address::Tls(to, _) => dial(to, Then::Wait, None, within).await,
        Address::Unix(path) => Wire::connect_unix(path).await,
    }
    .map(drop)
}

/// Tries every address of the name in turn.
async fn dial(
    to: &Endpoint,
    then: Then,
    source: Option<IpAddr>,
    within: Duration,
) -> io::Result<Wire> {
    if let Some(address) = to.literal {
        return Wire::connect_as(source, address, then).await;
    }
    let end = Instant::now() + within;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses: Vec<_> = lookup_host((to.host.as_str(), to.port)).await?.collect();
    for (left, address) in (1..=addresses.len()).rev().zip(addresses) {
        match timeout(share(end, left), Wire::connect_as(source, address, then)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// What an attempt gets of the time until then where so many are left, itself counted.
fn share(end: Instant, left: usize) -> Duration {
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    end.saturating_duration_since(Instant::now()) / left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_have_a_target_passed_over() {
        let to = Endpoint::parse("192.0.2.1:443", None).expect("sound");
        let error = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let failures = [
            (Failure::Connect { to: to.clone(), source: error() }, true),
            (Failure::Timeout, true),
            (Failure::Tls { to, source: error() }, false),
        ];
        let peer = |text: &str| {
            let peer = text.parse().expect("an address");
            Dialing { peer, local: peer, sni: None, bytes_follow: false }
        };
        let nowhere = Target::Pass(super::super::Handing::to("/nowhere"));
        let mut service = Service::new("it", nowhere, Duration::from_secs(1));
        let (far, near) = (peer("203.0.113.7:1"), peer("127.0.0.1:1"));
        for (failure, says) in failures {
            service.transparent = false;
            assert_eq!(says_of_the_target(&failure, &service, &far), says, "{failure}");
            service.transparent = true;
            assert!(!says_of_the_target(&failure, &service, &far), "{failure}, from his address");
            assert_eq!(says_of_the_target(&failure, &service, &near), says, "{failure}");
        }
    }
}
