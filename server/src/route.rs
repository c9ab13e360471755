//! Facts about a visitor's first bytes and address to the service that gets them: pure, in file order,
//! first match wins. Never decides on a knock, and never opens a socket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use postern_shared::hello::HostName;
use postern_shared::sniff::{Interest, Kind, Kinds, Protocol};

use crate::service::Service;

/// What was seen of a connection when it was decided.
#[derive(Debug)]
pub enum Seen {
    Protocol(Protocol),
    /// Not one byte for this long.
    Silent(Duration),
    /// Bytes of no class that anybody waits for, malformed ones, or none in time: doubt leads to the
    /// website unless a route asks for the address alone.
    Other,
}

impl Seen {
    /// The word for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Seen::Protocol(protocol) => protocol.name(),
            Seen::Silent(_) => "silent",
            Seen::Other => "other",
        }
    }

    /// The server name asked for, where there is one.
    pub fn sni(&self) -> Option<&HostName> {
        match self {
            Seen::Protocol(Protocol::Tls(hello)) => hello.sni(),
            Seen::Protocol(Protocol::Plain(_) | Protocol::Letters(_))
            | Seen::Silent(_)
            | Seen::Other => None,
        }
    }
}

/// One `[[route]]`: conditions that all hold.
#[derive(Debug)]
pub struct Route {
    pub service: Arc<Service>,
    pub first_bytes: FirstBytes,
    pub from: Vec<IpNet>,
    pub not_from: Vec<IpNet>,
}

/// What a route asks of the first bytes.
#[derive(Debug)]
pub enum FirstBytes {
    Any,
    Sni(Vec<NamePattern>),
    NoSni,
    Protocol(Kinds),
    Silent { after: Duration },
}

/// A server name in a route: `shop.example.com`, `*.example.org` (not `example.org` itself), or `*`.
#[derive(Debug, PartialEq, Eq)]
pub enum NamePattern {
    Exact(HostName),
    Below(HostName),
    Any,
}

impl NamePattern {
    pub fn parse(text: &str) -> Option<NamePattern> {
        if text == "*" {
            return Some(NamePattern::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => HostName::parse(suffix.as_bytes()).map(NamePattern::Below),
            None => HostName::parse(text.as_bytes()).map(NamePattern::Exact),
        }
    }

    pub fn matches(&self, name: &HostName) -> bool {
        match self {
            NamePattern::Any => true,
            NamePattern::Exact(exact) => exact == name,
            NamePattern::Below(suffix) => name
                .as_str()
                .strip_suffix(suffix.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

impl Route {
    fn admits_address(&self, from: IpAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&from));
        (self.from.is_empty() || within(&self.from)) && !within(&self.not_from)
    }

    fn matches(&self, seen: &Seen, from: IpAddr) -> bool {
        let bytes = match (&self.first_bytes, seen) {
            (FirstBytes::Any, _) => true,
            (FirstBytes::Sni(patterns), seen) => {
                seen.sni().is_some_and(|name| patterns.iter().any(|pattern| pattern.matches(name)))
            }
            (FirstBytes::NoSni, Seen::Protocol(Protocol::Tls(hello))) => hello.sni().is_none(),
            (FirstBytes::Protocol(wanted), Seen::Protocol(protocol)) => {
                protocol.kind().is_some_and(|kind| wanted.contains(kind))
            }
            (FirstBytes::Silent { after }, Seen::Silent(since)) => since >= after,
            (FirstBytes::NoSni | FirstBytes::Protocol(_) | FirstBytes::Silent { .. }, _) => false,
        };
        bytes && self.admits_address(from)
    }
}

/// The service of the first route that matches.
pub fn choose<'a>(routes: &'a [Route], seen: &Seen, from: IpAddr) -> Option<&'a Arc<Service>> {
    routes.iter().find(|route| route.matches(seen, from)).map(|route| &route.service)
}

/// When a connection from this address that has not sent a byte is to be routed as silent.
pub fn silent_after(routes: &[Route], from: IpAddr) -> Option<Duration> {
    routes
        .iter()
        .filter(|route| route.admits_address(from))
        .filter_map(|route| match route.first_bytes {
            FirstBytes::Silent { after } => Some(after),
            FirstBytes::Any | FirstBytes::Sni(_) | FirstBytes::NoSni | FirstBytes::Protocol(_) => {
                None
            }
        })
        .min()
}

/// The classes of first bytes that these routes wait for.
pub fn interest(routes: &[Route]) -> Interest {
    let mut interest = Interest::default();
    for route in routes {
        match &route.first_bytes {
            FirstBytes::Any | FirstBytes::Silent { .. } => {}
            FirstBytes::Sni(_) | FirstBytes::NoSni => {
                interest.kinds = interest.kinds.with(Kind::Tls);
            }
            FirstBytes::Protocol(wanted) => interest.kinds |= *wanted,
        }
    }
    interest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Endpoint, Target};

    fn service(name: &str) -> Arc<Service> {
        Arc::new(Service {
            name: name.to_owned(),
            target: Target::Tcp(Endpoint::parse("127.0.0.1:1", None).expect("sound")),
            knock: false,
            proxy: None,
            connect: Duration::from_secs(5),
        })
    }

    fn route(name: &str, first_bytes: FirstBytes) -> Route {
        Route { service: service(name), first_bytes, from: Vec::new(), not_from: Vec::new() }
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text.as_bytes()).expect("a hostname")
    }

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_star_covers_what_is_below_and_not_the_name_itself() {
        let pattern = NamePattern::parse("*.Example.org").expect("a pattern");
        for (text, matches) in [
            ("a.example.org", true),
            ("a.b.example.org", true),
            ("example.org", false),
            ("badexample.org", false),
            ("example.org.evil", false),
        ] {
            assert_eq!(pattern.matches(&name(text)), matches, "{text}");
        }
        assert!(NamePattern::parse("*").is_some_and(|any| any.matches(&name("x"))));
        for bad in ["", "*.", "a*b", "*.*.x", "a b"] {
            assert_eq!(NamePattern::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_first_route_whose_conditions_all_hold_wins() {
        let mut inside = route("inside", FirstBytes::Protocol(Kinds::of([Kind::Ssh])));
        inside.from = vec!["10.0.0.0/8".parse().expect("a net")];
        let routes = [inside, route("outside", FirstBytes::Protocol(Kinds::of([Kind::Ssh])))];
        let chosen = |from: &str| {
            let from = from.parse().expect("an address");
            choose(&routes, &Seen::Protocol(Protocol::Plain(Kind::Ssh)), from)
                .map(|s| s.name.clone())
        };
        assert_eq!(chosen("10.1.2.3").as_deref(), Some("inside"));
        assert_eq!(chosen("192.0.2.1").as_deref(), Some("outside"));
    }

    #[test]
    fn doubt_matches_no_condition_on_bytes() {
        let routes = [
            route("a", FirstBytes::Protocol(Kinds::ALL)),
            route("b", FirstBytes::NoSni),
            route("c", FirstBytes::Sni(vec![NamePattern::Any])),
            route("d", FirstBytes::Silent { after: Duration::from_secs(1) }),
        ];
        assert!(choose(&routes, &Seen::Other, LOCAL).is_none());
        let early = Seen::Silent(Duration::from_millis(999));
        assert!(choose(&routes, &early, LOCAL).is_none());
        let late = Seen::Silent(Duration::from_secs(1));
        assert_eq!(choose(&routes, &late, LOCAL).map(|s| s.name.as_str()), Some("d"));
        let letters = Seen::Protocol(Protocol::Letters(Box::new([b'A'; 96])));
        assert!(choose(&routes, &letters, LOCAL).is_none(), "a refused knock is nobody's protocol");
    }

    #[test]
    fn only_what_a_route_asks_for_is_waited_for() {
        assert_eq!(interest(&[]), Interest::default());
        let routes = [
            route("a", FirstBytes::NoSni),
            route("b", FirstBytes::Protocol(Kinds::of([Kind::Ssh]))),
        ];
        let kinds = Kinds::of([Kind::Tls, Kind::Ssh]);
        assert_eq!(interest(&routes), Interest { kinds, ..Interest::default() });
        assert_eq!(silent_after(&routes, LOCAL), None);
    }
}
