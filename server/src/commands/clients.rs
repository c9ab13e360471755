//! `posternd client`: keys given out, shown, replaced and taken back.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use postern_shared::expose::{Entrance, Permit};
use postern_shared::invite::{HelloTrust, Invite};
use postern_shared::knock::Carrier;

use super::{Answer, CommandError, Result};
use crate::cli::{ClientCommand, NewKey};
use crate::complaint::Complaint;
use crate::gate::terms::{Terms, Written, is_name};
use crate::gate::{Client, FirstUses, store};
use crate::identity;
use crate::ops::admin::{AskError, Request, ask};
use crate::policy::{Policy, State};
use crate::service::Endpoint;

/// What a pasted invite needs to be told.
const SECRET: &str =
    "this line is the key: hand it over in private, to be pasted into `postern join`";

pub fn client(command: &ClientCommand) -> Result<Answer> {
    match command {
        ClientCommand::Add(new) => {
            let policy = Policy::load(&new.file.config)?;
            add(&policy, new_client(&policy, new)?)
        }
        ClientCommand::List { file } => list(&State::of(&file.config)?),
        ClientCommand::Rotate { name: Some(name), keep, file, .. } => {
            rotate(&Policy::load(&file.config)?, name, keep)
        }
        ClientCommand::Rotate { name: None, drop_locator, file, .. } => {
            rotate_locator(&State::of(&file.config)?, *drop_locator)
        }
        ClientCommand::Expose { name, permits, file } => {
            let policy = Policy::load(&file.config)?;
            can_be_exposed(&policy, permits)?;
            store::expose(&policy.state.clients_file(), name, permits)?;
            let remark = tell(&policy.state, "it holds from now on")
                .map_err(|source| CommandError::NotTaken { source })?;
            Ok(Answer {
                text: format!("{name} may expose {}\n", listed(permits)),
                remarks: vec![remark],
            })
        }
        ClientCommand::Revoke { name, file } => {
            let state = State::of(&file.config)?;
            store::revoke(&state.clients_file(), name)?;
            let remark = tell(&state, "this key's tunnels are closed")
                .map_err(|source| CommandError::NotTaken { source })?;
            Ok(Answer { text: format!("{name} is revoked\n"), remarks: vec![remark] })
        }
    }
}

fn usage<T>(what: impl Into<String>) -> Result<T> {
    Err(CommandError::Usage(what.into()))
}

/// Checks what the command line asks for before anything is written.
fn new_client(policy: &Policy, new: &NewKey) -> Result<store::NewClient> {
    let name = &new.name;
    if !is_name(name) {
        return usage(format!("{name:?}: a client's name is made of letters, digits and - _ . @"));
    }
    can_be_exposed(policy, &new.expose)?;
    let services = services(policy, new)?;
    let some = |list: &Vec<String>| Some(list.clone()).filter(|list| !list.is_empty());
    let until = time("--until", new.until.as_deref(), parse_until)?;
    if let Some(until) = until.filter(|until| *until <= Timestamp::now()) {
        return usage(format!("--until: {until:.0} has passed already"));
    }
    let not_before = time("--not-before", new.not_before.as_deref(), parse_not_before)?;
    if let (Some(not_before), Some(until)) = (not_before, until)
        && until <= not_before
    {
        return usage("--until lies before --not-before: the key would never be good");
    }
    let terms = Written {
        from: some(&new.from),
        carriers: some(&new.carriers),
        not_before: not_before.map(|time| time.to_string()),
        until: until.map(|time| time.to_string()),
        hours: some(&new.hours),
        time_zone: new.time_zone.clone(),
        max_tunnels: new.max_tunnels,
    };
    let read = Terms::read(&terms).or_else(usage)?;
    offered(policy, &read)?;
    Ok(store::NewClient { name: name.clone(), services, expose: new.expose.clone(), terms })
}

/// Those asked for, or all that a knock can reach.
fn services(policy: &Policy, new: &NewKey) -> Result<Vec<String>> {
    let asked = &new.services;
    let open: Vec<_> = policy.services.values().filter(|service| service.knock).collect();
    for service in asked {
        if policy.knock_service(service).is_none() {
            let known: Vec<_> = open.iter().map(|service| service.name.as_str()).collect();
            return usage(format!(
                "{service:?} is not a service with knock = true; there is: {}",
                known.join(", ")
            ));
        }
    }
    let mut seen = BTreeSet::new();
    let mut services = asked.clone();
    services.retain(|service| seen.insert(service.clone()));
    if services.is_empty() {
        services.extend(open.into_iter().map(|service| service.name.clone()));
        // The first is what `connect` asks for, and ssh is what this is for.
        services.sort_by_key(|name| name != "ssh");
    }
    if services.is_empty() && new.expose.is_empty() {
        return usage("no service in the configuration has knock = true");
    }
    Ok(services)
}

/// Refuses what leads somewhere else already.
pub(super) fn can_be_exposed(policy: &Policy, permits: &[Permit]) -> Result<()> {
    for permit in permits {
        let own = policy.listen.iter().map(|listen| Entrance::Tcp(listen.port()));
        if let Some(entrance) = own.into_iter().find(|own| permit.covers(own)) {
            return usage(format!(
                "{permit}: posternd itself has {entrance}; expose a name there, with sni:"
            ));
        }
        match permit.exact() {
            Some(Entrance::Sni(name)) if policy.is_ours(name) => {
                return usage(format!("{permit}: the configuration has a use for {name} already"));
            }
            Some(_) | None => {}
        }
    }
    Ok(())
}

fn listed(permits: &[Permit]) -> String {
    if permits.is_empty() {
        return "nothing".to_owned();
    }
    permits.iter().map(Permit::to_string).collect::<Vec<_>>().join(" ")
}

fn time(
    option: &str,
    text: Option<&str>,
    parse: fn(&str) -> Option<Timestamp>,
) -> Result<Option<Timestamp>> {
    match text.map(|text| (text, parse(text))) {
        Some((text, None)) => usage(format!(
            "{option} {text:?}: write a day (2026-12-31) or a time (2026-12-31T18:00:00Z)"
        )),
        Some((_, time)) => Ok(time),
        None => Ok(None),
    }
}

/// A day counts to its end, where this machine is.
fn parse_until(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| midnight(text.parse::<Date>().ok()?.checked_add(1.day()).ok()?))
}

/// A day counts from its beginning.
fn parse_not_before(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| midnight(text.parse().ok()?))
}

fn midnight(day: Date) -> Option<Timestamp> {
    Some(day.to_zoned(TimeZone::system()).ok()?.timestamp())
}

/// The carriers that are enabled and that a key on these terms may use.
fn offered(policy: &Policy, terms: &Terms) -> Result<Vec<Carrier>> {
    let mut carriers = policy.carriers.clone();
    if carriers.is_empty() {
        return usage("no carrier is enabled in [knock] carriers");
    }
    carriers.retain(|carrier| terms.allow(*carrier));
    if carriers.is_empty() {
        return usage("none of the key's carriers is enabled in [knock] carriers");
    }
    Ok(carriers)
}

fn add(policy: &Policy, new: store::NewClient) -> Result<Answer> {
    let clients_file = policy.state.clients_file();
    store::make_state(policy.state.directory())?;
    store::open(&clients_file)?;
    // All that can fail comes before the key is made: who lost its invite has lost the key.
    let offer = Offer::of(policy)?;
    let added = store::add(&clients_file, new)?;
    Ok(Answer { text: offer.invite(policy, added)?, remarks: vec![SECRET.to_owned()] })
}

fn rotate(policy: &Policy, name: &str, keep: &str) -> Result<Answer> {
    let now = Timestamp::now();
    let until = keep
        .parse::<Span>()
        .ok()
        .filter(|span| !span.is_negative())
        .and_then(|span| now.to_zoned(TimeZone::UTC).checked_add(span).ok())
        .map(|until| until.timestamp());
    let Some(until) = until else {
        return usage(format!(
            "--keep {keep:?} is not a time span; write \"7d\", \"12h\" or \"0s\""
        ));
    };
    let clients_file = policy.state.clients_file();
    let clients = store::read(&clients_file)?;
    if let Some(client) = clients.iter().find(|client| client.name == name) {
        offered(policy, &client.terms)?;
    }
    let offer = Offer::of(policy)?;
    let first_uses = FirstUses::beside(&clients_file);
    let rotated = store::rotate(&clients_file, name, until, |kid| first_uses.of(kid).is_some())?;
    let old = match rotated.clients.replaced().find(|old| old.name == name) {
        Some(old) => {
            let until = old.terms.until.unwrap_or(until);
            format!("the key {} stays good until {until:.0}", old.kid)
        }
        None => "the old key is void".to_owned(),
    };
    let text = offer.invite(policy, rotated)?;
    // The invite is out in any case.
    let taken = tell(&policy.state, &old)
        .unwrap_or_else(|error| format!("warning: {}", CommandError::NotTaken { source: error }));
    Ok(Answer { text, remarks: vec![SECRET.to_owned(), taken] })
}

fn rotate_locator(state: &State, drop: bool) -> Result<Answer> {
    let clients_file = state.clients_file();
    let (text, then) = if drop {
        store::drop_locator(&clients_file)?;
        ("the older locator is gone", "clients that have it are strangers from now on")
    } else {
        store::add_locator(&clients_file)?;
        (
            "invites carry a new locator from now on",
            "rotate every client, and when all have joined anew, drop the older one with --drop-locator",
        )
    };
    let remark = tell(state, then).map_err(|source| CommandError::NotTaken { source })?;
    Ok(Answer { text: format!("{text}\n"), remarks: vec![remark] })
}

/// What an invite says besides the key.
struct Offer<'a> {
    public: &'a Endpoint,
    hello: Option<HelloTrust>,
}

impl Offer<'_> {
    fn of(policy: &Policy) -> Result<Offer<'_>> {
        let Some(public) = &policy.public else {
            return usage(
                "the configuration needs public = \"HOST\": it is what the invite tells the client to dial",
            );
        };
        let hello = match &policy.sni {
            Some(sni) if policy.speaks(Carrier::Hello) => {
                let identity = identity::open(policy.state.directory(), Some(sni))?;
                Some(HelloTrust { sni: sni.clone(), pin: identity.pin() })
            }
            Some(_) | None => None,
        };
        Ok(Offer { public, hello })
    }

    /// The line for `postern join`.
    fn invite(self, policy: &Policy, added: store::Added) -> Result<String> {
        let clients = &added.clients;
        let clients_file = policy.state.clients_file();
        let locator = clients.locators.first();
        let locator =
            locator.ok_or_else(|| Complaint::file(&clients_file, "holds no locator"))?.clone();
        let client = clients.iter().find(|client| client.kid == added.kid);
        let terms = client.map(|client| client.terms.clone()).unwrap_or_default();
        let tls = policy.tls.as_ref().filter(|_| policy.speaks(Carrier::Tls));
        let invite = Invite {
            host: self.public.host.clone(),
            port: self.public.port,
            server: clients.server,
            locator,
            kid: added.kid,
            key: added.key,
            services: added.services,
            carriers: offered(policy, &terms)?,
            tls_sni: tls.and_then(|tls| tls.names.first().cloned()),
            tls_pin: tls.and_then(|tls| tls.inward.pin_for_invites()),
            hello: self.hello,
        };
        Ok(format!("{}\n", *invite.to_link()))
    }
}

fn list(state: &State) -> Result<Answer> {
    let clients_file = state.clients_file();
    let clients = store::read(&clients_file)?;
    let first_uses = FirstUses::beside(&clients_file);
    let old: BTreeMap<_, _> = clients.replaced().map(|old| (&old.name, old)).collect();
    let mut all: Vec<_> = clients.iter().collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let lines = all
        .into_iter()
        .map(|client| describe(client, old.get(&client.name).map(|old| &***old), &first_uses));
    Ok(Answer::from(lines.collect::<String>()))
}

fn describe(client: &Client, old: Option<&Client>, first_uses: &FirstUses) -> String {
    let services: Vec<_> = client.services.iter().map(|grant| grant.service.as_str()).collect();
    let mut remarks = vec![match first_uses.of(client.kid) {
        Some(at) => format!("first used {at:.0}"),
        None => "never used".to_owned(),
    }];
    if !client.expose.is_empty() {
        remarks.push(format!("exposes {}", listed(&client.expose)));
    }
    let terms = &client.terms;
    let join = |list: Vec<String>| list.join(" ");
    if !terms.from.is_empty() {
        remarks.push(format!("from {}", join(terms.from.iter().map(IpNet::to_string).collect())));
    }
    if !terms.carriers.is_empty() {
        remarks
            .push(format!("by {}", join(terms.carriers.iter().map(Carrier::to_string).collect())));
    }
    remarks.extend(terms.not_before.map(|time| format!("not before {time:.0}")));
    remarks.extend(terms.until.map(|time| format!("until {time:.0}")));
    remarks.extend(terms.hours.as_ref().map(|hours| format!("at {hours}")));
    remarks.extend(terms.max_tunnels.map(|most| format!("{most} tunnels at most")));
    let old = old.and_then(|old| Some((old.kid, old.terms.until?)));
    remarks.extend(
        old.filter(|(_, until)| *until > Timestamp::now())
            .map(|(kid, until)| format!("old key {kid} until {until:.0}")),
    );
    let (name, kid) = (&client.name, client.kid);
    format!("{name:<20} {kid} {:<16} {}\n", services.join(","), remarks.join(", "))
}

/// Has a running posternd take the change at once.
fn tell(state: &State, then: &str) -> std::result::Result<String, AskError> {
    match ask(&state.admin_socket(), Request::Clients) {
        Ok(_) => Ok(format!("the running posternd took it: {then}")),
        Err(AskError::NotRunning(_)) => {
            Ok("no posternd is running with this configuration; the next one will know".to_owned())
        }
        Err(error) => Err(error),
    }
}
