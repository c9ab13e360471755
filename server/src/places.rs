//! Places: how many connections there may be, undecided and decided. When strangers have filled the
//! undecided ones the oldest is hurried along to become a visitor; nobody is made to wait, and
//! visitors never use up the places of the admitted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::policy::Limits;

/// All places of one posternd.
#[derive(Debug, Default)]
pub struct Places {
    undecided: Mutex<Table>,
    visitors: AtomicUsize,
    admitted: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By number, and so by age.
    waiting: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

/// What `status` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Taken {
    pub undecided: usize,
    pub visitors: usize,
    pub admitted: usize,
}

impl Taken {
    pub fn any(&self) -> bool {
        self.undecided + self.visitors + self.admitted > 0
    }
}

impl Places {
    /// A place among the undecided, entered when its holder first has to wait: most are decided by what
    /// they had sent when they were accepted, and need none.
    pub fn undecided(self: &Arc<Places>, from: IpAddr, limits: &Limits) -> Undecided {
        Undecided { places: self.clone(), from, limits: *limits, held: None, lost: false }
    }

    /// Where the table or the address's share of it is full, the oldest in it is hurried.
    fn enter(&self, from: IpAddr, limits: &Limits) -> Held {
        let hurry = Arc::new(Notify::new());
        let mut table = self.table();
        let full = table.waiting.len() >= limits.undecided;
        let crowded = table
            .by_address
            .get(&from)
            .is_some_and(|own| own.len() >= limits.undecided_per_address);
        let oldest = if crowded {
            table.by_address.get(&from).and_then(|own| own.first().copied())
        } else if full {
            table.waiting.first_key_value().map(|(number, _)| *number)
        } else {
            None
        };
        if let Some(oldest) = oldest
            && let Some(hurried) = table.leave(oldest)
        {
            hurried.notify_one();
        }
        let number = table.next;
        table.next += 1;
        table.waiting.insert(number, (from, hurry.clone()));
        table.by_address.entry(from).or_default().insert(number);
        Held { number, hurry }
    }

    /// A place for a decided visitor; `None` when only the reserve for the admitted is left.
    pub fn visitor(self: &Arc<Places>, limits: &Limits) -> Option<Seat> {
        let left = limits.connections.saturating_sub(self.admitted.load(Ordering::Relaxed));
        self.sit(&self.visitors, limits.visitors().min(left), Kind::Visitor)
    }

    /// A place for somebody who was admitted.
    pub fn admitted(self: &Arc<Places>, limits: &Limits) -> Option<Seat> {
        let left = limits.connections.saturating_sub(self.visitors.load(Ordering::Relaxed));
        self.sit(&self.admitted, left, Kind::Admitted)
    }

    pub fn taken(&self) -> Taken {
        Taken {
            undecided: self.table().waiting.len(),
            visitors: self.visitors.load(Ordering::Relaxed),
            admitted: self.admitted.load(Ordering::Relaxed),
        }
    }

    fn sit(self: &Arc<Places>, count: &AtomicUsize, most: usize, kind: Kind) -> Option<Seat> {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < most).then_some(taken + 1)
            })
            .ok()
            .map(|_| Seat { places: self.clone(), kind })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.undecided.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn leave(&mut self, number: u64) -> Option<Arc<Notify>> {
        let (address, hurry) = self.waiting.remove(&number)?;
        if let Some(own) = self.by_address.get_mut(&address) {
            own.remove(&number);
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(hurry)
    }
}

/// A place among the undecided, given back when dropped.
#[derive(Debug)]
pub struct Undecided {
    places: Arc<Places>,
    from: IpAddr,
    limits: Limits,
    held: Option<Held>,
    /// It has lost its place, and gets no other.
    lost: bool,
}

#[derive(Debug)]
struct Held {
    number: u64,
    hurry: Arc<Notify>,
}

impl Undecided {
    /// Completes when somebody newer needs the place.
    pub async fn hurried(&mut self) {
        let Undecided { places, from, limits, held, lost } = self;
        if !*lost {
            held.get_or_insert_with(|| places.enter(*from, limits)).hurry.notified().await;
            *lost = true;
        }
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            self.places.table().leave(held.number);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Visitor,
    Admitted,
}

/// The place of a decided connection, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    places: Arc<Places>,
    kind: Kind,
}

impl Drop for Seat {
    fn drop(&mut self) {
        match self.kind {
            Kind::Visitor => self.places.visitors.fetch_sub(1, Ordering::Relaxed),
            Kind::Admitted => self.places.admitted.fetch_sub(1, Ordering::Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    const LIMITS: Limits = Limits { connections: 128, undecided: 4, undecided_per_address: 2 };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn waiting(places: &Arc<Places>, from: IpAddr) -> Undecided {
        let mut place = places.undecided(from, &LIMITS);
        assert!(!is_hurried(&mut place));
        place
    }

    fn is_hurried(place: &mut Undecided) -> bool {
        pin!(place.hurried()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_crowded_address_hurries_its_own_oldest() {
        let places = Arc::new(Places::default());
        let mut other = waiting(&places, address(1));
        let mut own: Vec<_> = (0..3).map(|_| waiting(&places, address(2))).collect();
        assert_eq!(own.iter_mut().map(is_hurried).collect::<Vec<_>>(), [true, false, false]);
        assert!(!is_hurried(&mut other));
    }

    #[test]
    fn a_full_table_hurries_the_oldest_of_all() {
        let places = Arc::new(Places::default());
        let unused = places.undecided(address(9), &LIMITS);
        let mut all: Vec<_> = (0..6).map(|n| waiting(&places, address(n))).collect();
        let hurried: Vec<_> = all.iter_mut().map(is_hurried).collect();
        assert_eq!(hurried, [true, true, false, false, false, false]);
        assert_eq!(places.taken().undecided, 4);
        drop((all, unused));
        assert_eq!(places.taken().undecided, 0);
        assert!(places.table().by_address.is_empty(), "no address is remembered for nothing");
    }

    #[test]
    fn visitors_leave_the_reserve_to_the_admitted() {
        let places = Arc::new(Places::default());
        let visitors: Vec<_> = std::iter::from_fn(|| places.visitor(&LIMITS)).collect();
        assert_eq!(visitors.len(), 64);
        let admitted: Vec<_> = std::iter::from_fn(|| places.admitted(&LIMITS)).collect();
        assert_eq!(admitted.len(), 64);
        drop((visitors, admitted));
        assert_eq!(places.taken(), Taken { undecided: 0, visitors: 0, admitted: 0 });
    }
}
