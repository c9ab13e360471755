//! What all connections of one posternd share: the policy in force, the gate, places and counts.
//! Decides nothing about a connection; replaces its parts as a whole on reload.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use postern_shared::knock::Carrier;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::complaint::Complaint;
use crate::gate::{Admitted, Client, Clients, Gate};
use crate::ops::outcome::Counts;
use crate::places::Places;
use crate::policy::Policy;

#[derive(Debug)]
pub struct House {
    path: PathBuf,
    policy: watch::Sender<Arc<Policy>>,
    pub gate: Gate,
    pub places: Arc<Places>,
    pub counts: Counts,
    pub started: Instant,
    tunnels: Tunnels,
}

impl House {
    /// `path` is where reloads read the policy again.
    pub fn new(path: &Path, policy: Policy) -> Result<House, Complaint> {
        let gate = Gate::open(&policy.state.clients_file(), policy.window)?;
        Ok(House {
            path: path.to_owned(),
            policy: watch::Sender::new(Arc::new(policy)),
            gate,
            places: Arc::default(),
            counts: Counts::default(),
            started: Instant::now(),
            tunnels: Tunnels::default(),
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
        self.policy.send_replace(Arc::new(policy));
    }

    /// Puts these clients in force, and ends the tunnels of those that are no longer among them;
    /// answers how many there are.
    pub fn set_clients(&self, clients: Clients) -> usize {
        let count = self.gate.set_clients(clients);
        let clients = self.gate.clients();
        self.tunnels.cut_where(|client| !clients.still_has(client));
        count
    }

    pub fn tunnels(&self) -> &Tunnels {
        &self.tunnels
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
}

/// The tunnels that are open, for `status` and for revoking.
#[derive(Debug, Default)]
pub struct Tunnels {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Tunnel>>,
}

/// One open tunnel.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pub client: Arc<Client>,
    pub service: String,
    pub carrier: Carrier,
    pub peer: SocketAddr,
    pub since: Instant,
    cut: Arc<Notify>,
}

impl Tunnels {
    /// Lists a tunnel until the entry is dropped.
    pub fn enter(&self, admitted: &Admitted, peer: SocketAddr) -> Entry<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let cut = Arc::new(Notify::new());
        let tunnel = Tunnel {
            client: admitted.client.clone(),
            service: admitted.service.clone(),
            carrier: admitted.carrier,
            peer,
            since: Instant::now(),
            cut: cut.clone(),
        };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, tunnel);
        Entry { tunnels: self, number, cut }
    }

    fn cut_where(&self, gone: impl Fn(&Client) -> bool) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for tunnel in open.values().filter(|tunnel| gone(&tunnel.client)) {
            tunnel.cut.notify_one();
        }
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Tunnel> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[derive(Debug)]
pub struct Entry<'a> {
    tunnels: &'a Tunnels,
    number: u64,
    cut: Arc<Notify>,
}

impl Entry<'_> {
    /// Completes when the tunnel is to end.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut open = self.tunnels.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.number);
    }
}
