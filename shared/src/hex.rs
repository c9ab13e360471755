//! Bytes as lower-case hexadecimal, for the files that hold keys and ids. Reads either case, and only
//! the exact length.

use std::fmt::Write;

use zeroize::Zeroizing;

/// Two digits a byte. Wiped when dropped, since most of what is written is secret.
pub fn encode(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// `None` unless the text is exactly `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 2 {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// Bytes written by hand: in either case, with spaces or colons between them. Not for secrets.
pub fn decode_loosely(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|letter| !b" :\t\r\n".contains(letter)).collect();
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        assert_eq!(*encode(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(decode::<3>("00aBff"), Some([0, 0xab, 0xff]));
        for bad in ["", "00abf", "00abff00", "00abfg", "+0abff", "é0abf"] {
            assert_eq!(decode::<3>(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn by_hand() {
        assert_eq!(decode_loosely("53 53:48\n2D"), Some(b"SSH-".to_vec()));
        assert_eq!(decode_loosely(""), Some(Vec::new()));
        for bad in ["5", "0g", "+1", "\u{e9}0", "0x16"] {
            assert_eq!(decode_loosely(bad), None, "{bad:?}");
        }
    }
}
