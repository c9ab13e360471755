//! Knocks made by hand from an invite: right ones, and such as no right client would send.

use std::time::{SystemTime, UNIX_EPOCH};

use postern_shared::invite::Invite;
use postern_shared::knock::{Carrier, ClientKey, Header, Intent, Status, Token};

/// Someone with the key of an invite.
#[derive(Debug)]
pub struct Knocker {
    pub invite: Invite,
    /// What its knocks say; a test bends it.
    pub header: Header,
}

impl Knocker {
    pub fn new(invite: &str) -> Knocker {
        let invite = Invite::from_link(invite).expect("an invite");
        let service = invite.services[0].number;
        let header =
            Header { ack: false, intent: Intent::Pipe, kid: invite.kid, time: now(), service };
        Knocker { invite, header }
    }

    /// The 96 letters of a fresh plain knock.
    pub fn plain(&self) -> Vec<u8> {
        self.letters(Carrier::Plain, &[0; 32])
    }

    /// The 96 letters of a fresh knock, on tls within the session of this exporter.
    pub fn letters(&self, carrier: Carrier, exporter: &[u8; 32]) -> Vec<u8> {
        let binding: &[u8] = match carrier {
            Carrier::Plain => &[],
            Carrier::Tls => exporter,
        };
        let Invite { locator, key, server, .. } = &self.invite;
        let (locator, key) = (locator.on(carrier, server), key.on(carrier, server));
        Token::seal(&self.header, random(), &locator, &key, binding).letters().to_vec()
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

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u32::try_from(now.as_secs()).expect("before 2106")
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("randomness");
    bytes
}
