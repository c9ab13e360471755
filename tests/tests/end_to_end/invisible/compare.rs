//! The same probes shown to the website directly and through whoever stands before it, until both were
//! seen to do the same.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::thread;

use super::probe::Probe;
use super::tuple::Tuple;
use super::witness::show;

/// Probes under way at a time. Most only wait for a timer; more would keep two processors from
/// answering in time.
const ABREAST: usize = 64;

/// The two ways to the website.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    pub(crate) direct: SocketAddr,
    pub(crate) through: SocketAddr,
}

/// A probe, and what it has met so far on either lane.
pub(crate) struct Trial<'a> {
    probe: &'a Probe,
    direct: Vec<Tuple>,
    through: Vec<Tuple>,
}

impl Lanes {
    /// The probes that tell one lane from the other in each of so many rounds.
    pub(crate) fn told_apart_by(self, probes: &[Probe], rounds: usize) -> Vec<Trial<'_>> {
        let start = |probe| Trial { probe, direct: Vec::new(), through: Vec::new() };
        let mut trials: Vec<_> = probes.iter().map(start).collect();
        for round in 1..=rounds {
            self.show_all(&mut trials);
            trials.retain(|trial| !trial.was_alike());
            let names: Vec<_> = trials.iter().map(|trial| &*trial.probe.name).collect();
            eprintln!("{} probes, told apart in round {round} by {names:?}", probes.len());
            if trials.is_empty() {
                break;
            }
        }
        trials
    }

    fn show_all(self, trials: &mut [Trial<'_>]) {
        let waiting = Mutex::new(trials.iter_mut());
        let next = || waiting.lock().expect("not poisoned").next();
        thread::scope(|scope| {
            for _ in 0..ABREAST {
                scope.spawn(|| {
                    while let Some(trial) = next() {
                        self.show(trial);
                    }
                });
            }
        });
    }

    /// On both at the same time, so that a busy machine is busy for both.
    fn show(self, trial: &mut Trial<'_>) {
        let probe = trial.probe;
        thread::scope(|scope| {
            let direct = scope.spawn(|| Tuple::of(&show(probe, self.direct)));
            trial.through.push(Tuple::of(&show(probe, self.through)));
            trial.direct.push(direct.join().expect("a stranger"));
        });
    }
}

impl Trial<'_> {
    fn was_alike(&self) -> bool {
        self.direct.iter().any(|one| self.through.iter().any(|other| one.is_like(other)))
    }
}

impl fmt::Display for Trial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.probe.name)?;
        self.direct.iter().try_for_each(|tuple| writeln!(f, "  direct: {tuple}"))?;
        self.through.iter().try_for_each(|tuple| writeln!(f, "  through: {tuple}"))
    }
}
