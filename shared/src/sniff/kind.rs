//! Decides what the protocols are called that first bytes can show, and which of them are meant. It
//! never looks at a byte.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// A protocol that a route can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Tls,
    Ssh,
    Http,
    Http2,
    OpenVpn,
    Tinc,
    Xmpp,
    Adb,
    Socks4,
    Socks5,
    Syslog,
    Rdp,
    Postgres,
    Mqtt,
}

impl Kind {
    pub const ALL: [Kind; 14] = [
        Kind::Tls,
        Kind::Ssh,
        Kind::Http,
        Kind::Http2,
        Kind::OpenVpn,
        Kind::Tinc,
        Kind::Xmpp,
        Kind::Adb,
        Kind::Socks4,
        Kind::Socks5,
        Kind::Syslog,
        Kind::Rdp,
        Kind::Postgres,
        Kind::Mqtt,
    ];

    /// The word in configurations and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Tls => "tls",
            Kind::Ssh => "ssh",
            Kind::Http => "http",
            Kind::Http2 => "http2",
            Kind::OpenVpn => "openvpn",
            Kind::Tinc => "tinc",
            Kind::Xmpp => "xmpp",
            Kind::Adb => "adb",
            Kind::Socks4 => "socks4",
            Kind::Socks5 => "socks5",
            Kind::Syslog => "syslog",
            Kind::Rdp => "rdp",
            Kind::Postgres => "postgres",
            Kind::Mqtt => "mqtt",
        }
    }

    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of protocols.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u16);

impl Kinds {
    pub const EMPTY: Kinds = Kinds(0);
    pub const ALL: Kinds = Kinds((1 << Kind::ALL.len()) - 1);

    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Kinds {
        kinds.into_iter().collect()
    }

    #[must_use]
    pub const fn with(self, kind: Kind) -> Kinds {
        Kinds(self.0 | kind.bit())
    }

    #[must_use]
    pub const fn union(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Kinds {
        kinds.into_iter().fold(Kinds::EMPTY, Kinds::with)
    }
}

impl BitOr for Kinds {
    type Output = Kinds;

    fn bitor(self, other: Kinds) -> Kinds {
        self.union(other)
    }
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Kinds) {
        *self = self.union(other);
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_a_bit_of_its_own() {
        let mut all = Kinds::EMPTY;
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
            assert!(!all.contains(kind), "{kind:?}");
            all = all.with(kind);
            assert_eq!(all.iter().count(), at + 1);
        }
        assert_eq!(all, Kinds::ALL);
        for none in ["", "TLS", "tls ", "http3", "any"] {
            assert_eq!(Kind::from_name(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let (ssh, mqtt) = (Kinds::of([Kind::Ssh]), Kinds::of([Kind::Mqtt]));
        assert!(Kinds::EMPTY.is_empty() && Kinds::default().is_empty() && !ssh.is_empty());
        let mut both = ssh | mqtt;
        assert_eq!(both, [Kind::Mqtt, Kind::Ssh, Kind::Ssh].into_iter().collect());
        both |= Kinds::EMPTY;
        assert_eq!(both.iter().collect::<Vec<_>>(), [Kind::Ssh, Kind::Mqtt]);
        assert_eq!(format!("{both:?}"), "{Ssh, Mqtt}");
    }
}
