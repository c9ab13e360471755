//! The clients file as a value: who has which key and may reach what. Reads text; never touches the
//! file system, which is `store.rs`'s work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use postern_shared::expose::{Entrance, Permit};
use postern_shared::hex;
use postern_shared::invite::Grant;
use postern_shared::knock::{Carrier, CarrierKey, ClientKey, Kid, Locator, ServerId};
use serde::{Deserialize, Serialize};
use toml::Spanned;
use zeroize::Zeroizing;

use super::keys::Keys;
use super::terms::{Terms, Written, is_name};
use crate::complaint::Complaint;

/// A rotation has the old locator and the new one live; a judged knock costs two HMACs for each.
pub const MAX_LOCATORS: usize = 2;

/// The file, key by key.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    pub server_id: String,
    pub locators: Vec<Zeroizing<String>>,
    #[serde(default)]
    pub client: Vec<Spanned<Entry>>,
}

/// One `[[client]]`.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Entry {
    pub name: String,
    pub kid: u32,
    pub key: Zeroizing<String>,
    /// Service names with the numbers that knocks name them by.
    #[serde(default)]
    pub services: BTreeMap<String, u16>,
    /// What it may expose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carriers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tunnels: Option<usize>,
    /// The key before the last rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Old>,
}

/// A key that was replaced and is still good for a while.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Old {
    pub kid: u32,
    pub key: Zeroizing<String>,
    pub until: String,
}

impl Old {
    /// Whether its time is still to come.
    pub(super) fn is_good(&self) -> bool {
        self.until.parse().is_ok_and(|until: Timestamp| until > Timestamp::now())
    }
}

impl Entry {
    fn written(&self) -> Written {
        Written {
            from: self.from.clone(),
            carriers: self.carriers.clone(),
            not_before: self.not_before.clone(),
            until: self.until.clone(),
            hours: self.hours.clone(),
            time_zone: self.time_zone.clone(),
            max_tunnels: self.max_tunnels,
        }
    }
}

/// A client whose knock can be verified.
#[derive(Debug)]
pub struct Client {
    pub name: String,
    pub kid: Kid,
    pub services: Vec<Grant>,
    /// What it may expose.
    pub expose: Vec<Permit>,
    pub terms: Terms,
    /// Whether a newer key has replaced this one, which is good until its terms say.
    pub replaced: bool,
    key: ClientKey,
    pub(super) keys: Keys,
}

impl Client {
    pub(super) fn service(&self, number: u16) -> Option<&str> {
        let grant = self.services.iter().find(|grant| grant.number == number)?;
        Some(&grant.service)
    }

    /// What lets it open this entrance.
    pub fn permit(&self, entrance: &Entrance) -> Option<&Permit> {
        self.expose.iter().find(|permit| permit.covers(entrance))
    }
}

/// Everything in a clients file, indexed by kid.
#[derive(Debug)]
pub struct Clients {
    pub server: ServerId,
    /// The newest first: it is what invites carry.
    pub locators: Vec<Locator>,
    plain_locators: Vec<CarrierKey>,
    tls_locators: Vec<CarrierKey>,
    hello_locators: Vec<CarrierKey>,
    by_kid: HashMap<Kid, Arc<Client>>,
    names: usize,
}

impl Clients {
    /// Reads the file's text.
    pub fn parse(path: &Path, text: &str) -> Result<Clients, Complaint> {
        let file: File =
            toml::from_str(text).map_err(|error| Complaint::secret_toml(path, text, &error))?;
        let server = hex::decode(&file.server_id)
            .map(ServerId)
            .ok_or_else(|| Complaint::file(path, "server-id must be 32 hexadecimal digits"))?;
        let locators: Vec<Locator> = file
            .locators
            .iter()
            .map(|text| hex::decode(text).map(Locator::new))
            .collect::<Option<_>>()
            .filter(|locators: &Vec<_>| (1..=MAX_LOCATORS).contains(&locators.len()))
            .ok_or_else(|| {
                Complaint::file(path, "locators must be one or two texts of 64 hexadecimal digits")
            })?;

        let mut by_kid: HashMap<Kid, Arc<Client>> = HashMap::with_capacity(file.client.len());
        let mut names = std::collections::HashSet::with_capacity(file.client.len());
        for entry in file.client {
            let span = entry.span();
            let entry = entry.into_inner();
            let complain = |what: String| Complaint::at(path, text, span.clone(), what);
            if !names.insert(entry.name.clone()) {
                return Err(complain(format!("a second client named {:?}", entry.name)));
            }
            let name = entry.name.clone();
            let keys = keys(entry, &server)
                .map_err(|what| complain(format!("client {name:?}: {what}")))?;
            for client in keys {
                if by_kid.insert(client.kid, Arc::new(client)).is_some() {
                    let what = format!("client {name:?}: its kid stands twice in the file");
                    return Err(complain(what));
                }
            }
        }
        let on = |carrier| locators.iter().map(|l: &Locator| l.on(carrier, &server)).collect();
        Ok(Clients {
            server,
            plain_locators: on(Carrier::Plain),
            tls_locators: on(Carrier::Tls),
            hello_locators: on(Carrier::Hello),
            locators,
            by_kid,
            names: names.len(),
        })
    }

    /// How many there are; one may have two keys.
    pub fn len(&self) -> usize {
        self.names
    }

    pub fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// Each with its newest key, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.by_kid.values().filter(|client| !client.replaced)
    }

    /// Those whose newest key replaced one, with that one.
    pub fn replaced(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.by_kid.values().filter(|client| client.replaced)
    }

    pub(super) fn find(&self, kid: Kid) -> Option<&Arc<Client>> {
        self.by_kid.get(&kid)
    }

    pub(super) fn locators_on(&self, carrier: Carrier) -> &[CarrierKey] {
        match carrier {
            Carrier::Plain => &self.plain_locators,
            Carrier::Tls => &self.tls_locators,
            Carrier::Hello => &self.hello_locators,
        }
    }

    /// Whether this key is still one of these clients'.
    pub fn still_has(&self, client: &Client) -> bool {
        self.current(client).is_some()
    }

    /// What these clients say of this key.
    pub fn current(&self, client: &Client) -> Option<Arc<Client>> {
        self.find(client.kid).filter(|current| current.key == client.key).cloned()
    }
}

/// The keys of an entry that can hold. The error never quotes one.
fn keys(entry: Entry, server: &ServerId) -> Result<Vec<Client>, String> {
    if !is_name(&entry.name) {
        return Err("its name is to be made of letters, digits and - _ . @".to_owned());
    }
    if entry.services.is_empty() && entry.expose.is_empty() {
        return Err("services names none, nor does expose".to_owned());
    }
    let expose = entry
        .expose
        .iter()
        .map(|text| text.parse().map_err(|why| format!("expose {text:?}: {why}")))
        .collect::<Result<Vec<Permit>, _>>()?;
    let numbers: BTreeSet<_> = entry.services.values().collect();
    if numbers.len() < entry.services.len() {
        return Err("two of its services have the same number".to_owned());
    }
    let terms = Terms::read(&entry.written())?;
    let services: Vec<_> =
        entry.services.into_iter().map(|(service, number)| Grant { service, number }).collect();
    let client = |kid: u32, key: &str, terms: Terms, replaced: bool| {
        let kid = Kid::new(kid).ok_or("kid must not be 0")?;
        let key: [u8; 32] = hex::decode(key).ok_or("key must be 64 hexadecimal digits")?;
        let key = ClientKey::new(key);
        Ok::<_, &str>(Client {
            name: entry.name.clone(),
            kid,
            services: services.clone(),
            expose: expose.clone(),
            terms,
            replaced,
            keys: Keys::of(&key, server),
            key,
        })
    };
    let mut keys = vec![client(entry.kid, &entry.key, terms.clone(), false)?];
    if let Some(old) = &entry.old {
        let until: Timestamp = old
            .until
            .parse()
            .map_err(|_| format!("old.until = {:?} is not a time (RFC 3339)", old.until))?;
        let until = terms.until.map_or(until, |all| all.min(until));
        keys.push(client(old.kid, &old.key, Terms { until: Some(until), ..terms }, true)?);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(clients: &str) -> String {
        format!(
            "server-id = \"{}\"\nlocators = [\"{}\"]\n{clients}",
            "01".repeat(16),
            "02".repeat(32)
        )
    }

    fn entry(name: &str, kid: u32, more: &str) -> String {
        let key = "03".repeat(32);
        format!(
            "[[client]]\nname = \"{name}\"\nkid = {kid}\nkey = \"{key}\"\nservices = {{ ssh = 1 }}\n{more}\n"
        )
    }

    fn complaint(text: &str) -> String {
        Clients::parse(Path::new("clients.toml"), text).expect_err("must be refused").to_string()
    }

    #[test]
    fn names_fit_into_the_lines_that_programs_read() {
        for name in ["", "-", "two words", "a\\n1 allow", "\u{fc}"] {
            let refused = complaint(&file(&entry(name, 7, "")));
            assert!(refused.contains("letters, digits"), "{name:?}: {refused}");
        }
    }

    #[test]
    fn a_file_reads_back() {
        let text = file(&entry(
            "alice",
            7,
            "from = [\"10.0.0.0/8\", \"2001:db8::1\"]\nuntil = \"2030-01-01T00:00:00Z\"",
        ));
        let clients = Clients::parse(Path::new("clients.toml"), &text).expect("sound");
        let alice = Kid::new(7).and_then(|kid| clients.find(kid)).expect("there");
        assert_eq!(
            (alice.name.as_str(), alice.service(1), alice.service(2)),
            ("alice", Some("ssh"), None)
        );
        assert_eq!((alice.terms.from.len(), alice.terms.until.is_some()), (2, true));
        assert!(clients.still_has(alice));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_not_quoted() {
        let secret = "03".repeat(32);
        for text in [
            file(&entry("a", 1, "")).replace("kid = 1", &format!("kid = \"{secret}\"")),
            file(&entry("a", 1, ""))
                .replace("locators = [", "locators = [[")
                .replace("\"]", "\"]]"),
            format!("locators = \"{secret}\""),
            secret.clone(),
        ] {
            let complaint = complaint(&text);
            assert!(!complaint.contains("0303") && !complaint.contains("0202"), "{complaint}");
            assert!(complaint.starts_with("clients.toml:"), "{complaint}");
        }
    }

    #[test]
    fn a_replaced_key_is_good_for_a_while() {
        let old = format!(
            "until = \"2031-01-01T00:00:00Z\"\nold = {{ kid = 8, key = \"{}\", until = \"2030-01-01T00:00:00Z\" }}",
            "04".repeat(32)
        );
        let text = file(&entry("alice", 7, &old));
        let clients = Clients::parse(Path::new("clients.toml"), &text).expect("sound");
        assert_eq!((clients.len(), clients.iter().count()), (1, 1));
        let until =
            |kid| Kid::new(kid).and_then(|kid| clients.find(kid)).and_then(|c| c.terms.until);
        assert!(until(8) < until(7));
        assert_eq!(
            clients.replaced().map(|old| old.kid).collect::<Vec<_>>(),
            [Kid::new(8).expect("not 0")]
        );
        let same = complaint(&text.replace("kid = 8", "kid = 7"));
        assert!(same.ends_with("its kid stands twice in the file"), "{same}");
    }

    #[test]
    fn complaints_say_where_and_never_show_a_key() {
        for (text, expected) in [
            (file(&entry("a", 0, "")), "clients.toml:3:1: client \"a\": kid must not be 0"),
            (
                file(&[entry("a", 1, ""), entry("a", 2, "")].concat()),
                "clients.toml:9:1: a second client named \"a\"",
            ),
            (
                file(&[entry("a", 1, ""), entry("b", 1, "")].concat()),
                "clients.toml:9:1: client \"b\": its kid stands twice in the file",
            ),
            (
                file(&entry("a", 1, "from = [\"10.0.0.0/99\"]")),
                "clients.toml:3:1: client \"a\": \"10.0.0.0/99\" is not an address range",
            ),
            (
                file(&entry("a", 1, "from = []")),
                "clients.toml:3:1: client \"a\": from names nothing; leave it out so that it does not narrow",
            ),
            (
                file(&entry("a", 1, "")).replace("ssh = 1", "ssh = 1, git = 1"),
                "clients.toml:3:1: client \"a\": two of its services have the same number",
            ),
            (
                file(&entry("a", 1, "until = \"soon\"")),
                "clients.toml:3:1: client \"a\": until = \"soon\" is not a time (RFC 3339)",
            ),
            (
                file(&entry("a", 1, "")).replace(&"03".repeat(32), "0303"),
                "clients.toml:3:1: client \"a\": key must be 64 hexadecimal digits",
            ),
        ] {
            assert_eq!(complaint(&text), expected);
        }
    }
}
