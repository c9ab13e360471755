//! One `[[route]]`: what it asks, and where it leads.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use postern_shared::hex;
use postern_shared::sniff::{Kind, Kinds};
use toml::Spanned;

use super::{Reading, Result, Services};
use crate::complaint::Complaint;
use crate::config::{self, List};
use crate::gate::terms::parse_net;
use crate::hours::Hours;
use crate::inquire::Identifier;
use crate::nets::Nets;
use crate::route::{
    Action, Asked, BytePattern, Condition, Expression, Glob, NamePattern, Rejection, Route,
};

/// How long a client must stay silent where a route does not say.
const DEFAULT_SILENCE: Duration = Duration::from_secs(2);

/// The protocol that is at least one byte and none that is known.
const ANY: &str = "any";

/// What ranges and the files of them are written in.
const FILE: &str = "file:";

const NO_RANGE: &str = "is not an address or a range like 10.0.0.0/8";

/// The longest first bytes that a route can ask for.
const LONGEST_PREFIX: usize = 256;

/// What the conditions of a route must fit to.
pub(crate) struct Surroundings<'a> {
    pub(crate) services: &'a Services,
    pub(crate) listen: &'a [SocketAddr],
    pub(crate) identifiers: &'a [Identifier],
    pub(crate) decide: Duration,
    /// Whether there is a `[tls]`.
    pub(crate) terminates: bool,
}

impl Reading<'_> {
    pub(crate) fn route(
        &self,
        number: usize,
        route: &Spanned<config::Route>,
        around: &Surroundings<'_>,
    ) -> Result<Route> {
        let conditions = route.get_ref();
        self.contradictions(route, around)?;
        let mut asked = Vec::new();
        let mut ask = |written: String, one| asked.push(Condition { written, asked: one });
        // What costs least to ask comes first: most routes fail by it.
        if let Some(list) = &conditions.sni {
            let patterns = self.all(list, |text| {
                NamePattern::parse(text).ok_or("is not a host name, *.suffix, or one with stars")
            })?;
            ask(self.written("sni", list), Asked::Sni(patterns));
        }
        if conditions.no_sni {
            ask("no-sni = true".to_owned(), Asked::NoSni);
        }
        if let Some(list) = &conditions.protocol {
            ask(self.written("protocol", list), self.protocols(list)?);
        }
        if let Some(list) = &conditions.listen {
            let listeners = self.all(list, |text| listener(text, around.listen))?;
            ask(self.written("listen", list), Asked::Listen(listeners));
        }
        if let Some(list) = &conditions.from {
            ask(self.written("from", list), Asked::From(self.nets(list)?));
        }
        if let Some(list) = &conditions.not_from {
            ask(self.written("not-from", list), Asked::NotFrom(self.nets(list)?));
        }
        if let Some(list) = &conditions.hours {
            let texts: Vec<_> = list.get_ref().iter().map(|text| text.get_ref().clone()).collect();
            let zone = conditions.time_zone.as_ref().map(|zone| zone.get_ref().as_str());
            let hours = Hours::parse(&texts, zone).map_err(|what| self.complain(list, what))?;
            ask(format!("hours = {hours}"), Asked::Hours(hours));
        }
        if let Some(list) = &conditions.alpn {
            let globs = self.all(list, |text| match text {
                "" => Err("is no protocol; write \"h2\" or \"http/*\""),
                text => Ok(Glob::new(text)),
            })?;
            ask(self.written("alpn", list), Asked::Alpn(globs));
        }
        if let Some(list) = &conditions.prefix {
            ask(self.written("prefix", list), Asked::Bytes(self.all(list, prefix)?));
        }
        if let Some(list) = &conditions.regex {
            let parse = |text: &str| Expression::parse(text).map(BytePattern::Expression);
            ask(self.written("regex", list), Asked::Bytes(self.all(list, parse)?));
        }
        if conditions.silent {
            let after = self.silence(conditions, around.decide)?;
            ask(format!("silent = true, after = {after:?}"), Asked::Silent { after });
        }
        if let Some(list) = &conditions.external {
            let asked = self.all(list, |name| identifier(name, around.identifiers))?;
            // Who is not enabled says no.
            let asked = asked.into_iter().flatten().collect();
            ask(self.written("external", list), Asked::External(asked));
        }
        Ok(Route {
            number,
            line: self.line(route),
            action: self.action(route, around.services)?,
            terminated: conditions.terminated,
            log: conditions.log,
            conditions: asked,
        })
    }

    /// What cannot hold together.
    fn contradictions(
        &self,
        route: &Spanned<config::Route>,
        around: &Surroundings<'_>,
    ) -> Result<()> {
        let conditions = route.get_ref();
        let about_names = conditions.sni.is_some() || conditions.no_sni;
        let about_bytes = conditions.protocol.is_some()
            || conditions.regex.is_some()
            || conditions.prefix.is_some()
            || conditions.external.is_some()
            || ((about_names || conditions.alpn.is_some()) && !conditions.terminated);
        if conditions.silent && about_bytes {
            return Err(self.complain(route, "silent excludes what is asked of first bytes"));
        }
        if conditions.sni.is_some() && conditions.no_sni {
            return Err(self.complain(route, "sni and no-sni exclude each other in one route"));
        }
        if let (Some(list), true, false) =
            (&conditions.protocol, about_names || conditions.alpn.is_some(), conditions.terminated)
            && !list.get_ref().iter().any(|name| name.get_ref() == Kind::Tls.name())
        {
            return Err(self.complain(list, "sni, no-sni and alpn are asked of tls"));
        }
        if let (Some(after), false) = (&conditions.after, conditions.silent) {
            return Err(self.complain(after, "after goes with silent = true"));
        }
        if let (Some(zone), None) = (&conditions.time_zone, &conditions.hours) {
            return Err(self.complain(zone, "time-zone goes with hours"));
        }
        if conditions.terminated && !around.terminates {
            let what = "terminated is for what comes inside [tls], which is not there";
            return Err(self.complain(route, what));
        }
        Ok(())
    }

    fn action(&self, route: &Spanned<config::Route>, services: &Services) -> Result<Action> {
        let conditions = route.get_ref();
        match (&conditions.service, &conditions.reject) {
            (Some(name), None) => self.known(services, name).map(Action::Service),
            (None, Some(how)) => Rejection::ALL
                .into_iter()
                .find(|rejection| rejection.name() == how.get_ref())
                .map(Action::Reject)
                .ok_or_else(|| self.complain(how, "reject is \"rst\" or \"close\"")),
            (Some(_), Some(how)) => {
                Err(self.complain(how, "service and reject exclude each other in one route"))
            }
            (None, None) => {
                Err(self.complain(route, "this route leads nowhere: it lacks service or reject"))
            }
        }
    }

    fn protocols(&self, list: &List) -> Result<Asked> {
        let named = self.all(list, |text| match Kind::from_name(text) {
            Some(kind) => Ok(Some(kind)),
            None if text == ANY => Ok(None),
            None => {
                let known = Kind::ALL.map(Kind::name).join(", ");
                Err(format!("is not a protocol known here; there is: {known}, {ANY}"))
            }
        })?;
        let kinds: Kinds = named.iter().flatten().copied().collect();
        Ok(Asked::Protocol { kinds, any: named.contains(&None) })
    }

    fn silence(&self, conditions: &config::Route, decide: Duration) -> Result<Duration> {
        let after = self.duration(&conditions.after, DEFAULT_SILENCE.min(decide))?;
        match &conditions.after {
            Some(text) if after > decide => {
                Err(self.complain(text, "after must not be longer than [timeouts] decide"))
            }
            Some(_) | None => Ok(after),
        }
    }

    /// Ranges as they stand in the list, and those in the files that it names.
    pub(crate) fn nets(&self, list: &List) -> Result<Nets> {
        let lists = self.all(list, |text| match text.strip_prefix(FILE) {
            Some(path) => read_nets(&self.beside(Path::new(path))),
            None => parse_net(text).map(|net| vec![net]).ok_or_else(|| NO_RANGE.to_owned()),
        })?;
        Ok(lists.into_iter().flatten().collect())
    }

    /// As it stands in the file.
    fn written(&self, key: &str, list: &List) -> String {
        format!("{key} = {}", self.source(list))
    }
}

/// One range in a line; what follows a `#` is a remark.
fn read_nets(path: &Path) -> std::result::Result<Vec<IpNet>, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot be read: {}: {error}", path.display()))?;
    let mut nets = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let range = line.split('#').next().unwrap_or_default().trim();
        if range.is_empty() {
            continue;
        }
        nets.push(parse_net(range).ok_or_else(|| {
            let here = Complaint::file(path, format!("line {}: {range:?} {NO_RANGE}", number + 1));
            format!("is not understood: {here}")
        })?);
    }
    if nets.is_empty() {
        return Err(format!("names no range: {} is empty", path.display()));
    }
    Ok(nets)
}

fn listener(text: &str, listen: &[SocketAddr]) -> std::result::Result<SocketAddr, &'static str> {
    let address = text.parse().ok().filter(|address| listen.contains(address));
    address.ok_or("does not stand in listen")
}

/// Its number, if it is enabled.
fn identifier(name: &str, all: &[Identifier]) -> std::result::Result<Option<usize>, String> {
    let Some(number) = all.iter().position(|one| one.name == name) else {
        let known: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(format!("is no [identifier] in this file; there is: {known}"));
    };
    Ok(all.get(number).filter(|one| one.enabled).map(|_| number))
}

fn prefix(text: &str) -> std::result::Result<BytePattern, &'static str> {
    hex::decode_loosely(text)
        .filter(|bytes| (1..=LONGEST_PREFIX).contains(&bytes.len()))
        .map(BytePattern::Prefix)
        .ok_or("is not 1 to 256 bytes in hex, like \"53 53 48 2d\"")
}

/// What differs for one listener.
impl Reading<'_> {
    pub(crate) fn listener_address(
        &self,
        text: &Spanned<String>,
        listen: &[SocketAddr],
    ) -> Result<SocketAddr> {
        listener(text.get_ref(), listen)
            .map_err(|what| self.complain(text, format!("[listener.{:?}] {what}", text.get_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_in_hex() {
        let bytes = |text| match prefix(text) {
            Ok(BytePattern::Prefix(bytes)) => Some(bytes),
            Ok(BytePattern::Expression(_)) | Err(_) => None,
        };
        assert_eq!(bytes("53 53482D"), Some(b"SSH-".to_vec()));
        for bad in ["", "5", "0g", "+1", "é0", &"00".repeat(257)] {
            assert_eq!(bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_file_of_ranges() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(&file, "# office\n10.0.0.0/8   # all of it\n\n::1\n").expect("written");
        assert_eq!(read_nets(file.path()).map(|nets| nets.len()), Ok(2));
        std::fs::write(&file, "10.0.0.0/8\n10.0.0.0/33\n").expect("written");
        assert!(read_nets(file.path()).expect_err("refused").contains("line 2"));
        std::fs::write(&file, "# nothing\n").expect("written");
        assert!(read_nets(file.path()).expect_err("refused").contains("names no range"));
    }
}
