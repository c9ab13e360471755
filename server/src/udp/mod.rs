//! Datagrams on the port that is shared: which service a flow of them goes to, by its first. A flow is
//! what one peer's port and one address of ours send each other. Never answers anything itself.

mod flow;
pub(crate) mod flows;
pub mod listen;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use postern_shared::sniff::datagram::DatagramKind;

use crate::nets::Nets;

/// `[udp]`, validated.
#[derive(Debug)]
pub struct Udp {
    pub listen: Vec<SocketAddr>,
    pub limits: FlowLimits,
    /// How long a flow may be without a datagram either way.
    pub idle: Duration,
    pub routes: Vec<Route>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    pub flows: usize,
    pub per_address: usize,
}

/// One `[udp.service.NAME]`.
#[derive(Debug, PartialEq, Eq)]
pub struct DatagramService {
    pub name: String,
    pub to: SocketAddr,
}

/// One `[[udp.route]]`; all that it asks must hold.
#[derive(Debug)]
pub struct Route {
    /// Among the file's, from 1 on.
    pub number: usize,
    pub line: usize,
    pub service: Arc<DatagramService>,
    pub protocols: Option<Protocols>,
    pub from: Option<Nets>,
    pub not_from: Option<Nets>,
    pub listen: Option<Vec<SocketAddr>>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Protocols {
    pub kinds: Vec<DatagramKind>,
    /// What is none of the known.
    pub any: bool,
}

/// What is known of a flow when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub seen: Option<DatagramKind>,
    pub from: IpAddr,
    /// As the configuration calls it.
    pub listener: SocketAddr,
}

impl Udp {
    /// The first route that takes the flow; without one it is none.
    pub fn route(&self, facts: &Facts) -> Option<&Route> {
        self.routes.iter().find(|route| route.takes(facts))
    }

    /// What is likely not meant.
    pub fn doubts(&self) -> Vec<String> {
        if self.routes.is_empty() {
            return vec!["[udp] has no [[udp.route]]: every datagram is dropped".to_owned()];
        }
        let mut rest = self.routes.iter().skip_while(|route| !route.takes_all());
        let (Some(earlier), Some(later)) = (rest.next(), rest.next()) else { return Vec::new() };
        vec![format!(
            "the [[udp.route]] in line {} can never match: the one in line {} takes all datagrams",
            later.line, earlier.line
        )]
    }
}

impl Route {
    fn takes(&self, facts: &Facts) -> bool {
        let Route { protocols, from, not_from, listen, .. } = self;
        protocols.as_ref().is_none_or(|protocols| protocols.have(facts.seen))
            && from.as_ref().is_none_or(|nets| nets.contains(facts.from))
            && !not_from.as_ref().is_some_and(|nets| nets.contains(facts.from))
            && listen.as_ref().is_none_or(|listen| listen.contains(&facts.listener))
    }

    /// Whether it asks nothing, so that none behind it is ever taken.
    fn takes_all(&self) -> bool {
        let Route { protocols, from, not_from, listen, .. } = self;
        protocols.is_none() && from.is_none() && not_from.is_none() && listen.is_none()
    }
}

impl Protocols {
    fn have(&self, seen: Option<DatagramKind>) -> bool {
        seen.map_or(self.any, |kind| self.kinds.contains(&kind))
    }
}

impl FlowLimits {
    pub const DEFAULT: FlowLimits = FlowLimits { flows: 4096, per_address: 64 };

    /// What fits into so many descriptors beside the connections: a flow takes one.
    pub fn fit(self, descriptors: usize) -> FlowLimits {
        let flows = self.flows.min(descriptors / 8);
        FlowLimits { flows, per_address: self.per_address.min(flows) }
    }

    /// How many flows there may be for a moment: those that must give way end in their own time.
    pub fn with_ending(&self) -> usize {
        self.flows + self.flows / 8 + 8
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;

    fn route(number: usize, protocols: Option<Protocols>) -> Route {
        let to = SocketAddr::from(([127, 0, 0, 1], 1));
        let service = Arc::new(DatagramService { name: number.to_string(), to });
        Route { number, line: 1, service, protocols, from: None, not_from: None, listen: None }
    }

    fn nets(text: &str) -> Option<Nets> {
        Some([text.parse::<IpNet>().expect("a range")].into_iter().collect())
    }

    #[test]
    fn the_first_whose_conditions_all_hold() {
        let kinds = |kinds: &[DatagramKind], any| Some(Protocols { kinds: kinds.to_vec(), any });
        let listener = SocketAddr::from(([0, 0, 0, 0], 443));
        let mut office = route(1, kinds(&[DatagramKind::WireGuard], false));
        (office.from, office.not_from) = (nets("10.0.0.0/8"), nets("10.9.0.0/16"));
        let mut other = route(2, None);
        other.listen = Some(vec![SocketAddr::from(([127, 0, 0, 1], 443))]);
        let quic = route(3, kinds(&[DatagramKind::Quic], true));
        let udp = Udp {
            listen: vec![listener],
            limits: FlowLimits::DEFAULT,
            idle: Duration::from_secs(60),
            routes: vec![office, other, quic],
        };
        let asked = |seen, from: [u8; 4], listener| {
            udp.route(&Facts { seen, from: from.into(), listener }).map(|route| route.number)
        };
        let (wireguard, quic) = (Some(DatagramKind::WireGuard), Some(DatagramKind::Quic));
        assert_eq!(asked(wireguard, [10, 1, 2, 3], listener), Some(1));
        assert_eq!(asked(wireguard, [10, 9, 2, 3], listener), None);
        assert_eq!(asked(wireguard, [11, 1, 2, 3], listener), None);
        assert_eq!(asked(quic, [10, 1, 2, 3], listener), Some(3));
        assert_eq!(asked(None, [10, 1, 2, 3], listener), Some(3));
        let at_other = SocketAddr::from(([127, 0, 0, 1], 443));
        assert_eq!(asked(wireguard, [11, 1, 2, 3], at_other), Some(2));
    }

    #[test]
    fn flows_fit_the_descriptors() {
        assert_eq!(FlowLimits::DEFAULT.fit(1_000_000), FlowLimits::DEFAULT);
        let few = FlowLimits::DEFAULT.fit(256);
        assert_eq!((few.flows, few.per_address), (32, 32));
        assert!(few.with_ending() < 64);
    }
}
