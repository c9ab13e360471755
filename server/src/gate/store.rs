//! The clients file on disk: made once, locked while it is changed, replaced as a whole. Never leaves
//! a half-written file behind, and keeps the owner and mode that it finds.

use std::fs::{self, File as Handle, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use postern_shared::expose::Permit;
use postern_shared::hex;
use postern_shared::invite::Grant;
use postern_shared::knock::{ClientKey, Kid};
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;
use toml::Spanned;
use tracing::info;
use zeroize::Zeroizing;

use super::clients::{Clients, Entry, File, MAX_LOCATORS, Old};
use super::terms::Written;
use crate::complaint::Complaint;
use crate::sys::random;

const HEADER: &str = "# Keys of the clients that may knock. Secret. Written by `posternd client`; posternd reads it\n\
                      # again when it changes.\n\n";

/// Makes the state directory for its owner alone, if there is none.
pub fn make_state(path: &Path) -> Result<(), Complaint> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Complaint::file(path, format!("cannot be made: {error}")))
}

/// Reads the clients file; makes it, with a new server id and locator, if there is none.
pub fn open(path: &Path) -> Result<Clients, Complaint> {
    let path = &real(path);
    let _lock = Lock::take(path)?;
    if !path.exists() {
        info!(file = %path.display(), "there are no clients yet: made a new server id and locator");
        let mut file = File {
            server_id: hex::encode(&random::<16>()).to_string(),
            locators: vec![hex::encode(&random::<32>())],
            client: Vec::new(),
        };
        write(path, &mut file)?;
    }
    read(path)
}

/// Reads the clients file.
pub fn read(path: &Path) -> Result<Clients, Complaint> {
    Clients::parse(path, &text(path)?)
}

/// What is needed to add a client; the rest is drawn at random or counted.
#[derive(Debug)]
pub struct NewClient {
    pub name: String,
    pub services: Vec<String>,
    pub expose: Vec<Permit>,
    pub terms: Written,
}

/// The key that an added client was given.
#[derive(Debug)]
pub struct Added {
    pub kid: Kid,
    pub key: ClientKey,
    pub services: Vec<Grant>,
    pub clients: Clients,
}

/// Why the clients file was not changed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error(transparent)]
    File(#[from] Complaint),
    #[error("there is a client named {0:?} already; revoke it, or choose another name")]
    Taken(String),
    #[error("no client is named {0:?}; `posternd client list` shows them")]
    Unknown(String),
    #[error("{0:?} would be left with nothing; revoke it instead")]
    Nothing(String),
    #[error("{0}")]
    Locators(&'static str),
}

/// Adds a client with a key of its own.
pub fn add(path: &Path, new: NewClient) -> Result<Added, ChangeError> {
    let path = &real(path);
    let _lock = Lock::take(path)?;
    let mut file = parse(path)?;
    if file.client.iter().any(|entry| entry.get_ref().name == new.name) {
        return Err(ChangeError::Taken(new.name));
    }
    let (kid, key) = (new_kid(&file), ClientKey::new(random()));
    let services: Vec<Grant> =
        (1..).zip(new.services).map(|(number, service)| Grant { service, number }).collect();
    let Written { from, carriers, not_before, until, hours, time_zone, max_tunnels } = new.terms;
    let entry = Entry {
        name: new.name,
        kid: kid.value(),
        key: hex::encode(key.expose()),
        services: services.iter().map(|grant| (grant.service.clone(), grant.number)).collect(),
        expose: new.expose.iter().map(Permit::to_string).collect(),
        from,
        carriers,
        not_before,
        until,
        hours,
        time_zone,
        max_tunnels,
        old: None,
    };
    file.client.push(Spanned::new(0..0, entry));
    write(path, &mut file)?;
    Ok(Added { kid, key, services, clients: read(path)? })
}

/// Gives a client a new key; the one it has stays good until `until`, and one before that goes. But where
/// the one it has was never used, as when its invite was lost, that goes, and the one before it stays.
pub fn rotate(
    path: &Path,
    name: &str,
    until: Timestamp,
    was_used: impl Fn(Kid) -> bool,
) -> Result<Added, ChangeError> {
    let path = &real(path);
    let _lock = Lock::take(path)?;
    let mut file = parse(path)?;
    let (kid, key) = (new_kid(&file), ClientKey::new(random()));
    let entry = file.client.iter_mut().map(Spanned::get_mut).find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| ChangeError::Unknown(name.to_owned()))?;
    let old_key = std::mem::replace(&mut entry.key, hex::encode(key.expose()));
    let old_kid = std::mem::replace(&mut entry.kid, kid.value());
    let keeps = until > Timestamp::now();
    let unused = !Kid::new(old_kid).is_some_and(was_used);
    if !(keeps && unused && entry.old.as_ref().is_some_and(Old::is_good)) {
        let old = Old { kid: old_kid, key: old_key, until: until.to_string() };
        entry.old = keeps.then_some(old);
    }
    let mut services: Vec<_> = entry
        .services
        .iter()
        .map(|(service, number)| Grant { service: service.clone(), number: *number })
        .collect();
    services.sort_by_key(|grant| grant.number);
    write(path, &mut file)?;
    Ok(Added { kid, key, services, clients: read(path)? })
}

/// Says what a client may expose from now on.
pub fn expose(path: &Path, name: &str, permits: &[Permit]) -> Result<(), ChangeError> {
    let path = &real(path);
    let _lock = Lock::take(path)?;
    let mut file = parse(path)?;
    let entry = file.client.iter_mut().map(Spanned::get_mut).find(|entry| entry.name == name);
    let entry = entry.ok_or_else(|| ChangeError::Unknown(name.to_owned()))?;
    if permits.is_empty() && entry.services.is_empty() {
        return Err(ChangeError::Nothing(name.to_owned()));
    }
    entry.expose = permits.iter().map(Permit::to_string).collect();
    Ok(write(path, &mut file)?)
}

/// Adds a locator, which new invites carry from now on; those that have the older one stay good.
pub fn add_locator(path: &Path) -> Result<(), ChangeError> {
    change_locators(path, |locators| {
        if locators.len() >= MAX_LOCATORS {
            return Err(ChangeError::Locators(
                "two locators are live already; first drop the older one with --drop-locator",
            ));
        }
        locators.insert(0, hex::encode(&random::<32>()));
        Ok(())
    })
}

/// Drops the older locator, and with it what the clients who have it can show or recognise.
pub fn drop_locator(path: &Path) -> Result<(), ChangeError> {
    change_locators(path, |locators| {
        if locators.len() < MAX_LOCATORS {
            return Err(ChangeError::Locators(
                "there is one locator, which every client has; add another with --locator",
            ));
        }
        locators.truncate(1);
        Ok(())
    })
}

fn change_locators(
    path: &Path,
    change: impl FnOnce(&mut Vec<Zeroizing<String>>) -> Result<(), ChangeError>,
) -> Result<(), ChangeError> {
    let path = &real(path);
    let _lock = Lock::take(path)?;
    let mut file = parse(path)?;
    change(&mut file.locators)?;
    Ok(write(path, &mut file)?)
}

fn new_kid(file: &File) -> Kid {
    let taken = |kid: u32| {
        let mut entries = file.client.iter().map(Spanned::get_ref);
        entries
            .any(|entry| entry.kid == kid || entry.old.as_ref().is_some_and(|old| old.kid == kid))
    };
    std::iter::repeat_with(|| u32::from_be_bytes(random()))
        .filter(|kid| !taken(*kid))
        .find_map(Kid::new)
        .expect("an endless source of numbers")
}

/// Removes a client; answers the kid that its key had.
pub fn revoke(path: &Path, name: &str) -> Result<Kid, ChangeError> {
    let path = &real(path);
    let _lock = Lock::take(path)?;
    let mut file = parse(path)?;
    let Some(at) = file.client.iter().position(|entry| entry.get_ref().name == name) else {
        return Err(ChangeError::Unknown(name.to_owned()));
    };
    let entry = file.client.remove(at).into_inner();
    write(path, &mut file)?;
    Ok(Kid::new(entry.kid).ok_or_else(|| Complaint::file(path, "kid must not be 0"))?)
}

/// What tells whether a file was replaced or changed since one looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Stamp {
    pub fn of(path: &Path) -> Option<Stamp> {
        let meta = fs::metadata(path).ok()?;
        Some(Stamp {
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            size: meta.size(),
        })
    }
}

/// The file itself, where `path` is a link to one that several servers share: replacing the link would
/// cut this server loose from the others.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

pub(crate) fn text(path: &Path) -> Result<Zeroizing<String>, Complaint> {
    let meta = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if meta.mode() & 0o077 != 0 {
        let what = format!("others can read these keys; run: chmod 600 {}", path.display());
        return Err(Complaint::file(path, what));
    }
    fs::read_to_string(path).map(Zeroizing::new).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> Complaint {
    Complaint::file(path, format!("cannot be read: {error}"))
}

fn parse(path: &Path) -> Result<File, Complaint> {
    let text = text(path)?;
    // Whatever the full reading refuses must not be rewritten as if it were sound.
    Clients::parse(path, &text)?;
    toml::from_str(&text).map_err(|error| Complaint::toml(path, &text, &error))
}

fn write(path: &Path, file: &mut File) -> Result<(), Complaint> {
    for entry in file.client.iter_mut().map(Spanned::get_mut) {
        entry.old = entry.old.take().filter(Old::is_good);
    }
    let body = toml::to_string(file).map_err(|error| Complaint::file(path, error.to_string()))?;
    let body = Zeroizing::new(body);
    let text = Zeroizing::new([HEADER, &body].concat());
    replace(path, &text)
        .map_err(|error| Complaint::file(path, format!("cannot be written: {error}")))
}

/// Puts a new file in the place of `path`: readers see the old one or the new one, also after a crash.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let directory = directory(path);
    let mut fresh = NamedTempFile::new_in(&directory)?;
    fresh.write_all(text.as_bytes())?;
    if let Ok(old) = fs::metadata(path) {
        fresh.as_file().set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    give_to_owner(fresh.as_file(), path)?;
    fresh.as_file().sync_all()?;
    fresh.persist(path)?;
    Handle::open(&directory)?.sync_all()
}

/// What root writes belongs to whom the old file, or else the directory, belongs to: an administrator's
/// `client add` must not lock the daemon's user out. Anybody else owns what he writes already.
pub(super) fn give_to_owner(file: &Handle, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(path).or_else(|_| fs::metadata(directory(path)))?;
    std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
}

pub(super) fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) | None => PathBuf::from("."),
    }
}

/// Held while a file is made, or read to be changed. On a file of its own, since that file itself is
/// replaced.
pub(crate) struct Lock(
    #[expect(dead_code, reason = "closing it is what releases the lock")] Handle,
);

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Lock, Complaint> {
        let lock = with_lock(path);
        let take = || -> io::Result<Handle> {
            let handle = OpenOptions::new().create(true).append(true).mode(0o600).open(&lock)?;
            give_to_owner(&handle, path)?;
            flock(&handle, FlockOperation::LockExclusive)?;
            Ok(handle)
        };
        take()
            .map(Lock)
            .map_err(|error| Complaint::file(&lock, format!("cannot be locked: {error}")))
    }
}

fn with_lock(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests;
