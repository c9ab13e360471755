//! Admission: who knocked right, and for what. Never decides where a visitor goes, and never lets
//! bytes it did not verify change anything.

pub mod clients;
pub mod first_use;
mod judge;
pub mod store;
pub mod terms;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_shared::knock::Replay;
use tokio::sync::watch;

pub use clients::{Client, Clients};
pub use first_use::FirstUses;
pub use judge::{Admitted, Refusal, Shown, Verdict};

use crate::complaint::Complaint;
use crate::sys;

/// Spent tokens remembered in one generation, in all: 20 MB at the most, and more knocks in three
/// windows than any one server admits.
const REPLAY_TOTAL: usize = 262_144;

/// Of these, what one key may use up.
const REPLAY_PER_KID: usize = 16_384;

/// The clients in force and the tokens they spent.
#[derive(Debug)]
pub struct Gate {
    clients: watch::Sender<Arc<Clients>>,
    replay: Mutex<Replay>,
    first_uses: FirstUses,
    path: PathBuf,
}

impl Gate {
    /// Reads the clients file, or makes one with a new server id and locator.
    pub fn open(path: &Path, window: Duration) -> Result<Gate, Complaint> {
        let clients = store::open(path)?;
        let replay = Replay::new(window, REPLAY_PER_KID, REPLAY_TOTAL, sys::boot_time());
        Ok(Gate {
            clients: watch::Sender::new(Arc::new(clients)),
            replay: Mutex::new(replay),
            first_uses: FirstUses::beside(path),
            path: path.to_owned(),
        })
    }

    /// Judges what came from `from`.
    pub fn judge(&self, shown: Shown<'_>, from: IpAddr, window: Duration) -> Verdict {
        let clients = self.clients.borrow().clone();
        let claim = judge::Claim { shown, from };
        judge::judge(&clients, &claim, sys::unix_time(), window, |tag, kid| {
            let mut replay = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
            replay.spend(tag, kid, sys::boot_time())
        })
    }

    /// Notes that this client's key was used, by its holder.
    pub fn note_use(&self, client: &Client) {
        self.first_uses.note(client.kid);
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
