//! Invite links: all that a client needs, in one `postern://v1/…` line. Whoever holds the line is the
//! client, so it is shown once and never logged.
//!
//! Behind the prefix stands base64url without padding of tagged fields (tag 1 byte, length 1 byte,
//! value) and four bytes of SHA-256 over them, which find a line that was damaged in copying. Fields
//! and carriers that a reader does not know are passed over, so that newer servers can add some.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::hello::HostName;
use crate::knock::{Carrier, ClientKey, Kid, Locator, ServerId};
use crate::pin::Pin;
use crate::reader::Reader;

/// What every link begins with.
pub const PREFIX: &str = "postern://v1/";

const CHECK: usize = 4;
const MAX_LINK: usize = 8 * 1024;

mod tag {
    pub(super) const HOST: u8 = 1;
    pub(super) const PORT: u8 = 2;
    pub(super) const SERVER: u8 = 3;
    pub(super) const LOCATOR: u8 = 4;
    pub(super) const KID: u8 = 5;
    pub(super) const KEY: u8 = 6;
    pub(super) const SERVICE: u8 = 7;
    pub(super) const CARRIERS: u8 = 8;
    pub(super) const TLS_SNI: u8 = 9;
    pub(super) const TLS_PIN: u8 = 10;
    pub(super) const HELLO_SNI: u8 = 11;
    pub(super) const HELLO_PIN: u8 = 12;
}

/// A service that a client may ask for, by the number that stands in its knock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub service: String,
    pub number: u16,
}

/// What a server tells a new client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Name or address to dial.
    pub host: String,
    pub port: u16,
    pub server: ServerId,
    pub locator: Locator,
    pub kid: Kid,
    pub key: ClientKey,
    /// The first is what `connect` asks for when it is not told; none where the key only exposes.
    pub services: Vec<Grant>,
    /// The first is used unless another is asked for.
    pub carriers: Vec<Carrier>,
    /// The name to show on the tls carrier.
    pub tls_sni: Option<HostName>,
    /// The tls carrier's public key; without it the certificate must verify for `tls_sni`.
    pub tls_pin: Option<Pin>,
    /// The hello carrier's name to show and public key to expect; without them it is not offered.
    pub hello: Option<HelloTrust>,
}

/// What the hello carrier shows, and by what its server is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloTrust {
    pub sni: HostName,
    pub pin: Pin,
}

/// Why a line is no invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnInvite {
    #[error("an invite is one line that begins with {PREFIX}")]
    Prefix,
    #[error("the invite is damaged or cut short: copy the whole line again")]
    Damaged,
    #[error("the invite lacks its {0}; was it made by another version of posternd?")]
    Lacks(&'static str),
}

impl Invite {
    /// The link. A name longer than 255 bytes cannot be written; configuration and `client add`
    /// refuse such names before.
    pub fn to_link(&self) -> Zeroizing<String> {
        let mut fields = Zeroizing::new(Vec::with_capacity(512));
        let mut put = |tag: u8, value: &[u8]| {
            let length = u8::try_from(value.len()).expect("names are at most 255 bytes");
            fields.extend_from_slice(&[tag, length]);
            fields.extend_from_slice(value);
        };
        put(tag::HOST, self.host.as_bytes());
        put(tag::PORT, &self.port.to_be_bytes());
        put(tag::SERVER, &self.server.0);
        put(tag::LOCATOR, self.locator.expose());
        put(tag::KID, &self.kid.value().to_be_bytes());
        put(tag::KEY, self.key.expose());
        for grant in &self.services {
            let number = grant.number.to_be_bytes();
            put(tag::SERVICE, &[&number, grant.service.as_bytes()].concat());
        }
        let carriers: Vec<u8> = self.carriers.iter().map(|carrier| code(*carrier)).collect();
        put(tag::CARRIERS, &carriers);
        if let Some(name) = &self.tls_sni {
            put(tag::TLS_SNI, name.as_str().as_bytes());
        }
        if let Some(pin) = &self.tls_pin {
            put(tag::TLS_PIN, &pin.0);
        }
        if let Some(hello) = &self.hello {
            put(tag::HELLO_SNI, hello.sni.as_str().as_bytes());
            put(tag::HELLO_PIN, &hello.pin.0);
        }
        let sum = digest(&SHA256, &fields);
        fields.extend(sum.as_ref().iter().take(CHECK));
        Zeroizing::new(format!("{PREFIX}{}", *Zeroizing::new(URL_SAFE_NO_PAD.encode(&*fields))))
    }

    /// Reads a link; white space around it does no harm.
    pub fn from_link(link: &str) -> Result<Invite, NotAnInvite> {
        let encoded = link.trim().strip_prefix(PREFIX).ok_or(NotAnInvite::Prefix)?;
        if encoded.len() > MAX_LINK {
            return Err(NotAnInvite::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotAnInvite::Damaged)?;
        let bytes = Zeroizing::new(bytes);
        let (fields, check) = bytes.split_last_chunk::<CHECK>().ok_or(NotAnInvite::Damaged)?;
        if !digest(&SHA256, fields).as_ref().starts_with(check) {
            return Err(NotAnInvite::Damaged);
        }
        Fields::read(fields).ok_or(NotAnInvite::Damaged)?.complete()
    }
}

#[derive(Default)]
struct Fields {
    host: Option<String>,
    port: Option<u16>,
    server: Option<ServerId>,
    locator: Option<Locator>,
    kid: Option<Kid>,
    key: Option<ClientKey>,
    services: Vec<Grant>,
    carriers: Vec<Carrier>,
    tls_sni: Option<HostName>,
    tls_pin: Option<Pin>,
    hello_sni: Option<HostName>,
    hello_pin: Option<Pin>,
}

impl Fields {
    /// `None` if a field is cut short or has a value it cannot have.
    fn read(bytes: &[u8]) -> Option<Fields> {
        let mut fields = Fields::default();
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let tag = reader.u8()?;
            let length = usize::from(reader.u8()?);
            let mut value = reader.sub(length)?;
            match tag {
                tag::HOST => fields.host = Some(text(value.rest())?),
                tag::PORT => fields.port = Some(value.u16().filter(|port| *port != 0)?),
                tag::SERVER => fields.server = Some(ServerId(value.array()?)),
                tag::LOCATOR => fields.locator = Some(Locator::new(value.array()?)),
                tag::KID => fields.kid = Some(Kid::new(u32::from_be_bytes(value.array()?))?),
                tag::KEY => fields.key = Some(ClientKey::new(value.array()?)),
                tag::SERVICE => {
                    let number = value.u16()?;
                    fields.services.push(Grant { service: text(value.rest())?, number });
                }
                tag::CARRIERS => {
                    fields.carriers = value.rest().iter().filter_map(|c| carrier(*c)).collect();
                }
                tag::TLS_SNI => fields.tls_sni = Some(HostName::parse(value.rest())?),
                tag::TLS_PIN => fields.tls_pin = Some(Pin(value.array()?)),
                tag::HELLO_SNI => fields.hello_sni = Some(HostName::parse(value.rest())?),
                tag::HELLO_PIN => fields.hello_pin = Some(Pin(value.array()?)),
                _ => continue,
            }
            if !value.is_empty() {
                return None;
            }
        }
        Some(fields)
    }

    fn complete(self) -> Result<Invite, NotAnInvite> {
        use NotAnInvite::Lacks;
        let invite = Invite {
            host: self.host.ok_or(Lacks("address"))?,
            port: self.port.ok_or(Lacks("port"))?,
            server: self.server.ok_or(Lacks("server id"))?,
            locator: self.locator.ok_or(Lacks("locator"))?,
            kid: self.kid.ok_or(Lacks("key number"))?,
            key: self.key.ok_or(Lacks("key"))?,
            services: self.services,
            carriers: self.carriers,
            tls_sni: self.tls_sni,
            tls_pin: self.tls_pin,
            hello: self.hello_sni.zip(self.hello_pin).map(|(sni, pin)| HelloTrust { sni, pin }),
        };
        if invite.carriers.contains(&Carrier::Hello) && invite.hello.is_none() {
            return Err(Lacks("name and key of the hello carrier"));
        }
        if invite.carriers.is_empty() {
            return Err(Lacks("carriers"));
        }
        Ok(invite)
    }
}

/// Names end up in files, commands and messages: visible ASCII only, and no leading dash.
fn text(bytes: &[u8]) -> Option<String> {
    let visible = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    if !visible || bytes.first() == Some(&b'-') {
        return None;
    }
    String::from_utf8(bytes.to_vec()).ok()
}

fn code(carrier: Carrier) -> u8 {
    match carrier {
        Carrier::Plain => 1,
        Carrier::Tls => 2,
        Carrier::Hello => 3,
    }
}

fn carrier(wanted: u8) -> Option<Carrier> {
    Carrier::ALL.into_iter().find(|carrier| code(*carrier) == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            host: "bob.example.org".to_owned(),
            port: 443,
            server: ServerId([1; 16]),
            locator: Locator::new([2; 32]),
            kid: Kid::new(77).expect("not 0"),
            key: ClientKey::new([3; 32]),
            services: vec![
                Grant { service: "ssh".to_owned(), number: 1 },
                Grant { service: "git".to_owned(), number: 2 },
            ],
            carriers: vec![Carrier::Hello, Carrier::Tls, Carrier::Plain],
            tls_sni: HostName::parse(b"ssh.example.com"),
            tls_pin: Some(Pin([4; 32])),
            hello: HostName::parse(b"www.example.com")
                .map(|sni| HelloTrust { sni, pin: Pin([5; 32]) }),
        }
    }

    fn link_of(fields: &[u8]) -> String {
        let sum = digest(&SHA256, fields);
        let bytes = [fields, &sum.as_ref()[..CHECK]].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    #[test]
    fn a_link_and_back() {
        let link = invite().to_link();
        assert_eq!(Invite::from_link(&link), Ok(invite()));
        assert_eq!(Invite::from_link(&format!("  {}\r\n", *link)), Ok(invite()));
    }

    #[test]
    fn every_shortened_or_bent_link_is_refused() {
        let link = invite().to_link();
        for end in 0..link.len() {
            assert!(Invite::from_link(&link[..end]).is_err(), "cut at {end}");
        }
        for at in PREFIX.len()..link.len() {
            let mut bent = link.as_bytes().to_vec();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            let bent = String::from_utf8(bent).expect("ASCII");
            assert_eq!(Invite::from_link(&bent), Err(NotAnInvite::Damaged), "bent at {at}");
        }
    }

    #[test]
    fn what_a_newer_server_adds_is_passed_over() {
        let link = invite().to_link();
        let bytes = URL_SAFE_NO_PAD.decode(&link[PREFIX.len()..]).expect("base64url");
        let mut fields = bytes[..bytes.len() - CHECK].to_vec();
        fields.extend_from_slice(&[200, 2, 9, 9]);
        fields.extend_from_slice(&[tag::CARRIERS, 4, 250, 3, 2, 1]);
        assert_eq!(Invite::from_link(&link_of(&fields)), Ok(invite()));
    }

    #[test]
    fn a_link_without_its_parts_says_which() {
        assert_eq!(Invite::from_link(&link_of(&[])), Err(NotAnInvite::Lacks("address")));
        assert_eq!(Invite::from_link("ssh://bob"), Err(NotAnInvite::Prefix));
    }

    #[test]
    fn the_hello_carrier_needs_its_name_and_key() {
        let link = Invite { hello: None, ..invite() }.to_link();
        let lacks = NotAnInvite::Lacks("name and key of the hello carrier");
        assert_eq!(Invite::from_link(&link), Err(lacks));
    }

    #[test]
    fn names_that_could_harm_a_shell_or_a_terminal_are_refused() {
        for name in [&b"-oProxyCommand=x"[..], b"a b", b"a\x1b[2J", b"", b"\xc3\xa9"] {
            let length = u8::try_from(name.len()).expect("short");
            let fields = [&[tag::HOST, length][..], name].concat();
            assert_eq!(Invite::from_link(&link_of(&fields)), Err(NotAnInvite::Damaged), "{name:?}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", invite());
        assert!(shown.contains("ClientKey(…)") && shown.contains("Locator(…)"), "{shown}");
        assert!(!shown.contains("3, 3, 3"), "{shown}");
    }
}
