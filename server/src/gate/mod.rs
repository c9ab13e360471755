//! Admission: who knocked right, and for what. Never decides where a visitor goes, and never lets
//! bytes it did not verify change anything.

pub mod clients;
pub mod entrant;
pub mod first_use;
pub mod fleet;
mod judge;
pub(crate) mod keys;
pub mod memory;
pub mod replay;
pub mod secrets;
pub mod store;
pub mod terms;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory::{Keep, Memory};
use postern_shared::knock::replay::lifetime;
use postern_shared::knock::{Carrier, Spend};
use tokio::sync::watch;

pub use clients::{Client, Clients};
pub use entrant::{Entrant, Holder, Pass};
pub use first_use::FirstUses;
pub use fleet::StoreAddress;
use fleet::{Fleet, Shared};
pub use judge::{Admitted, Refusal, Shown, Verdict, Wish};
use replay::{Closed, InUse, Moment, ReplayStore};

use crate::complaint::Complaint;
use crate::expose::Pools;
use crate::sys;

/// What a fleet remembers by: its servers' windows may differ, and change.
const LONGEST_WINDOW: Duration = Duration::from_secs(300);

const JOURNAL: &str = "replay.journal";

/// Why the gate cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    File(#[from] Complaint),
    #[error(transparent)]
    InUse(#[from] InUse),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// The clients in force and the tokens they spent.
#[derive(Debug)]
pub struct Gate {
    clients: watch::Sender<Arc<Clients>>,
    pub pools: Arc<Pools>,
    replay: ReplayStore,
    fleet: Option<Fleet>,
    first_uses: FirstUses,
    memory: Mutex<Memory<Pass>>,
    path: PathBuf,
}

impl Gate {
    /// Reads the clients file, or makes one with a new server id and locator; and takes the replay journal
    /// beside it. With a `store` what is spent is shared with the other servers of a fleet.
    pub fn open(
        path: &Path,
        window: Duration,
        store: Option<StoreAddress>,
    ) -> Result<Gate, OpenError> {
        let clients = store::open(path)?;
        let first_uses = FirstUses::beside(path);
        let replay = ReplayStore::open(
            &path.with_file_name(JOURNAL),
            !first_uses.is_empty(),
            sys::boot_id(),
            now(),
            window,
        )?;
        Ok(Gate {
            clients: watch::Sender::new(Arc::new(clients)),
            pools: Arc::default(),
            replay,
            fleet: store.map(Fleet::join).transpose()?,
            first_uses,
            memory: Mutex::default(),
            path: path.to_owned(),
        })
    }

    /// Judges what came from `from`.
    pub fn judge(&self, shown: Shown<'_>, from: IpAddr, window: Duration) -> Verdict {
        let clients = self.clients.borrow().clone();
        let claim = judge::Claim { shown, from };
        let now = now();
        let mut pending = None;
        let mut verdict =
            judge::judge(&clients, &self.pools, &claim, now.unix, window, |offered| {
                let spend = self.replay.spend(offered, now, window);
                if let (Spend::Fresh, Some(fleet)) = (spend, &self.fleet) {
                    pending =
                        Some(fleet.spend(&clients.server, &offered.tag, lifetime(LONGEST_WINDOW)));
                }
                spend
            });
        // Whatever else refuses it, it is spent for all.
        if let Verdict::Admitted(admitted) = &mut verdict {
            admitted.pending = pending;
        }
        verdict
    }

    /// Whether the fleet, where there is one, lets in whom we admitted. Nothing may be done for him before.
    pub async fn confirm(&self, admitted: &mut Admitted) -> Result<(), Refusal> {
        let Some(pending) = admitted.pending.take() else { return Ok(()) };
        match admitted.carrier {
            Carrier::Plain => match pending.answer().await {
                Shared::First => Ok(()),
                Shared::Elsewhere => Err(Refusal::Replayed),
                Shared::Unknown => Err(Refusal::Store),
            },
            // Where a replay leads nowhere the store is only told.
            Carrier::Hello | Carrier::Tls => Ok(()),
        }
    }

    /// To be called every second or so: the replay store notices a clock that was set, and mends its
    /// journal.
    pub fn tend(&self, window: Duration) {
        self.replay.tend(now(), window);
    }

    /// Why knocks that are to be remembered are refused, if they are.
    pub fn closed(&self) -> Option<Closed> {
        let store = || {
            let why = self.fleet.as_ref()?.failure()?;
            Some(Closed { carriers: &[Carrier::Plain], why, until: None })
        };
        self.replay.closed(now()).or_else(store)
    }

    /// Lets the next posternd have the replay journal; from now on nobody is admitted by plain.
    pub fn close(&self) {
        self.replay.close(now());
    }

    /// Notes that a key was used, by its holder.
    pub fn note_use(&self, holder: &Holder) {
        match holder {
            Holder::Client(client) => self.first_uses.note(client.kid),
            Holder::Secret(_) => {}
        }
    }

    /// Lets whoever comes from this address in without a knock, for a while.
    pub fn arm(&self, from: IpAddr, pass: Pass, keep: Keep) {
        self.memory().arm(from, pass, keep, sys::boot_time());
    }

    pub fn is_armed(&self, from: IpAddr) -> bool {
        self.memory().is_armed(from, sys::boot_time())
    }

    /// What this address was armed for, which has one use less then. Terms may have changed since.
    pub fn claim(&self, from: IpAddr) -> Option<Pass> {
        self.memory().claim(from, sys::boot_time())
    }

    fn memory(&self) -> MutexGuard<'_, Memory<Pass>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clients file as it is now, to be put in force with [`set_clients`](Self::set_clients).
    pub fn read_clients(&self) -> Result<Clients, Complaint> {
        store::read(&self.path)
    }

    /// Puts these clients in force; answers how many they are.
    pub fn set_clients(&self, clients: Clients) -> usize {
        let count = clients.len();
        self.clients.send_replace(Arc::new(clients));
        count
    }

    pub fn clients(&self) -> Arc<Clients> {
        self.clients.borrow().clone()
    }
}

fn now() -> Moment {
    let boot = u32::try_from(sys::boot_time().as_secs()).unwrap_or(u32::MAX);
    Moment { unix: sys::unix_time(), boot }
}
