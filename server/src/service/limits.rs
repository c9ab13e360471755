//! How many connections a service has, how often one household may make one, and how many wait for a
//! place. Says yes or no; whoever is told no is told so by the spine.

use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::rate::{Rate, Visits};
use crate::sys;

/// Children at a time where `max-connections` does not say: each is a process.
pub(crate) const MOST_CHILDREN: usize = 64;

/// What one `[service.NAME]` bears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bearing {
    /// How long a relayed connection may move no byte in either direction.
    pub idle: Option<Duration>,
    pub max_connections: Option<usize>,
    /// How many may wait for one of these, at most for as long as connecting may take.
    pub queue: usize,
    pub rate: Option<Rate>,
}

/// Why somebody is not led to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Its access program does not let him in.
    Denied,
    MaxConnections,
    Rate,
}

impl Kept {
    /// The word for logs: the key that says so.
    pub fn name(self) -> &'static str {
        match self {
            Kept::Denied => "access",
            Kept::MaxConnections => "max-connections",
            Kept::Rate => "rate",
        }
    }
}

/// What a service has borne so far. It outlives a reload of the configuration.
#[derive(Debug, Default)]
pub(super) struct Borne {
    room: Mutex<Room>,
    freed: Notify,
    visits: Mutex<Visits>,
}

#[derive(Debug, Default)]
struct Room {
    open: usize,
    waiting: usize,
}

impl Borne {
    /// Whether one more may come from there now.
    pub(super) fn visit(&self, bearing: &Bearing, from: IpAddr) -> Result<(), Kept> {
        let Some(rate) = bearing.rate else { return Ok(()) };
        let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
        if visits.admit(rate, from, sys::boot_time()) { Ok(()) } else { Err(Kept::Rate) }
    }

    /// A place, at once or within `patience`; `None` where places are not counted.
    pub(super) async fn enter(
        self: &Arc<Borne>,
        bearing: &Bearing,
        patience: Duration,
    ) -> Result<Option<Ticket>, Kept> {
        let Some(most) = bearing.max_connections else { return Ok(None) };
        let _waiting = {
            let mut room = self.room();
            // Whoever waits is before whoever comes.
            if room.waiting == 0 && room.open < most {
                room.open += 1;
                return Ok(Some(Ticket(self.clone())));
            }
            if room.waiting >= bearing.queue {
                return Err(Kept::MaxConnections);
            }
            room.waiting += 1;
            Waiting(self)
        };
        let taken = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                // Heard from here on, so that no place is freed unheard between looking and waiting.
                freed.as_mut().enable();
                if self.take(most) {
                    return Ticket(self.clone());
                }
                freed.await;
            }
        };
        timeout(patience, taken).await.map(Some).map_err(|_| Kept::MaxConnections)
    }

    fn take(&self, most: usize) -> bool {
        let mut room = self.room();
        let free = room.open < most;
        room.open += usize::from(free);
        free
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place of a service, given back when dropped.
#[derive(Debug)]
pub struct Ticket(Arc<Borne>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.room().open -= 1;
        self.0.freed.notify_one();
    }
}

struct Waiting<'a>(&'a Borne);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.room().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn bearing(most: usize, queue: usize) -> Bearing {
        Bearing { max_connections: Some(most), queue, ..Bearing::default() }
    }

    fn counts(borne: &Borne) -> (usize, usize) {
        let room = borne.room();
        (room.open, room.waiting)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_waits_is_served_and_never_too_many_are() {
        const MOST: usize = 3;
        let borne = Arc::new(Borne::default());
        let inside = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        for _ in 0..2000 {
            let (borne, inside) = (borne.clone(), inside.clone());
            all.spawn(async move {
                let ticket = borne.enter(&bearing(MOST, 2000), LONG).await;
                assert!(inside.fetch_add(1, Ordering::SeqCst) < MOST);
                yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                assert!(ticket.is_ok_and(|ticket| ticket.is_some()));
            });
        }
        while let Some(served) = all.join_next().await {
            served.expect("served in time");
        }
        assert_eq!(counts(&borne), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_gives_up_leaves_no_trace() {
        let borne = Arc::new(Borne::default());
        let bearing = bearing(1, 1);
        let enter = || borne.enter(&bearing, LONG);
        let first = enter().await.expect("a place");
        let (late, refused) = tokio::join!(enter(), enter());
        assert_eq!(refused.map(drop), Err(Kept::MaxConnections), "one waits already");
        assert_eq!(late.map(drop), Err(Kept::MaxConnections), "nobody left in time");
        assert_eq!(counts(&borne), (1, 0));
        drop(first);
        assert!(enter().await.is_ok());
    }
}
