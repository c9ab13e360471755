//! The verdict on one knock, pure: the clients, what was shown, the time, and a way to spend it. Does
//! the same work for whoever knocks, and branches once on all secret conditions together.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_shared::hello::ClientHello;
use postern_shared::knock::token::{same_kid, within_window};
use postern_shared::knock::{
    Carrier, CarrierKey, Header, HelloToken, Intent, Kid, Spend, Status, Token, ack,
};
use postern_shared::sniff::LETTERS;
use subtle::Choice;

use super::clients::{Client, Clients};
use super::fleet::Pending;
use super::keys::Keys;
use super::replay::Offered;
use crate::expose::{Pool, Pools};

/// What somebody shows at the gate.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// Letters as a connection's first bytes.
    Plain(&'a [u8; LETTERS]),
    /// Letters inside TLS, and what ties a token to that session.
    Tls { letters: &'a [u8; LETTERS], binding: &'a [u8; 32] },
    /// A hello whose session id may be a token.
    Hello(&'a ClientHello),
}

impl<'a> Shown<'a> {
    pub fn carrier(&self) -> Carrier {
        match self {
            Shown::Plain(_) => Carrier::Plain,
            Shown::Tls { .. } => Carrier::Tls,
            Shown::Hello(_) => Carrier::Hello,
        }
    }

    /// The token, and whether it is one by its form.
    fn token(self) -> (Shape<'a>, Choice) {
        match self {
            Shown::Plain(letters) => {
                let (token, is_token) = or_nobodys(Token::from_letters(letters));
                (Shape::Letters { token, binding: &[] }, is_token)
            }
            Shown::Tls { letters, binding } => {
                let (token, is_token) = or_nobodys(Token::from_letters(letters));
                (Shape::Letters { token, binding }, is_token)
            }
            Shown::Hello(hello) => {
                let (token, is_token) = or_nobodys(HelloToken::of(hello));
                (Shape::Hello { token, hello }, is_token)
            }
        }
    }
}

/// What is no token by its form costs the same two HMACs: the time to an answer would tell it from one.
fn or_nobodys<T: Default>(token: Option<T>) -> (T, Choice) {
    let is_token = Choice::from(u8::from(token.is_some()));
    (token.unwrap_or_default(), is_token)
}

/// What is judged, with all that its tag covers.
enum Shape<'a> {
    Letters { token: Token, binding: &'a [u8] },
    Hello { token: HelloToken, hello: &'a ClientHello },
}

impl Shape<'_> {
    fn unmask(&self, locator: &CarrierKey) -> Option<Header> {
        match self {
            Shape::Letters { token, .. } => token.unmask(locator),
            Shape::Hello { token, hello } => token.unmask(hello, locator),
        }
    }

    fn verify(&self, key: &CarrierKey) -> Choice {
        match self {
            Shape::Letters { token, binding } => token.verify(key, binding),
            Shape::Hello { token, hello } => token.verify(hello, key),
        }
    }

    fn tag(&self) -> [u8; 16] {
        match self {
            Shape::Letters { token, .. } => *token.tag(),
            Shape::Hello { token, .. } => *token.tag(),
        }
    }

    /// What an acknowledgement of the service's state answers to.
    fn nonce(&self) -> [u8; 16] {
        match self {
            Shape::Letters { token, .. } => *token.nonce(),
            Shape::Hello { hello, .. } => {
                let (nonce, _) = hello.random().split_first_chunk().expect("32 bytes");
                *nonce
            }
        }
    }
}

pub(super) struct Claim<'a> {
    pub shown: Shown<'a>,
    pub from: IpAddr,
}

/// What becomes of a knock.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// Nobody's token: an ordinary visitor.
    Stranger,
    /// A key holder's token that is not good here and now. Handled as a visitor, but worth a log line.
    Refused {
        client: Arc<Client>,
        reason: Refusal,
    },
    Admitted(Admitted),
}

/// Why a token with a right tag was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its time is more than the window away from ours.
    Clock,
    Replayed,
    /// Too many tokens in too short a time to remember them all.
    Flood,
    /// It may have been spent before this posternd knew.
    Unsure,
    /// The clock was set back a moment ago.
    Closed,
    /// The replay journal cannot be written.
    Journal,
    /// The fleet's store did not say in time that nobody spent it elsewhere.
    Store,
    /// The key's `until` has passed.
    Expired,
    /// The key's `not-before` is still to come.
    Early,
    /// It is not one of the key's hours.
    Hours,
    /// The key may not be used from this address.
    Address,
    /// The key may not be shown by this carrier.
    Carrier,
    /// The client may not ask for this service.
    Service,
    /// The client may expose nothing.
    Expose,
}

impl Refusal {
    /// The word for logs.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Clock => "clock",
            Refusal::Replayed => "replayed",
            Refusal::Flood => "flood",
            Refusal::Unsure => "early",
            Refusal::Closed => "closed",
            Refusal::Journal => "journal",
            Refusal::Store => "store",
            Refusal::Expired => "expired",
            Refusal::Early => "not-before",
            Refusal::Hours => "hours",
            Refusal::Address => "address",
            Refusal::Carrier => "carrier",
            Refusal::Service => "service",
            Refusal::Expose => "expose",
        }
    }
}

/// What somebody who was let in wants.
#[derive(Debug)]
pub enum Wish {
    /// A service.
    Reach(String),
    /// That his address may come to it without a knock.
    Arm(String),
    /// To open entrances of his own.
    Expose,
    /// To be given visitors of this pool.
    Wait(Arc<Pool>),
}

/// Who was let in, what for, and what to acknowledge.
#[derive(Debug)]
pub struct Admitted {
    pub client: Arc<Client>,
    pub carrier: Carrier,
    pub wish: Wish,
    wants_ack: bool,
    nonce: [u8; 16],
    /// What a fleet's store is still to say.
    pub(super) pending: Option<Pending>,
}

impl Admitted {
    /// The bytes that tell the client its status; none if it asked for none.
    pub fn acknowledgement(&self, status: Status) -> Option<[u8; ack::LENGTH]> {
        self.wants_ack.then(|| status.seal(self.ack_key(), &self.nonce))
    }

    fn ack_key(&self) -> &CarrierKey {
        match &self.wish {
            Wish::Wait(pool) => pool.keys.ack(),
            Wish::Reach(_) | Wish::Arm(_) | Wish::Expose => self.client.keys.ack(),
        }
    }

    /// The random of a ServerHello that tells the client of this hello that it was recognised.
    pub fn server_random(&self, hello: &ClientHello, salt: [u8; 16]) -> [u8; 32] {
        ack::seal_random(self.ack_key(), hello.random(), salt)
    }
}

pub(super) fn judge(
    clients: &Clients,
    pools: &Pools,
    claim: &Claim<'_>,
    now: u64,
    window: Duration,
    spend: impl FnOnce(Offered) -> Spend,
) -> Verdict {
    let (token, is_token) = claim.shown.token();
    // Every live locator costs its two HMACs whether or not another one already fitted.
    let mut holder = None;
    for locator in clients.locators_on(claim.shown.carrier()) {
        let (header, bearer, right) = open(clients, pools, claim, &token, locator, now, window);
        if let (Some(header), Some(bearer)) = (header, bearer)
            && bool::from(right.tag & is_token)
        {
            holder = Some((header, bearer, bool::from(right.time)));
        }
    }
    let Some((header, bearer, timely)) = holder else {
        return Verdict::Stranger;
    };
    match conditions(&header, &bearer, claim, timely, now, &token, spend) {
        Ok(wish) => Verdict::Admitted(Admitted {
            carrier: claim.shown.carrier(),
            wish,
            wants_ack: header.ack,
            nonce: token.nonce(),
            pending: None,
            client: bearer.client,
        }),
        Err(reason) => Verdict::Refused { client: bearer.client, reason },
    }
}

/// Whose key made a token: a client's own, or the one that a pool of his was given.
struct Bearer {
    client: Arc<Client>,
    pool: Option<Arc<Pool>>,
}

impl Bearer {
    fn of(header: &Header, clients: &Clients, pools: &Pools) -> Option<Bearer> {
        match header.intent {
            Intent::Accept => {
                let pool = pools.find(header.kid)?;
                Some(Bearer { client: pool.client.clone(), pool: Some(pool) })
            }
            Intent::Pipe | Intent::Arm | Intent::Expose => {
                Some(Bearer { client: clients.find(header.kid)?.clone(), pool: None })
            }
        }
    }

    fn kid(&self) -> Kid {
        self.pool.as_ref().map_or(self.client.kid, |pool| pool.number)
    }

    fn keys(&self) -> &Keys {
        self.pool.as_ref().map_or(&self.client.keys, |pool| &pool.keys)
    }
}

struct Right {
    tag: Choice,
    time: Choice,
}

/// Unmasks with one HMAC and verifies with another; an unknown kid is verified against a dummy key.
fn open(
    clients: &Clients,
    pools: &Pools,
    claim: &Claim<'_>,
    token: &Shape<'_>,
    locator: &CarrierKey,
    now: u64,
    window: Duration,
) -> (Option<Header>, Option<Bearer>, Right) {
    let header = token.unmask(locator);
    let bearer = header.and_then(|header| Bearer::of(&header, clients, pools));
    let dummy = CarrierKey::dummy();
    let key = bearer.as_ref().map_or(&dummy, |bearer| bearer.keys().on(claim.shown.carrier()));
    let known = match (&header, &bearer) {
        (Some(header), Some(bearer)) => same_kid(header.kid, bearer.kid()),
        (Some(_), None) | (None, _) => Choice::from(0),
    };
    let time = header.map_or(0, |header| header.time);
    let is_lane = bearer.as_ref().is_some_and(|bearer| bearer.pool.is_some());
    let right = Right {
        tag: token.verify(key) & known,
        time: match claim.shown.carrier() {
            // Of a lane it is no time: its pool knows which numbers it has seen.
            Carrier::Plain | Carrier::Hello if is_lane => Choice::from(1),
            Carrier::Plain | Carrier::Hello => within_window(time, now, window.as_secs()),
            // Bound to the TLS session: neither a clock nor a memory of spent tokens is needed.
            Carrier::Tls => Choice::from(1),
        },
    };
    (header, bearer, right)
}

/// What a key holder's token must meet besides. It is spent before anything else is looked at, so
/// that a refused one cannot be tried again under better conditions.
fn conditions(
    header: &Header,
    bearer: &Bearer,
    claim: &Claim<'_>,
    timely: bool,
    now: u64,
    token: &Shape<'_>,
    spend: impl FnOnce(Offered) -> Spend,
) -> Result<Wish, Refusal> {
    if !timely {
        return Err(Refusal::Clock);
    }
    let client = &bearer.client;
    let carrier = claim.shown.carrier();
    match (&bearer.pool, carrier) {
        (Some(pool), _) => {
            if !pool.spend(header.time) {
                return Err(Refusal::Replayed);
            }
        }
        (None, Carrier::Plain | Carrier::Hello) => {
            let offered = Offered { tag: token.tag(), kid: client.kid, date: header.time };
            match spend(offered) {
                Spend::Fresh => {}
                // Whoever replays a hello cannot finish its handshake.
                Spend::Unwritten if carrier == Carrier::Hello => {}
                Spend::Replayed => return Err(Refusal::Replayed),
                Spend::Full => return Err(Refusal::Flood),
                Spend::Early => return Err(Refusal::Unsure),
                Spend::Closed => return Err(Refusal::Closed),
                Spend::Unwritten => return Err(Refusal::Journal),
            }
        }
        (None, Carrier::Tls) => {}
    }
    let at = i64::try_from(now).ok().and_then(|now| Timestamp::from_second(now).ok());
    if let Some(reason) =
        client.terms.refuse(at.unwrap_or(Timestamp::MAX), claim.from, Some(carrier))
    {
        return Err(reason);
    }
    let service = || client.service(header.service).map(str::to_owned).ok_or(Refusal::Service);
    match header.intent {
        Intent::Pipe => service().map(Wish::Reach),
        Intent::Arm => service().map(Wish::Arm),
        // Nothing that follows a plain knock is authenticated.
        Intent::Expose if carrier == Carrier::Plain => Err(Refusal::Carrier),
        Intent::Expose if client.expose.is_empty() => Err(Refusal::Expose),
        Intent::Expose => Ok(Wish::Expose),
        Intent::Accept => bearer.pool.clone().map(Wish::Wait).ok_or(Refusal::Service),
    }
}

#[cfg(test)]
mod tests;
