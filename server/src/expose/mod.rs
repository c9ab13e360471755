//! Services of clients' machines, reached by entrances of ours: which are open, who holds them, and how a
//! visitor is led to his lane. Decides who may open what; never looks at a visitor's bytes but to apologise
//! in his protocol.

mod control;
mod doors;
mod exposure;
mod lead;
mod page;
mod pool;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_shared::expose::Entrance;
use postern_shared::expose::control::MOST_OFFERS;
use postern_shared::hello::HostName;

pub(crate) use control::serve;
pub use doors::Doors;
pub use exposure::{Exposure, Held};
pub(crate) use lead::{Unled, lead};
pub(crate) use page::{Status, page_for};
pub(crate) use pool::Cut;
pub use pool::{Leased, Pool, Pools};

use crate::gate::Clients;
use crate::policy::Policy;
use crate::service::{Service, Target};

/// All entrances that are known of: open ones, and those that some key may open.
#[derive(Debug, Default)]
pub struct Exposures {
    all: RwLock<BTreeMap<Entrance, Arc<Exposure>>>,
    /// The services that entrances lead to, by themselves and not by a route.
    ways: RwLock<Ways>,
    names: AtomicUsize,
    epoch: AtomicU64,
    /// How many visitors each run of a client's program was offered; kept while somebody counts.
    visitors: Mutex<HashMap<[u8; 16], Weak<AtomicU64>>>,
}

#[derive(Debug, Default)]
struct Ways {
    ports: BTreeMap<u16, Arc<Service>>,
    names: BTreeMap<HostName, Arc<Service>>,
}

impl Exposures {
    /// The entrance, whether anybody holds it or not.
    pub fn of(&self, entrance: &Entrance) -> Arc<Exposure> {
        if let Some(exposure) = self.find(entrance) {
            return exposure;
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Exposure::new(entrance.clone()));
        all.entry(entrance.clone()).or_insert_with(new).clone()
    }

    fn find(&self, entrance: &Entrance) -> Option<Arc<Exposure>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(entrance).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Exposure>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Forgets the ports of ranges that a client has left behind, but for as many as it may hold: they stay
    /// bound while it is away. `exact` are those that are not of a range. Answers whether there were any.
    fn forget_left(&self, exact: &BTreeSet<Entrance>) -> bool {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let mut left: HashMap<String, Vec<(u64, Entrance)>> = HashMap::new();
        for exposure in all.values().filter(|exposure| exposure.is_free()) {
            let entrance = &exposure.entrance;
            if let (Entrance::Tcp(_), Some(last), false) =
                (entrance, exposure.last(), exact.contains(entrance))
            {
                left.entry(last.client).or_default().push((last.epoch, entrance.clone()));
            }
        }
        let mut any = false;
        for mut entrances in left.into_values() {
            entrances.sort();
            let many = entrances.len().saturating_sub(usize::from(MOST_OFFERS));
            for (_, entrance) in entrances.drain(..many) {
                any |= all.remove(&entrance).is_some();
            }
        }
        any
    }

    /// Above all that were given, also by a posternd before.
    fn next_epoch(&self) -> u64 {
        let mut next = 0;
        let _ = self.epoch.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
            next = micros().max(last + 1);
            Some(next)
        });
        next
    }

    /// The count of visitors for this run of a client's program: all of its pools share it, since by it a
    /// client knows a visitor again. A new one begins above all that a posternd before has used.
    fn visitors_of(&self, instance: &[u8; 16]) -> Arc<AtomicU64> {
        let mut all = self.visitors.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, count| count.strong_count() > 0);
        if let Some(count) = all.get(instance).and_then(Weak::upgrade) {
            return count;
        }
        let count = Arc::new(AtomicU64::new(micros()));
        all.insert(*instance, Arc::downgrade(&count));
        count
    }

    /// Makes these, and no others, lead to their clients, for whom visitors wait so long.
    pub fn set_ways<'a>(&self, entrances: impl Iterator<Item = &'a Entrance>, wait: Duration) {
        let mut ways = Ways::default();
        for entrance in entrances {
            let exposure = self.of(entrance);
            let service = || {
                let target = Target::Tunnel(Tunnel::to(exposure.clone()));
                Arc::new(Service::new(entrance.to_string(), target, wait))
            };
            match entrance {
                Entrance::Tcp(port) => drop(ways.ports.entry(*port).or_insert_with(service)),
                Entrance::Sni(name) => {
                    ways.names.entry(name.clone()).or_insert_with(service);
                }
                Entrance::Name(_) => {}
            }
        }
        self.names.store(ways.names.len(), Ordering::Relaxed);
        *self.ways.write().unwrap_or_else(PoisonError::into_inner) = ways;
    }

    /// Whether this entrance leads to its client already.
    fn has_way(&self, entrance: &Entrance) -> bool {
        match entrance {
            Entrance::Tcp(port) => self.at_port(*port).is_some(),
            Entrance::Sni(name) => self.by_name(name).is_some(),
            Entrance::Name(_) => true,
        }
    }

    /// Where whoever comes to this port goes.
    pub fn at_port(&self, port: u16) -> Option<Arc<Service>> {
        self.ways.read().unwrap_or_else(PoisonError::into_inner).ports.get(&port).cloned()
    }

    /// Where whoever asks for this name goes.
    pub fn by_name(&self, name: &HostName) -> Option<Arc<Service>> {
        // Asked for every TLS visitor, and most servers have none.
        if self.names.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.ways.read().unwrap_or_else(PoisonError::into_inner).names.get(name).cloned()
    }
}

/// What the file says of entrances that no key may open.
pub fn doubts(policy: &Policy, clients: &Clients) -> Vec<String> {
    let nobody = |entrance: &Entrance| clients.iter().all(|one| one.permit(entrance).is_none());
    let ports = policy.expose.iter().filter(|address| nobody(&Entrance::Tcp(address.port())));
    let ports = ports.map(|address| format!("[[expose]] {address}: no client may expose it"));
    let names = policy.tunnels().map(|tunnel| &tunnel.entrance).filter(|name| nobody(name));
    let names = names.map(|name| {
        let text = name.to_string().replacen("name:", "tunnel:", 1);
        format!("{text:?}: no client may expose {name}; posternd client expose CLIENT {name}")
    });
    ports.chain(names).collect()
}

/// `to = "tunnel:NAME"`: a service that is wherever whoever holds the entrance is.
#[derive(Debug)]
pub struct Tunnel {
    pub entrance: Entrance,
    /// Known once the configuration is in force.
    exposure: OnceLock<Arc<Exposure>>,
}

impl Tunnel {
    pub fn new(entrance: Entrance) -> Tunnel {
        Tunnel { entrance, exposure: OnceLock::new() }
    }

    fn to(exposure: Arc<Exposure>) -> Tunnel {
        Tunnel { entrance: exposure.entrance.clone(), exposure: exposure.into() }
    }

    pub fn bind(&self, exposures: &Exposures) {
        // One that is bound already is to the same.
        let _ = self.exposure.set(exposures.of(&self.entrance));
    }

    pub fn exposure(&self) -> Option<&Arc<Exposure>> {
        self.exposure.get()
    }
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
