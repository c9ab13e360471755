//! The lanes of one client: which wait for a visitor, and whether its lanes' knocks are new. Decides which
//! lane a visitor gets; never waits for one.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};
use std::thread::ThreadId;

use postern_relay::{Lane, Leg, Wire};
use postern_shared::expose::Window;
use postern_shared::knock::{ClientKey, Kid, ServerId};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::exposure::Exposure;
use crate::gate::Client;
use crate::gate::keys::Keys;
use crate::places::Seat;
use crate::stream::Stream;
use crate::sys;

/// Lanes that are looked at for one which the visitor's own thread has. Another one is as good, but moving it
/// costs.
const LOOKED_AT: usize = 8;

/// The pools that lanes may come to, by the numbers that their knocks name.
#[derive(Debug, Default)]
pub struct Pools(RwLock<HashMap<Kid, Arc<Pool>>>);

impl Pools {
    pub fn find(&self, number: Kid) -> Option<Arc<Pool>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// A pool with a number and a key of its own.
    pub fn open(
        &self,
        client: Arc<Client>,
        peer: SocketAddr,
        server: &ServerId,
    ) -> (Arc<Pool>, ClientKey) {
        let key = ClientKey::new(sys::random());
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let number = std::iter::repeat_with(|| u32::from_be_bytes(sys::random()))
            .filter_map(Kid::new)
            .find(|number| !all.contains_key(number))
            .expect("an endless source of numbers");
        let pool = Arc::new(Pool {
            number,
            client,
            peer,
            keys: Keys::of(&key, server),
            window: Mutex::default(),
            idle: Mutex::default(),
            lanes: Arc::default(),
            busy: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            is_superseded: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            cut: Arc::default(),
            news: Notify::new(),
            exposures: Mutex::default(),
            visitors: OnceLock::new(),
        });
        all.insert(number, pool.clone());
        (pool, key)
    }

    /// Closes those that the same run of a client's program had before, and has lost: whoever comes back should
    /// not have to wait until that is noticed.
    pub(super) fn replace_by(&self, pool: &Pool) {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let lost = |other: &&Arc<Pool>| {
            other.number != pool.number
                && other.client.name == pool.client.name
                && other.counts_with(pool)
        };
        let lost: Vec<_> = all.values().filter(lost).cloned().collect();
        drop(all);
        lost.iter().for_each(|lost| self.close(lost));
    }

    /// How many lanes a client has, by all of its control connections.
    pub(crate) fn lanes_of(&self, client: &Client) -> usize {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let own = all.values().filter(|pool| pool.client.name == client.name);
        own.map(|pool| pool.lanes.load(Ordering::SeqCst)).sum()
    }

    /// No lane comes to it any more, and those that wait are closed.
    pub fn close(&self, pool: &Pool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&pool.number);
        pool.is_over.store(true, Ordering::SeqCst);
        pool.idle().clear();
    }
}

/// What one control connection of a client brought.
#[derive(Debug)]
pub struct Pool {
    pub number: Kid,
    pub client: Arc<Client>,
    pub peer: SocketAddr,
    pub(crate) keys: Keys,
    window: Mutex<Window>,
    idle: Mutex<Vec<Parked>>,
    /// All that there are, those that are just coming too.
    lanes: Arc<AtomicUsize>,
    busy: AtomicUsize,
    /// Visitors who found no lane.
    waiting: AtomicUsize,
    is_over: AtomicBool,
    is_superseded: AtomicBool,
    is_cut: AtomicBool,
    cut: Arc<Notify>,
    /// For the control connection: somebody waits, or somebody else took over.
    pub(super) news: Notify,
    exposures: Mutex<Vec<Weak<Exposure>>>,
    /// Counts visitors, for all pools of one run of the client's program.
    visitors: OnceLock<Arc<AtomicU64>>,
}

/// A lane's place, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Berth {
    _seat: Seat,
    lanes: Arc<AtomicUsize>,
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.lanes.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A lane that waits.
#[derive(Debug)]
struct Parked {
    lane: Lane<Stream>,
    berth: Berth,
    /// The thread on whose reactor it is.
    home: ThreadId,
}

impl Pool {
    /// Whether a lane's number is new; from now on it is not.
    pub fn spend(&self, number: u32) -> bool {
        self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(u64::from(number))
    }

    /// A place for a lane that is coming.
    pub(crate) fn berth(&self, seat: Seat) -> Berth {
        self.lanes.fetch_add(1, Ordering::SeqCst);
        Berth { _seat: seat, lanes: self.lanes.clone() }
    }

    /// Has a lane wait for a visitor; one that comes too late is closed.
    pub(crate) fn park(&self, lane: Lane<Stream>, berth: Berth) {
        let parked = Parked { lane, berth, home: std::thread::current().id() };
        {
            let mut idle = self.idle();
            // Under the lock: whoever closes the pool empties it after saying so.
            if self.is_over() {
                return;
            }
            idle.push(parked);
        }
        for exposure in self.exposures().iter().filter_map(Weak::upgrade) {
            exposure.news.notify_one();
        }
    }

    /// A lane that waits, on this thread's reactor.
    pub(super) fn take(self: &Arc<Pool>) -> Option<Leased> {
        let here = std::thread::current().id();
        loop {
            let Parked { mut lane, berth, home } = {
                let mut idle = self.idle();
                let own = idle.iter().rev().take(LOOKED_AT).position(|lane| lane.home == here);
                // The one that waited least: the others may go.
                let at = idle.len().checked_sub(1 + own.unwrap_or(0))?;
                idle.swap_remove(at)
            };
            if !is_silent(lane.wire()) || home != here && lane.stream_mut().come_here().is_err() {
                continue;
            }
            self.busy.fetch_add(1, Ordering::Relaxed);
            return Some(Leased { held: Some((lane, berth)), pool: self.clone() });
        }
    }

    /// Closes lanes whose other end has gone while they waited.
    pub(super) fn sweep(&self) {
        self.idle().retain(|parked| is_silent(parked.lane.wire()));
    }

    pub fn counts(&self) -> (usize, usize) {
        (self.idle().len(), self.busy.load(Ordering::Relaxed))
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    pub(super) fn supersede(&self) {
        self.is_superseded.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.is_superseded.load(Ordering::SeqCst)
    }

    /// Ends what its visitors have, too.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    /// Completes when its visitors' connections are to end.
    pub(crate) fn until_cut(&self) -> Cut {
        let mut notified = Box::pin(self.cut.clone().notified_owned());
        notified.as_mut().enable();
        Cut { is_cut: self.is_cut.load(Ordering::SeqCst), notified }
    }

    /// Counts a visitor as waiting until this is dropped, and has the client told.
    pub(super) fn wait(self: &Arc<Pool>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.news.notify_one();
        Waiting(self.clone())
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    pub(super) fn serves(&self, exposure: &Arc<Exposure>) {
        let exposure = Arc::downgrade(exposure);
        let mut all = self.exposures();
        if !all.iter().any(|other| other.ptr_eq(&exposure)) {
            all.push(exposure);
        }
    }

    pub(super) fn count_visitors_by(&self, count: Arc<AtomicU64>) {
        // Said once, when the client has said who it is.
        let _ = self.visitors.set(count);
    }

    /// Whether a visitor has the same number in both: they are of one run of one client.
    pub(super) fn counts_with(&self, other: &Pool) -> bool {
        match (self.visitors.get(), other.visitors.get()) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, _) | (_, None) => false,
        }
    }

    pub(super) fn next_visitor(&self) -> u64 {
        self.visitors.get().map_or(0, |count| count.fetch_add(1, Ordering::Relaxed))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Parked>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exposures(&self) -> MutexGuard<'_, Vec<Weak<Exposure>>> {
        self.exposures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing has come on a lane that waits: a client speaks on one only when it has a visitor, or to
/// close it.
fn is_silent(wire: &Wire) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(wire.socket(), &mut [0; 1], flags), Err(Errno::AGAIN))
}

/// The end of all that a revoked key had.
#[derive(Debug)]
pub(crate) struct Cut {
    is_cut: bool,
    notified: Pin<Box<OwnedNotified>>,
}

impl Cut {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_cut { Poll::Ready(()) } else { self.notified.as_mut().poll(cx) }
    }
}

#[derive(Debug)]
pub(super) struct Waiting(Arc<Pool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A lane that a visitor has. When he has gone in order it waits for the next.
#[derive(Debug)]
pub struct Leased {
    /// `None` only while it is dropped.
    held: Option<(Lane<Stream>, Berth)>,
    pub(super) pool: Arc<Pool>,
}

/// Why it is.
const HELD: &str = "only dropping it takes the lane away";

impl Leased {
    pub(crate) fn lane(&mut self) -> &mut Lane<Stream> {
        let (lane, _) = self.held.as_mut().expect(HELD);
        lane
    }

    pub(crate) fn wire(&self) -> &Wire {
        let (lane, _) = self.held.as_ref().expect(HELD);
        lane.wire()
    }

    pub(crate) fn until_cut(&self) -> Cut {
        self.pool.until_cut()
    }

    /// For another visitor: nothing was said on it.
    pub(super) fn give_back(mut self) {
        if let Some((lane, berth)) = self.held.take() {
            self.pool.park(lane, berth);
        }
    }

    /// How many bytes so many become on the wire (RFC 8446, 5.1 and 5.2: pieces of 2^14, each with a
    /// header, its type and a tag).
    pub(super) fn sealed(&mut self, count: usize) -> usize {
        const PIECE: usize = 1 << 14;
        const AROUND: usize = 5 + 1 + 16;
        match self.lane().stream_mut().bare() {
            Some(_) => count,
            None => count + count.div_ceil(PIECE) * AROUND,
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.pool.busy.fetch_sub(1, Ordering::Relaxed);
        if let Some((mut lane, berth)) = self.held.take()
            && lane.is_spent()
        {
            lane.renew();
            self.pool.park(lane, berth);
        }
    }
}
