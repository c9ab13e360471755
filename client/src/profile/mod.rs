//! What a client knows of one server, as its file says it. A value is checked where it is read, so
//! that a profile in memory is always a right one.

mod alpn;
pub mod exposed;
mod key;
mod store;
mod text;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use postern_shared::hello::HostName;
use postern_shared::invite::Invite;
use postern_shared::knock::{Carrier, Kid, Locator, ServerId};
use postern_shared::pin::Pin;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use alpn::Alpn;
pub use exposed::{Exposed, Target};
pub use key::KeySource;
pub use store::Store;

use crate::address::Address;
use crate::error::Error;
use crate::names::Host;

/// One file in the configuration directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    #[serde(with = "text")]
    pub host: Host,
    pub port: NonZeroU16,
    #[serde(with = "text")]
    pub server_id: ServerId,
    #[serde(with = "text")]
    pub locator: Locator,
    #[serde(with = "text")]
    pub kid: Kid,
    #[serde(with = "text")]
    pub key: KeySource,
    /// At least one; the first is used unless another is asked for.
    #[serde(with = "text::list")]
    pub carriers: Vec<Carrier>,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub tls_sni: Option<HostName>,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub tls_pin: Option<Pin>,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub hello_sni: Option<HostName>,
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub hello_pin: Option<Pin>,
    /// What the hello carrier offers to speak; nothing is like a client without ALPN.
    #[serde(default = "alpn::usual", with = "text::any", skip_serializing_if = "alpn::is_usual")]
    pub alpn: Vec<Alpn>,
    /// Relative to the profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The one that is meant when none is named; empty where there is none, as for a key that only exposes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, u16>,
    /// What `expose` exposes unless it is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<Exposed>,
}

/// What lies behind the door, by its name and by its number in the knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    pub number: u16,
}

impl Profile {
    /// Reads the text of `file`.
    pub fn from_toml(text: &str, file: &Path) -> Result<Profile, Error> {
        let file = file.display();
        let profile: Profile = toml::from_str(text).map_err(|error| {
            // Not the error's own text: it quotes the line, which may hold the key.
            let line = error.span().map_or(1, |span| {
                1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
            });
            Error::Local(format!("{file}:{line}: {}", error.message()))
        })?;
        let has_none = profile.services.is_empty() && profile.service.is_empty();
        if !has_none && !profile.services.contains_key(&profile.service) {
            return Err(Error::Local(format!("{file}: `service` is none of `services`")));
        }
        Ok(profile)
    }

    pub fn to_toml(&self) -> Zeroizing<String> {
        Zeroizing::new(toml::to_string(self).expect("names, numbers and lists of them are TOML"))
    }

    /// What an invite says, if its host is one.
    pub fn from_invite(invite: Invite) -> Result<Profile, Error> {
        let bad = |why: String| Error::Local(format!("the invite names no usable address: {why}"));
        let default = invite.services.first().map(|grant| grant.service.clone());
        Ok(Profile {
            host: invite.host.parse().map_err(|why| bad(format!("in its host, {why}")))?,
            port: NonZeroU16::new(invite.port).ok_or_else(|| bad("its port is 0".to_owned()))?,
            server_id: invite.server,
            locator: invite.locator,
            kid: invite.kid,
            key: KeySource::Here(invite.key),
            carriers: invite.carriers,
            tls_sni: invite.tls_sni,
            tls_pin: invite.tls_pin,
            hello_sni: invite.hello.as_ref().map(|hello| hello.sni.clone()),
            hello_pin: invite.hello.as_ref().map(|hello| hello.pin),
            alpn: alpn::usual(),
            ca: None,
            service: default.unwrap_or_default(),
            services: invite.services.into_iter().map(|g| (g.service, g.number)).collect(),
            expose: Vec::new(),
        })
    }

    pub fn address(&self) -> Address {
        Address { host: self.host.clone(), port: self.port }
    }

    /// The service of that name, or the default.
    pub fn service(&self, name: Option<&str>) -> Result<Service, Error> {
        let name = name.unwrap_or(&self.service);
        match self.services.get(name) {
            Some(number) => Ok(Service { name: name.to_owned(), number: *number }),
            None if self.services.is_empty() => Err(Error::Usage(
                "this profile has no service: its key only exposes services of this machine; \
                 see postern expose --help"
                    .to_owned(),
            )),
            None => {
                let known = self.services.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                Err(Error::Usage(format!("no service {name:?} in this profile; it has: {known}")))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use postern_shared::invite::Grant;
    use postern_shared::knock::ClientKey;

    use super::*;

    pub(crate) fn invite() -> Invite {
        Invite {
            host: "bob.example.org".to_owned(),
            port: 443,
            server: ServerId([1; 16]),
            locator: Locator::new([2; 32]),
            kid: Kid::new(77).expect("not 0"),
            key: ClientKey::new([0xab; 32]),
            services: vec![
                Grant { service: "ssh".to_owned(), number: 1 },
                Grant { service: "git".to_owned(), number: 2 },
            ],
            carriers: vec![Carrier::Tls, Carrier::Plain],
            tls_sni: HostName::parse(b"ssh.example.com"),
            tls_pin: Some(Pin([4; 32])),
            hello: None,
        }
    }

    fn profile() -> Profile {
        Profile::from_invite(invite()).expect("a right invite")
    }

    fn error(text: &str) -> String {
        Profile::from_toml(text, Path::new("bob.toml")).expect_err(text).to_string()
    }

    #[test]
    fn text_and_back() {
        let text = profile().to_toml();
        let back = Profile::from_toml(&text, Path::new("bob.toml"));
        assert_eq!(back.expect("what we wrote"), profile());
        let bare = Profile {
            tls_sni: None,
            tls_pin: None,
            hello_sni: None,
            hello_pin: None,
            alpn: vec![Alpn::H2, Alpn::Http1],
            expose: vec![
                Exposed {
                    entrance: "sni:laptop.example.com".parse().expect("an entrance"),
                    to: "unix:/run/web.sock".parse().expect("a target"),
                    terminate: true,
                    proxy_protocol: None,
                    forwarded: true,
                },
                Exposed {
                    entrance: "tcp:80".parse().expect("an entrance"),
                    to: "3000".parse().expect("a target"),
                    terminate: false,
                    proxy_protocol: exposed::version("v2"),
                    forwarded: false,
                },
            ],
            ..profile()
        };
        let back = Profile::from_toml(&bare.to_toml(), Path::new("bob.toml"));
        assert_eq!(back.expect("what we wrote"), bare);
        let only_exposes = Profile { service: String::new(), services: BTreeMap::new(), ..bare };
        let back = Profile::from_toml(&only_exposes.to_toml(), Path::new("bob.toml"));
        assert_eq!(back.expect("what we wrote"), only_exposes);
        assert!(only_exposes.service(None).is_err());
    }

    #[test]
    fn a_wrong_exposed_service_is_named_by_its_line() {
        let text = profile().to_toml();
        let lines = text.lines().count();
        for (section, at, expected) in [
            ("entrance = \"80\"\nto = \"x\"", 3, "in `to`"),
            ("entrance = \"x\"\nto = \"80\"", 2, "for an entrance"),
            ("entrance = \"80\"\nto = \"80\"\nproxy-protocol = \"v3\"", 4, "`proxy-protocol`"),
            ("entrance = \"80\"\nto = \"80\"\nterminated = true", 4, "unknown field"),
            ("entrance = \"80\"", 1, "missing field `to`"),
        ] {
            let error = error(&format!("{}[[expose]]\n{section}\n", *text));
            assert!(error.starts_with(&format!("bob.toml:{}: ", lines + at)), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn errors_name_the_line_and_keep_the_key_to_themselves() {
        let text = profile().to_toml();
        for (from, to, expected) in [
            ("port = 443", "port = 0", "bob.toml:2: "),
            ("server-id = \"01", "server-id = \"x1", "bob.toml:3: expected 32 hex digits"),
            ("locator = \"02", "locator = \"2", "bob.toml:4: expected 64 hex digits"),
            ("kid = \"0000004d\"", "kid = \"00000000\"", "bob.toml:5: expected 8 hex digits"),
            ("key = \"ab", "key = \"b", "bob.toml:6: expected 64 hex digits, fd:N"),
            ("key = \"", "kee = \"", "bob.toml:6: unknown field `kee`"),
            ("carriers = [\"tls\", \"plain\"]", "carriers = []", "bob.toml:7: expected at least"),
            ("\"plain\"", "\"smoke\"", "bob.toml:7: expected \"hello\", \"tls\" or \"plain\""),
            ("key = \"ab", "key = ab", "bob.toml:6: "),
            ("service = \"ssh\"", "service = \"web\"", "bob.toml: `service` is none"),
        ] {
            let bent = text.replacen(from, to, 1);
            assert_ne!(bent, *text, "{from} is not there");
            let error = error(&bent);
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("abab") && !error.contains("0202"), "{error}");
        }
    }

    #[test]
    fn what_the_readme_shows_to_be_exposed_is_accepted() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let readme = std::fs::read_to_string(readme).expect("read");
        let shown = readme.split("```toml\n").filter(|block| block.starts_with("[[expose]]\nentr"));
        let shown: Vec<_> = shown.filter_map(|block| block.split("```").next()).collect();
        assert_eq!(shown.len(), 1);
        let text = [&*profile().to_toml(), shown[0]].concat();
        let profile = Profile::from_toml(&text, Path::new("bob.toml")).expect("right");
        assert_eq!(profile.expose.len(), 2);
    }

    #[test]
    fn a_service_is_found_by_name() {
        let number = |name| profile().service(name).map(|service| service.number).ok();
        assert_eq!(number(None), Some(1));
        assert_eq!(number(Some("git")), Some(2));
        let error = profile().service(Some("web")).expect_err("unknown").to_string();
        assert!(error.ends_with("it has: git, ssh"), "{error}");
    }

    #[test]
    fn an_invite_to_a_command_line_is_refused() {
        let invite = Invite { host: "bob;reboot".to_owned(), ..invite() };
        assert!(Profile::from_invite(invite).is_err());
    }
}
