//! What a profile says of a service that is exposed: the entrance, and where its visitors are led. Decides
//! what such texts mean; connects to nothing.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use postern_shared::expose::Entrance;
use postern_shared::proxy::Version;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::text::{self, Text};
use crate::address::{Address, BadAddress};

/// One `[[expose]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Exposed {
    #[serde(with = "text")]
    pub entrance: Entrance,
    #[serde(with = "text")]
    pub to: Target,
    /// The server ends the TLS of its visitors.
    #[serde(default, skip_serializing_if = "is_false")]
    pub terminate: bool,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Version>,
    /// Visitors are named in fields of their HTTP requests.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forwarded: bool,
}

/// Where a service of this machine, or of one nearby, is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp(Address),
    Unix(PathBuf),
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    #[error(transparent)]
    Address(#[from] BadAddress),
    #[error("the path behind unix: does not begin with /")]
    Path,
}

/// An entrance as it is typed: a number alone is a port.
pub fn entrance(text: &str) -> Result<Entrance, postern_shared::expose::entrance::NotAnEntrance> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("tcp:{text}").parse();
    }
    text.parse()
}

pub fn version(text: &str) -> Option<Version> {
    match text {
        "v1" => Some(Version::V1),
        "v2" => Some(Version::V2),
        _ => None,
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Target, BadTarget> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Target::Unix(path)) } else { Err(BadTarget::Path) };
        }
        let is_port = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let address = if is_port { format!("localhost:{text}") } else { text.to_owned() };
        Ok(Target::Tcp(Address::with_port(&address)?))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Text for Entrance {
    const FORM: &'static str = "\"80\", \"tcp:80\", \"sni:NAME\" or \"name:NAME\" for an entrance";

    fn read(text: &str) -> Option<Entrance> {
        entrance(text).ok()
    }

    fn write(&self) -> Zeroizing<String> {
        Zeroizing::new(self.to_string())
    }
}

impl Text for Target {
    const FORM: &'static str = "\"host:port\", \"port\" or \"unix:/path\" in `to`";

    fn read(text: &str) -> Option<Target> {
        text.parse().ok()
    }

    fn write(&self) -> Zeroizing<String> {
        Zeroizing::new(self.to_string())
    }
}

impl Text for Version {
    const FORM: &'static str = "\"v1\" or \"v2\" in `proxy-protocol`";

    fn read(text: &str) -> Option<Version> {
        version(text)
    }

    fn write(&self) -> Zeroizing<String> {
        Zeroizing::new(match self {
            Version::V1 => "v1".to_owned(),
            Version::V2 => "v2".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        for (text, shown) in [
            ("3000", "localhost:3000"),
            ("localhost:3000", "localhost:3000"),
            ("[::1]:80", "[::1]:80"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("unix:/run/web.sock", "unix:/run/web.sock"),
        ] {
            assert_eq!(text.parse::<Target>().expect(text).to_string(), shown);
        }
        for bad in ["", "0", "70000", "localhost", "::1", "unix:web.sock", "unix:", "a b:1", "-x:1"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_number_is_a_port() {
        for (text, shown) in [
            ("80", Some("tcp:80")),
            ("tcp:80", Some("tcp:80")),
            ("sni:a.example", Some("sni:a.example")),
            ("", None),
            ("0", None),
            ("localhost", None),
        ] {
            let read = entrance(text).ok().map(|entrance| entrance.to_string());
            assert_eq!(read.as_deref(), shown, "{text:?}");
        }
    }
}
