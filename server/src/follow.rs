//! Notices that a file was changed or replaced: at once where the kernel can tell of it (inotify(7)), by
//! looking once a second elsewhere. Decides nothing about what is in it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_relay::sys::on_reactor;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::statfs;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use crate::gate::store::Stamp;

const LOOK: Duration = Duration::from_secs(1);

/// How often a file is looked at of which the kernel tells: it says nothing where a directory further up
/// is replaced, or the file is written under another name.
const SELDOM: Duration = Duration::from_secs(30);

const MOMENT: Duration = Duration::from_millis(50);
const MOST_MOMENTS: u32 = 20;

/// ext2 to ext4, xfs, btrfs, tmpfs, f2fs, zfs, overlay (statfs(2)). On a network's file system another
/// machine may write, of which inotify says nothing.
const LOCAL: [u64; 7] =
    [0xEF53, 0x5846_5342, 0x9123_683E, 0x0102_1994, 0xF2F5_2010, 0x2FC1_2FC1, 0x794C_7630];

/// A file that is followed.
#[derive(Debug)]
pub struct Followed {
    path: PathBuf,
    known: Option<Stamp>,
    /// What tells of changes in its directory; looked at from time to time without.
    told: Option<AsyncFd<OwnedFd>>,
}

impl Followed {
    /// To be called within a runtime.
    pub fn new(path: PathBuf) -> Followed {
        // Watched before it is looked at, so that no change falls between.
        let told = watch(&path).ok().flatten();
        Followed { known: Stamp::of(&path), told, path }
    }

    /// Completes when the file is not what it was, and whoever changes it has done so.
    pub async fn changed(&mut self) {
        loop {
            let now = self.settled().await;
            if now != self.known {
                self.known = now;
                return;
            }
            let Some(told) = &self.told else {
                sleep(LOOK).await;
                continue;
            };
            let heard = timeout(SELDOM, told.async_io(Interest::READABLE, read_events)).await;
            if heard.is_ok_and(|read| read.is_err()) || leads_elsewhere(&self.path) {
                self.told = None;
            }
        }
    }
}

impl Followed {
    /// The file as it is when it has stayed so for a moment: one that is written in place is cut short
    /// until then, and would seem to have lost what comes last.
    async fn settled(&self) -> Option<Stamp> {
        let mut now = Stamp::of(&self.path);
        for _ in 0..MOST_MOMENTS {
            if now == self.known {
                break;
            }
            sleep(MOMENT).await;
            let before = std::mem::replace(&mut now, Stamp::of(&self.path));
            if now == before {
                break;
            }
        }
        now
    }
}

/// `None` where the kernel would not tell of every change.
fn watch(path: &Path) -> io::Result<Option<AsyncFd<OwnedFd>>> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        Some(_) | None => Path::new("."),
    };
    let kind = statfs(directory)?.f_type;
    let local = u64::try_from(kind).is_ok_and(|kind| LOCAL.contains(&kind));
    if !local || leads_elsewhere(path) {
        return Ok(None);
    }
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE
        | WatchFlags::MOVE
        | WatchFlags::MOVE_SELF;
    inotify::add_watch(&events, directory, changes)?;
    on_reactor(events, Interest::READABLE).map(Some)
}

/// Whether there is a link on the way to the file: that may change, or what it points to, without a word.
fn leads_elsewhere(path: &Path) -> bool {
    let absolute = std::path::absolute(path);
    absolute.ok() != path.canonicalize().ok() && path.symlink_metadata().is_ok()
}

/// Takes what has been told; an error where the directory itself is gone, and nothing more will be.
fn read_events(events: &OwnedFd) -> io::Result<()> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(events, &mut buffer);
    let last = ReadFlags::IGNORED | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
    let mut any = false;
    loop {
        match reader.next() {
            Ok(event) if event.events().intersects(last) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(_) => any = true,
            Err(Errno::AGAIN) if any => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn every_kind_of_change_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("clients.toml");
        let aside = dir.path().join("aside");
        for told in [true, false] {
            fs::write(&path, "0").expect("written");
            let mut followed = Followed::new(path.clone());
            if !told {
                followed.told = None;
            }
            let changes: [(&str, &dyn Fn()); 4] = [
                ("written", &|| fs::write(&path, "01").expect("written")),
                ("removed", &|| fs::remove_file(&path).expect("removed")),
                ("made", &|| fs::write(&path, "2").expect("written")),
                ("replaced", &|| {
                    fs::write(&aside, "3").expect("written");
                    fs::rename(&aside, &path).expect("renamed");
                }),
            ];
            for (what, change) in changes {
                change();
                let noticed = timeout(Duration::from_secs(60), followed.changed()).await;
                assert!(noticed.is_ok(), "{what}, told: {told}");
            }
        }
    }

    /// As deployments do it: the directory is a link that is moved on.
    #[tokio::test]
    async fn links_on_the_way_are_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(at(name)).expect("made");
            fs::write(at(name).join("clients.toml"), name).expect("written");
        }
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(at(target), at("next")).expect("linked");
            fs::rename(at("next"), at(name)).expect("renamed");
        };
        link("a", "state");
        let mut followed = Followed::new(at("state/clients.toml"));
        link("b", "state");
        timeout(Duration::from_secs(60), followed.changed()).await.expect("the other directory");

        let mut followed = Followed::new(at("b/clients.toml"));
        link("a/clients.toml", "b/clients.toml");
        timeout(Duration::from_secs(60), followed.changed()).await.expect("a link now");
        fs::write(at("a/clients.toml"), "more").expect("written");
        timeout(Duration::from_secs(60), followed.changed()).await.expect("what it leads to");
    }

    #[tokio::test]
    async fn a_directory_that_goes_away_is_looked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        fs::create_dir(&state).expect("made");
        let path = state.join("clients.toml");
        fs::write(&path, "0").expect("written");
        let mut followed = Followed::new(path.clone());
        fs::rename(&state, dir.path().join("other")).expect("renamed");
        timeout(Duration::from_secs(60), followed.changed()).await.expect("gone is a change");
        fs::create_dir(&state).expect("made");
        fs::write(&path, "1").expect("written");
        timeout(Duration::from_secs(60), followed.changed()).await.expect("back is another");
    }
}
