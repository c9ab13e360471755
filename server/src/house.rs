//! What all connections of one posternd share: the policy in force, the gate, places and counts.
//! Decides nothing about a connection; replaces its parts as a whole on reload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::complaint::Complaint;
use crate::gate::{Admitted, Gate};
use crate::ops::outcome::{Counts, Record};
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
    stopping: watch::Sender<bool>,
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
            stopping: watch::Sender::new(false),
        })
    }

    pub fn policy(&self) -> Arc<Policy> {
        self.policy.borrow().clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a new policy in force; connections that were decided under the old one keep it.
    pub fn set_policy(&self, policy: Policy) {
        self.policy.send_replace(Arc::new(policy));
    }

    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Completes when posternd stops.
    pub async fn stopping(&self) {
        // The sender lives in `self`, so waiting cannot fail while we are here.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    pub fn tunnels(&self) -> &Tunnels {
        &self.tunnels
    }
}

/// The tunnels that are open, for `status`.
#[derive(Debug, Default)]
pub struct Tunnels {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Tunnel>>,
}

/// One open tunnel.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pub client: String,
    pub service: String,
    pub carrier: &'static str,
    pub peer: String,
    pub since: Instant,
}

impl Tunnels {
    /// Lists a tunnel until the entry is dropped.
    pub fn enter(&self, admitted: &Admitted, record: &Record) -> Entry<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tunnel = Tunnel {
            client: admitted.client.name.clone(),
            service: admitted.service.clone(),
            carrier: admitted.carrier.name(),
            peer: record.peer.to_string(),
            since: Instant::now(),
        };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(number, tunnel);
        Entry { tunnels: self, number }
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
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut open = self.tunnels.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.number);
    }
}
