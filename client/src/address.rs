//! Reads where to connect: `HOST:PORT`, `[v6]:PORT`, a bare v6 address or a bare host. Never
//! resolves anything.

use std::fmt;
use std::num::NonZeroU16;

use crate::names::{BadName, Host};

/// A place to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: Host,
    pub port: NonZeroU16,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    #[error("in its host, {0}")]
    Host(#[from] BadName),
    #[error("its port is not a number from 1 to 65535")]
    Port,
    #[error("it is not HOST:PORT, [v6]:PORT or HOST")]
    Form,
}

impl Address {
    /// Reads an address; one without a port gets `default`.
    pub fn parse(text: &str, default: NonZeroU16) -> Result<Address, BadAddress> {
        let (host, port) = split(text)?;
        let port = port.map_or(Ok(default), number)?;
        Ok(Address { host, port })
    }

    /// Reads an address that has a port.
    pub fn with_port(text: &str) -> Result<Address, BadAddress> {
        let (host, port) = split(text)?;
        Ok(Address { host, port: number(port.ok_or(BadAddress::Port)?)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_v6() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn number(digits: &str) -> Result<NonZeroU16, BadAddress> {
    digits.parse().map_err(|_| BadAddress::Port)
}

fn split(text: &str) -> Result<(Host, Option<&str>), BadAddress> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or(BadAddress::Form)?;
        let host: Host = host.parse()?;
        if !host.is_v6() {
            return Err(BadAddress::Form);
        }
        return match rest {
            "" => Ok((host, None)),
            _ => Ok((host, Some(rest.strip_prefix(':').ok_or(BadAddress::Form)?))),
        };
    }
    match (text.parse(), text.split_once(':')) {
        (Ok(host), _) => Ok((host, None)),
        (Err(_), Some((_, port))) if port.contains(':') => Err(BadAddress::Form),
        (Err(_), Some((host, port))) => Ok((host.parse()?, Some(port))),
        (Err(bad), None) => Err(bad.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: NonZeroU16 = NonZeroU16::new(443).unwrap();

    #[test]
    fn every_form_is_understood() {
        for (text, shown) in [
            ("bob.example.org", "bob.example.org:443"),
            ("bob.example.org:22", "bob.example.org:22"),
            ("192.0.2.1:80", "192.0.2.1:80"),
            ("2001:db8::1", "[2001:db8::1]:443"),
            ("[2001:db8::1]", "[2001:db8::1]:443"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
            ("::1", "[::1]:443"),
            ("fe80::1%eth0", "[fe80::1%eth0]:443"),
        ] {
            let address = Address::parse(text, DEFAULT);
            assert_eq!(address.map(|a| a.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use BadAddress::{Form, Port};
        for (text, why) in [
            ("bob:0", Port),
            ("bob:65536", Port),
            ("bob:", Port),
            ("bob:x", Port),
            ("[::1]:", Port),
            ("[::1", Form),
            ("[::1]443", Form),
            ("[bob]:443", Form),
            ("1:2:3", Form),
            ("", BadAddress::Host(BadName::Empty)),
            ("-bob:1", BadAddress::Host(BadName::Begins('-'))),
            ("b$b:1", BadAddress::Host(BadName::Holds('$'))),
            (":443", BadAddress::Host(BadName::Empty)),
        ] {
            assert_eq!(Address::parse(text, DEFAULT), Err(why), "{text}");
        }
    }
}
