//! Listeners: binding them, sorting accept errors by whose fault they are, and the only place where a
//! connection's task is spawned. Never waits on a client.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use crate::conn::{Arrival, serve};
use crate::house::House;

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long to let connections end when there is no descriptor for another one.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Between two lines about the same trouble.
const QUIET: Duration = Duration::from_secs(10);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(source, *own))]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
    /// Another listener of ours has the port.
    own: bool,
}

fn hint(error: &io::Error, own: bool) -> &'static str {
    if own {
        "; posternd itself has this port on another address: moving it takes a restart"
    } else if error.kind() == io::ErrorKind::AddrInUse {
        "; another program has this port, `ss -ltnp` shows which"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "; ports below 1024 need CAP_NET_BIND_SERVICE"
    } else {
        ""
    }
}

/// A listener that is bound but does not accept yet.
#[derive(Debug)]
pub struct Bound {
    configured: SocketAddr,
    listener: TcpListener,
}

/// Binds an address. A v6 listener is for v6 only: `[::]` would clash with `0.0.0.0` otherwise.
pub fn bind(address: SocketAddr) -> Result<Bound, BindError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        // Inherited by what is accepted (Linux copies a listener's options), which saves a call each.
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match bind() {
        Ok(listener) => Ok(Bound { configured: address, listener }),
        Err(source) => Err(BindError { address, source, own: false }),
    }
}

/// The listeners in force, by the address that the configuration gives them.
#[derive(Debug, Default)]
pub struct Listeners {
    open: Mutex<BTreeMap<SocketAddr, Accepting>>,
}

#[derive(Debug)]
struct Accepting {
    actual: SocketAddr,
    task: JoinHandle<()>,
}

impl Listeners {
    /// Makes exactly `wanted` the listeners in force: new ones are bound before old ones close, and
    /// if one cannot be bound nothing changes.
    pub fn set(&self, wanted: &[SocketAddr], house: &Arc<House>) -> Result<(), BindError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = wanted
            .iter()
            .filter(|address| !open.contains_key(address))
            .map(|address| bind(*address))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BindError {
                own: error.source.kind() == io::ErrorKind::AddrInUse
                    && open.keys().any(|held| held.port() == error.address.port()),
                ..error
            })?;
        open.retain(|address, accepting| {
            let keep = wanted.contains(address);
            if !keep {
                accepting.task.abort();
            }
            keep
        });
        for Bound { configured, listener } in bound {
            let actual = listener.local_addr().unwrap_or(configured);
            let task = tokio::spawn(accept(listener, house.clone()));
            open.insert(configured, Accepting { actual, task });
        }
        Ok(())
    }

    /// The addresses as bound: a port 0 shows what it became.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|accepting| accepting.actual).collect()
    }
}

async fn accept(listener: TcpListener, house: Arc<House>) {
    let mut warned: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if let Some(arrival) = arrival(socket, peer) {
                    tokio::spawn(serve(house.clone(), arrival));
                }
            }
            Err(error) => match blame(&error) {
                Blame::Peer => {}
                Blame::Us => {
                    if warned.is_none_or(|at| at.elapsed() > QUIET) {
                        warned = Some(Instant::now());
                        warn!(%error, "cannot accept; raise the limit on open files (LimitNOFILE=)");
                    }
                    sleep(OUT_OF_DESCRIPTORS).await;
                }
                Blame::Bug => {
                    error!(%error, "accept failed");
                    sleep(OUT_OF_DESCRIPTORS).await;
                }
            },
        }
    }
}

/// `None` if the connection is gone already.
fn arrival(socket: TcpStream, peer: SocketAddr) -> Option<Arrival> {
    let local = socket.local_addr().ok()?;
    Some(Arrival { socket, peer: fold(peer), local: fold(local) })
}

/// `::ffff:a.b.c.d` is a v4 address wherever addresses are compared.
fn fold(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

enum Blame {
    /// The connection died before it was accepted (accept(2): treat these like EAGAIN).
    Peer,
    /// Out of descriptors or memory: accepting again at once would spin.
    Us,
    Bug,
}

fn blame(error: &io::Error) -> Blame {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => Blame::Us,
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::EFAULT) => {
            Blame::Bug
        }
        Some(_) | None => Blame::Peer,
    }
}
