//! Which flows there are, and which has to give way where there is no room for another. Pure but for
//! their pulses, which are felt as they are: opens and closes nothing, and never lets one address push
//! out the flows of others before it has pushed out its own.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::FlowLimits;

/// A peer, and our own address that it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pair {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

/// When a flow was last heard of.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// In milliseconds of the table's own time.
    last: AtomicU64,
    answered: AtomicBool,
    /// The peer has sent something since it was answered: it is where it says that it is, more likely
    /// than not.
    talks: AtomicBool,
}

/// Who is worth less comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    talks: bool,
    last: u64,
}

impl Pulse {
    pub(super) fn up(&self, now: u64) {
        self.last.fetch_max(now, Ordering::Relaxed);
        if self.answered.load(Ordering::Relaxed) {
            self.talks.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn down(&self, now: u64) {
        self.last.fetch_max(now, Ordering::Relaxed);
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    fn worth(&self) -> Worth {
        Worth { talks: self.talks.load(Ordering::Relaxed), last: self.last() }
    }
}

#[derive(Debug)]
pub(super) struct Table<T> {
    next: u64,
    flows: HashMap<Pair, Entry<T>>,
    /// By what they were worth when it was last looked at. That can only have grown since, so whoever is
    /// first and still worth as much is worth least of all.
    order: BTreeMap<(Worth, u64), Pair>,
    by_address: HashMap<IpAddr, BTreeMap<u64, (Pair, Arc<Pulse>)>>,
}

#[derive(Debug)]
struct Entry<T> {
    number: u64,
    /// As `order` has it.
    worth: Worth,
    pulse: Arc<Pulse>,
    flow: Arc<T>,
}

impl<T> Table<T> {
    pub(super) fn new() -> Table<T> {
        Table { next: 0, flows: HashMap::new(), order: BTreeMap::new(), by_address: HashMap::new() }
    }

    pub(super) fn get(&self, pair: &Pair) -> Option<&Arc<T>> {
        self.flows.get(pair).map(|entry| &entry.flow)
    }

    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.flows.values().map(|entry| &entry.flow)
    }

    /// Takes out who has to give way for one more of this peer, if anybody has to.
    pub(super) fn make_room(&mut self, peer: SocketAddr, limits: &FlowLimits) -> Option<Arc<T>> {
        let own = self.by_address.get(&counted(peer));
        let loser = if own.is_some_and(|own| own.len() >= limits.per_address) {
            let least = own?.values().min_by_key(|(_, pulse)| pulse.worth());
            least.map(|(pair, _)| *pair)
        } else if self.flows.len() >= limits.flows {
            self.least()
        } else {
            None
        };
        self.take(&loser?)
    }

    /// Enters a flow; its number tells it from a later one between the same two.
    pub(super) fn insert(&mut self, pair: Pair, pulse: Arc<Pulse>, flow: Arc<T>) -> u64 {
        let (number, worth) = (self.next, pulse.worth());
        self.next += 1;
        self.take(&pair);
        self.order.insert((worth, number), pair);
        let own = self.by_address.entry(counted(pair.peer)).or_default();
        own.insert(number, (pair, pulse.clone()));
        self.flows.insert(pair, Entry { number, worth, pulse, flow });
        number
    }

    /// Takes out the flow of this number, unless it is gone already.
    pub(super) fn remove(&mut self, pair: &Pair, number: u64) {
        if self.flows.get(pair).is_some_and(|entry| entry.number == number) {
            self.take(pair);
        }
    }

    fn take(&mut self, pair: &Pair) -> Option<Arc<T>> {
        let entry = self.flows.remove(pair)?;
        self.order.remove(&(entry.worth, entry.number));
        let address = counted(pair.peer);
        if let Some(own) = self.by_address.get_mut(&address) {
            own.remove(&entry.number);
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(entry.flow)
    }

    fn least(&mut self) -> Option<Pair> {
        // Others may be heard of meanwhile; once around is enough.
        for _ in 0..self.order.len() {
            let ((worth, number), pair) = self.order.first_key_value()?;
            let (worth, number, pair) = (*worth, *number, *pair);
            let entry = self.flows.get_mut(&pair)?;
            let now = entry.pulse.worth();
            if now == worth {
                return Some(pair);
            }
            entry.worth = now;
            self.order.remove(&(worth, number));
            self.order.insert((now, number), pair);
        }
        self.order.first_key_value().map(|(_, pair)| *pair)
    }
}

/// Whose flows count together: who has one v6 address commonly has 64 bits of them.
fn counted(peer: SocketAddr) -> IpAddr {
    match peer.ip().to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FlowLimits = FlowLimits { flows: 6, per_address: 3 };

    #[derive(Default)]
    struct Flows {
        table: Option<Table<(u8, u16)>>,
        pulses: HashMap<(u8, u16), Arc<Pulse>>,
        now: u64,
    }

    fn pair((host, port): (u8, u16)) -> Pair {
        let peer = SocketAddr::from(([192, 0, 2, host], port));
        Pair { peer, local: SocketAddr::from(([127, 0, 0, 1], 443)) }
    }

    impl Flows {
        /// Begins one, and says which gave way.
        fn begin(&mut self, who: (u8, u16)) -> Option<(u8, u16)> {
            self.now += 1;
            let table = self.table.get_or_insert_with(Table::new);
            let loser = table.make_room(pair(who).peer, &LIMITS);
            let pulse = Arc::new(Pulse::default());
            pulse.up(self.now);
            table.insert(pair(who), pulse.clone(), Arc::new(who));
            self.pulses.insert(who, pulse);
            loser.map(|loser| *loser)
        }

        fn hear(&mut self, who: (u8, u16)) {
            self.now += 1;
            self.pulses[&who].up(self.now);
        }

        fn answer(&mut self, who: (u8, u16)) {
            self.now += 1;
            self.pulses[&who].down(self.now);
        }
    }

    #[test]
    fn a_crowded_address_loses_its_own_oldest() {
        let mut flows = Flows::default();
        assert_eq!(flows.begin((1, 1)), None);
        for port in 1..=3 {
            assert_eq!(flows.begin((2, port)), None);
        }
        flows.hear((2, 1));
        assert_eq!(flows.begin((2, 4)), Some((2, 2)));
        assert_eq!(flows.begin((2, 5)), Some((2, 3)));
        assert_eq!(flows.begin((2, 6)), Some((2, 1)));
    }

    #[test]
    fn a_full_table_loses_the_oldest_of_those_that_never_talked() {
        let mut flows = Flows::default();
        for host in 1..=6 {
            assert_eq!(flows.begin((host, 1)), None);
        }
        // The first talks, the second only asks again, the third was answered and said no more.
        flows.answer((1, 1));
        flows.hear((1, 1));
        flows.hear((2, 1));
        flows.answer((3, 1));
        let losers: Vec<_> = (7..=12).map(|host| flows.begin((host, 1))).collect();
        let hosts = [4, 5, 6, 2, 3, 7].map(|host| Some((host, 1)));
        assert_eq!(losers, hosts, "the talker is still there");
        let table = flows.table.expect("some");
        assert!(table.get(&pair((1, 1))).is_some());
        assert_eq!((table.len(), table.order.len(), table.by_address.len()), (6, 6, 6));
    }

    #[test]
    fn nothing_is_remembered_of_those_that_are_gone() {
        let mut table = Table::new();
        let again = [pair((1, 1)), pair((1, 1)), pair((2, 1))].map(|pair| {
            let number = table.insert(pair, Arc::default(), Arc::new(()));
            (pair, number)
        });
        assert_eq!(table.len(), 2);
        let [(first, number), others @ ..] = again;
        table.remove(&first, number);
        assert_eq!(table.len(), 2, "a later one between the same two stays");
        for (pair, number) in others {
            table.remove(&pair, number);
        }
        assert_eq!((table.len(), table.order.len(), table.by_address.len()), (0, 0, 0));
    }

    #[test]
    fn v6_is_counted_by_the_network() {
        let counted = |text: &str| counted(SocketAddr::new(text.parse().expect("an address"), 1));
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::2:3:4:5"));
        assert_ne!(counted("2001:db8::1"), counted("2001:db8:0:1::1"));
        assert_eq!(counted("::ffff:192.0.2.1"), counted("192.0.2.1"));
    }
}
