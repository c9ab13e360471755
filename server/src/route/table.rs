//! All routes, found by server name where they ask for one: with thousands of names a connection costs
//! no more than with few. Pure.

use std::collections::HashMap;
use std::iter;
use std::time::Duration;

use postern_shared::hello::HostName;
use postern_shared::sniff::{Interest, Kind, Kinds};

use super::bytes::Ruling;
use super::condition::Asked;
use super::name::NamePattern;
use super::{Facts, Route};

#[derive(Debug, Default)]
pub struct Routes {
    all: Vec<Route>,
    /// Places in `all`, in order, of the routes that ask for a name that is this one.
    named: HashMap<Box<str>, Vec<usize>>,
    /// The same for names below this one.
    below: HashMap<Box<str>, Vec<usize>>,
    /// The places of all other routes.
    others: Vec<usize>,
    /// Of those, the ones for the silent.
    silent: Vec<usize>,
    /// What routes for the connection itself wait for, and what routes inside our TLS do.
    outside: Interest,
    inside: Interest,
}

/// What the routes say of a visitor.
#[derive(Debug)]
pub enum Choice<'a> {
    /// The first that matches, if one does.
    Found(Option<&'a Route>),
    /// That depends on more bytes: so many, counted from the first.
    Open(usize),
    /// That depends on what the identifier of this number says.
    Ask(usize),
}

/// What may still become known of a visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Still {
    Nothing,
    /// What identifiers say of the bytes that there are.
    Answers,
    /// More bytes too.
    Bytes,
}

impl Routes {
    pub fn new(all: Vec<Route>) -> Routes {
        let mut routes = Routes::default();
        for (place, route) in all.iter().enumerate() {
            let Some(patterns) = by_name(route) else {
                routes.others.push(place);
                if silence(route).is_some() {
                    routes.silent.push(place);
                }
                continue;
            };
            for pattern in patterns {
                let (table, name) = match pattern {
                    NamePattern::Exact(name) => (&mut routes.named, name),
                    NamePattern::Below(name) => (&mut routes.below, name),
                    NamePattern::Any | NamePattern::Glob(_) => continue,
                };
                let places = table.entry(name.as_str().into()).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        let interest = |terminated| {
            let of = |route: &&Route| route.terminated == terminated;
            let kinds = all.iter().filter(of).map(kinds).fold(Kinds::default(), Kinds::union);
            Interest { kinds, ..Interest::default() }
        };
        (routes.outside, routes.inside) = (interest(false), interest(true));
        routes.all = all;
        routes
    }

    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.all.iter()
    }

    /// The first route that matches, or what must become known to tell. What cannot any more fails.
    pub fn choose(&self, facts: &Facts<'_>, still: Still) -> Choice<'_> {
        for route in self.candidates(facts.name()) {
            match route.rule(facts) {
                Ruling::Holds => return Choice::Found(Some(route)),
                Ruling::Open(want) if still >= Still::Bytes => return Choice::Open(want),
                Ruling::Ask(identifier) if still >= Still::Answers => {
                    return Choice::Ask(identifier);
                }
                Ruling::Open(_) | Ruling::Ask(_) | Ruling::Fails => {}
            }
        }
        Choice::Found(None)
    }

    /// In file order, those that can match whoever asks for this name.
    fn candidates(&self, name: Option<&HostName>) -> impl Iterator<Item = &Route> {
        let mut named = Vec::new();
        if let Some(name) = name.map(HostName::as_str) {
            named.extend(self.named.get(name).into_iter().flatten());
            named.extend(suffixes(name).filter_map(|suffix| self.below.get(suffix)).flatten());
            named.sort_unstable();
            named.dedup();
        }
        let (mut named, mut others) =
            (named.into_iter().peekable(), self.others.iter().copied().peekable());
        let places = iter::from_fn(move || match (named.peek(), others.peek()) {
            (Some(one), Some(other)) if one < other => named.next(),
            (_, Some(_)) => others.next(),
            (_, None) => named.next(),
        });
        places.filter_map(|place| self.all.get(place))
    }

    /// When a connection that has not sent a byte is to be routed as silent.
    pub fn silent_after(&self, facts: &Facts<'_>) -> Option<Duration> {
        let silent = self.silent.iter().filter_map(|place| self.all.get(*place));
        silent.filter(|route| route.may_match(facts)).filter_map(silence).min()
    }

    /// The classes of first bytes that routes for the connection itself wait for.
    pub fn outside(&self) -> Interest {
        self.outside
    }

    /// The same for what comes inside our own TLS.
    pub fn inside(&self) -> Interest {
        self.inside
    }

    /// Each route that can never match, with an earlier one that takes all of its visitors.
    pub fn covered(&self) -> Vec<(&Route, &Route)> {
        let mut covered = Vec::new();
        for (place, later) in self.all.iter().enumerate() {
            let named = self.over(by_name(later).and_then(|patterns| patterns.first()));
            let others = self.others.iter().copied().take_while(|other| *other < place);
            let earlier = named.into_iter().filter(|other| *other < place).chain(others);
            let mut earlier = earlier.filter_map(|other| self.all.get(other));
            covered.extend(earlier.find(|earlier| earlier.covers(later)).map(|one| (later, one)));
        }
        covered
    }

    /// The places of routes by name that match whatever this pattern does.
    fn over(&self, pattern: Option<&NamePattern>) -> Vec<usize> {
        let (name, itself) = match pattern {
            Some(NamePattern::Exact(name)) => (name.as_str(), self.named.get(name.as_str())),
            Some(NamePattern::Below(name)) => (name.as_str(), self.below.get(name.as_str())),
            Some(NamePattern::Any | NamePattern::Glob(_)) | None => return Vec::new(),
        };
        let under = suffixes(name).filter_map(|suffix| self.below.get(suffix));
        itself.into_iter().chain(under).flatten().copied().collect()
    }
}

/// `b.c` and `c` of `a.b.c`.
fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..))
}

fn silence(route: &Route) -> Option<Duration> {
    route.asks().find_map(Asked::silence)
}

/// What must be known of first bytes to tell whether a route matches.
fn kinds(route: &Route) -> Kinds {
    let kinds = |asked: &Asked| match asked {
        // Inside they are known before the first byte.
        Asked::Sni(_) | Asked::NoSni | Asked::Alpn(_) if route.terminated => Kinds::default(),
        Asked::Sni(_) | Asked::NoSni | Asked::Alpn(_) => Kinds::of([Kind::Tls]),
        Asked::Protocol { any: true, .. } => Kinds::ALL,
        Asked::Protocol { kinds, any: false } => *kinds,
        Asked::Bytes(_)
        | Asked::External(_)
        | Asked::Silent { .. }
        | Asked::From(_)
        | Asked::NotFrom(_)
        | Asked::Hours(_)
        | Asked::Listen(_) => Kinds::default(),
    };
    route.asks().map(kinds).fold(Kinds::default(), Kinds::union)
}

/// The names that a route asks for, where they can be looked up.
fn by_name(route: &Route) -> Option<&[NamePattern]> {
    let patterns = route.asks().find_map(Asked::names)?;
    let plain = |one: &NamePattern| matches!(one, NamePattern::Exact(_) | NamePattern::Below(_));
    patterns.iter().all(plain).then_some(patterns)
}
