//! Listeners: binding them, sorting accept errors by whose fault they are, and the only place where a
//! connection's task is spawned. Never waits on a client.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use postern_relay::Wire;
use postern_relay::sys::on_reactor;
use rustix::net::{SocketFlags, acceptfrom_with, getsockname};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{error, warn};

use crate::conn::{Arrival, serve};
use crate::house::House;
use crate::inherit::Passed;
use crate::policy::Policy;
use crate::workers::Workers;

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
struct Bound {
    configured: SocketAddr,
    /// A port 0 shows what it became.
    actual: SocketAddr,
    listener: Socket,
    /// The same listener, once for each worker.
    shares: Vec<OwnedFd>,
}

impl Bound {
    fn new(
        address: SocketAddr,
        listener: Socket,
        backlog: i32,
        workers: &Workers,
    ) -> io::Result<Bound> {
        // Inherited by what is accepted (Linux copies a listener's options), which saves a call each.
        listener.set_tcp_nodelay(true)?;
        listener.set_nonblocking(true)?;
        listener.listen(backlog)?;
        let actual = local_address(&listener).unwrap_or(address);
        let share = |_| Ok(listener.try_clone()?.into());
        let shares = workers.handles().iter().map(share).collect::<io::Result<_>>()?;
        Ok(Bound { configured: address, actual, listener, shares })
    }

    /// Accepts on all workers from now on.
    fn accept(self, used: Use, house: &Arc<House>, workers: &Workers) -> Accepting {
        let Bound { configured, actual, listener, shares } = self;
        let tasks = workers.handles().iter().zip(shares).map(|(worker, share)| {
            let at = At { configured, actual, used };
            worker.spawn(accept(share, at, house.clone()))
        });
        Accepting { actual, listener, tasks: tasks.collect() }
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// All that posternd tells apart by first bytes.
    All,
    /// One entrance, whose client gets all who come.
    Entrance,
}

/// Binds an address. A v6 listener is for v6 only: `[::]` would clash with `0.0.0.0` otherwise.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// The listeners in force, by the address that the configuration gives them.
#[derive(Debug, Default)]
pub struct Listeners {
    open: Mutex<BTreeMap<SocketAddr, Accepting>>,
    /// Those of entrances that clients hold.
    doors: Mutex<BTreeMap<SocketAddr, Accepting>>,
    passed: Mutex<Passed>,
}

#[derive(Debug)]
struct Accepting {
    actual: SocketAddr,
    listener: Socket,
    /// One on each worker.
    tasks: Vec<JoinHandle<()>>,
}

impl BindError {
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl Listeners {
    /// Where an address that is wanted was bound already, that listener is taken.
    pub(crate) fn with(passed: Passed) -> Listeners {
        Listeners { passed: Mutex::new(passed), ..Listeners::default() }
    }

    /// Makes exactly `wanted` the listeners in force: new ones are bound before old ones close, and
    /// if one cannot be bound nothing changes.
    pub fn set(
        &self,
        wanted: &[SocketAddr],
        backlog: i32,
        house: &Arc<House>,
        workers: &Workers,
    ) -> Result<(), BindError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<_> = wanted.iter().filter(|address| !open.contains_key(address)).collect();
        // What was passed comes last: it would be gone if another cannot be bound.
        new.sort_by_key(|address| passed.has(**address));
        let bound = new.into_iter().map(|address| {
            let claimed = passed.claim(*address).map(Ok);
            claimed
                .unwrap_or_else(|| bind(*address))
                .and_then(|listener| Bound::new(*address, listener, backlog, workers))
                .map_err(|source| BindError {
                    own: source.kind() == io::ErrorKind::AddrInUse
                        && open.keys().any(|held| held.port() == address.port()),
                    address: *address,
                    source,
                })
        });
        let bound = bound.collect::<Result<Vec<_>, _>>()?;
        open.retain(|address, accepting| {
            let keep = wanted.contains(address);
            if keep {
                // It cannot fail for a socket that listens already (listen(2)).
                let _ = accepting.listener.listen(backlog);
            } else {
                accepting.end();
            }
            keep
        });
        for bound in bound {
            open.insert(bound.configured, bound.accept(Use::All, house, workers));
        }
        Ok(())
    }

    /// Binds the port of an entrance; answers where, if it was not bound already.
    pub(crate) fn open_door(
        &self,
        address: SocketAddr,
        backlog: i32,
        house: &Arc<House>,
        workers: &Workers,
    ) -> Result<Option<SocketAddr>, BindError> {
        let mut doors = self.doors();
        if doors.contains_key(&address) {
            return Ok(None);
        }
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let bound = passed
            .claim(address)
            .map_or_else(|| bind(address), Ok)
            .and_then(|listener| Bound::new(address, listener, backlog, workers))
            .map_err(|source| BindError { address, source, own: false })?;
        let actual = bound.actual;
        doors.insert(address, bound.accept(Use::Entrance, house, workers));
        Ok(Some(actual))
    }

    /// Closes the ports of all other entrances.
    pub(crate) fn close_doors_but(&self, wanted: &[SocketAddr]) {
        self.doors().retain(|address, accepting| {
            let keep = wanted.contains(address);
            if !keep {
                accepting.end();
            }
            keep
        });
    }

    /// Where entrances listen.
    pub fn door_addresses(&self) -> Vec<SocketAddr> {
        self.doors().values().map(|accepting| accepting.actual).collect()
    }

    fn doors(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Accepting>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for accepting in [&mut *open, &mut *self.doors()].map(std::mem::take).into_iter().flatten()
        {
            accepting.1.end();
        }
    }

    /// Listeners that were passed to posternd and that no address in force names.
    pub fn unused(&self) -> Vec<SocketAddr> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).addresses().collect()
    }

    /// The addresses as bound: a port 0 shows what it became.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|accepting| accepting.actual).collect()
    }
}

impl Accepting {
    fn end(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Where connections are accepted, and what for.
#[derive(Clone, Copy)]
struct At {
    configured: SocketAddr,
    actual: SocketAddr,
    used: Use,
}

async fn accept(listener: OwnedFd, at: At, house: Arc<House>) {
    let mut policy = house.follow_policy();
    let mut warned: Option<Instant> = None;
    let listener = match on_reactor(listener, Interest::READABLE) {
        Ok(listener) => listener,
        Err(error) => {
            error!(%error, "a worker cannot listen");
            return;
        }
    };
    loop {
        match listener.async_io(Interest::READABLE, next).await {
            Ok((socket, peer)) => {
                if let Some(arrival) = arrival(socket, peer, at, &house, policy.now()) {
                    tokio::spawn(serve(house.clone(), arrival));
                }
                // It is served first: another worker may be free to take the next.
                next_turn().await;
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

fn next(listener: &OwnedFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (socket, peer) = acceptfrom_with(listener, flags)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((socket, peer.ok_or(io::ErrorKind::ConnectionAborted)?))
}

/// Completes when whatever else is ready has had its turn.
async fn next_turn() {
    let mut waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// `None` if the connection is gone already.
fn arrival(
    socket: OwnedFd,
    peer: SocketAddr,
    at: At,
    house: &House,
    policy: Arc<Policy>,
) -> Option<Arrival> {
    let At { configured: listener, actual, used } = at;
    let exposed = match used {
        Use::All => None,
        // One that leads nowhere is about to be closed.
        Use::Entrance => Some(house.exposures.at_port(listener.port())?),
    };
    let local = if actual.ip().is_unspecified() { local_address(&socket)? } else { actual };
    let wire = Wire::tcp(socket).ok()?;
    Some(Arrival { wire, peer: fold(peer), local: fold(local), listener, exposed, policy })
}

fn local_address(socket: impl AsFd) -> Option<SocketAddr> {
    SocketAddr::try_from(getsockname(socket).ok()?).ok()
}

/// `::ffff:a.b.c.d` is a v4 address wherever addresses are compared.
pub(crate) fn fold(address: SocketAddr) -> SocketAddr {
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
