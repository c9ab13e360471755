//! Sockets on which first datagrams come: binding them, and one task for each that leads datagrams to
//! their flows. Never waits on a peer or a service.
//!
//! One task for each address was chosen over one for each worker with SO_REUSEPORT: that would let
//! another process of the same user share the port unnoticed. What services send, commonly most of it, is
//! moved by all workers.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_relay::sys::on_reactor;
use postern_shared::sniff::datagram::DatagramKind;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::Facts;
use super::flow::Flow;
use super::flows::{Beginning, Flows};
use super::table::Pair;
use crate::house::House;
use crate::inherit::Passed;
use crate::listen::fold;
use crate::policy::Policy;
use crate::sys::datagrams::{Batch, Ends, tell_local_address};
use crate::workers::Workers;

/// What a socket may hold; the kernel gives less where `net.core.rmem_max` is lower. Services send in bursts.
pub(super) const BUFFER: usize = 4 * 1024 * 1024;

/// How long to let flows end when receiving fails.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two lines about the same trouble.
const QUIET: Duration = Duration::from_secs(10);

/// Why datagrams cannot be received at an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for datagrams: {source}{}", hint(source))]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; another program has this port, `ss -lunp` shows which"
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        "; ports below 1024 need CAP_NET_BIND_SERVICE"
    } else {
        ""
    }
}

/// A socket on which first datagrams come, and from which all answers leave.
#[derive(Debug)]
pub(super) struct Listening {
    socket: AsyncFd<OwnedFd>,
    configured: SocketAddr,
    /// A port 0 shows what it became.
    actual: SocketAddr,
}

impl Listening {
    fn new(configured: SocketAddr, socket: Socket, worker: &Handle) -> io::Result<Listening> {
        socket.set_nonblocking(true)?;
        tell_local_address(socket.as_fd(), configured.is_ipv6())?;
        // Best effort: what is short of it is dropped, as on any full way.
        let _ = SockRef::from(&socket).set_recv_buffer_size(BUFFER);
        let _ = SockRef::from(&socket).set_send_buffer_size(BUFFER);
        let actual = socket.local_addr()?.as_socket().unwrap_or(configured);
        let _there = worker.enter();
        let socket = on_reactor(socket.into(), Interest::READABLE.add(Interest::WRITABLE))?;
        Ok(Listening { socket, configured, actual })
    }

    pub(super) fn socket(&self) -> &AsyncFd<OwnedFd> {
        &self.socket
    }

    pub(super) fn pair(&self, ends: &Ends) -> Pair {
        Pair { peer: ends.peer, local: SocketAddr::new(ends.local, self.actual.port()) }
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // No SO_REUSEADDR: for datagrams it lets another program take the port away.
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Those in force, by the address that the configuration gives them.
#[derive(Debug, Default)]
pub struct Listeners {
    open: Mutex<BTreeMap<SocketAddr, Receiving>>,
    passed: Mutex<Passed>,
}

#[derive(Debug)]
struct Receiving {
    actual: SocketAddr,
    task: JoinHandle<()>,
}

/// Sockets that are bound and wait for all else to go well.
#[derive(Debug)]
pub struct Prepared {
    wanted: Vec<SocketAddr>,
    new: Vec<(Arc<Listening>, Handle)>,
}

impl Listeners {
    /// Where an address that is wanted was bound already, that socket is taken.
    pub(crate) fn with(passed: Passed) -> Listeners {
        Listeners { passed: Mutex::new(passed), ..Listeners::default() }
    }

    /// Binds what is wanted and not there yet. Nothing changes until it is put in force.
    pub fn prepare(&self, wanted: &[SocketAddr], workers: &Workers) -> Result<Prepared, BindError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let new = wanted.iter().filter(|address| !open.contains_key(address));
        let listening = new.zip(workers.handles().iter().cycle()).map(|(address, worker)| {
            passed
                .get(*address)
                .map_or_else(|| bind(*address), Socket::try_clone)
                .and_then(|socket| Listening::new(*address, socket, worker))
                .map(|listening| (Arc::new(listening), worker.clone()))
                .map_err(|source| BindError { address: *address, source })
        });
        Ok(Prepared { wanted: wanted.to_vec(), new: listening.collect::<Result<_, _>>()? })
    }

    /// Makes exactly what was wanted the sockets in force; flows of the others end.
    pub fn put_in_force(&self, prepared: Prepared, house: &Arc<House>, workers: &Workers) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|address, receiving| {
            let keep = prepared.wanted.contains(address);
            if !keep {
                receiving.task.abort();
            }
            keep
        });
        for (listening, worker) in prepared.new {
            let Listening { configured, actual, .. } = *listening;
            drop(passed.claim(configured));
            let reception = Reception {
                listening,
                house: house.clone(),
                workers: workers.handles().to_vec(),
                next: 0,
                warned: None,
            };
            let task = worker.spawn(reception.run());
            open.insert(configured, Receiving { actual, task });
        }
    }

    pub fn close(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, receiving) in std::mem::take(&mut *open) {
            receiving.task.abort();
        }
    }

    /// Sockets that were passed to posternd and that no address in force names.
    pub fn unused(&self) -> Vec<SocketAddr> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).addresses().collect()
    }

    /// The addresses as bound: a port 0 shows what it became.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.values().map(|receiving| receiving.actual).collect()
    }
}

/// The task of one socket.
struct Reception {
    listening: Arc<Listening>,
    house: Arc<House>,
    workers: Vec<Handle>,
    /// Whose turn it is to get a flow.
    next: usize,
    warned: Option<Instant>,
}

impl Reception {
    async fn run(mut self) {
        let mut policy = self.house.follow_policy();
        let mut batch = Batch::new();
        let listening = self.listening.clone();
        loop {
            let received = listening
                .socket
                .async_io(Interest::READABLE, |socket| batch.receive_from(socket.as_fd()));
            match received.await {
                Ok(()) => self.lead(&batch, &policy.now()),
                Err(error) => {
                    self.warn(&error, "cannot receive datagrams");
                    sleep(PAUSE).await;
                }
            }
            if batch.is_full() {
                // Flows that gave way end before others begin.
                yield_now().await;
            }
        }
    }

    fn lead(&mut self, batch: &Batch, policy: &Policy) {
        let flows = self.house.flows.clone();
        let now = flows.now();
        for (ends, run) in batch.runs() {
            let known = flows.find(&self.listening.pair(&ends));
            let first = batch.get(run.start).unwrap_or_default();
            match known.or_else(|| self.begin(&flows, ends, first, policy)) {
                Some(flow) => flow.up(batch, run, now),
                None => {
                    let dropped = run.len() as u64;
                    flows.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
                }
            }
        }
    }

    fn begin(
        &mut self,
        flows: &Arc<Flows>,
        ends: Ends,
        first: &[u8],
        policy: &Policy,
    ) -> Option<Arc<Flow>> {
        let udp = policy.udp.as_ref()?;
        let seen = DatagramKind::of(first);
        let facts = Facts { seen, from: fold(ends.peer).ip(), listener: self.listening.configured };
        let route = udp.route(&facts)?;
        self.next = self.next.wrapping_add(1);
        let worker = self.workers.get(self.next.checked_rem(self.workers.len())?)?;
        let beginning = Beginning { ends, listening: &self.listening, route, seen };
        match flows.begin(&beginning, udp, worker) {
            Ok(flow) => flow,
            Err(error) => {
                let service = &route.service.name;
                self.warn(&error, &format!("cannot begin a flow to service {service:?}"));
                None
            }
        }
    }

    fn warn(&mut self, error: &io::Error, what: &str) {
        if self.warned.is_none_or(|at| at.elapsed() > QUIET) {
            self.warned = Some(Instant::now());
            warn!(%error, "{what}");
        }
    }
}

impl Drop for Reception {
    fn drop(&mut self) {
        self.house.flows.end_of(&self.listening);
    }
}
