//! Knocks made by hand from an invite: right ones, and such as no right client would send.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use postern_shared::hello::{ClientHello, Parse};
use postern_shared::invite::Invite;
use postern_shared::knock::{
    Carrier, CarrierKey, ClientKey, Header, HelloToken, Intent, Status, Token, ack,
};

use crate::net::{Then, exchange};

/// Where a hello's random lies in its record, if that is its first.
pub const RANDOM: Range<usize> = 11..43;

/// And where its session id does, if that has 32 bytes.
pub const SESSION_ID: Range<usize> = 44..76;

/// Someone with the key of an invite.
#[derive(Clone, Debug)]
pub struct Knocker {
    pub invite: Invite,
    /// What its knocks say; a test bends it.
    pub header: Header,
}

impl Knocker {
    pub fn new(invite: &str) -> Knocker {
        let invite = Invite::from_link(invite).expect("an invite");
        let service = invite.services.first().map_or(0, |grant| grant.number);
        let header =
            Header { ack: false, intent: Intent::Pipe, kid: invite.kid, time: now(), service };
        Knocker { invite, header }
    }

    /// The 96 letters of a fresh plain knock.
    pub fn plain(&self) -> Vec<u8> {
        self.letters(Carrier::Plain, &[0; 32])
    }

    /// The 96 letters of a fresh knock, on tls within the session of this exporter; on the hello carrier
    /// a knock has no letters.
    pub fn letters(&self, carrier: Carrier, exporter: &[u8; 32]) -> Vec<u8> {
        let binding: &[u8] = if carrier == Carrier::Tls { exporter } else { &[] };
        let Invite { locator, key, server, .. } = &self.invite;
        let (locator, key) = (locator.on(carrier, server), key.on(carrier, server));
        Token::seal(&self.header, random(), &locator, &key, binding).letters().to_vec()
    }

    /// The record of a hello that knocks, for a share that nobody can complete a handshake with.
    pub fn hello(&self) -> Vec<u8> {
        let Invite { locator, key, server, .. } = &self.invite;
        let (locator, key) = (locator.on(Carrier::Hello, server), key.on(Carrier::Hello, server));
        knocking(hello(&random()), &self.header, &locator, &key)
    }

    /// Whether a server's first bytes say that it recognised this hello.
    pub fn is_recognised(&self, hello: &[u8], answer: &[u8]) -> bool {
        let Parse::Found(hello) = ClientHello::parse(hello) else { panic!("{hello:?}") };
        let ack_key = self.invite.key.ack(&self.invite.server);
        let random = answer.get(11..43).and_then(|random| random.try_into().ok());
        random.is_some_and(|random| ack::opens_random(random, &ack_key, hello.random()))
    }

    /// The same person with a clock that is wrong.
    pub fn off_by(mut self, seconds: i32) -> Knocker {
        self.header.time = self.header.time.saturating_add_signed(seconds);
        self
    }

    /// The same name with another key.
    pub fn with_wrong_key(mut self) -> Knocker {
        self.invite.key = ClientKey::new(random());
        self
    }

    /// What the acknowledgement says of a plain knock, whose letters are given.
    pub fn acknowledged(&self, letters: &[u8], answer: &[u8]) -> Option<Status> {
        let letters = letters.first_chunk().expect("96 letters");
        let token = Token::from_letters(letters).expect("letters A-P");
        let answer = answer.first_chunk()?;
        Status::open(answer, &self.invite.key.ack(&self.invite.server), token.nonce())
    }
}

/// The record of an ordinary hello of TLS 1.3 with another random, which is fresh, and a session id that
/// knocks.
pub fn knocking(
    mut record: Vec<u8>,
    header: &Header,
    locator: &CarrierKey,
    key: &CarrierKey,
) -> Vec<u8> {
    let fresh = random();
    record[RANDOM].copy_from_slice(&fresh);
    record[SESSION_ID].copy_from_slice(&HelloToken::untagged(header, &fresh, locator));
    let Parse::Found(untagged) = ClientHello::parse(&record) else { panic!("{record:?}") };
    let tagged = HelloToken::tagged(&untagged, key).expect("a session id of 32 bytes");
    record[SESSION_ID].copy_from_slice(&tagged);
    record
}

/// The record of a hello, whose session id has 32 bytes, with another one.
pub fn with_session_id(mut record: Vec<u8>, id: &[u8]) -> Vec<u8> {
    record.splice(SESSION_ID, id.iter().copied());
    record[SESSION_ID.start - 1] = u8::try_from(id.len()).expect("32 bytes at most");
    // The lengths of the record and, behind its type, of the message: RFC 8446, 5.1 and 4.
    for (at, around) in [(3, 5), (7, 9)] {
        let length = u16::try_from(record.len() - around).expect("one record");
        record[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
    record
}

/// A hello of TLS 1.3 as a record, with a share of X25519 (RFC 8446, 4.1.2 and 4.2), and nothing yet for
/// its random and its session id.
fn hello(share: &[u8; 32]) -> Vec<u8> {
    const SUITES: [u8; 8] = [0, 6, 0x13, 1, 0x13, 2, 0x13, 3];
    const NO_COMPRESSION: [u8; 2] = [1, 0];
    let with_length = |bytes: &[u8]| {
        [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
    };
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], &with_length(data)].concat();
    let name = [&[0][..], &with_length(b"www.example.com")].concat();
    let extensions = [
        extension(0, &with_length(&name)),
        extension(10, &with_length(&[0, 0x1d])),
        extension(13, &with_length(&[4, 3, 8, 4, 8, 7])),
        extension(43, &[2, 3, 4]),
        extension(51, &with_length(&[&[0, 0x1d][..], &with_length(share)].concat())),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[0; 32],
        &[32],
        &[0; 32],
        &SUITES,
        &NO_COMPRESSION,
        &with_length(&extensions),
    ]
    .concat();
    let message = [&[1, 0][..], &with_length(&body)].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

/// What an ssh client says, and what neither sshd nor nginx would take from one: both hang up.
pub const SSH: &[u8] =
    b"SSH-2.0-OpenSSH_9.2\r\n\r\nthis is not the start of a key exchange\r\n\r\n";

/// Whether these letters open ssh at `server`. Where they do not, what comes back must be the website's own.
pub fn is_let_in(server: SocketAddr, website: SocketAddr, letters: &[u8]) -> bool {
    let bytes = [letters, SSH].concat();
    let through = exchange(server, &bytes, Then::Wait);
    if through.bytes.starts_with(b"SSH-2.0-") {
        return true;
    }
    let direct = exchange(website, &bytes, Then::Wait);
    assert_eq!(through, direct, "neither let in nor shown the website");
    false
}

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u32::try_from(now.as_secs()).expect("before 2106")
}

pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("randomness");
    bytes
}
