//! How many connections a service has, how often one household may make one, and how many wait for a
//! place. Says yes or no; whoever is told no is told so by the spine.

use std::net::IpAddr;
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

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    MaxConnections,
    Rate,
}

impl Over {
    /// The word for logs: the key that says so.
    pub fn name(self) -> &'static str {
        match self {
            Over::MaxConnections => "max-connections",
            Over::Rate => "rate",
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
    /// A place, at once or within `patience`; `None` where places are not counted.
    pub(super) async fn enter(
        self: &Arc<Borne>,
        bearing: &Bearing,
        from: IpAddr,
        patience: Duration,
    ) -> Result<Option<Ticket>, Over> {
        if let Some(rate) = bearing.rate {
            let mut visits = self.visits.lock().unwrap_or_else(PoisonError::into_inner);
            if !visits.admit(rate, from, sys::boot_time()) {
                return Err(Over::Rate);
            }
        }
        let Some(most) = bearing.max_connections else { return Ok(None) };
        let _waiting = {
            let mut room = self.room();
            // Whoever waits is before whoever comes.
            if room.waiting == 0 && room.open < most {
                room.open += 1;
                return Ok(Some(Ticket(self.clone())));
            }
            if room.waiting >= bearing.queue {
                return Err(Over::MaxConnections);
            }
            room.waiting += 1;
            Waiting(self)
        };
        let taken = async {
            loop {
                self.freed.notified().await;
                let mut room = self.room();
                if room.open < most {
                    room.open += 1;
                    return Ticket(self.clone());
                }
            }
        };
        timeout(patience, taken).await.map(Some).map_err(|_| Over::MaxConnections)
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
