//! The messages of the control connection: `length 2 | kind 1 | body`, the length being kind's and body's.
//! Decides what bytes mean; a kind that is not known is passed over, so that newer peers can say more.

use zeroize::Zeroizing;

use super::entrance::Entrance;
use crate::knock::{ClientKey, Kid};
use crate::reader::Reader;

/// How often a client says that it is there.
pub const HEARTBEAT: std::time::Duration = std::time::Duration::from_secs(10);

/// For how long nothing may be heard of a client.
pub const SILENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Entrances of one client; their numbers are below it.
pub const MOST_OFFERS: u16 = 256;

const HEADER: usize = 2;
/// Nothing that is said is longer.
const MOST: usize = 1024;

/// What the client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromClient {
    Hello(Hello),
    Offer(Offer),
    /// An offer of an entrance that is of no known kind.
    OfferOfUnknown(u16),
    /// To be answered with the same number.
    Ping(u64),
    Health {
        id: u16,
        health: Health,
    },
    Unknown,
}

/// The first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Drawn when the program started: who comes back is told from another one with the same key.
    pub instance: [u8; 16],
    /// The last epoch it was given; 0 is none.
    pub epoch: u64,
}

/// An entrance that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Names the entrance from now on, on this connection and its lanes.
    pub id: u16,
    pub entrance: Entrance,
    /// Whether the server is to terminate TLS.
    pub terminate: bool,
}

/// How an entrance fares, as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// A visitor who came in by the public address got through.
    Reached,
    /// The local service does not take connections.
    LocalDown,
    /// The public address was tried in vain.
    NotReached,
}

impl Health {
    /// The word for status.
    pub fn name(self) -> &'static str {
        match self {
            Health::Reached => "reached",
            Health::LocalDown => "local-down",
            Health::NotReached => "not-reached",
        }
    }
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer {
    Welcome(Welcome),
    /// The entrance is open, at these addresses (none for a name).
    Opened {
        id: u16,
        at: String,
    },
    Refused {
        id: u16,
        why: Refusal,
    },
    /// Visitors wait for so many lanes.
    Want(u16),
    Pong(u64),
    /// The last message.
    Gone(Gone),
    Unknown,
}

/// The answer to a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub epoch: u64,
    /// What the lanes' knocks name the pool by.
    pub pool: Kid,
    pub key: ClientKey,
    /// So many lanes may be open at a time.
    pub most_lanes: u16,
}

/// Why an entrance is not opened, or is closed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("its key may not open it; on the server: posternd client expose")]
    NotGranted,
    #[error("the server cannot listen there: another program has the port")]
    PortTaken,
    #[error("the server cannot listen there; its log says why")]
    CannotListen,
    #[error("another client has it open")]
    HeldByAnother,
    #[error("the server has no certificate for this name: [tls] is to name one that has it")]
    NoCertificate,
    #[error("only TLS names (sni:) are terminated")]
    NotTerminated,
    #[error("too many entrances for one client")]
    TooMany,
    #[error("the server does not know this kind of entrance")]
    UnknownKind,
}

/// Why a control connection ends for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Another program with the same key has taken over.
    Superseded,
    Revoked,
}

/// What bytes begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    NeedMore,
    /// A message, and how long it is.
    Message(T, usize),
    Malformed,
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const OFFER: u8 = 2;
    pub(super) const PING: u8 = 3;
    pub(super) const HEALTH: u8 = 4;
    pub(super) const WELCOME: u8 = 16;
    pub(super) const OPENED: u8 = 17;
    pub(super) const REFUSED: u8 = 18;
    pub(super) const WANT: u8 = 19;
    pub(super) const PONG: u8 = 20;
    pub(super) const GONE: u8 = 21;
}

const VERSION: u8 = 1;
const TERMINATE: u8 = 1;

impl FromClient {
    pub fn encode(&self) -> Vec<u8> {
        let (kind, body) = match self {
            FromClient::Hello(Hello { instance, epoch }) => {
                (kind::HELLO, [&[VERSION], &instance[..], &epoch.to_be_bytes()].concat())
            }
            FromClient::Offer(Offer { id, entrance, terminate }) => {
                let mut body = id.to_be_bytes().to_vec();
                body.push(if *terminate { TERMINATE } else { 0 });
                entrance.write(&mut body);
                (kind::OFFER, body)
            }
            FromClient::OfferOfUnknown(id) => {
                (kind::OFFER, [&id.to_be_bytes()[..], &[0, 0, 1, b'?']].concat())
            }
            FromClient::Ping(number) => (kind::PING, number.to_be_bytes().to_vec()),
            FromClient::Health { id, health } => {
                (kind::HEALTH, [&id.to_be_bytes()[..], &[health.code()]].concat())
            }
            FromClient::Unknown => (0, Vec::new()),
        };
        message(kind, &body).to_vec()
    }

    pub fn parse(bytes: &[u8]) -> Parsed<FromClient> {
        parse(bytes, |kind, body| {
            Some(match kind {
                kind::HELLO => {
                    // A newer version says the same first, and more behind it.
                    let _version = body.u8()?;
                    let instance = body.array()?;
                    let epoch = u64::from_be_bytes(body.array()?);
                    FromClient::Hello(Hello { instance, epoch })
                }
                kind::OFFER => {
                    let id = body.u16()?;
                    let flags = body.u8()?;
                    let terminate = flags & TERMINATE != 0;
                    match Entrance::read(body) {
                        Some(entrance) => FromClient::Offer(Offer { id, entrance, terminate }),
                        None => FromClient::OfferOfUnknown(id),
                    }
                }
                kind::PING => FromClient::Ping(u64::from_be_bytes(body.array()?)),
                kind::HEALTH => {
                    let (id, code) = (body.u16()?, body.u8()?);
                    match Health::from_code(code) {
                        Some(health) => FromClient::Health { id, health },
                        None => FromClient::Unknown,
                    }
                }
                _ => FromClient::Unknown,
            })
        })
    }
}

impl FromServer {
    /// A welcome holds a key.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (kind, body) = match self {
            FromServer::Welcome(Welcome { epoch, pool, key, most_lanes }) => {
                let mut body = Vec::with_capacity(64);
                body.extend(epoch.to_be_bytes());
                body.extend(pool.value().to_be_bytes());
                body.extend(key.expose());
                body.extend(most_lanes.to_be_bytes());
                (kind::WELCOME, body)
            }
            FromServer::Opened { id, at } => {
                (kind::OPENED, [&id.to_be_bytes()[..], at.as_bytes()].concat())
            }
            FromServer::Refused { id, why } => {
                (kind::REFUSED, [&id.to_be_bytes()[..], &[why.code()]].concat())
            }
            FromServer::Want(lanes) => (kind::WANT, lanes.to_be_bytes().to_vec()),
            FromServer::Pong(number) => (kind::PONG, number.to_be_bytes().to_vec()),
            FromServer::Gone(gone) => (kind::GONE, vec![gone.code()]),
            FromServer::Unknown => (0, Vec::new()),
        };
        message(kind, &Zeroizing::new(body))
    }

    pub fn parse(bytes: &[u8]) -> Parsed<FromServer> {
        parse(bytes, |kind, body| {
            Some(match kind {
                kind::WELCOME => FromServer::Welcome(Welcome {
                    epoch: u64::from_be_bytes(body.array()?),
                    pool: Kid::new(u32::from_be_bytes(body.array()?))?,
                    key: ClientKey::new(body.array()?),
                    most_lanes: body.u16()?,
                }),
                kind::OPENED => {
                    let id = body.u16()?;
                    // It is shown to a person.
                    let at = body.rest().iter().filter(|byte| byte.is_ascii_graphic());
                    FromServer::Opened { id, at: at.map(|byte| char::from(*byte)).collect() }
                }
                kind::REFUSED => {
                    let (id, code) = (body.u16()?, body.u8()?);
                    let why = Refusal::from_code(code).unwrap_or(Refusal::CannotListen);
                    FromServer::Refused { id, why }
                }
                kind::WANT => FromServer::Want(body.u16()?),
                kind::PONG => FromServer::Pong(u64::from_be_bytes(body.array()?)),
                kind::GONE => match Gone::from_code(body.u8()?) {
                    Some(gone) => FromServer::Gone(gone),
                    None => FromServer::Unknown,
                },
                _ => FromServer::Unknown,
            })
        })
    }
}

fn message(kind: u8, body: &[u8]) -> Zeroizing<Vec<u8>> {
    let body = body.get(..MOST.min(body.len())).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + 1 + body.len()));
    let length = u16::try_from(body.len() + 1).unwrap_or(u16::MAX);
    bytes.extend(length.to_be_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(body);
    bytes
}

/// What a body says; `None` where it is too short for its kind.
fn parse<T>(bytes: &[u8], read: impl FnOnce(u8, &mut Reader<'_>) -> Option<T>) -> Parsed<T> {
    let mut reader = Reader::new(bytes);
    let Some(length) = reader.u16().map(usize::from) else { return Parsed::NeedMore };
    if length == 0 || length > MOST + 1 {
        return Parsed::Malformed;
    }
    let Some(mut body) = reader.sub(length) else { return Parsed::NeedMore };
    let read = body.u8().and_then(|kind| read(kind, &mut body));
    match read {
        Some(message) => Parsed::Message(message, HEADER + length),
        None => Parsed::Malformed,
    }
}

macro_rules! codes {
    ($name:ident { $($variant:ident = $code:literal),+ $(,)? }) => {
        impl $name {
            fn code(self) -> u8 {
                match self { $($name::$variant => $code),+ }
            }

            fn from_code(code: u8) -> Option<$name> {
                match code { $($code => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

codes!(Health { Reached = 1, LocalDown = 2, NotReached = 3 });
codes!(Gone { Superseded = 1, Revoked = 2 });
codes!(Refusal {
    NotGranted = 1,
    PortTaken = 2,
    CannotListen = 3,
    HeldByAnother = 4,
    NoCertificate = 5,
    NotTerminated = 6,
    TooMany = 7,
    UnknownKind = 8,
});

#[cfg(test)]
mod tests;
