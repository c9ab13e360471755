//! Source-address memory: addresses that knocked and may, for a while, come without a knock. Pure: whoever
//! asks brings the time. Only a right secret or a key arms an address, and the table is bounded.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Addresses armed at a time; beyond that the one that is next to be forgotten goes.
const MOST: usize = 4096;

/// How long an address stays armed, and for how many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub time: Duration,
    /// Without a number, as many as come in time.
    pub uses: Option<usize>,
}

/// What each armed address may do.
#[derive(Debug)]
pub struct Memory<T> {
    armed: HashMap<IpAddr, Armed<T>>,
}

#[derive(Debug)]
struct Armed<T> {
    what: T,
    until: Duration,
    uses: Option<usize>,
}

impl<T> Default for Memory<T> {
    fn default() -> Memory<T> {
        Memory { armed: HashMap::new() }
    }
}

impl<T: Clone> Memory<T> {
    /// Arms an address; what it was armed for before is replaced. `now` is time since boot.
    pub fn arm(&mut self, from: IpAddr, what: T, keep: Keep, now: Duration) {
        self.armed.retain(|_, armed| armed.until > now);
        if self.armed.len() >= MOST && !self.armed.contains_key(&from) {
            let next =
                self.armed.iter().min_by_key(|(_, armed)| armed.until).map(|(from, _)| *from);
            next.and_then(|next| self.armed.remove(&next));
        }
        let armed = Armed { what, until: now.saturating_add(keep.time), uses: keep.uses };
        self.armed.insert(from, armed);
    }

    /// Whether an address is armed, without using it up.
    pub fn is_armed(&self, from: IpAddr, now: Duration) -> bool {
        self.armed.get(&from).is_some_and(|armed| armed.until > now)
    }

    /// What an address was armed for; it has one use less then.
    pub fn claim(&mut self, from: IpAddr, now: Duration) -> Option<T> {
        let armed = self.armed.get_mut(&from).filter(|armed| armed.until > now)?;
        let what = armed.what.clone();
        armed.uses = armed.uses.map(|uses| uses.saturating_sub(1));
        if armed.uses == Some(0) {
            self.armed.remove(&from);
        }
        Some(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);
    const ONCE: Keep = Keep { time: TEN, uses: Some(1) };

    fn address(n: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn an_address_is_armed_for_its_time_and_uses() {
        let mut memory = Memory::default();
        memory.arm(address(1), "ssh", ONCE, TEN);
        assert!(memory.is_armed(address(1), TEN) && !memory.is_armed(address(2), TEN));
        assert_eq!(memory.claim(address(2), TEN), None);
        assert_eq!(memory.claim(address(1), TEN), Some("ssh"));
        assert_eq!(memory.claim(address(1), TEN), None, "one use");

        memory.arm(address(1), "ssh", Keep { uses: None, ..ONCE }, TEN);
        for _ in 0..3 {
            assert_eq!(memory.claim(address(1), TEN), Some("ssh"));
        }
        assert_eq!(memory.claim(address(1), TEN * 2), None, "its time is over");
    }

    #[test]
    fn the_table_is_bounded() {
        let mut memory = Memory::default();
        let most = u32::try_from(MOST).expect("small");
        for n in 0..=most {
            memory.arm(address(n), n, ONCE, Duration::from_millis(n.into()));
        }
        assert_eq!(memory.armed.len(), MOST);
        let now = Duration::from_millis(most.into());
        assert!(!memory.is_armed(address(0), now), "the first goes first");
        assert!(memory.is_armed(address(most), now));
    }
}
