//! The token as the session id of a TLS ClientHello: `masked header 16 | tag 16`, with the hello's own
//! random for a nonce. The tag is over the whole handshake message with itself zeroed, so it is void in
//! any other hello, and above all with any other key share: who captures one cannot finish a handshake
//! with it. Never decides whether a hello may be answered; that is the gate's work.

use subtle::Choice;

use super::key::CarrierKey;
use super::token::{Header, mask};
use crate::hello::{ClientHello, SESSION_ID};

/// Bytes of a session id that knocks.
pub const LENGTH: usize = 32;

const TAG: usize = 16;

/// A session id read as a token. The default one is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloToken {
    masked: [u8; 16],
    tag: [u8; TAG],
}

impl HelloToken {
    /// The session id of a hello that is yet to be tagged.
    pub fn untagged(header: &Header, random: &[u8; 32], locator: &CarrierKey) -> [u8; LENGTH] {
        let token = HelloToken { masked: mask(header.encode(), locator, random), tag: [0; TAG] };
        token.session_id()
    }

    /// The session id with which this hello, made with an untagged one, knocks.
    pub fn tagged(untagged: &ClientHello, key: &CarrierKey) -> Option<[u8; LENGTH]> {
        let mut token = HelloToken::of(untagged)?;
        token.tag = key.mac(&parts(untagged));
        Some(token.session_id())
    }

    /// The token of a hello; `None` where its form alone says that there is none.
    pub fn of(hello: &ClientHello) -> Option<HelloToken> {
        let (masked, tag) = hello.session_id().split_first_chunk()?;
        let tag = tag.try_into().ok().filter(|_| hello.offers_tls13())?;
        Some(HelloToken { masked: *masked, tag })
    }

    /// The unmasked header: the first of the two HMACs. Not authenticated before
    /// [`verify`](Self::verify) agrees; `None` is to be judged like any header whose kid nobody has.
    pub fn unmask(&self, hello: &ClientHello, locator: &CarrierKey) -> Option<Header> {
        Header::decode(mask(self.masked, locator, hello.random()))
    }

    /// Whether the tag was made with `key` for this very hello: the second HMAC.
    pub fn verify(&self, hello: &ClientHello, key: &CarrierKey) -> Choice {
        key.mac_eq(&parts(hello), &self.tag)
    }

    /// What the replay window remembers a token by.
    pub fn tag(&self) -> &[u8; TAG] {
        &self.tag
    }

    fn session_id(&self) -> [u8; LENGTH] {
        let mut id = [0; LENGTH];
        for (byte, value) in id.iter_mut().zip(self.masked.iter().chain(&self.tag)) {
            *byte = *value;
        }
        id
    }
}

/// The message as the tag covers it.
fn parts(hello: &ClientHello) -> [&[u8]; 3] {
    let tag = SESSION_ID + LENGTH - TAG;
    let message = hello.message();
    [
        message.get(..tag).unwrap_or_default(),
        &[0; TAG],
        message.get(tag + TAG..).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::Parse;
    use crate::knock::key::{Carrier, ClientKey, Kid, Locator, ServerId};
    use crate::knock::token::Intent;

    const SERVER: ServerId = ServerId([3; 16]);
    const RANDOM: [u8; 32] = [9; 32];

    fn keys() -> (CarrierKey, CarrierKey) {
        let on = Carrier::Hello;
        (Locator::new([1; 32]).on(on, &SERVER), ClientKey::new([2; 32]).on(on, &SERVER))
    }

    fn header() -> Header {
        let kid = Kid::new(0x0102_0304).expect("not 0");
        Header { ack: true, intent: Intent::Pipe, kid, time: 1_800_000_000, service: 7 }
    }

    /// A record with a hello of one suite, with supported_versions and with a share of some group.
    fn bytes(session_id: &[u8], share: u8) -> Vec<u8> {
        let extensions =
            [&[0, 43, 0, 3, 2, 3, 4][..], &[0, 51, 0, 7, 0, 5, 0x2a, 0x2a, 0, 1, share]].concat();
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).expect("short").to_be_bytes();
        let mut body = vec![3, 3];
        body.extend(RANDOM);
        body.push(u8::try_from(session_id.len()).expect("short"));
        body.extend(session_id);
        body.extend([0, 2, 0x13, 1, 1, 0]);
        body.extend(length(&extensions));
        body.extend(extensions);
        let message = [&[1, 0][..], &length(&body), &body].concat();
        [&[22, 3, 1][..], &length(&message), &message].concat()
    }

    fn hello(session_id: &[u8], share: u8) -> ClientHello {
        match ClientHello::parse(&bytes(session_id, share)) {
            Parse::Found(hello) => hello,
            Parse::NeedMore(_) | Parse::Malformed => panic!("no hello"),
        }
    }

    fn knocking(share: u8) -> [u8; LENGTH] {
        let (locator, key) = keys();
        let untagged = hello(&HelloToken::untagged(&header(), &RANDOM, &locator), share);
        HelloToken::tagged(&untagged, &key).expect("of the right form")
    }

    #[test]
    fn a_hello_that_was_tagged_is_recognised() {
        let (locator, key) = keys();
        let hello = hello(&knocking(5), 5);
        let token = HelloToken::of(&hello).expect("of the right form");
        assert_eq!(token.unmask(&hello, &locator), Some(header()));
        assert!(bool::from(token.verify(&hello, &key)));
    }

    #[test]
    fn a_session_id_is_void_in_another_hello() {
        let (_, key) = keys();
        let stolen = hello(&knocking(5), 6);
        let token = HelloToken::of(&stolen).expect("of the right form");
        assert!(!bool::from(token.verify(&stolen, &key)));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (_, key) = keys();
        let good = bytes(&knocking(5), 5);
        // Behind the record's header, whose bytes the tag does not cover.
        for at in 5..good.len() {
            for bit in 0..8 {
                let mut bent = good.clone();
                bent[at] ^= 1 << bit;
                let Parse::Found(hello) = ClientHello::parse(&bent) else { continue };
                let Some(token) = HelloToken::of(&hello) else { continue };
                assert!(!bool::from(token.verify(&hello, &key)), "byte {at} bit {bit}");
            }
        }
    }

    #[test]
    fn other_forms_are_no_token() {
        for length in [0, 1, 16, 31] {
            assert_eq!(HelloToken::of(&hello(&vec![7; length], 5)), None, "{length}");
        }
        let mut old = bytes(&knocking(5), 5);
        let version = old.len() - 12;
        assert_eq!(old[version], 4);
        old[version] = 3;
        let Parse::Found(old) = ClientHello::parse(&old) else { panic!("a hello") };
        assert_eq!(HelloToken::of(&old), None, "does not offer TLS 1.3");
    }
}
