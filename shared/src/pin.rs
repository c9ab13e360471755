//! A pinned public key: SHA-256 over a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4), so that a
//! renewed certificate with the same key still matches. Says nothing of names or dates.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const PREFIX: &str = "sha256/";

/// Written as `sha256/` and base64, as in RFC 7469 and curl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

/// The text is not a pin.
#[derive(Debug, thiserror::Error)]
#[error("a pin is written sha256/ followed by the base64 of 32 bytes")]
pub struct NotAPin;

impl Pin {
    /// The pin of a DER-encoded SubjectPublicKeyInfo.
    pub fn of(spki: &[u8]) -> Pin {
        let mut pin = [0; 32];
        for (to, from) in pin.iter_mut().zip(digest(&SHA256, spki).as_ref()) {
            *to = *from;
        }
        Pin(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Pin, NotAPin> {
        let encoded = text.strip_prefix(PREFIX).ok_or(NotAPin)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NotAPin)?;
        bytes.try_into().map(Pin).map_err(|_| NotAPin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let pin = Pin::of(b"a public key");
        assert_eq!(pin.to_string().parse::<Pin>().ok(), Some(pin));
        for bad in ["", "sha256/", "sha256/AAAA", "sha1/AAAA", "sha256/not base64"] {
            assert!(bad.parse::<Pin>().is_err(), "{bad:?}");
        }
    }
}
