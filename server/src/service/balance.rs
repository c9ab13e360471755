//! Several targets to the order in which they are tried: pure. Leaves none out, since one that seemed
//! down may be up, and connects to none.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv6Addr};

/// `balance` of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// As the file lists them.
    #[default]
    Order,
    RoundRobin,
    LeastConnections,
    /// By the peer's address, so that it meets the same target again.
    Source,
}

impl Balance {
    pub const ALL: [Balance; 4] =
        [Balance::Order, Balance::RoundRobin, Balance::LeastConnections, Balance::Source];

    pub fn name(self) -> &'static str {
        match self {
            Balance::Order => "order",
            Balance::RoundRobin => "round-robin",
            Balance::LeastConnections => "least-connections",
            Balance::Source => "source",
        }
    }

    pub fn from_name(name: &str) -> Option<Balance> {
        Balance::ALL.into_iter().find(|balance| balance.name() == name)
    }
}

/// What is known of a target when one is to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub name: &'a str,
    pub is_backup: bool,
    pub is_up: bool,
    /// Connections that it has.
    pub open: usize,
}

/// The peer as it is told from others: a whole IPv4 address, and of an IPv6 one the network that a
/// household has (RFC 6177), in which it may change its address as it likes.
pub(super) fn household(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

/// All positions, the one to be tried first first. `turn` counts the calls.
pub(super) fn order(
    balance: Balance,
    candidates: &[Candidate<'_>],
    turn: usize,
    peer: IpAddr,
) -> Vec<usize> {
    // Who is down is tried when all else has failed: there is nothing to lose then.
    const CLASSES: [(bool, bool); 4] = [(true, false), (true, true), (false, false), (false, true)];
    let mut order = Vec::with_capacity(candidates.len());
    for class in CLASSES {
        let same = |candidate: &Candidate<'_>| (candidate.is_up, candidate.is_backup) == class;
        let mut same: Vec<_> =
            candidates.iter().enumerate().filter(|(_, candidate)| same(candidate)).collect();
        let turned = turn.checked_rem(same.len()).unwrap_or(0);
        match balance {
            Balance::Order => {}
            Balance::RoundRobin => same.rotate_left(turned),
            Balance::LeastConnections => {
                same.rotate_left(turned);
                same.sort_by_key(|(_, candidate)| candidate.open);
            }
            Balance::Source => {
                same.sort_by_key(|(_, candidate)| Reverse(weight(candidate.name, peer)));
            }
        }
        order.extend(same.into_iter().map(|(at, _)| at));
    }
    order
}

/// How much this peer belongs to this target. The heaviest gets it ("rendezvous hashing", Thaler and
/// Ravishankar 1998): a target that is lost moves its own peers only, and all servers of a fleet agree.
fn weight(target: &str, peer: IpAddr) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let peer = match household(peer) {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    // FNV-1a (RFC 9923), whose high bits depend little on the last bytes: mixed as in MurmurHash3.
    for byte in target.bytes().chain([0]).chain(peer.octets()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["tcp://a:1", "tcp://b:1", "tcp://c:1", "unix:/d", "tcp://e:1"];

    fn up(name: &str) -> Candidate<'_> {
        Candidate { name, is_backup: false, is_up: true, open: 0 }
    }

    fn peer(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 | number).into()
    }

    #[test]
    fn turns_go_round_those_that_are_up() {
        let mut candidates = NAMES.map(up);
        candidates[1].is_up = false;
        candidates[4].is_backup = true;
        let first = |turn| order(Balance::RoundRobin, &candidates, turn, peer(1)).first().copied();
        let turns: Vec<_> = (0..6).filter_map(first).collect();
        assert_eq!(turns, [0, 2, 3, 0, 2, 3]);
        assert_eq!(order(Balance::Order, &candidates, 7, peer(1)), [0, 2, 3, 4, 1]);
    }

    #[test]
    fn whoever_has_fewest_is_first_and_equals_take_turns() {
        let mut candidates = NAMES.map(up);
        for (candidate, open) in candidates.iter_mut().zip([3, 1, 1, 2, 9]) {
            candidate.open = open;
        }
        let first =
            |turn| order(Balance::LeastConnections, &candidates, turn, peer(1)).first().copied();
        let firsts: std::collections::BTreeSet<_> = (0..5).filter_map(first).collect();
        assert_eq!(firsts, [1, 2].into());
    }

    #[test]
    fn a_lost_target_moves_its_own_peers_only() {
        let all = NAMES.map(up);
        let mut without = all;
        without[2].is_up = false;
        let first = |of: &[Candidate<'_>], number| {
            order(Balance::Source, of, number as usize, peer(number))[0]
        };
        let mut shares = [0; 5];
        for number in 0..5000 {
            let before = first(&all, number);
            shares[before] += 1;
            let after = first(&without, number);
            assert!(before == after || before == 2, "peer {number} moved from {before} to {after}");
            assert_ne!(after, 2);
        }
        for share in shares {
            assert!((800..1200).contains(&share), "{shares:?}");
        }
    }

    #[test]
    fn a_household_is_one_peer() {
        let [one, other, elsewhere] = ["2001:db8::1", "2001:db8::2:ffff", "2001:db8:0:1::1"]
            .map(|text| household(text.parse().expect("an address")));
        assert_eq!(one, other);
        assert_ne!(one, elsewhere);
    }

    proptest! {
        #[test]
        fn every_target_is_tried_once_and_the_best_class_first(
            balance in prop::sample::select(Balance::ALL.to_vec()),
            states in prop::collection::vec((any::<bool>(), any::<bool>(), 0usize..4), 1..8),
            turn in any::<usize>(),
            number in any::<u32>(),
        ) {
            let names: Vec<_> = (0..states.len()).map(|at| format!("tcp://t:{at}")).collect();
            let candidates: Vec<_> = names.iter().zip(&states).map(|(name, (is_up, is_backup, open))| {
                Candidate { name, is_up: *is_up, is_backup: *is_backup, open: *open }
            }).collect();
            let order = order(balance, &candidates, turn, peer(number));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..states.len()).collect::<Vec<_>>());
            let class = |at: &usize| (!states[*at].0, states[*at].1);
            prop_assert!(order.is_sorted_by_key(class), "up before down, backups behind: {:?}", order);
        }
    }
}
