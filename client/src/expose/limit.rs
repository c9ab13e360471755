//! How many descriptors this process may have (getrlimit(2)). Decides how many lanes fit; opens none.

use postern_relay::pipes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::offering::{Offering, Told};

/// For everything that is no visitor: standard streams, reactor, control connection, probes, and dials on
/// their way.
const SET_ASIDE: usize = 128;

/// A visitor takes his lane and the connection to the local service; and where he is named in his
/// requests, both ends of what is between the two.
const EACH: usize = 2;
const EACH_FORWARDED: usize = 4;

/// Raises the limit as far as one may; answers how many lanes there can be.
pub(super) fn raise(offerings: &[Offering]) -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    let any_forwarded = offerings.iter().any(|one| one.told == Told::Forwarded);
    lanes(limit, if any_forwarded { EACH_FORWARDED } else { EACH })
}

fn lanes(limit: Option<u64>, each: usize) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let rest = limit.saturating_sub(SET_ASIDE);
    // Pipes take what is left over; whoever gets none copies.
    let pipes = (2 * pipes::MOST).min(rest / 4);
    ((rest - pipes) / each).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_fit_into_the_limit() {
        for (limit, fitting) in [(1024, 336), (4096, 1856), (1_048_576, 524_096), (64, 1)] {
            assert_eq!(lanes(Some(limit), EACH), fitting, "{limit}");
            assert_eq!(lanes(Some(limit), EACH_FORWARDED), (fitting / 2).max(1), "{limit}");
        }
        assert!(lanes(None, EACH) > 1_000_000);
    }
}
