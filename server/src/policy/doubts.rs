//! What is likely not meant in a configuration, though it can be run: for `check` and the log.

use std::net::SocketAddr;

use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;
use toml::Spanned;

use super::{Policy, Terminated};
use crate::config;
use crate::helper;
use crate::route::{Asked, BytePattern, Routes};
use crate::service::Address;
use crate::udp::Udp;

pub(super) fn of(policy: &Policy, routes: &[Spanned<config::Route>]) -> Vec<String> {
    let mut doubts = of_routes(&policy.routes);
    doubts.extend(policy.tls.iter().flat_map(|tls| of_our_names(&policy.routes, tls)));
    doubts.extend(of_targets(policy));
    let in_tls = policy.carriers.iter().any(|carrier| *carrier != Carrier::Plain);
    for service in policy.services.values() {
        doubts.extend(service.doubts(service.name == policy.fallback.name, in_tls));
    }
    doubts.extend(helper::doubts(routes, &policy.identifiers, &policy.services));
    doubts.extend(policy.udp.iter().flat_map(Udp::doubts));
    let mut say = |holds: bool, what: &str| doubts.extend(holds.then(|| what.to_owned()));
    let nobody = policy.carriers.is_empty();
    let nowhere = !policy.services.values().any(|service| service.knock);
    say(nobody, "no carrier is enabled: nobody can knock");
    say(
        !nobody && nowhere,
        "no service has knock = true: keys are good for nothing but to expose services",
    );
    say(
        policy.memory.is_some(),
        "memory: whoever comes from an armed address is led as far as the service's own login",
    );
    say(policy.secrets.is_some(), "static-secrets: whoever hears one said can say it again");
    doubts
}

fn of_routes(routes: &Routes) -> Vec<String> {
    let mut doubts = Vec::new();
    for route in routes.iter() {
        if let Some(service) = route.service().filter(|service| service.knock) {
            let name = &service.name;
            doubts.push(format!(
                "the route in line {} opens {name:?} to visitors, though it has knock = true",
                route.line
            ));
        }
        let mut patterns = route.asks().filter_map(Asked::bytes).flatten();
        let endless = patterns.any(BytePattern::may_wait_for_ever);
        if endless {
            doubts.push(format!(
                "the regex in line {} does not fail by what other visitors send: they wait with it \
                 until [timeouts] decide, which shows; begin it with fixed bytes",
                route.line
            ));
        }
    }
    for (later, earlier) in routes.covered() {
        doubts.push(format!(
            "the route in line {} can never match: the one in line {} takes all of its visitors",
            later.line, earlier.line
        ));
    }
    doubts
}

fn of_our_names(routes: &Routes, tls: &Terminated) -> Vec<String> {
    let mut doubts = Vec::new();
    for route in routes.iter().filter(|route| !route.terminated) {
        let patterns = route.asks().find_map(Asked::names);
        let taken = |name: &&HostName| patterns.into_iter().flatten().any(|one| one.matches(name));
        for name in tls.names.iter().filter(taken) {
            doubts.push(format!(
                "{name} stands in [tls] names, so the route in line {} never gets it; with \
                 terminated = true it would get what comes inside",
                route.line
            ));
        }
    }
    doubts
}

fn of_targets(policy: &Policy) -> Vec<String> {
    let mut doubts = Vec::new();
    for service in policy.services.values() {
        let name = &service.name;
        for address in service.target.addresses() {
            let (Address::Tcp(to) | Address::Tls(to, _)) = address else { continue };
            let own = |address: &SocketAddr| {
                let same = to.literal.is_some_and(|to| to.ip() == address.ip());
                let here = address.ip().is_unspecified() && crate::tls::is_loopback(&to.host);
                to.port == address.port() && (same || here)
            };
            if policy.listen.iter().any(own) {
                doubts.push(format!("service {name:?} leads back to posternd's own {to}"));
            }
        }
    }
    doubts
}
