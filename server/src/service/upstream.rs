//! Where a service's connections can go, and what is known of each place: whether it is up, and how many
//! it has. Decides which are to be tried in which order; connects to none.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Endpoint;
use super::balance::{self, Balance, Candidate};
use crate::sys;
use crate::tls::Outward;

/// How long a target that could not be connected to is passed over.
const PASSED_OVER: Duration = Duration::from_secs(10);

/// Probes in a row that make a target down, or up again.
const IN_A_ROW: u8 = 2;

/// The targets of a service.
#[derive(Debug)]
pub struct Upstreams {
    /// The backups last.
    all: Vec<Upstream>,
    balance: Balance,
    /// How often each is tried whether anybody comes or not.
    pub health: Option<Duration>,
    turn: AtomicUsize,
}

/// One target.
#[derive(Debug)]
pub struct Upstream {
    /// As the file has it.
    pub name: String,
    pub address: Address,
    pub is_backup: bool,
    state: OnceLock<Arc<State>>,
}

#[derive(Debug)]
pub enum Address {
    Tcp(Endpoint),
    Unix(PathBuf),
    /// TLS from posternd to the service.
    Tls(Endpoint, Arc<Outward>),
}

impl Address {
    /// Whether it cannot be cut off without its connections being closed.
    pub fn is_on_this_machine(&self) -> bool {
        match self {
            Address::Tcp(to) | Address::Tls(to, _) => {
                to.literal.is_some_and(|address| address.ip().is_loopback())
            }
            Address::Unix(_) => true,
        }
    }
}

impl Upstream {
    pub fn new(name: impl Into<String>, address: Address, is_backup: bool) -> Upstream {
        Upstream { name: name.into(), address, is_backup, state: OnceLock::new() }
    }

    pub(super) fn state(&self) -> &Arc<State> {
        self.state.get_or_init(Arc::default)
    }
}

impl Upstreams {
    pub fn new(all: Vec<Upstream>, balance: Balance, health: Option<Duration>) -> Upstreams {
        Upstreams { all, balance, health, turn: AtomicUsize::new(0) }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.all.iter()
    }

    /// The target, where there is no other.
    pub(super) fn only(&self) -> Option<&Upstream> {
        match self.all.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// All, the one to be tried first first.
    pub(super) fn order(&self, peer: IpAddr) -> Vec<&Upstream> {
        let candidates: Vec<_> = self.standing().collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let order = balance::order(self.balance, &candidates, turn, peer);
        order.into_iter().filter_map(|at| self.all.get(at)).collect()
    }

    /// What is known of each, if it is kept at all: of the only one of a service it is not, unless it is
    /// probed.
    pub fn known(&self) -> impl Iterator<Item = Candidate<'_>> {
        let is_kept = self.only().is_none() || self.health.is_some();
        self.standing().filter(move |_| is_kept)
    }

    fn standing(&self) -> impl Iterator<Item = Candidate<'_>> {
        let now = sys::boot_time();
        self.all.iter().map(move |upstream| {
            let state = upstream.state().known();
            let is_down = self.health.is_some() && state.is_down;
            Candidate {
                name: &upstream.name,
                is_backup: upstream.is_backup,
                is_up: !is_down && state.passed_over_until.is_none_or(|until| now >= until),
                open: state.open,
            }
        })
    }

    /// Goes on with what the targets of the same names had.
    pub(super) fn take_over(&self, old: &Upstreams) {
        for upstream in &self.all {
            if let Some(old) = old.all.iter().find(|old| old.name == upstream.name) {
                // One that has a state already is in force already.
                let _ = upstream.state.set(old.state().clone());
            }
        }
    }
}

/// What is known of a target. It outlives a reload of the configuration.
#[derive(Debug, Default)]
pub(super) struct State(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    open: usize,
    passed_over_until: Option<Duration>,
    is_down: bool,
    /// Probes in a row that said otherwise.
    otherwise: u8,
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how connecting to it went.
    pub(super) fn tried(&self, connected: bool) {
        self.known().passed_over_until = (!connected).then(|| sys::boot_time() + PASSED_OVER);
    }

    /// Says how a probe went; answers whether the target is down now, if that has changed.
    pub(super) fn probed(&self, answered: bool) -> Option<bool> {
        self.known().probed(answered)
    }

    /// Counts a connection until the load is dropped.
    pub(super) fn load(self: &Arc<State>) -> Load {
        self.known().open += 1;
        Load(self.clone())
    }
}

impl Known {
    fn probed(&mut self, answered: bool) -> Option<bool> {
        if answered != self.is_down {
            self.otherwise = 0;
            return None;
        }
        self.otherwise += 1;
        if self.otherwise < IN_A_ROW {
            return None;
        }
        self.otherwise = 0;
        self.is_down = !self.is_down;
        if answered {
            self.passed_over_until = None;
        }
        Some(self.is_down)
    }
}

/// A connection that a target has.
#[derive(Debug)]
pub struct Load(Arc<State>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.known().open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn upstreams(balance: Balance, health: Option<Duration>) -> Upstreams {
        let target =
            |name: &str, is_backup| Upstream::new(name, Address::Unix(name.into()), is_backup);
        Upstreams::new(
            vec![target("a", false), target("b", false), target("c", true)],
            balance,
            health,
        )
    }

    fn order(of: &Upstreams) -> String {
        of.order(Ipv4Addr::LOCALHOST.into()).iter().map(|upstream| upstream.name.as_str()).collect()
    }

    #[test]
    fn one_failed_probe_changes_nothing_and_two_in_a_row_do() {
        let mut known = Known::default();
        let told: Vec<_> = [true, false, true, false, false, false, true, false, true, true, true]
            .map(|answered| known.probed(answered))
            .into_iter()
            .collect();
        let expected =
            [None, None, None, None, Some(true), None, None, None, None, Some(false), None];
        assert_eq!(told, expected);
    }

    #[test]
    fn who_could_not_be_reached_is_passed_over_until_he_is() {
        let of = upstreams(Balance::Order, None);
        assert_eq!(order(&of), "abc");
        let first = of.iter().next().expect("three");
        first.state().tried(false);
        assert_eq!(order(&of), "bca", "not before the backup, but not left out");
        first.state().tried(true);
        assert_eq!(order(&of), "abc");
    }

    #[test]
    fn what_is_known_outlives_a_reload_and_counts_as_long_as_it_is_asked_for() {
        let old = upstreams(Balance::LeastConnections, Some(Duration::from_secs(1)));
        let load = old.iter().next().expect("three").state().load();
        let second = old.iter().nth(1).expect("three");
        assert_eq!(
            (second.state().probed(false), second.state().probed(false)),
            (None, Some(true))
        );
        let new = upstreams(Balance::LeastConnections, Some(Duration::from_secs(1)));
        new.take_over(&old);
        assert_eq!(order(&new), "acb");
        let unprobed = upstreams(Balance::LeastConnections, None);
        unprobed.take_over(&old);
        assert_eq!(order(&unprobed), "bac", "nobody would say that it is up again");
        drop(load);
        assert!(new.iter().all(|upstream| upstream.state().known().open == 0));
    }
}
