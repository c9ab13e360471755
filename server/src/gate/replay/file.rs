//! The replay journal's file: written anew aside and renamed, added to by one write(2) for each token,
//! and locked for one posternd alone. Decides nothing; says why it cannot be written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::gate::store::{directory, give_to_owner};

/// A posternd that is asked to stop lets go of its journal at once.
const STOPPING: Duration = Duration::from_secs(2);

/// Another posternd holds the lock.
#[derive(Debug, thiserror::Error)]
#[error(
    "another posternd runs with this state directory ({} is locked); stop it, or give this one a state of its own",
    .0.display()
)]
pub struct InUse(PathBuf);

/// The journal of one posternd.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    lock: Option<File>,
    /// Where records are added, or why they cannot be.
    file: io::Result<File>,
    bytes: usize,
}

impl Journal {
    /// Takes the journal for this process alone. Not to be able to is told by
    /// [`error`](Self::error); nothing can be added before it is [replaced](Self::replace).
    pub(super) fn take(path: &Path) -> Result<Journal, InUse> {
        let until = Instant::now() + STOPPING;
        let (lock, error) = loop {
            match lock(path) {
                Ok(lock) => break (Some(lock), io::Error::other("not written yet")),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => break (None, error),
                Err(_) if Instant::now() > until => return Err(InUse(lock_file(path))),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(Journal { path: path.to_owned(), lock, file: Err(error), bytes: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was written before, `most` bytes of it; `None` if there is none.
    pub(super) fn read(&self, most: usize) -> io::Result<Option<Vec<u8>>> {
        // Whatever else lies in its place must not hold the start.
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut bytes = Vec::new();
        file.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Puts `bytes` in the place of all that was written; on the disk itself when this returns, if it is
    /// to be so `durably`.
    pub(super) fn replace(&mut self, bytes: &[u8], durably: bool) {
        self.file = self.try_replace(bytes, durably);
        self.bytes = bytes.len();
    }

    fn try_replace(&mut self, bytes: &[u8], durably: bool) -> io::Result<File> {
        if self.lock.is_none() {
            self.lock = Some(lock(&self.path)?);
        }
        let fresh = self.path.with_extension("journal.new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        give_to_owner(&file, &self.path)?;
        file.write_all(bytes)?;
        if durably {
            file.sync_all()?;
        }
        fs::rename(&fresh, &self.path)?;
        if durably {
            File::open(directory(&self.path))?.sync_all()?;
        }
        Ok(file)
    }

    /// Adds a record. What is cut short counts as not written, and nothing is added after it.
    pub(super) fn append(&mut self, record: &[u8]) {
        let Ok(file) = &mut self.file else { return };
        let error = match file.write(record) {
            Ok(written) if written == record.len() => {
                self.bytes += written;
                return;
            }
            Ok(_) => io::Error::from(io::ErrorKind::StorageFull),
            Err(error) => error,
        };
        self.file = Err(error);
    }

    /// Lets another process have it.
    pub(super) fn release(&mut self) {
        self.file = Err(io::Error::other("posternd is stopping"));
        self.lock = None;
    }

    pub(super) fn error(&self) -> Option<&io::Error> {
        self.file.as_ref().err()
    }

    /// Whether somebody took the file away: what is added to it would be lost.
    pub(super) fn is_gone(&self) -> bool {
        self.file.as_ref().is_ok_and(|file| !file.metadata().is_ok_and(|meta| meta.nlink() > 0))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// On a file of its own, since the journal is replaced.
fn lock_file(path: &Path) -> PathBuf {
    path.with_extension("lock")
}

fn lock(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(lock_file(path))?;
    give_to_owner(&file, path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_added_is_read_by_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("replay.journal");
        let mut journal = Journal::take(&path).expect("free");
        assert_eq!(journal.read(100).expect("nothing"), None);
        assert!(journal.error().is_some(), "nothing can be added yet");
        journal.replace(b"head", true);
        journal.append(b"er");
        assert!(journal.error().is_none());
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        drop(journal);
        let journal = Journal::take(&path).expect("free again");
        assert_eq!(journal.read(100).expect("there"), Some(b"header".to_vec()));
        assert_eq!(journal.read(3).expect("there"), Some(b"hea".to_vec()));
    }

    #[test]
    fn one_process_alone_has_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("replay.journal");
        let mut first = Journal::take(&path).expect("free");
        let refused = Journal::take(&path).expect_err("taken").to_string();
        assert!(refused.contains("replay.lock"), "{refused}");
        first.release();
        Journal::take(&path).expect("free, though the first still lives");
    }

    #[test]
    fn a_full_disk_is_told_and_what_follows_is_not_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut journal = Journal::take(&dir.path().join("replay.journal")).expect("free");
        journal.file = OpenOptions::new().write(true).open("/dev/full");
        journal.append(b"record");
        let error = journal.error().expect("no room").kind();
        assert_eq!(error, io::ErrorKind::StorageFull);
        journal.append(b"record");
        assert_eq!(journal.bytes(), 0);
        journal.replace(b"again", false);
        assert!(journal.error().is_none());
    }

    #[test]
    fn whatever_else_lies_in_its_place_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("replay.journal");
        fs::create_dir(&path).expect("made");
        let mut journal = Journal::take(&path).expect("free");
        assert!(journal.read(100).is_err());
        journal.replace(b"header", true);
        assert!(journal.error().is_some());
        fs::remove_dir(&path).expect("removed");
        journal.replace(b"header", true);
        assert!(journal.error().is_none() && !journal.is_gone());
        fs::remove_file(&path).expect("removed");
        assert!(journal.is_gone());
    }
}
