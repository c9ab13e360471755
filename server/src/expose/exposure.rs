//! One entrance: which clients hold it, and how a visitor waits for a lane of theirs. Decides who may hold it
//! beside, or instead of, whom.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postern_shared::expose::Entrance;
use postern_shared::expose::control::{Health, Hello, Refusal};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::pool::{Leased, Pool};

/// An entrance, and who holds it.
#[derive(Debug)]
pub struct Exposure {
    pub entrance: Entrance,
    held: Mutex<Vec<Held>>,
    last: Mutex<Option<Last>>,
    /// A lane waits, or somebody came to hold it.
    pub(super) news: Notify,
    turn: AtomicUsize,
    visitors: AtomicU64,
}

/// A client's hold on an entrance.
#[derive(Clone, Debug)]
pub struct Held {
    pub pool: Arc<Pool>,
    /// What the client calls it.
    pub offer: u16,
    pub terminate: bool,
    shared: bool,
    hello: Hello,
    /// Which came later is told by these.
    epoch: u64,
    pub since: Instant,
    pub health: Option<Health>,
}

/// Who came last to hold an entrance, whether he still does or not.
#[derive(Clone, Debug)]
pub(super) struct Last {
    pub client: String,
    pub epoch: u64,
    terminate: bool,
}

/// What a client asks for.
pub(super) struct Claim<'a> {
    pub pool: &'a Arc<Pool>,
    pub offer: u16,
    pub terminate: bool,
    /// Whether its key may have it together with others.
    pub shared: bool,
    pub hello: Hello,
    pub epoch: u64,
}

/// Why it is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    Refused(Refusal),
    /// Another run of the same client came after the one that asks.
    Superseded,
}

impl Exposure {
    pub(super) fn new(entrance: Entrance) -> Exposure {
        Exposure {
            entrance,
            held: Mutex::default(),
            last: Mutex::default(),
            news: Notify::new(),
            turn: AtomicUsize::new(0),
            visitors: AtomicU64::new(0),
        }
    }

    /// Gives the entrance to whoever asks, if he may have it: in the place of what he, or another run of
    /// the same client, held before.
    pub(super) fn claim(self: &Arc<Exposure>, claim: &Claim<'_>) -> Result<(), Denied> {
        let mut held = self.held();
        // Those who cannot stay beside the newcomer: he must want of TLS what they do, too.
        let conflicts =
            |other: &Held| !(other.shared && claim.shared && other.terminate == claim.terminate);
        for other in held.iter().filter(|other| !is_same_run(other, claim) && conflicts(other)) {
            if other.pool.client.name != claim.pool.client.name {
                return Err(Denied::Refused(Refusal::HeldByAnother));
            }
            // He held it once, lost his connection, and somebody took over meanwhile: so it stays.
            if claim.hello.epoch != 0 && other.epoch > claim.hello.epoch {
                return Err(Denied::Superseded);
            }
        }
        held.retain(|other| {
            if is_same_run(other, claim) {
                return false;
            }
            if conflicts(other) {
                other.pool.supersede();
                return false;
            }
            true
        });
        held.push(Held {
            pool: claim.pool.clone(),
            offer: claim.offer,
            terminate: claim.terminate,
            shared: claim.shared,
            hello: claim.hello,
            epoch: claim.epoch,
            since: Instant::now(),
            health: None,
        });
        let client = claim.pool.client.name.clone();
        *self.last_held() = Some(Last { client, epoch: claim.epoch, terminate: claim.terminate });
        claim.pool.serves(self);
        drop(held);
        self.news.notify_waiters();
        Ok(())
    }

    /// Lets go of what this pool's client held.
    pub(super) fn release(&self, pool: &Pool) {
        self.held().retain(|held| held.pool.number != pool.number);
    }

    pub(super) fn note_health(&self, pool: &Pool, health: Health) {
        for held in self.held().iter_mut().filter(|held| held.pool.number == pool.number) {
            held.health = Some(health);
        }
    }

    pub(super) fn count_visitor(&self) {
        self.visitors.fetch_add(1, Ordering::Relaxed);
    }

    /// How many came so far.
    pub fn visitors(&self) -> u64 {
        self.visitors.load(Ordering::Relaxed)
    }

    pub fn holders(&self) -> Vec<Held> {
        self.held().clone()
    }

    /// Whether TLS is to be terminated before a visitor is led on: as who holds it wants it, or did before
    /// he went away. Waits for the first to come; `None` where nobody does.
    pub(crate) async fn terminates(&self, patience: Duration) -> Option<bool> {
        let known = async {
            loop {
                let mut news = pin!(self.news.notified());
                news.as_mut().enable();
                if let Some(last) = self.last() {
                    return last.terminate;
                }
                news.await;
            }
        };
        timeout(patience, known).await.ok()
    }

    /// Who came last to hold it.
    pub(super) fn last(&self) -> Option<Last> {
        self.last_held().clone()
    }

    pub(super) fn is_free(&self) -> bool {
        self.held().is_empty()
    }

    /// A lane, as soon as there is one; those who hold the entrance have turns.
    pub(super) async fn lane(&self, until: Instant) -> Option<(Leased, u16)> {
        if let Some(lane) = self.take() {
            return Some(lane);
        }
        let waited = async {
            loop {
                let mut news = pin!(self.news.notified());
                // Heard from here on, so that no lane comes unheard between looking and waiting.
                news.as_mut().enable();
                if let Some(lane) = self.take() {
                    return lane;
                }
                let waiting: Vec<_> = self
                    .held()
                    .iter()
                    .map(|held| held.pool.clone())
                    .map(|pool| pool.wait())
                    .collect();
                news.await;
                drop(waiting);
            }
        };
        timeout_at(until, waited).await.ok()
    }

    fn take(&self) -> Option<(Leased, u16)> {
        let held = self.held();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let (later, first) = held.split_at(turn.checked_rem(held.len()).unwrap_or(0));
        first.iter().chain(later).find_map(|held| Some((held.pool.take()?, held.offer)))
    }

    fn last_held(&self) -> MutexGuard<'_, Option<Last>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same_run(held: &Held, claim: &Claim<'_>) -> bool {
    held.hello.instance == claim.hello.instance && held.pool.client.name == claim.pool.client.name
}

impl Held {
    /// From where its client came.
    pub fn peer(&self) -> SocketAddr {
        self.pool.peer
    }
}
