//! Where visitors of an exposed service come in, and what a key may open. Decides what such a text means,
//! and whether a permit covers an entrance.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::hello::HostName;
use crate::reader::Reader;

/// Names are for configuration files and logs.
const MOST_NAME: usize = 63;

const SHARED: &str = "/shared";

/// A way in for visitors.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entrance {
    /// A port of the server's.
    Tcp(u16),
    /// TLS for this name, on the server's own port.
    Sni(HostName),
    /// What the server's configuration calls `tunnel:NAME`.
    Name(String),
}

/// Why a text is no entrance or no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write tcp:80, sni:laptop.example.com or name:laptop")]
pub struct NotAnEntrance;

impl FromStr for Entrance {
    type Err = NotAnEntrance;

    fn from_str(text: &str) -> Result<Entrance, NotAnEntrance> {
        let (kind, what) = text.split_once(':').ok_or(NotAnEntrance)?;
        match kind {
            "tcp" => port(what).map(Entrance::Tcp),
            "sni" => HostName::parse(what.as_bytes()).map(Entrance::Sni),
            "name" => is_name(what).then(|| Entrance::Name(what.to_owned())),
            _ => None,
        }
        .ok_or(NotAnEntrance)
    }
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entrance::Tcp(port) => write!(f, "tcp:{port}"),
            Entrance::Sni(name) => write!(f, "sni:{name}"),
            Entrance::Name(name) => write!(f, "name:{name}"),
        }
    }
}

impl Entrance {
    /// As it travels: its text, behind its length.
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let text = self.to_string();
        let length = u16::try_from(text.len()).expect("a host name has 253 bytes at most");
        to.extend(length.to_be_bytes());
        to.extend(text.bytes());
    }

    pub(super) fn read(from: &mut Reader<'_>) -> Option<Entrance> {
        let length = from.u16()?;
        let text = from.take(usize::from(length))?;
        std::str::from_utf8(text).ok()?.parse().ok()
    }
}

fn port(text: &str) -> Option<u16> {
    // `+80` would parse as a number.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

/// Made of a-z, 0-9, - and _, as the names of services are.
pub fn is_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=MOST_NAME).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}

/// What a key may open: `tcp:80`, `tcp:10000-10100`, `sni:NAME`, `name:NAME`; with `/shared` behind it
/// together with whoever else may share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub which: Which,
    pub shared: bool,
}

/// The entrances that a permit covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    One(Entrance),
    Ports(RangeInclusive<u16>),
}

impl Permit {
    pub fn covers(&self, entrance: &Entrance) -> bool {
        match (&self.which, entrance) {
            (Which::One(one), other) => one == other,
            (Which::Ports(ports), Entrance::Tcp(port)) => ports.contains(port),
            (Which::Ports(_), Entrance::Sni(_) | Entrance::Name(_)) => false,
        }
    }

    /// The entrance, where it is only one.
    pub fn exact(&self) -> Option<&Entrance> {
        match &self.which {
            Which::One(entrance) => Some(entrance),
            Which::Ports(_) => None,
        }
    }
}

impl FromStr for Permit {
    type Err = NotAnEntrance;

    fn from_str(text: &str) -> Result<Permit, NotAnEntrance> {
        let (text, shared) = match text.strip_suffix(SHARED) {
            Some(text) => (text, true),
            None => (text, false),
        };
        let range = text.strip_prefix("tcp:").and_then(|ports| ports.split_once('-'));
        let which = match range {
            Some((first, last)) => {
                let (first, last) = port(first).zip(port(last)).ok_or(NotAnEntrance)?;
                if first > last {
                    return Err(NotAnEntrance);
                }
                Which::Ports(first..=last)
            }
            None => Which::One(text.parse()?),
        };
        Ok(Permit { which, shared })
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::One(entrance) => write!(f, "{entrance}")?,
            Which::Ports(ports) => write!(f, "tcp:{}-{}", ports.start(), ports.end())?,
        }
        if self.shared { f.write_str(SHARED) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_read_and_written() {
        for text in ["tcp:80", "tcp:10000-10100", "sni:a.example", "name:web/shared", "tcp:1-1"] {
            let permit: Permit = text.parse().expect(text);
            assert_eq!(permit.to_string(), text);
        }
        for bad in [
            "", "80", "tcp:", "tcp:0", "tcp:+80", "tcp:9-8", "udp:1", "sni:a b", "name:A",
            "name:-a",
        ] {
            assert_eq!(bad.parse::<Permit>(), Err(NotAnEntrance), "{bad:?}");
        }
    }

    #[test]
    fn a_permit_covers_what_it_says() {
        for (permit, entrance, covered) in [
            ("tcp:80", "tcp:80", true),
            ("tcp:80", "tcp:81", false),
            ("tcp:10-20", "tcp:20", true),
            ("tcp:10-20", "tcp:21", false),
            ("tcp:10-20", "name:a", false),
            ("sni:A.example", "sni:a.EXAMPLE", true),
            ("name:a/shared", "name:a", true),
            ("name:a", "name:b", false),
        ] {
            let permit: Permit = permit.parse().expect(permit);
            let entrance: Entrance = entrance.parse().expect(entrance);
            assert_eq!(permit.covers(&entrance), covered, "{permit} {entrance}");
        }
    }
}
