//! What strangers try. A new probe is a line in one of these tables; those that need a key of a running
//! posternd, such as what was recorded from a client, are in `knocks`.

pub(crate) mod clear;
pub(crate) mod hellos;
pub(crate) mod knocks;

use std::time::Duration;

use super::probe::Probe;

/// Longer than posternd waits before it dials the website in advance.
const PAUSE: Duration = Duration::from_millis(120);

/// Those that need no key.
pub(crate) fn of_strangers() -> Vec<Probe> {
    [hellos::probes(), hellos::cut(), hellos::paced(), clear::probes(), clear::paced()].concat()
}

/// The same on each run, so that a failure can be repeated, and not repeating itself.
fn noise(first: u8, length: usize) -> Vec<u8> {
    let mut state = u32::from(first) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_be_bytes()[1]
    };
    std::iter::once(first).chain(std::iter::repeat_with(&mut next)).take(length).collect()
}
