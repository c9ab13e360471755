//! Decides which names may stand for a profile, a host or a user. Never lets one pass that a shell,
//! an option parser or a path could read as anything but a name: ssh fills `%h` in unquoted.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {MAX} bytes")]
    Long,
    #[error("it begins with {0:?}")]
    Begins(char),
    #[error("{0:?} may not stand in it")]
    Holds(char),
}

/// The longest name that DNS knows.
const MAX: usize = 253;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// What a profile is called: a file name, and a `Host` in ssh's configuration.
    ProfileName
}

name! {
    /// A host name or an IP address, v6 without brackets and perhaps with a zone.
    Host
}

name! {
    /// A login name for ssh's configuration.
    User
}

impl FromStr for ProfileName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        check(text, "-.", ".-_:").map(Self)
    }
}

impl FromStr for Host {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let host = check(text, "-.", ".-_:%").map(Self)?;
        match text.chars().find(|c| matches!(c, ':' | '%')) {
            Some(c) if !host.is_v6() => Err(BadName::Holds(c)),
            _ => Ok(host),
        }
    }
}

impl FromStr for User {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        check(text, "-", ".-_@+").map(Self)
    }
}

impl Host {
    /// Whether this is a v6 address, which needs brackets in front of a port.
    pub fn is_v6(&self) -> bool {
        let address = self.0.split_once('%').map_or(&*self.0, |(address, _zone)| address);
        address.parse::<Ipv6Addr>().is_ok()
    }
}

/// ASCII letters and digits may stand anywhere, `beside` only beside them, `not_first` not in front.
fn check(text: &str, not_first: &str, beside: &str) -> Result<String, BadName> {
    let first = text.chars().next().ok_or(BadName::Empty)?;
    if text.len() > MAX {
        return Err(BadName::Long);
    }
    if not_first.contains(first) {
        return Err(BadName::Begins(first));
    }
    match text.chars().find(|c| !c.is_ascii_alphanumeric() && !beside.contains(*c)) {
        Some(c) => Err(BadName::Holds(c)),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for good in ["bob", "bob.example.org", "2001:db8::1", "a_b-c", "192.0.2.1"] {
            assert!(good.parse::<ProfileName>().is_ok(), "{good}");
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        assert!("fe80::1%eth0".parse::<Host>().is_ok_and(|host| host.is_v6()));
        assert_eq!("a:b".parse::<Host>(), Err(BadName::Holds(':')));
        assert_eq!("bob%eth0".parse::<Host>(), Err(BadName::Holds('%')));
        assert!("alice.b@example.org".parse::<User>().is_ok());
    }

    #[test]
    fn what_a_shell_or_an_option_parser_would_take_is_refused() {
        for bad in ["-oProxyCommand=x", "--insecure", "-"] {
            assert_eq!(bad.parse::<ProfileName>(), Err(BadName::Begins('-')), "{bad}");
            assert_eq!(bad.parse::<Host>(), Err(BadName::Begins('-')), "{bad}");
            assert_eq!(bad.parse::<User>(), Err(BadName::Begins('-')), "{bad}");
        }
        for c in " \t\n;&|<>$`\"'\\(){}[]*?!#~/=,\0é".chars() {
            let bad = format!("bob{c}");
            assert_eq!(bad.parse::<ProfileName>(), Err(BadName::Holds(c)), "{bad:?}");
            assert_eq!(bad.parse::<Host>(), Err(BadName::Holds(c)), "{bad:?}");
            assert_eq!(bad.parse::<User>(), Err(BadName::Holds(c)), "{bad:?}");
        }
        assert_eq!("..".parse::<ProfileName>(), Err(BadName::Begins('.')));
        assert_eq!("".parse::<ProfileName>(), Err(BadName::Empty));
        assert_eq!("a".repeat(254).parse::<Host>(), Err(BadName::Long));
    }
}
