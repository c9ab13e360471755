//! What the configuration file says: a mirror of its keys, nothing more. What it means, and whether it
//! can hold, is `policy.rs`'s to decide.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

/// The whole file. Relative paths are relative to its directory.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct File {
    pub listen: Vec<Spanned<String>>,
    /// `host[:port]` that invites name.
    pub public: Option<Spanned<String>>,
    pub fallback: Spanned<String>,
    pub state: PathBuf,
    #[serde(default)]
    pub knock: Knock,
    pub tls: Option<Tls>,
    #[serde(default)]
    pub service: BTreeMap<Spanned<String>, Service>,
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    #[serde(default)]
    pub identifier: BTreeMap<Spanned<String>, Identifier>,
    #[serde(default)]
    pub listener: BTreeMap<Spanned<String>, Listener>,
    #[serde(default)]
    pub expose: Vec<Expose>,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub log: Log,
    pub udp: Option<Udp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Knock {
    /// The name that the hello carrier shows.
    pub sni: Option<Spanned<String>>,
    /// In the order in which invites offer them.
    pub carriers: Option<List>,
    /// The file of static secrets.
    pub static_secrets: Option<Spanned<PathBuf>>,
    /// How long an armed address stays armed.
    pub memory: Option<Spanned<String>>,
    /// For how many connections: a number, or `unlimited`.
    pub memory_uses: Option<Spanned<Uses>>,
    /// How long whoever comes from an armed address is silent before that opens the service too.
    pub memory_silent: Option<Spanned<String>>,
    /// How far a plain or hello token's time may lie from the server's.
    pub window: Option<Spanned<String>>,
    /// A Redis or Valkey in which the servers of a fleet spend tokens.
    pub store: Option<Spanned<String>>,
    pub store_password_file: Option<Spanned<PathBuf>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Uses {
    Number(usize),
    Word(String),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    pub certificate: Spanned<PathBuf>,
    pub key: Spanned<PathBuf>,
    pub names: List,
    /// Where whoever does not knock inside goes, decrypted.
    pub visitors: Option<Spanned<String>>,
    /// The same for those who speak HTTP/2, in cleartext HTTP/2; without it that is not offered.
    pub visitors_h2: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    pub to: Spanned<OneOrMore>,
    /// Used where none of `to` is up.
    pub backup: Option<List>,
    pub balance: Option<Spanned<String>>,
    /// How often targets are tried whether anybody comes or not.
    pub health: Option<Spanned<String>>,
    #[serde(default)]
    pub knock: bool,
    pub proxy_protocol: Option<Spanned<String>>,
    /// Overrides `[timeouts] connect`.
    pub connect: Option<Spanned<String>>,
    /// For `tls://`: the name to show and to verify; the visitor's own otherwise.
    pub name: Option<Spanned<String>>,
    /// For `tls://`: the public key to accept.
    pub pin: Option<Spanned<String>>,
    /// For `tls://`: a PEM file of the authorities to accept.
    pub ca: Option<Spanned<PathBuf>>,
    /// For `exec:`: whose rights the program has.
    pub user: Option<Spanned<String>>,
    /// How long a connection may move no byte.
    pub idle: Option<Spanned<String>>,
    pub max_connections: Option<Spanned<usize>>,
    /// How many wait for one of these.
    pub queue: Option<Spanned<usize>>,
    /// `COUNT/SPAN` for each source address.
    pub rate: Option<Spanned<String>>,
    /// Whether the service sees the peer's own address.
    pub transparent: Option<Spanned<bool>>,
    /// A program that says who may come.
    pub access: Option<Spanned<String>>,
    pub access_timeout: Option<Spanned<String>>,
    /// Whose rights that program has.
    pub access_user: Option<Spanned<String>>,
}

/// A string, or a list of them. Read by hand: an untagged enum would lose the places in the file.
#[derive(Debug)]
pub enum OneOrMore {
    One(String),
    More(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
                let mut all = Vec::new();
                while let Some(text) = list.next_element()? {
                    all.push(text);
                }
                Ok(OneOrMore::More(all))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A list that a complaint can point at.
pub type List = Spanned<Vec<Spanned<String>>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Route {
    pub service: Option<Spanned<String>>,
    /// Instead of a service: how to turn away.
    pub reject: Option<Spanned<String>>,
    pub sni: Option<List>,
    #[serde(default)]
    pub no_sni: bool,
    pub alpn: Option<List>,
    pub protocol: Option<List>,
    /// Expressions over the first bytes.
    pub regex: Option<List>,
    /// First bytes in hex.
    pub prefix: Option<List>,
    /// Identifiers that are asked about the first bytes.
    pub external: Option<List>,
    #[serde(default)]
    pub silent: bool,
    pub after: Option<Spanned<String>>,
    /// Ranges, and `file:PATH` of such.
    pub from: Option<List>,
    pub not_from: Option<List>,
    pub hours: Option<List>,
    /// Of the hours; this machine's if there is none.
    pub time_zone: Option<Spanned<String>>,
    /// Of the addresses that `listen` names.
    pub listen: Option<List>,
    /// Whether the connections that take it are logged.
    #[serde(default = "yes")]
    pub log: bool,
    /// For what comes inside our own TLS.
    #[serde(default)]
    pub terminated: bool,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A program that says what first bytes are.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Identifier {
    pub to: Spanned<String>,
    /// For one question.
    pub timeout: Option<Spanned<String>>,
    /// For `exec:`: whose rights the program has.
    pub user: Option<Spanned<String>>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// What differs for one of the addresses that `listen` names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listener {
    pub fallback: Option<Spanned<String>>,
    /// Who tells by the PROXY protocol whom he speaks for.
    pub proxy_from: Option<List>,
}

/// A port that is bound for what clients expose.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Expose {
    pub listen: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Timeouts {
    /// How long a visitor waits for the client that exposes what he came for.
    pub expose: Option<Spanned<String>>,
    pub decide: Option<Spanned<String>>,
    pub connect: Option<Spanned<String>>,
    /// For the admitted: idle time before TCP asks whether the peer is still there, or `off`.
    pub keepalive: Option<Spanned<String>>,
    /// For the admitted: how long sent bytes may stay unacknowledged, or `off`.
    pub user_timeout: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    pub connections: Option<Spanned<usize>>,
    pub undecided: Option<Spanned<usize>>,
    pub undecided_per_address: Option<Spanned<usize>>,
    /// Connections that may wait to be accepted.
    pub backlog: Option<Spanned<usize>>,
}

/// Datagrams. They have services of their own, as little that goes for a connection goes for them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Udp {
    pub listen: List,
    /// How many flows there may be.
    pub flows: Option<Spanned<usize>>,
    pub flows_per_address: Option<Spanned<usize>>,
    /// How long a flow may be without a datagram.
    pub idle: Option<Spanned<String>>,
    #[serde(default)]
    pub service: BTreeMap<Spanned<String>, DatagramService>,
    #[serde(default)]
    pub route: Vec<Spanned<DatagramRoute>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatagramService {
    pub to: Spanned<String>,
}

/// By a flow's first datagram.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DatagramRoute {
    pub service: Spanned<String>,
    pub protocol: Option<List>,
    /// Ranges, and `file:PATH` of such.
    pub from: Option<List>,
    pub not_from: Option<List>,
    /// Of the addresses that `[udp] listen` names.
    pub listen: Option<List>,
    #[serde(default = "yes")]
    pub enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Log {
    #[serde(default)]
    pub format: LogFormat,
    #[serde(default)]
    pub level: LogLevel,
    /// `stderr`, `journald`, `syslog`, or `syslog:` and the path of its socket.
    pub to: Option<Spanned<String>>,
    /// Of syslog.
    pub facility: Option<Spanned<String>>,
    /// Whether connections on which nobody said a byte are logged.
    #[serde(default)]
    pub empty: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

fn yes() -> bool {
    true
}
