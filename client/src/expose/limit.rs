//! How many descriptors this process may have (getrlimit(2)). Decides how many lanes fit; opens none.

use postern_relay::pipes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything that is no visitor: standard streams, reactor, control connection, probes, and dials on
/// their way.
const SET_ASIDE: usize = 128;

/// A visitor takes his lane and the connection to the local service.
const EACH: usize = 2;

/// Raises the limit as far as one may; answers how many lanes there can be.
pub(super) fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    lanes(limit)
}

fn lanes(limit: Option<u64>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let rest = limit.saturating_sub(SET_ASIDE);
    // Pipes take what is left over; whoever gets none copies.
    let pipes = (EACH * pipes::MOST).min(rest / 4);
    ((rest - pipes) / EACH).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_fit_into_the_limit() {
        for (limit, fitting) in [(1024, 336), (4096, 1856), (1_048_576, 524_096), (64, 1)] {
            assert_eq!(lanes(Some(limit)), fitting, "{limit}");
        }
        assert!(lanes(None) > 1_000_000);
    }
}
