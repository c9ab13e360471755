//! What a journal that was found says of the tokens spent before this start, and whether it says all.
//! Pure; where tokens may be missing, it lets none be fresh that could be one of them.

use std::io;
use std::time::Duration;

use postern_shared::knock::replay::lifetime;
use postern_shared::knock::{Replay, Spent};

use super::clock::Moment;
use super::format::{self, HEADER, Header, RECORD};

/// Spent tokens remembered in one generation, in all: 30 MB for both at the most, and more knocks in three
/// windows than any one server admits.
const TOTAL: usize = 262_144;

/// Of these, what one key may use up.
const PER_KID: usize = 16_384;

/// Records of forgotten tokens that do not yet make a journal worth writing anew.
const SLACK: usize = 4096;

/// How long a journal may grow for so many remembered tokens.
pub(super) fn most_bytes(remembered: usize) -> usize {
    HEADER + (remembered * 2 + SLACK) * RECORD
}

/// One byte more than any journal of ours is long.
pub(super) const MOST_READ: usize = HEADER + (TOTAL * 4 + SLACK) * RECORD + 1;

/// Why tokens that were spent may be unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The machine went down under a running posternd, and the last records may not have reached the disk.
    Reboot,
    Damage,
    /// Keys were used already, yet there is no journal.
    Missing,
}

/// Where this posternd starts, and under what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub now: Moment,
    pub window: Duration,
    /// Zero where the system does not tell.
    pub boot: [u8; 16],
    /// Whether any client ever used its key.
    pub used: bool,
}

/// What is known at the start.
#[derive(Debug)]
pub(super) struct Recalled {
    pub memory: Replay,
    /// The widest window under which its tokens were taken.
    pub window: Duration,
    pub lost: Option<Lost>,
}

pub(super) fn recall(found: io::Result<Option<Vec<u8>>>, start: &Start) -> Recalled {
    let found = match found {
        Ok(None) if !start.used => {
            return Recalled { memory: empty(0), window: start.window, lost: None };
        }
        Ok(None) => Err(Lost::Missing),
        Ok(Some(bytes)) => format::read(&bytes).ok_or(Lost::Damage),
        Err(_) => Err(Lost::Damage),
    };
    match found {
        Ok((header, all)) => match trust(&header, start) {
            Trust::SameBoot => remembered(&header, all, start),
            Trust::CleanStop => {
                // How long the machine was off cannot be told for sure: they get a lifetime more.
                let restamped = all.into_iter().map(|spent| Spent { at: start.now.boot, ..spent });
                remembered(&header, restamped, start)
            }
            Trust::None => {
                let newest = all.iter().map(|spent| spent.date).max().unwrap_or_default();
                doubted(Lost::Reboot, header.floor.max(newest), widest(&header, start), start)
            }
        },
        Err(lost) => doubted(lost, 0, start.window, start),
    }
}

fn remembered(header: &Header, all: impl IntoIterator<Item = Spent>, start: &Start) -> Recalled {
    let mut memory = empty(header.floor);
    let window = widest(header, start);
    memory.restore(all, start.now.boot, lifetime(window));
    let window = if memory.is_empty() { start.window } else { window };
    Recalled { memory, window, lost: None }
}

/// Whatever may be unknown was dated within a window of a clock that showed less than now.
fn doubted(lost: Lost, floor: u32, window: Duration, start: &Start) -> Recalled {
    let floor = floor.max(floor_after(start.now, start.now.boot, window));
    Recalled { memory: empty(floor), window, lost: Some(lost) }
}

fn empty(floor: u32) -> Replay {
    Replay::new(PER_KID, TOTAL, floor)
}

fn widest(header: &Header, start: &Start) -> Duration {
    start.window.max(Duration::from_secs(header.window.into()))
}

/// The last date of what could have been spent before the second `since` of this boot.
pub(super) fn floor_after(now: Moment, since: u32, window: Duration) -> u32 {
    let window = u32::try_from(window.as_secs()).unwrap_or(u32::MAX);
    now.unix_at(since).saturating_add(window)
}

enum Trust {
    /// What was written is in the kernel's hands, also after kill -9.
    SameBoot,
    CleanStop,
    None,
}

fn trust(header: &Header, start: &Start) -> Trust {
    if header.boot == start.boot && start.boot != [0; 16] {
        Trust::SameBoot
    } else if header.clean {
        Trust::CleanStop
    } else {
        Trust::None
    }
}
