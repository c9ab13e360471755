//! A set of addresses, written as ranges in CIDR notation. Pure. Asked in the time of a binary search, so
//! that a whole country's ranges cost a connection no more than one.

use std::net::IpAddr;

use ipnet::IpNet;

/// Sorted, and no two touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nets {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Nets {
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ranges, number) = match address {
            IpAddr::V4(_) => (&self.v4, number(address)),
            IpAddr::V6(_) => (&self.v6, number(address)),
        };
        around(ranges, number).is_some()
    }

    /// Whether all of `other` is in it.
    pub fn cover(&self, other: &Nets) -> bool {
        let covers = |ranges: &[(u128, u128)], part: &[(u128, u128)]| {
            part.iter()
                .all(|(first, last)| around(ranges, *first).is_some_and(|(_, to)| last <= to))
        };
        covers(&self.v4, &other.v4) && covers(&self.v6, &other.v6)
    }
}

impl FromIterator<IpNet> for Nets {
    fn from_iter<T: IntoIterator<Item = IpNet>>(nets: T) -> Nets {
        let mut all = Nets::default();
        for net in nets {
            let ranges = if net.addr().is_ipv4() { &mut all.v4 } else { &mut all.v6 };
            ranges.push((number(net.network()), number(net.broadcast())));
        }
        merge(&mut all.v4);
        merge(&mut all.v6);
        all
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn around(ranges: &[(u128, u128)], number: u128) -> Option<&(u128, u128)> {
    let behind = ranges.partition_point(|(first, _)| *first <= number);
    ranges.get(behind.checked_sub(1)?).filter(|(_, last)| number <= *last)
}

fn merge(ranges: &mut Vec<(u128, u128)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = next.0 <= kept.1.saturating_add(1);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Nets {
        texts.iter().map(|text| text.parse::<IpNet>().expect("a range")).collect()
    }

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(nets(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"]), nets(&["10.0.0.0/8"]));
        assert_eq!(nets(&["::/1", "8000::/1"]), nets(&["::/0"]));
    }

    #[test]
    fn one_family_is_not_the_other() {
        assert!(!nets(&["0.0.0.0/0"]).contains("::1".parse().expect("an address")));
        assert!(!nets(&["::/0"]).cover(&nets(&["10.0.0.0/8"])));
    }

    proptest! {
        #[test]
        fn as_asking_each_range_in_turn(
            list in prop::collection::vec((any::<u8>(), any::<u8>(), 6u8..=32), 0..12),
            asked in prop::collection::vec((any::<u8>(), any::<u8>()), 32),
        ) {
            let list: Vec<IpNet> = list
                .into_iter()
                .map(|(a, b, bits)| {
                    IpNet::new(IpAddr::from([10, a % 4, b, 0]), bits).expect("a range")
                })
                .collect();
            let set: Nets = list.iter().copied().collect();
            for (a, b) in asked {
                let address = IpAddr::from([10, a % 4, b, 7]);
                prop_assert_eq!(set.contains(address), list.iter().any(|net| net.contains(&address)));
            }
            prop_assert!(set.cover(&list.iter().copied().take(3).collect()));
        }
    }
}
