//! Keys and identifiers of the knock, and the key schedule that derives one key per carrier. Never
//! shows a secret: `Debug` is redacted, memory is wiped on drop, comparison is constant-time.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{hkdf, hmac};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

const SALT: &[u8] = b"postern v1";

/// Where a token travels. Each carrier has keys of its own, so that a token seen on one is void on
/// every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Carrier {
    /// First bytes on the TCP connection.
    Plain,
    /// First application bytes inside TLS, bound to the TLS exporter.
    Tls,
    /// The session id of a ClientHello, bound to all of it.
    Hello,
}

impl Carrier {
    /// Every carrier, in the order in which an invite prefers them.
    pub const ALL: [Carrier; 3] = [Carrier::Hello, Carrier::Tls, Carrier::Plain];

    /// The name in configuration files, invites and key derivation.
    pub fn name(self) -> &'static str {
        match self {
            Carrier::Plain => "plain",
            Carrier::Tls => "tls",
            Carrier::Hello => "hello",
        }
    }

    /// The carrier of that name.
    pub fn from_name(name: &str) -> Option<Carrier> {
        Carrier::ALL.into_iter().find(|carrier| carrier.name() == name)
    }
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names a client key on the wire. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kid(NonZeroU32);

impl Kid {
    /// `None` for 0, which no client has.
    pub fn new(value: u32) -> Option<Kid> {
        NonZeroU32::new(value).map(Kid)
    }

    pub fn value(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// Sixteen random bytes that name a server, or a fleet that shares one clients file. Public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(pub [u8; 16]);

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            pub fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The raw secret, for the files that must hold it.
            pub fn expose(&self) -> &[u8; 32] {
                &self.0
            }

            /// The key this secret has on one carrier.
            pub fn on(&self, carrier: Carrier, server: &ServerId) -> CarrierKey {
                derive(&self.0, carrier.name(), server)
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret! {
    /// What a client proves to hold.
    ClientKey
}

secret! {
    /// Known to the server and all its clients; it only hides and finds the kid.
    Locator
}

impl ClientKey {
    /// The key of the server's acknowledgement.
    pub fn ack(&self, server: &ServerId) -> CarrierKey {
        derive(&self.0, "ack", server)
    }
}

/// A derived key, ready for HMAC-SHA256.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CarrierKey([u8; 32]);

impl CarrierKey {
    /// A key nobody holds: judging an unknown kid costs what judging a known one does.
    pub fn dummy() -> CarrierKey {
        CarrierKey([0x50; 32])
    }

    /// HMAC-SHA256 over the concatenated parts, cut to 16 bytes.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(part);
        }
        let tag = context.sign();
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        short
    }

    pub(crate) fn mac_eq(&self, parts: &[&[u8]], tag: &[u8; 16]) -> Choice {
        self.mac(parts).ct_eq(tag)
    }
}

impl fmt::Debug for CarrierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CarrierKey(…)")
    }
}

/// K_c = HKDF-SHA256(salt "postern v1", secret, info = c | 0 | server id); RFC 5869.
fn derive(secret: &[u8; 32], purpose: &str, server: &ServerId) -> CarrierKey {
    struct Length;
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let mut key = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
        .extract(secret)
        .expand(&[purpose.as_bytes(), &[0], &server.0], Length)
        .and_then(|okm| okm.fill(&mut key))
        .expect("32 bytes are within HKDF-SHA256's 255 blocks");
    CarrierKey(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let key = ClientKey::new([0xab; 32]);
        let shown = format!("{key:?} {:?}", key.on(Carrier::Plain, &ServerId([1; 16])));
        assert_eq!(shown, "ClientKey(…) CarrierKey(…)");
    }

    #[test]
    fn every_purpose_has_its_own_key() {
        let (key, server) = (ClientKey::new([7; 32]), ServerId([9; 16]));
        let other = ServerId([10; 16]);
        let keys = [
            key.on(Carrier::Plain, &server),
            key.on(Carrier::Tls, &server),
            key.on(Carrier::Hello, &server),
            key.ack(&server),
            key.on(Carrier::Plain, &other),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in keys.iter().skip(i + 1) {
                assert_ne!(a.0, b.0);
            }
        }
    }

    #[test]
    fn kid_zero_is_nobody() {
        assert_eq!(Kid::new(0), None);
        assert_eq!(Kid::new(0xabc).map(|kid| kid.to_string()), Some("00000abc".to_owned()));
    }

    #[test]
    fn carriers_are_found_by_name() {
        for carrier in Carrier::ALL {
            assert_eq!(Carrier::from_name(carrier.name()), Some(carrier));
        }
        assert_eq!(Carrier::from_name("smoke"), None);
    }
}
