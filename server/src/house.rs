//! What all connections of one posternd share: the policy in force, the gate, places and counts.
//! Decides nothing about a connection; replaces its parts as a whole on reload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use postern_shared::knock::Kid;
use postern_shared::sniff::Protocol;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::expose::{Doors, Exposures};
use crate::gate::{Clients, Entrant, Gate, Holder, OpenError};
use crate::helper::Helpers;
use crate::identity;
use crate::ops::outcome::Counts;
use crate::places::{Places, Seat};
use crate::policy::{Limits, Policy};
use crate::route::Seen;
use crate::service::Service;
use crate::stage::Errand;
use crate::tls::Identity;
use crate::udp::flows::Flows;

#[derive(Debug)]
pub struct House {
    path: PathBuf,
    policy: watch::Sender<Arc<Policy>>,
    pub gate: Gate,
    pub identity: Identity,
    pub places: Arc<Places>,
    pub counts: Counts,
    pub flows: Arc<Flows>,
    pub started: Instant,
    tunnels: Arc<Tunnels>,
    handshakes: Arc<Handshakes>,
    pub helpers: Helpers,
    pub exposures: Exposures,
    /// Open once posternd listens.
    doors: OnceLock<Doors>,
}

impl House {
    /// `path` is where reloads read the policy again.
    pub fn new(path: &Path, policy: Policy) -> Result<House, OpenError> {
        let gate = Gate::open(&policy.state.clients_file(), policy.window, policy.store.clone())?;
        let identity = identity::open(policy.state.directory(), policy.sni.as_ref())?;
        let helpers = Helpers::default();
        helpers.set(policy.helpers());
        let exposures = Exposures::default();
        policy.tunnels().for_each(|tunnel| tunnel.bind(&exposures));
        Ok(House {
            path: path.to_owned(),
            identity,
            policy: watch::Sender::new(Arc::new(policy)),
            gate,
            places: Arc::default(),
            counts: Counts::default(),
            flows: Arc::default(),
            started: Instant::now(),
            tunnels: Arc::default(),
            handshakes: Arc::default(),
            helpers,
            exposures,
            doors: OnceLock::new(),
        })
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.policy.borrow().clone()
    }

    /// For whoever needs the policy often: nothing is locked while it does not change.
    pub fn follow_policy(&self) -> Followed {
        let mut changes = self.policy.subscribe();
        let current = changes.borrow_and_update().clone();
        Followed { changes, current }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a new policy in force; connections that were decided under the old one keep it.
    pub fn set_policy(&self, policy: Policy) {
        self.helpers.set(policy.helpers());
        policy.tunnels().for_each(|tunnel| tunnel.bind(&self.exposures));
        self.policy.send_replace(Arc::new(policy));
        self.cut_those_who_are_gone();
    }

    /// Puts these clients in force, and ends the tunnels of those that are no longer among them;
    /// answers how many there are.
    pub fn set_clients(&self, clients: Clients) -> usize {
        let count = self.gate.set_clients(clients);
        self.cut_those_who_are_gone();
        count
    }

    pub fn set_doors(&self, doors: Doors) {
        // Once, when posternd starts.
        let _ = self.doors.set(doors);
    }

    /// What the ports of entrances are bound by; none before posternd listens.
    pub fn doors(&self) -> Option<&Doors> {
        self.doors.get()
    }

    /// Whether there is room to find out if a hello is its maker's own. `None` makes him a visitor.
    pub fn unlock(&self, entering: &Entering, seen: &Seen, limits: &Limits) -> Option<Unlocked> {
        let (Entrant::Knock(admitted), Seen::Protocol(Protocol::Tls(_))) =
            (&entering.entrant, seen)
        else {
            return Some(Unlocked::Open);
        };
        entering.seat.as_ref()?;
        let kid = admitted.client.kid;
        let mut all = self.handshakes.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(kid).or_default();
        if *count >= limits.handshakes_per_key() {
            return None;
        }
        *count += 1;
        let counted = Handshake { kid, all: self.handshakes.clone() };
        Some(Unlocked::Handshake { _counted: counted })
    }

    fn cut_those_who_are_gone(&self) {
        let (clients, policy) = (self.gate.clients(), self.policy());
        self.tunnels.cut_where(|holder| !is_there(&clients, &policy, holder));
    }

    /// Whether what let this one in still would.
    pub fn still_knows(&self, holder: &Holder) -> bool {
        is_there(&self.gate.clients(), &self.policy(), holder)
    }

    /// The holder on the terms of now.
    pub fn in_force(&self, holder: &Holder) -> Option<Holder> {
        match holder {
            Holder::Client(client) => self.gate.clients().current(client).map(Holder::Client),
            Holder::Secret(secret) => {
                self.policy().secrets.as_ref()?.current(secret).map(Holder::Secret)
            }
        }
    }

    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }
}

fn is_there(clients: &Clients, policy: &Policy, holder: &Holder) -> bool {
    match holder {
        Holder::Client(client) => clients.still_has(client),
        Holder::Secret(secret) => {
            policy.secrets.as_ref().is_some_and(|secrets| secrets.still_have(secret))
        }
    }
}

/// One who is let in, what for, and the place that he takes.
#[derive(Debug)]
pub struct Entering {
    pub entrant: Entrant,
    pub errand: Errand,
    pub seat: Option<Seat>,
}

/// Leave to take the knock away.
#[derive(Debug)]
pub enum Unlocked {
    /// At once.
    Open,
    /// By a handshake, of which a key may have some at a time.
    Handshake { _counted: Handshake },
}

/// A handshake that is not finished, and so not known to be a key holder's.
#[derive(Debug)]
pub struct Handshake {
    kid: Kid,
    all: Arc<Handshakes>,
}

type Handshakes = Mutex<BTreeMap<Kid, usize>>;

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.kid) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.kid);
            }
        }
    }
}

/// The policy in force, kept at hand.
#[derive(Debug)]
pub struct Followed {
    changes: watch::Receiver<Arc<Policy>>,
    current: Arc<Policy>,
}

impl Followed {
    pub fn now(&mut self) -> Arc<Policy> {
        if self.changes.has_changed().is_ok_and(|changed| changed) {
            self.current = self.changes.borrow_and_update().clone();
        }
        self.current.clone()
    }

    /// Completes when another is in force.
    pub async fn changed(&mut self) {
        // The house is there for as long as posternd runs.
        if self.changes.changed().await.is_err() {
            std::future::pending().await
        }
        self.current = self.changes.borrow_and_update().clone();
    }
}

/// The tunnels that are open, for `status` and for revoking.
#[derive(Debug, Default)]
pub struct Tunnels {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Arc<Tunnel>>>,
}

/// One open tunnel.
#[derive(Debug)]
pub struct Tunnel {
    pub holder: Holder,
    /// `None` is the control connection of a client that exposes.
    pub service: Option<Arc<Service>>,
    /// The name of a carrier, or `memory`.
    pub by: &'static str,
    pub peer: SocketAddr,
    pub since: Instant,
    is_cut: AtomicBool,
    /// Of the one task that serves it.
    waker: OnceLock<Waker>,
}

impl Tunnel {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Completes when the tunnel is to end. To be polled by one task only.
    pub fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.get_or_init(|| cx.waker().clone());
        // After the waker is there: whoever cuts sees it, or is seen here.
        if self.is_cut.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Tunnels {
    /// Lists a tunnel until the entry is dropped; `None` if its client has as many as it may.
    pub fn enter(
        self: &Arc<Tunnels>,
        entrant: &Entrant,
        service: Option<Arc<Service>>,
        peer: SocketAddr,
    ) -> Option<Entry> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tunnel = Arc::new(Tunnel {
            holder: entrant.holder(),
            service,
            by: entrant.by(),
            peer,
            since: Instant::now(),
            is_cut: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        let mut table = self.table();
        // A control connection is none of them: one that is dead and not known to be would keep out the next.
        if let (Some(most), Some(_)) = (tunnel.holder.terms().max_tunnels, &tunnel.service) {
            // By name: one client may have two keys.
            let same = |other: &&Arc<Tunnel>| {
                other.service.is_some() && other.holder.is_same_as(&tunnel.holder)
            };
            if table.values().filter(same).count() >= most {
                return None;
            }
        }
        table.insert(number, tunnel.clone());
        drop(table);
        Some(Entry { tunnels: self.clone(), number, tunnel })
    }

    fn cut_where(&self, gone: impl Fn(&Holder) -> bool) {
        self.table().values().filter(|tunnel| gone(&tunnel.holder)).for_each(|tunnel| tunnel.cut());
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Arc<Tunnel>> {
        self.table().values().cloned().collect()
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Tunnel>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tunnel's place in the list.
#[derive(Debug)]
pub struct Entry {
    tunnels: Arc<Tunnels>,
    number: u64,
    pub tunnel: Arc<Tunnel>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.tunnels.table().remove(&self.number);
    }
}
