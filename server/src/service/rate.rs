//! How often one household may come to a service: pure, and of bounded size. Forgets the oldest where
//! more come than it can remember, so nobody is refused for what others do.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::balance::household;

/// Households remembered: this many lately, and as many before.
const HALF: usize = 8192;

/// `rate = "COUNT/SPAN"`: so many at once, and one more each time that the span's share of one has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

impl Rate {
    fn share(&self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// When each would have used up nothing if it came no more (the theoretical arrival time of the generic
/// cell rate algorithm, ITU-T I.371).
#[derive(Debug, Default)]
pub(super) struct Visits {
    lately: HashMap<IpAddr, Duration>,
    before: HashMap<IpAddr, Duration>,
    turned: Duration,
}

impl Visits {
    /// Whether this one may come now. Being refused costs nothing.
    pub(super) fn admit(&mut self, rate: Rate, from: IpAddr, now: Duration) -> bool {
        // Longer than the span nothing counts.
        if self.lately.len() >= HALF || now.saturating_sub(self.turned) > rate.per {
            self.before = std::mem::take(&mut self.lately);
            self.turned = now;
        }
        let from = household(from);
        let used = self.lately.get(&from).or_else(|| self.before.get(&from));
        let used_until = used.copied().unwrap_or_default().max(now) + rate.share();
        let admitted = used_until <= now + rate.per;
        if admitted {
            self.lately.insert(from, used_until);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const RATE: Rate = Rate { count: 10, per: Duration::from_secs(60) };
    const START: Duration = Duration::from_secs(1000);

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn so_many_at_once_and_then_one_for_each_share_of_the_time() {
        let mut visits = Visits::default();
        let mut come =
            |seconds: f64| visits.admit(RATE, address(1), START + Duration::from_secs_f64(seconds));
        let at_once = (0..20).filter(|_| come(0.0)).count();
        assert_eq!(at_once, 10);
        assert!(!come(5.9));
        assert!(come(6.0));
        assert!(!come(6.1));
        assert_eq!((0..20).filter(|_| come(500.0)).count(), 10, "and no more for a long absence");
        assert!(visits.admit(RATE, address(2), START), "others have their own");
    }

    #[test]
    fn over_any_time_no_more_come_than_the_rate_and_its_first_ones() {
        let mut visits = Visits::default();
        let tenths = (0..36_000).map(|tenth| START + Duration::from_millis(100 * tenth));
        let come = tenths.filter(|now| visits.admit(RATE, address(1), *now)).count();
        assert!((600..=610).contains(&come), "{come} in an hour");
    }

    #[test]
    fn a_household_shares_and_the_table_has_an_end() {
        let mut visits = Visits::default();
        let of_network =
            |network: u128, host: u128| Ipv6Addr::from_bits(network << 64 | host).into();
        let come = (0..100).filter(|host| visits.admit(RATE, of_network(7, *host), START)).count();
        assert_eq!(come, 10);
        for network in 100..100_000 {
            assert!(visits.admit(RATE, of_network(network, 1), START));
            assert!(visits.lately.len() + visits.before.len() <= 2 * HALF);
        }
    }
}
