//! The ports of entrances: which are to be bound, by whom it is granted and where the configuration says so.
//! They stay bound while their client is away.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use postern_shared::expose::control::Refusal;
use postern_shared::expose::{Entrance, Permit};
use tracing::{error, info};

use super::Exposures;
use crate::gate::Clients;
use crate::house::House;
use crate::listen::{BindError, Listeners};
use crate::policy::Policy;
use crate::workers::Workers;

/// Why an entrance cannot be opened.
#[derive(Debug)]
pub(super) struct Shut {
    pub(super) why: Refusal,
    pub(super) error: Option<BindError>,
}

impl From<Refusal> for Shut {
    fn from(why: Refusal) -> Shut {
        Shut { why, error: None }
    }
}

/// What doors are opened with.
#[derive(Debug)]
pub struct Doors {
    listeners: Arc<Listeners>,
    workers: Arc<Workers>,
    /// Held by whoever opens or closes some: each is to see what the one before did.
    opening: Mutex<()>,
    /// Some could not be bound; that was said.
    is_missing: AtomicBool,
}

impl Doors {
    pub fn new(listeners: Arc<Listeners>, workers: Arc<Workers>) -> Doors {
        Doors { listeners, workers, opening: Mutex::default(), is_missing: AtomicBool::new(false) }
    }

    /// Binds what is to be bound, and closes the rest: to be called whenever policy or clients change.
    pub fn tend(&self, house: &Arc<House>) {
        let _one = self.opening();
        self.open_all(house);
    }

    fn open_all(&self, house: &Arc<House>) {
        let (policy, clients) = (house.policy(), house.gate.clients());
        house.exposures.forget_left(&exact(&policy, &clients));
        let entrances = entrances(&policy, &clients, &house.exposures);
        house.exposures.set_ways(entrances.iter(), policy.expose_wait);
        let wanted: Vec<_> = entrances.iter().flat_map(|one| addresses(&policy, one)).collect();
        self.listeners.close_doors_but(&wanted);
        let was_missing = self.is_missing.swap(false, Ordering::Relaxed);
        for address in wanted {
            match self.listeners.open_door(address, policy.backlog, house, &self.workers) {
                Ok(Some(address)) => info!(%address, "listening for what is exposed"),
                Ok(None) => {}
                Err(error) => {
                    self.is_missing.store(true, Ordering::Relaxed);
                    if !was_missing {
                        error!(%error, "an entrance stays closed; it is tried again");
                    }
                }
            }
        }
    }

    /// Tries again what could not be bound: whoever had the port may have gone.
    pub fn retry(&self, house: &Arc<House>) {
        if self.is_missing.load(Ordering::Relaxed) {
            self.tend(house);
        }
    }

    /// The addresses of an entrance that is offered; none where it has no port of its own.
    pub(super) fn open(
        &self,
        house: &Arc<House>,
        entrance: &Entrance,
    ) -> Result<Vec<SocketAddr>, Shut> {
        let _one = self.opening();
        let (policy, clients) = (house.policy(), house.gate.clients());
        let mut all = Vec::new();
        for address in addresses(&policy, entrance) {
            if policy.listen.iter().any(|listen| listen.port() == address.port()) {
                return Err(Shut { why: Refusal::PortTaken, error: None });
            }
            match self.listeners.open_door(address, policy.backlog, house, &self.workers) {
                Ok(Some(_) | None) => all.push(address),
                Err(error) => {
                    let is_taken = error.kind() == io::ErrorKind::AddrInUse;
                    let why = if is_taken { Refusal::PortTaken } else { Refusal::CannotListen };
                    return Err(Shut { why, error: Some(error) });
                }
            }
        }
        // Most are granted as they are, and lead to their clients already.
        if !house.exposures.has_way(entrance) {
            if house.exposures.forget_left(&exact(&policy, &clients)) {
                self.open_all(house);
            } else {
                let entrances = entrances(&policy, &clients, &house.exposures);
                house.exposures.set_ways(entrances.iter(), policy.expose_wait);
            }
        }
        Ok(all)
    }

    fn opening(&self) -> MutexGuard<'_, ()> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that lead somewhere: also those of a range that somebody holds, or held.
fn entrances(policy: &Policy, clients: &Clients, exposures: &Exposures) -> BTreeSet<Entrance> {
    let permits = || clients.iter().flat_map(|client| &client.expose);
    let mut all = exact(policy, clients);
    let known = exposures.all();
    let ranged = known.iter().map(|exposure| &exposure.entrance);
    all.extend(ranged.filter(|one| permits().any(|permit| permit.covers(one))).cloned());
    all.retain(|entrance| match entrance {
        Entrance::Sni(name) => !policy.is_ours(name),
        Entrance::Tcp(port) => !policy.listen.iter().any(|listen| listen.port() == *port),
        Entrance::Name(_) => true,
    });
    all
}

/// Those that the file names, and those that a key may open by themselves.
fn exact(policy: &Policy, clients: &Clients) -> BTreeSet<Entrance> {
    let permits = clients.iter().flat_map(|client| &client.expose);
    let ports = policy.expose.iter().map(|address| Entrance::Tcp(address.port()));
    permits.filter_map(Permit::exact).cloned().chain(ports).collect()
}

/// Where an entrance listens: where the file says, or else at every address that posternd has.
fn addresses(policy: &Policy, entrance: &Entrance) -> Vec<SocketAddr> {
    let Entrance::Tcp(port) = entrance else { return Vec::new() };
    let own: Vec<_> =
        policy.expose.iter().filter(|address| address.port() == *port).copied().collect();
    if !own.is_empty() {
        return own;
    }
    let hosts: BTreeSet<IpAddr> = policy.listen.iter().map(SocketAddr::ip).collect();
    hosts.into_iter().map(|ip| SocketAddr::new(ip, *port)).collect()
}
