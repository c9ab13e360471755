//! Where a connection can go, and how it gets there. Says which services exist and connects to them;
//! never decides who may.

mod balance;
mod connect;
mod doubts;
mod exec;
mod health;
mod limits;
mod pass;
mod rate;
mod upstream;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use postern_shared::proxy;

pub use balance::{Balance, Candidate};
pub(crate) use connect::header;
pub use connect::{Dialing, Failure, Reached, connect};
pub use exec::Child;
pub(crate) use exec::spawn;
pub use health::watch_health;
pub(crate) use limits::MOST_CHILDREN;
pub use limits::{Bearing, Kept, Ticket};
pub use pass::Handing;
pub(crate) use pass::Taker;
pub use rate::Rate;
pub use upstream::{Address, Load, Upstream, Upstreams};

use limits::Borne;

use crate::access::Access;
use crate::expose::Tunnel;
use crate::gate::Holder;
use crate::program::Program;

/// One `[service.NAME]`.
#[derive(Debug)]
pub struct Service {
    pub name: String,
    pub target: Target,
    /// Reachable only by a knock, or by a route that names it.
    pub knock: bool,
    /// The PROXY protocol header that it is sent first.
    pub proxy: Option<proxy::Version>,
    /// How long connecting may take, names resolved and TLS handshake included.
    pub connect: Duration,
    /// Whether it sees its connections come from the peer's own address.
    pub transparent: bool,
    pub bearing: Bearing,
    /// Who is asked whether somebody may come here.
    pub access: Option<Access>,
    borne: OnceLock<Arc<Borne>>,
}

/// What stands behind `to = "…"`.
#[derive(Debug)]
pub enum Target {
    /// Somewhere to connect to.
    Upstreams(Upstreams),
    /// A child process for each connection.
    Exec(Program),
    /// A process that takes the connection itself.
    Pass(Handing),
    /// What a client exposes.
    Tunnel(Tunnel),
}

impl Target {
    /// Where its connections can go, as far as it is posternd that connects.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.upstreams().flat_map(Upstreams::iter).map(|upstream| &upstream.address)
    }

    /// What is known of the places where they can go.
    pub fn known(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.upstreams().flat_map(Upstreams::known)
    }

    fn upstreams(&self) -> impl Iterator<Item = &Upstreams> {
        let upstreams = match self {
            Target::Upstreams(upstreams) => Some(upstreams),
            Target::Exec(_) | Target::Pass(_) | Target::Tunnel(_) => None,
        };
        upstreams.into_iter()
    }
}

impl Service {
    /// A service with nothing but a name and a target.
    pub fn new(name: impl Into<String>, target: Target, connect: Duration) -> Service {
        Service {
            name: name.into(),
            target,
            knock: false,
            proxy: None,
            connect,
            transparent: false,
            bearing: Bearing::default(),
            access: None,
            borne: OnceLock::new(),
        }
    }

    /// Whether the client that exposes it wants TLS to be terminated here; `None` where none has come in
    /// time to say so.
    pub async fn is_terminated(&self) -> Option<bool> {
        match &self.target {
            Target::Tunnel(tunnel) => tunnel.exposure()?.terminates(self.connect).await,
            Target::Upstreams(_) | Target::Exec(_) | Target::Pass(_) => Some(false),
        }
    }

    /// Whether connecting has no effect but a connection, so that it may be done before the decision.
    pub fn can_be_dialled_early(&self) -> bool {
        self.access.is_none() && matches!(self.target, Target::Upstreams(_))
    }

    /// A place for one more connection, if whoever comes may be led here. What costs least to ask is asked
    /// first; for the access program's word and for a place he may have to wait.
    pub async fn enter(
        &self,
        peer: SocketAddr,
        holder: Option<&Holder>,
    ) -> Result<Option<Ticket>, Kept> {
        if self.bearing.rate.is_some() {
            self.borne().visit(&self.bearing, peer.ip())?;
        }
        if let Some(access) = &self.access
            && !access.allows(peer, &self.name, holder).await
        {
            return Err(Kept::Denied);
        }
        match self.bearing.max_connections {
            Some(_) => self.borne().enter(&self.bearing, self.connect).await,
            None => Ok(None),
        }
    }

    /// Goes on with what the service of this name had borne under the policy before.
    pub fn take_over(&self, old: &Service) {
        // One that bears something already is in force already.
        let _ = self.borne.set(old.borne().clone());
        if let (Target::Upstreams(new), Target::Upstreams(old)) = (&self.target, &old.target) {
            new.take_over(old);
        }
    }

    fn borne(&self) -> &Arc<Borne> {
        self.borne.get_or_init(Arc::default)
    }
}

/// A host and a port, resolved anew for each connection unless the host is an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
    /// The address, where the host is one.
    pub literal: Option<SocketAddr>,
}

impl Endpoint {
    /// `host:port` or `[v6]:port`; `default` stands in for a missing port.
    pub fn parse(text: &str, default: Option<u16>) -> Option<Endpoint> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<std::net::Ipv6Addr>().ok()?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return None,
                }
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None => default?,
        };
        let visible = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let sound = !host.is_empty() && host.len() <= 253 && !host.starts_with('-');
        (sound && host.bytes().all(visible)).then(|| Endpoint {
            host: host.to_owned(),
            port,
            literal: host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port)),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Splits a command at spaces; double quotes keep spaces together. No shell is involved.
pub fn words(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for letter in command.chars() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' | '\t' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!quoted && !words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port) in [
            ("127.0.0.1:22", "127.0.0.1", 22),
            ("[::1]:443", "::1", 443),
            ("[::1]", "::1", 9),
            ("bob.example.org", "bob.example.org", 9),
        ] {
            let endpoint = Endpoint::parse(text, Some(9)).expect(text);
            assert_eq!((&*endpoint.host, endpoint.port), (host, port), "{text}");
            assert_eq!(endpoint.literal.is_some(), !text.starts_with('b'), "{text}");
        }
        for bad in ["", ":22", "a:0", "a:65536", "a:b", "::1", "[x]:1", "[::1]22", "-o:1", "a b:1"]
        {
            assert_eq!(Endpoint::parse(bad, Some(9)), None, "{bad}");
        }
        assert_eq!(Endpoint::parse("a", None), None);
    }

    #[test]
    fn commands_split_at_spaces_outside_quotes() {
        let split = |text| words(text).unwrap_or_default().join("|");
        assert_eq!(split("/usr/sbin/sshd  -i"), "/usr/sbin/sshd|-i");
        assert_eq!(split(r#"a "b c" d"e f" """#), "a|b c|de f|");
        assert_eq!(words(r#"a "b"#), None);
        assert_eq!(words("  "), None);
    }
}
