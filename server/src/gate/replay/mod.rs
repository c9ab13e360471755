//! The replay store: which tokens were spent, in memory and in a journal that a restart reads. Decides
//! whether a token may be admitted as fresh; never says so before the journal has it.
//!
//! Every token is written with one write(2), so what is in the kernel's hands survives kill -9; nothing is
//! synced but at start and at a clean stop, as after a crash of the machine the journal is not trusted.

mod clock;
mod file;
mod format;
#[cfg(test)]
mod model;
mod recall;
#[cfg(test)]
mod tests;

use std::mem::{Discriminant, discriminant};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use postern_shared::knock::replay::lifetime;
use postern_shared::knock::{Carrier, Kid, Replay, Spend, Spent};
use tracing::{error, info, warn};

pub use clock::Moment;
pub use file::InUse;

use clock::Clock;
use file::Journal;
use format::Header;
use recall::{Lost, MOST_READ, Recalled, Start, floor_after, most_bytes, recall};

/// A token whose tag and time are right.
#[derive(Clone, Copy, Debug)]
pub struct Offered {
    pub tag: [u8; 16],
    pub kid: Kid,
    /// Seconds since the Unix epoch, as it says.
    pub date: u32,
}

/// Why knocks that have to be remembered are refused for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub carriers: &'static [Carrier],
    pub why: String,
    /// `None`: until that is mended.
    pub until: Option<Timestamp>,
}

#[derive(Debug)]
pub struct ReplayStore(Mutex<Store>);

#[derive(Debug)]
struct Store {
    memory: Replay,
    clock: Clock,
    journal: Journal,
    boot: [u8; 16],
    /// The widest window under which tokens were taken.
    window: Duration,
    /// That earlier tokens may be unknown, and since when this posternd runs.
    lost: Option<(Lost, u32)>,
    /// When the journal was last tried to be written anew.
    tried: u32,
    is_stopped: bool,
    /// What was logged last.
    told: Discriminant<Condition>,
}

/// What keeps tokens from being admitted.
#[derive(Debug)]
enum Condition {
    Open,
    Unwritten(String),
    /// Until this second of the clock.
    SteppedBack(u64),
    /// Only those dated after this second are taken.
    After(u32, Option<Lost>),
}

impl ReplayStore {
    /// Takes the journal at `path`, which is this process's alone from now on. One that cannot be
    /// written is no reason not to start: see [`closed`](Self::closed). `used` says whether any client
    /// ever used its key.
    pub fn open(
        path: &Path,
        used: bool,
        boot: Option<[u8; 16]>,
        now: Moment,
        window: Duration,
    ) -> Result<ReplayStore, InUse> {
        let journal = Journal::take(path)?;
        let start = Start { now, window, boot: boot.unwrap_or_default(), used };
        let Recalled { memory, window, lost } = recall(journal.read(MOST_READ), &start);
        let mut store = Store {
            memory,
            clock: Clock::new(now),
            journal,
            boot: start.boot,
            window,
            lost: lost.map(|lost| (lost, now.boot)),
            tried: now.boot,
            is_stopped: false,
            told: discriminant(&Condition::Open),
        };
        // On the disk before the first token: it takes back the mark of an earlier clean stop.
        store.rewrite(now, false, true);
        store.tell(now);
        Ok(ReplayStore(Mutex::new(store)))
    }

    /// Spends a token, once.
    pub fn spend(&self, offered: Offered, now: Moment, window: Duration) -> Spend {
        let mut store = self.store();
        store.look(now, window);
        let spend = store.spend(offered, now, window);
        store.tell(now);
        spend
    }

    /// To be called from time to time: notices a clock that was set, and mends the journal where it can
    /// be written again.
    pub fn tend(&self, now: Moment, window: Duration) {
        let mut store = self.store();
        store.look(now, window);
        if store.journal.is_gone() && !store.is_stopped {
            store.rewrite(now, false, false);
        }
        store.tell(now);
    }

    /// Why knocks that have to be remembered are refused, if they are.
    pub fn closed(&self, now: Moment) -> Option<Closed> {
        let condition = self.store().condition(now);
        let until = |unix: u64| Timestamp::from_second(i64::try_from(unix).ok()?).ok();
        let both = &[Carrier::Plain, Carrier::Hello];
        Some(match condition {
            Condition::Open => return None,
            Condition::Unwritten(error) => {
                let why = format!("the journal cannot be written: {error}");
                Closed { carriers: &[Carrier::Plain], why, until: None }
            }
            Condition::SteppedBack(unix) => {
                let why = "the clock stepped back".to_owned();
                Closed { carriers: both, why, until: until(unix) }
            }
            Condition::After(unix, lost) => {
                let why = cause(lost).to_owned();
                Closed { carriers: both, why, until: until(u64::from(unix) + 1) }
            }
        })
    }

    /// Marks the journal as whole, and lets the next posternd have it. Nothing is fresh from now on.
    pub fn close(&self, now: Moment) {
        let mut store = self.store();
        if !store.is_stopped {
            store.rewrite(now, true, true);
            store.is_stopped = true;
            store.journal.release();
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    fn look(&mut self, now: Moment, window: Duration) {
        self.clock.look(now, window);
        let mut is_stale = window > self.window;
        self.window = self.window.max(window);
        // Set forward, the clock shows a later time for the start as well.
        if let Some((_, since)) = self.lost
            && u64::from(now.boot.saturating_sub(since)) <= self.window.as_secs() * 2
        {
            let floor = floor_after(now, since, self.window);
            // Both clocks are cut to whole seconds.
            is_stale |= floor > self.memory.floor().saturating_add(1);
            self.memory.raise_floor(floor);
        }
        let try_again = self.journal.error().is_some() && now.boot > self.tried;
        if (is_stale || try_again) && !self.is_stopped {
            self.rewrite(now, false, false);
        }
    }

    fn spend(&mut self, offered: Offered, now: Moment, window: Duration) -> Spend {
        let Offered { tag, kid, date } = offered;
        let spent = Spent { tag, kid, date, at: now.boot };
        let spend = self.memory.spend(spent, lifetime(window));
        if spend != Spend::Fresh {
            return spend;
        }
        // Spent it is from here on, also if it is refused: whoever saw it must not use it later.
        if self.journal.bytes() < most_bytes(self.memory.len()) {
            self.journal.append(&format::encode(&spent));
        } else {
            self.rewrite(now, false, false);
        }
        if self.clock.closed_for(now).is_some() {
            Spend::Closed
        } else if self.journal.error().is_some() {
            Spend::Unwritten
        } else {
            Spend::Fresh
        }
    }

    fn rewrite(&mut self, now: Moment, clean: bool, durably: bool) {
        let window = u32::try_from(self.window.as_secs()).unwrap_or(u32::MAX);
        let header = Header { boot: self.boot, floor: self.memory.floor(), window, clean };
        let mut bytes = header.encode();
        for spent in self.memory.iter() {
            bytes.extend_from_slice(&format::encode(&spent));
        }
        self.journal.replace(&bytes, durably);
        self.tried = now.boot;
    }

    fn condition(&self, now: Moment) -> Condition {
        if let Some(error) = self.journal.error() {
            return Condition::Unwritten(error.to_string());
        }
        if let Some(left) = self.clock.closed_for(now) {
            return Condition::SteppedBack(now.unix.saturating_add(left.into()));
        }
        let floor = self.memory.floor();
        if u64::from(floor) >= now.unix {
            return Condition::After(floor, self.lost.map(|(lost, _)| lost));
        }
        Condition::Open
    }

    /// Logs a change, once.
    fn tell(&mut self, now: Moment) {
        let condition = self.condition(now);
        if self.told == discriminant(&condition) || self.is_stopped {
            return;
        }
        self.told = discriminant(&condition);
        let path = self.journal.path().display();
        match condition {
            Condition::Open => info!(
                "spent knocks can be told from fresh ones again: {path} and the clock are in order"
            ),
            Condition::Unwritten(error) => error!(
                "plain is closed: the journal {path} cannot be written: {error}; it is tried again every second"
            ),
            Condition::SteppedBack(until) => error!(
                "the clock stepped back by more than [knock] window: plain and hello are closed until {}",
                date(until)
            ),
            Condition::After(floor, lost) => {
                let (why, floor) = (cause(lost), date(floor.into()));
                let what = "what was spent before may be unknown, so plain and hello take only knocks dated after";
                match lost {
                    Some(Lost::Reboot) => warn!("{why}: {what} {floor}"),
                    Some(Lost::Damage | Lost::Missing) => {
                        error!("{why} ({path}): {what} {floor}");
                    }
                    None => error!("{why}: {what} {floor}"),
                }
            }
        }
    }
}

fn cause(lost: Option<Lost>) -> &'static str {
    match lost {
        Some(Lost::Reboot) => "the machine went down while posternd ran",
        Some(Lost::Damage) => "the journal is damaged",
        Some(Lost::Missing) => "the journal is missing",
        None => "the clock stepped back",
    }
}

fn date(unix: u64) -> String {
    let shown = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
    shown.map_or_else(|| unix.to_string(), |shown| shown.to_string())
}
