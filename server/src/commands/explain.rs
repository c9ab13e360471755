//! What becomes of a connection that begins with given bytes, and why: each route with the first of its
//! conditions that does not hold. Judges no knock, since that would spend it.

use std::fs::File;
use std::io::{self, Read, stdin};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use jiff::Timestamp;
use postern_shared::hello::{HostName, MAX_HELLO};
use postern_shared::hex;
use postern_shared::sniff::{Protocol, Sniff, sniff};

use super::{Answer, CommandError, Result};
use crate::cli::Explain;
use crate::policy::Policy;
use crate::route::{Answers, Choice, Facts, Inside, Route, Ruling, Seen, Still};
use crate::tls;

pub fn explain(question: &Explain) -> Result<Answer> {
    let policy = Policy::load(&question.of.config)?;
    let bytes = first_bytes(question)?;
    let inside = inside(&policy, question)?;
    let facts = Facts {
        seen: &Seen::Other,
        bytes: &bytes,
        from: question.from.unwrap_or(Ipv4Addr::LOCALHOST.into()).to_canonical(),
        listener: listener(&policy, question)?,
        inside: inside.as_ref(),
        answers: Answers::NONE,
        now: question.at.unwrap_or_else(Timestamp::now),
    };
    let (seen, want) = look(&policy, &facts);
    let facts = Facts { seen: &seen, ..facts };
    let mut lines = vec![format!("seen: {}", in_words(&seen, bytes.is_empty()))];
    if let (None, Some(tls), Some(name)) = (&inside, &policy.tls, seen.sni())
        && tls.names.contains(name)
    {
        lines.push(format!("posternd terminates TLS for {name}: see --inside {name}"));
        return Ok(Answer::from(lines.join("\n") + "\n"));
    }
    let want = want.or(match policy.routes.choose(&facts, Still::Bytes) {
        Choice::Open(want) => Some(want),
        Choice::Found(_) | Choice::Ask(_) => None,
    });
    if let Some(want) = want {
        let most = policy.decide;
        lines.push(format!("waits up to {most:?} until {want} bytes have come; if none come:"));
    }
    if let Choice::Ask(number) = policy.routes.choose(&facts, Still::Answers) {
        lines.push(format!("asks the {}; if it says no:", identifier(&policy, number)));
    }
    let taken = match policy.routes.choose(&facts, Still::Nothing) {
        Choice::Found(route) => route,
        Choice::Open(_) | Choice::Ask(_) => None,
    };
    lines.extend(policy.routes.iter().map(|route| {
        let verdict = verdict(&policy, route, taken, &facts);
        format!("route {} (line {}) to {}: {verdict}", route.number, route.line, route.leads())
    }));
    lines.push(match (taken, &inside) {
        (Some(route), _) => format!("goes to {}", route.leads()),
        (None, None) => {
            format!("goes to the fallback, {}", policy.fallback_at(&facts.listener).name)
        }
        (None, Some(inside)) => format!("goes to [tls] visitors, {}", visitors(&policy, inside)),
    });
    Ok(Answer::from(lines.join("\n") + "\n"))
}

/// What these bytes are, and how many would tell more.
fn look(policy: &Policy, facts: &Facts<'_>) -> (Seen, Option<usize>) {
    if facts.bytes.is_empty() {
        let after = policy.routes.silent_after(facts);
        return (after.map_or(Seen::Other, Seen::Silent), None);
    }
    let interest = match facts.inside {
        Some(_) => policy.inner_interest(),
        None => policy.outer_interest(),
    };
    match sniff(facts.bytes, &interest) {
        Sniff::Found(protocol) => (Seen::Protocol(protocol), None),
        Sniff::NeedMore(want) => (Seen::Other, Some(want)),
        Sniff::Malformed | Sniff::Unknown => (Seen::Other, None),
    }
}

fn in_words(seen: &Seen, silent: bool) -> String {
    match seen {
        Seen::Protocol(Protocol::Tls(hello)) => {
            let name = hello.sni().map_or("no name".to_owned(), ToString::to_string);
            let alpn: Vec<_> = hello.alpn().map(|name| name.escape_ascii().to_string()).collect();
            let alpn = if alpn.is_empty() { "none".to_owned() } else { alpn.join(" ") };
            format!("tls for {name}, alpn {alpn}")
        }
        Seen::Protocol(Protocol::Letters(_)) => {
            "the form of a knock in letters; as if it were refused:".to_owned()
        }
        Seen::Protocol(protocol) => protocol.name().to_owned(),
        Seen::Silent(time) => format!("not one byte for {time:?}"),
        Seen::Other if silent => "not one byte as long as posternd waits".to_owned(),
        Seen::Other => "nothing that the file asks for".to_owned(),
    }
}

fn verdict(policy: &Policy, route: &Route, taken: Option<&Route>, facts: &Facts<'_>) -> String {
    match taken {
        Some(taken) if taken.number == route.number => return "matches".to_owned(),
        Some(taken) if taken.number < route.number => return "an earlier one matches".to_owned(),
        Some(_) | None => {}
    }
    if route.terminated != facts.inside.is_some() {
        let place = if route.terminated { "inside" } else { "outside" };
        return format!("is for what comes {place} our own TLS");
    }
    let failing = route.conditions.iter().find_map(|condition| {
        let why = match condition.asked.rule(facts) {
            Ruling::Holds => return None,
            Ruling::Fails => "does not hold".to_owned(),
            Ruling::Open(_) => "needs more bytes".to_owned(),
            Ruling::Ask(number) => format!("asks the {}", identifier(policy, number)),
        };
        Some(format!("{} {why}", condition.written))
    });
    failing.unwrap_or_default()
}

/// It is not run here: it may be meant for another user, or for one posternd only.
fn identifier(policy: &Policy, number: usize) -> String {
    let name = policy.identifiers.get(number).map_or("", |identifier| identifier.name.as_str());
    format!("identifier {name}")
}

fn visitors<'a>(policy: &'a Policy, inside: &Inside) -> &'a str {
    let Some(tls) = &policy.tls else { return "" };
    let h2 = inside.alpn.as_deref() == Some(tls::HTTP_2);
    let service = tls.visitors_h2.as_ref().filter(|_| h2).unwrap_or(&tls.visitors);
    &service.name
}

fn listener(policy: &Policy, question: &Explain) -> Result<SocketAddr> {
    match question.listen {
        Some(listener) if !policy.listen.contains(&listener) => {
            Err(CommandError::Usage(format!("{listener} does not stand in listen")))
        }
        Some(listener) => Ok(listener),
        None => policy
            .listen
            .first()
            .copied()
            .ok_or_else(|| CommandError::Usage("listen names no address".to_owned())),
    }
}

fn inside(policy: &Policy, question: &Explain) -> Result<Option<Inside>> {
    let Some(name) = &question.inside else { return Ok(None) };
    let name = host(name)?;
    if !policy.tls.as_ref().is_some_and(|tls| tls.names.contains(&name)) {
        return Err(CommandError::Usage(format!("{name} does not stand in [tls] names")));
    }
    let alpn = question.alpn.first().map(|name| name.clone().into_bytes());
    Ok(Some(Inside { name: Some(name), alpn }))
}

fn host(name: &str) -> Result<HostName> {
    HostName::parse(name.as_bytes())
        .ok_or_else(|| CommandError::Usage(format!("{name:?} is not a host name")))
}

fn first_bytes(question: &Explain) -> Result<Vec<u8>> {
    if let Some(name) = &question.sni {
        let name = if name.is_empty() { None } else { Some(host(name)?) };
        return tls::sample_hello(name.as_ref(), &question.alpn)
            .map_err(|error| CommandError::Usage(format!("no hello can be made: {error}")));
    }
    if let Some(text) = &question.hex {
        return hex::decode_loosely(text)
            .ok_or_else(|| CommandError::Usage("--hex takes pairs of hex digits".to_owned()));
    }
    let Some(path) = &question.file else { return Ok(Vec::new()) };
    let cannot = |error| CommandError::Usage(format!("{} cannot be read: {error}", path.display()));
    if path == Path::new("-") { beginning(stdin()) } else { File::open(path).and_then(beginning) }
        .map_err(cannot)
}

fn beginning(of: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    of.take(u64::try_from(MAX_HELLO).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
