//! The local service: gets a connection to it. Decides which of its addresses is tried first; says nothing
//! to it.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use postern_relay::Wire;
use postern_relay::wire::Then;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use crate::address::Address;
use crate::profile::Target;

/// For a service that does not answer; one that is down says so at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// For so long a name means what it meant: visitors come faster than names change.
const FRESH: Duration = Duration::from_secs(10);

/// A service, and what is known of its addresses.
#[derive(Debug)]
pub(super) struct Local {
    target: Target,
    known: RefCell<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    /// The one that answered last stands first.
    addresses: Vec<SocketAddr>,
}

impl Local {
    pub(super) fn new(target: Target) -> Local {
        Local { target, known: RefCell::new(None) }
    }

    pub(super) async fn dial(&self, then: Then) -> io::Result<Wire> {
        let dialling = async {
            match &self.target {
                Target::Unix(path) => Wire::connect_unix(path).await,
                Target::Tcp(address) => self.dial_tcp(address, then).await,
            }
        };
        timeout(PATIENCE, dialling).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    async fn dial_tcp(&self, address: &Address, then: Then) -> io::Result<Wire> {
        let mut addresses = self.addresses(address).await?;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for at in 0..addresses.len() {
            let Some(one) = addresses.get(at).copied() else { break };
            match Wire::connect(one, then).await {
                Ok(wire) => {
                    if at > 0 {
                        addresses.swap(0, at);
                        self.know(addresses);
                    }
                    return Ok(wire);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn addresses(&self, address: &Address) -> io::Result<Vec<SocketAddr>> {
        if let Some(known) = &*self.known.borrow()
            && known.since.elapsed() < FRESH
        {
            return Ok(known.addresses.clone());
        }
        let port = address.port.get();
        let host = address.host.as_str();
        let found: Vec<SocketAddr> = if let Ok(ip) = host.parse::<IpAddr>() {
            vec![SocketAddr::new(ip, port)]
        } else if host.eq_ignore_ascii_case("localhost") {
            // Always this machine (RFC 6761, 6.3), whatever a resolver would say and however long it took.
            let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            loopback.map(|ip| SocketAddr::new(ip, port)).to_vec()
        } else {
            lookup_host((host, port)).await?.collect()
        };
        self.know(found.clone());
        Ok(found)
    }

    fn know(&self, addresses: Vec<SocketAddr>) {
        *self.known.borrow_mut() = Some(Known { since: Instant::now(), addresses });
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn localhost_is_found_on_either_family() {
        let listener = match TcpListener::bind("[::1]:0").await {
            Ok(listener) => listener,
            // A machine without IPv6.
            Err(_) => TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        };
        let port = listener.local_addr().expect("bound").port();
        let local = Local::new(port.to_string().parse().expect("a target"));
        for _ in 0..2 {
            local.dial(Then::Wait).await.expect("somebody listens");
        }
        drop(listener);
        assert!(local.dial(Then::Wait).await.is_err());
    }
}
