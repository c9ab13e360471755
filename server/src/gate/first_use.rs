//! When each client's key was first used, kept beside the clients file: an invite that somebody else
//! used first shows in `client list`. Never decides anything, and failing to write only warns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use postern_shared::knock::Kid;
use tracing::warn;

use super::store;

const FILE: &str = "first-use.toml";

/// First uses by kid, in memory and on disk.
#[derive(Debug)]
pub struct FirstUses {
    path: PathBuf,
    by_kid: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    /// Held while the file is written, so that no older text replaces a newer one.
    writing: Arc<Mutex<()>>,
}

impl FirstUses {
    /// Those noted beside this clients file; none if there is no such file or it cannot be read.
    pub fn beside(clients: &Path) -> FirstUses {
        let path = clients.with_file_name(FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let by_kid = toml::from_str(&text).unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "first uses are not readable and start anew");
            BTreeMap::new()
        });
        FirstUses { path, by_kid: Arc::new(Mutex::new(by_kid)), writing: Arc::default() }
    }

    pub fn of(&self, kid: Kid) -> Option<Timestamp> {
        self.by_kid.lock().unwrap_or_else(PoisonError::into_inner).get(&kid.to_string()).copied()
    }

    /// Whether no key was ever used.
    pub(super) fn is_empty(&self) -> bool {
        self.by_kid.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Notes a use, and writes the file if it is the key's first.
    pub(super) fn note(&self, kid: Kid) {
        let by_kid = self.by_kid.clone();
        {
            let mut by_kid = by_kid.lock().unwrap_or_else(PoisonError::into_inner);
            if by_kid.contains_key(&kid.to_string()) {
                return;
            }
            by_kid.insert(kid.to_string(), Timestamp::now());
        }
        let (path, writing) = (self.path.clone(), self.writing.clone());
        // A slow disk must not hold the client that is just being let in.
        tokio::task::spawn_blocking(move || {
            let _one = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let text = toml::to_string(&*by_kid.lock().unwrap_or_else(PoisonError::into_inner));
            let written =
                text.map_err(std::io::Error::other).and_then(|text| store::replace(&path, &text));
            if let Err(error) = written {
                warn!(file = %path.display(), %error, "a key's first use could not be noted");
            }
        });
    }
}
