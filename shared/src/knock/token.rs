//! The token: 48 bytes that a client makes and a server opens. Opening always computes two HMACs,
//! one to unmask the header and one to check the tag; it never says which byte was wrong.

use subtle::{Choice, ConstantTimeEq};

use super::key::{CarrierKey, Kid};
use crate::sniff::LETTERS;

const VERSION: u8 = 1;
const FLAG_ACK: u8 = 0b0001;

/// What a client wants behind the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// The service's plain byte stream.
    Pipe,
    /// The control connection of a client that exposes services (`expose`). It names no service.
    Expose,
    /// A lane of such a client. The pool's number and key stand in for the client's, and the time is a
    /// number that counts once.
    Accept,
    /// No stream: the address may come to the service without a knock for a while.
    Arm,
}

impl Intent {
    fn code(self) -> u8 {
        match self {
            Intent::Pipe => 1,
            Intent::Expose => 3,
            Intent::Accept => 4,
            Intent::Arm => 5,
        }
    }

    fn from_code(code: u8) -> Option<Intent> {
        match code {
            1 => Some(Intent::Pipe),
            3 => Some(Intent::Expose),
            4 => Some(Intent::Accept),
            5 => Some(Intent::Arm),
            _ => None,
        }
    }
}

/// What a token says once it is unmasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The server's first bytes are to be an acknowledgement.
    pub ack: bool,
    pub intent: Intent,
    pub kid: Kid,
    /// Seconds since the Unix epoch, on the client's clock; of a lane its number.
    pub time: u32,
    /// The number that the service has in the client's invite.
    pub service: u16,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; 16] {
        let flags = if self.ack { FLAG_ACK } else { 0 };
        let [k0, k1, k2, k3] = self.kid.value().to_be_bytes();
        let [t0, t1, t2, t3] = self.time.to_be_bytes();
        let [s0, s1] = self.service.to_be_bytes();
        let first = VERSION << 4 | flags;
        [first, self.intent.code(), k0, k1, k2, k3, t0, t1, t2, t3, s0, s1, 0, 0, 0, 0]
    }

    /// `None` for another version, an unknown intent, kid 0 or any reserved bit that is set.
    pub(super) fn decode(bytes: [u8; 16]) -> Option<Header> {
        let [first, intent, k0, k1, k2, k3, t0, t1, t2, t3, s0, s1, 0, 0, 0, 0] = bytes else {
            return None;
        };
        if first & !FLAG_ACK != VERSION << 4 {
            return None;
        }
        Some(Header {
            ack: first & FLAG_ACK != 0,
            intent: Intent::from_code(intent)?,
            kid: Kid::new(u32::from_be_bytes([k0, k1, k2, k3]))?,
            time: u32::from_be_bytes([t0, t1, t2, t3]),
            service: u16::from_be_bytes([s0, s1]),
        })
    }
}

/// A token as it travels: nonce, masked header, tag. The default one is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token {
    nonce: [u8; 16],
    masked: [u8; 16],
    tag: [u8; 16],
}

impl Token {
    /// Makes a token. `binding` is empty on the plain carrier and the TLS exporter's 32 bytes on tls;
    /// `nonce` must be fresh randomness.
    pub fn seal(
        header: &Header,
        nonce: [u8; 16],
        locator: &CarrierKey,
        key: &CarrierKey,
        binding: &[u8],
    ) -> Token {
        let masked = mask(header.encode(), locator, &nonce);
        let tag = key.mac(&[b"tag", &nonce, &masked, binding]);
        Token { nonce, masked, tag }
    }

    /// The unmasked header: the first of the two HMACs. Not authenticated before
    /// [`verify`](Self::verify) agrees; `None` is to be judged like any header whose kid nobody has.
    pub fn unmask(&self, locator: &CarrierKey) -> Option<Header> {
        Header::decode(mask(self.masked, locator, &self.nonce))
    }

    /// Whether the tag was made with `key`: the second HMAC.
    pub fn verify(&self, key: &CarrierKey, binding: &[u8]) -> Choice {
        key.mac_eq(&[b"tag", &self.nonce, &self.masked, binding], &self.tag)
    }

    pub fn nonce(&self) -> &[u8; 16] {
        &self.nonce
    }

    /// What the replay window remembers a token by.
    pub fn tag(&self) -> &[u8; 16] {
        &self.tag
    }

    /// The 96 letters that travel, high half of each byte first.
    pub fn letters(&self) -> [u8; LETTERS] {
        let mut letters = [b'A'; LETTERS];
        let bytes = self.nonce.iter().chain(&self.masked).chain(&self.tag);
        let halves = bytes.flat_map(|byte| [byte >> 4, byte & 0x0f]);
        for (letter, half) in letters.iter_mut().zip(halves) {
            *letter += half;
        }
        letters
    }

    /// The token these letters spell; `None` if one lies outside A-P.
    pub fn from_letters(letters: &[u8; LETTERS]) -> Option<Token> {
        let mut token = Token { nonce: [0; 16], masked: [0; 16], tag: [0; 16] };
        let bytes = token.nonce.iter_mut().chain(&mut token.masked).chain(&mut token.tag);
        for (byte, pair) in bytes.zip(letters.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = half(*high)? << 4 | half(*low)?;
        }
        Some(token)
    }
}

fn half(letter: u8) -> Option<u8> {
    letter.checked_sub(b'A').filter(|half| *half < 16)
}

/// Masking and unmasking are one operation.
pub(super) fn mask(mut header: [u8; 16], locator: &CarrierKey, nonce: &[u8]) -> [u8; 16] {
    for (byte, pad) in header.iter_mut().zip(locator.mac(&[b"hdr", nonce])) {
        *byte ^= pad;
    }
    header
}

/// Whether `time` lies within `window` seconds of `now`, either way.
pub fn within_window(time: u32, now: u64, window: u64) -> Choice {
    Choice::from(u8::from(u64::from(time).abs_diff(now) <= window))
}

/// Constant-time equality of kids, so that a table hit and a miss combine alike.
pub fn same_kid(a: Kid, b: Kid) -> Choice {
    a.value().ct_eq(&b.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::key::{Carrier, ClientKey, Locator, ServerId};

    const SERVER: ServerId = ServerId([3; 16]);

    fn keys(carrier: Carrier) -> (CarrierKey, CarrierKey) {
        (Locator::new([1; 32]).on(carrier, &SERVER), ClientKey::new([2; 32]).on(carrier, &SERVER))
    }

    fn header() -> Header {
        let kid = Kid::new(0x0102_0304).expect("not 0");
        Header { ack: true, intent: Intent::Pipe, kid, time: 1_700_000_000, service: 7 }
    }

    #[test]
    fn what_is_sealed_opens_again() {
        let (locator, key) = keys(Carrier::Plain);
        let token = Token::seal(&header(), [9; 16], &locator, &key, b"");
        let travelled = Token::from_letters(&token.letters()).expect("letters A-P");
        assert_eq!(travelled, token);
        assert_eq!(travelled.unmask(&locator), Some(header()));
        assert!(bool::from(travelled.verify(&key, b"")));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (locator, key) = keys(Carrier::Tls);
        let token = Token::seal(&header(), [9; 16], &locator, &key, &[5; 32]);
        let letters = token.letters();
        for at in 0..LETTERS {
            for bit in 0..4 {
                let mut bent = letters;
                bent[at] = b'A' + ((bent[at] - b'A') ^ (1 << bit));
                let bent = Token::from_letters(&bent).expect("still letters");
                assert!(!bool::from(bent.verify(&key, &[5; 32])), "letter {at} bit {bit}");
            }
        }
    }

    #[test]
    fn a_token_is_void_elsewhere() {
        let (locator, key) = keys(Carrier::Tls);
        let token = Token::seal(&header(), [9; 16], &locator, &key, &[5; 32]);
        assert!(!bool::from(token.verify(&key, &[6; 32])), "another TLS session");
        assert!(!bool::from(token.verify(&keys(Carrier::Plain).1, &[5; 32])), "another carrier");
        assert_ne!(token.unmask(&keys(Carrier::Plain).0), Some(header()));
    }

    #[test]
    fn reserved_bits_refuse() {
        let good = header().encode();
        assert_eq!(Header::decode(good), Some(header()));
        for (at, bits) in [(0, 0xfe), (12, 0xff), (13, 0xff), (14, 0xff), (15, 0xff)] {
            for bit in (0..8).filter(|bit| bits >> bit & 1 == 1) {
                let mut bad = good;
                bad[at] ^= 1 << bit;
                assert_eq!(Header::decode(bad), None, "byte {at} bit {bit}");
            }
        }
        for intent in (0..=u8::MAX).filter(|code| Intent::from_code(*code).is_none()) {
            let mut unknown = good;
            unknown[1] = intent;
            assert_eq!(Header::decode(unknown), None, "intent {intent}");
        }
        let mut nobody = good;
        nobody[2..6].fill(0);
        assert_eq!(Header::decode(nobody), None);
    }

    #[test]
    fn letters_outside_a_to_p_are_no_token() {
        for foreign in [b'@', b'Q', b'a', b'0', 0, 0xff] {
            let mut letters = [b'C'; LETTERS];
            letters[95] = foreign;
            assert_eq!(Token::from_letters(&letters), None);
        }
    }

    #[test]
    fn the_window_is_closed_on_both_sides() {
        let now = 1_700_000_000;
        for (time, inside) in [
            (1_699_999_940, true),
            (1_700_000_060, true),
            (1_699_999_939, false),
            (1_700_000_061, false),
            (0, false),
            (u32::MAX, false),
        ] {
            assert_eq!(bool::from(within_window(time, now, 60)), inside, "{time}");
        }
    }
}
