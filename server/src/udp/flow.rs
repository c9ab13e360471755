//! One flow: what the peer sends goes to the service from a socket of its own, what the service sends
//! goes back from the address that the peer asked. It ends in exactly one outcome. Never sends a peer
//! what the service did not.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postern_shared::sniff::datagram::DatagramKind;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::DatagramService;
use super::flows::{Flows, Open};
use super::listen::Listening;
use super::table::{Pair, Pulse};
use crate::sys::datagrams::{Batch, Ends, Sent};

/// How a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowOutcome {
    /// There was no datagram either way for so long.
    Idle,
    /// Another needed its place.
    Evicted,
    /// ICMP or the routing says that the service is not there.
    UpstreamDown,
    /// posternd stopped, or its listener did.
    Stopped,
    /// A panic, which is a bug of ours.
    Bug,
}

impl FlowOutcome {
    pub(super) const ALL: [FlowOutcome; 5] = [
        FlowOutcome::Idle,
        FlowOutcome::Evicted,
        FlowOutcome::UpstreamDown,
        FlowOutcome::Stopped,
        FlowOutcome::Bug,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            FlowOutcome::Idle => "idle",
            FlowOutcome::Evicted => "evicted",
            FlowOutcome::UpstreamDown => "upstream-down",
            FlowOutcome::Stopped => "stopped",
            FlowOutcome::Bug => "bug",
        }
    }
}

thread_local! {
    /// For what services send: it goes on at once.
    static BATCH: RefCell<Batch> = RefCell::new(Batch::new());
}

#[derive(Debug)]
pub(super) struct Flow {
    ends: Ends,
    listening: Arc<Listening>,
    service: Arc<DatagramService>,
    /// Connected to the service.
    upstream: AsyncFd<OwnedFd>,
    pulse: Arc<Pulse>,
    up: Moved,
    down: Moved,
    ending: OnceLock<Ending>,
    told: Notify,
    _open: Open,
}

#[derive(Debug)]
struct Ending {
    outcome: FlowOutcome,
    failure: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Moved {
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

impl Moved {
    fn add(&self, sent: &Sent) {
        self.datagrams.fetch_add(sent.datagrams, Ordering::Relaxed);
        self.bytes.fetch_add(sent.bytes, Ordering::Relaxed);
    }
}

impl Flow {
    pub(super) fn new(
        ends: Ends,
        listening: Arc<Listening>,
        service: Arc<DatagramService>,
        upstream: AsyncFd<OwnedFd>,
        pulse: Arc<Pulse>,
        open: Open,
    ) -> Flow {
        Flow {
            ends,
            listening,
            service,
            upstream,
            pulse,
            up: Moved::default(),
            down: Moved::default(),
            ending: OnceLock::new(),
            told: Notify::new(),
            _open: open,
        }
    }

    pub(super) fn pair(&self) -> Pair {
        self.listening.pair(&self.ends)
    }

    pub(super) fn came_by(&self, listening: &Arc<Listening>) -> bool {
        Arc::ptr_eq(&self.listening, listening)
    }

    /// Sends the service what the peer sent. What cannot go at once is lost, as on any full way.
    pub(super) fn up(&self, batch: &Batch, which: Range<usize>, now: u64) {
        self.pulse.up(now);
        let sent = batch.send(which, self.upstream.as_fd(), None);
        self.up.add(&sent);
        if let Some(error) = sent.error
            && !is_passing(&error)
        {
            self.end(FlowOutcome::UpstreamDown, Some(error));
        }
    }

    /// What ends it first is what it is said to have ended by.
    pub(super) fn end(&self, outcome: FlowOutcome, failure: Option<io::Error>) {
        let _ = self.ending.set(Ending { outcome, failure });
        self.told.notify_one();
    }

    /// Sends the peer what the service sends, until the flow has ended.
    async fn down(&self, flows: &Flows) {
        loop {
            // What was received and cannot be sent is lost, so there has to be a way first.
            let Ok(mut way) = self.listening.socket().writable().await else {
                return self.end(FlowOutcome::Stopped, None);
            };
            let interest = Interest::READABLE.add(Interest::ERROR);
            let moved = self.upstream.async_io(interest, |upstream| {
                BATCH.with_borrow_mut(|batch| {
                    batch.receive(upstream.as_fd())?;
                    let way = self.listening.socket().as_fd();
                    let sent = batch.send(0..batch.len(), way, Some(&self.ends));
                    Ok((sent, batch.is_full()))
                })
            });
            match moved.await {
                Ok((sent, was_full)) => {
                    self.pulse.down(flows.now());
                    self.down.add(&sent);
                    if sent.error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                        way.clear_ready();
                    }
                    if was_full {
                        yield_now().await;
                    }
                }
                Err(error) => return self.end(FlowOutcome::UpstreamDown, Some(error)),
            }
        }
    }
}

/// Whether the next datagram may well get through: a full queue, or a firewall's no to this one.
fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM | libc::EPERM))
}

/// A flow from its first datagram to its outcome. Its end is counted and logged however it comes: also
/// where its task is dropped because posternd stops, or unwinds.
pub(super) struct Life {
    pub(super) flows: Arc<Flows>,
    pub(super) flow: Arc<Flow>,
    /// In the table.
    pub(super) number: u64,
    /// Which of the file's routes, from 1 on.
    pub(super) rule: usize,
    pub(super) seen: Option<DatagramKind>,
    pub(super) started: Instant,
}

/// Serves a flow to its end.
pub(super) async fn serve(life: Life, idle: Duration) {
    let Life { flows, flow, .. } = &life;
    let due = || flows.instant(flow.pulse.last()) + idle;
    let mut down = pin!(flow.down(flows));
    let mut told = pin!(flow.told.notified());
    let mut sleep = pin!(sleep_until(due()));
    loop {
        tokio::select! {
            () = &mut down => return,
            () = &mut told => return,
            () = &mut sleep => {
                // Setting it at every datagram would cost more than looking once in a while.
                if due() <= Instant::now() {
                    return flow.end(FlowOutcome::Idle, None);
                }
                sleep.as_mut().reset(due());
            }
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let Flow { ends, service, up, down, .. } = &*self.flow;
        let pair = self.flow.pair();
        self.flows.remove(&pair, self.number);
        let (outcome, failure) = match self.flow.ending.get() {
            _ if std::thread::panicking() => (FlowOutcome::Bug, None),
            Some(ending) => (ending.outcome, ending.failure.as_ref()),
            None => (FlowOutcome::Stopped, None),
        };
        self.flows.counts.add(outcome);
        let local: SocketAddr = pair.local;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        info!(
            peer = %ends.peer,
            listener = %local,
            seen = self.seen.map_or("other", DatagramKind::name),
            rule = self.rule,
            service = service.name.as_str(),
            failure = failure.map(tracing::field::display),
            outcome = outcome.name(),
            up = count(&up.bytes),
            down = count(&down.bytes),
            up_datagrams = count(&up.datagrams),
            down_datagrams = count(&down.datagrams),
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "flow"
        );
    }
}
