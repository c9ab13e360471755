//! The flows of one posternd: found, begun, made to give way, counted. Decides no route and moves no
//! datagram.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_relay::sys::on_reactor;
use postern_shared::sniff::datagram::DatagramKind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::flow::{Flow, FlowOutcome, Life, serve};
use super::listen::{BUFFER, Listening};
use super::table::{Pair, Pulse, Table};
use super::{Route, Udp};
use crate::sys::datagrams::Ends;

#[derive(Debug)]
pub struct Flows {
    table: Mutex<Table<Flow>>,
    /// Also those that have given way and are about to end.
    open: Arc<AtomicUsize>,
    started: Instant,
    pub counts: FlowCounts,
}

impl Default for Flows {
    fn default() -> Flows {
        Flows {
            table: Mutex::new(Table::new()),
            open: Arc::default(),
            started: Instant::now(),
            counts: FlowCounts::default(),
        }
    }
}

/// What a flow begins with.
pub(super) struct Beginning<'a> {
    pub(super) ends: Ends,
    pub(super) listening: &'a Arc<Listening>,
    pub(super) route: &'a Route,
    pub(super) seen: Option<DatagramKind>,
}

impl Flows {
    pub(super) fn find(&self, pair: &Pair) -> Option<Arc<Flow>> {
        self.table().get(pair).cloned()
    }

    /// Begins a flow, on this worker; another may have to give way. `None` where those that gave way
    /// before are too many that have not ended yet: a flood must not get ahead of that.
    pub(super) fn begin(
        self: &Arc<Flows>,
        beginning: &Beginning<'_>,
        udp: &Udp,
        worker: &Handle,
    ) -> io::Result<Option<Arc<Flow>>> {
        let Beginning { ends, listening, route, seen } = beginning;
        let loser = self.table().make_room(ends.peer, &udp.limits);
        if let Some(loser) = loser {
            loser.end(FlowOutcome::Evicted, None);
        }
        let Some(open) = Open::one_more(&self.open, udp.limits.with_ending()) else {
            return Ok(None);
        };
        let socket = connect(route.service.to)?;
        let upstream = {
            // Its reactor is to be that of the worker which reads it.
            let _there = worker.enter();
            // What ICMP says is an error, and nothing to read.
            on_reactor(socket, Interest::READABLE.add(Interest::ERROR))?
        };
        let pulse = Arc::new(Pulse::default());
        pulse.up(self.now());
        let flow = Arc::new(Flow::new(
            *ends,
            (*listening).clone(),
            route.service.clone(),
            upstream,
            pulse.clone(),
            open,
        ));
        let number = self.table().insert(flow.pair(), pulse, flow.clone());
        self.counts.begun.fetch_add(1, Ordering::Relaxed);
        let life = Life {
            flows: self.clone(),
            flow: flow.clone(),
            number,
            rule: route.number,
            seen: *seen,
            started: Instant::now(),
        };
        // Nothing is locked: where the worker has stopped the flow ends here.
        worker.spawn(serve(life, udp.idle));
        Ok(Some(flow))
    }

    pub(super) fn remove(&self, pair: &Pair, number: u64) {
        self.table().remove(pair, number);
    }

    /// Ends those that came by a listener which is no more.
    pub(super) fn end_of(&self, listening: &Arc<Listening>) {
        for flow in self.table().iter().filter(|flow| flow.came_by(listening)) {
            flow.end(FlowOutcome::Stopped, None);
        }
    }

    pub fn len(&self) -> usize {
        self.table().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In milliseconds.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn instant(&self, then: u64) -> Instant {
        self.started + Duration::from_millis(then)
    }

    fn table(&self) -> MutexGuard<'_, Table<Flow>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that hears of nobody but the service.
fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let _ = socket.set_recv_buffer_size(BUFFER);
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// That one more is open, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    fn one_more(open: &Arc<AtomicUsize>, most: usize) -> Option<Open> {
        let more = |open: usize| (open < most).then_some(open + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Open(open.clone()))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Flows counted by outcome, and datagrams that belong to none.
#[derive(Debug, Default)]
pub struct FlowCounts {
    pub begun: AtomicU64,
    /// Datagrams that no route takes, or for whose flow there was no room.
    pub dropped: AtomicU64,
    outcomes: [AtomicU64; FlowOutcome::ALL.len()],
}

impl FlowCounts {
    pub(super) fn add(&self, outcome: FlowOutcome) {
        let at = FlowOutcome::ALL.iter().position(|other| *other == outcome);
        if let Some(count) = at.and_then(|at| self.outcomes.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Outcomes by name, those that never happened too.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.outcomes.iter().map(|count| count.load(Ordering::Relaxed));
        FlowOutcome::ALL.into_iter().map(FlowOutcome::name).zip(counts)
    }
}
