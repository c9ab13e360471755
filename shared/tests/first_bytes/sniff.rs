//! That the sniffer's answers are early, final, and only about what is of interest, whatever is. It
//! never looks into a hello: the parser's own tests do.

use postern_shared::hello::{ClientHello, Parse};
use postern_shared::sniff::{Interest, LETTERS, Protocol, Sniff, sniff};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::properties;
use crate::samples::{refused, samples};

const TLS: Interest =
    Interest { tls: true, letters: false, ssh: false, http: false, line: false, path: false };

/// Every set of interests, by the bits that the property reads.
const SETS: std::ops::Range<u8> = 0..64;

#[test]
fn every_prefix_of_every_sample_under_every_set_of_interests() {
    let mut beginnings: Vec<Vec<u8>> = samples().into_iter().map(|sample| sample.bytes).collect();
    beginnings.extend(refused().into_iter().map(|(_, bytes)| bytes));
    beginnings.retain(|bytes| bytes.len() < 2000);
    beginnings.extend([
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"UPDATEREDIRECTREF /x HTTP/1.1\r\n".to_vec(),
        b"AP".repeat(LETTERS),
        [&b"AP".repeat(LETTERS / 2)[..], b"\x16\x03\x01"].concat(),
        b"PROPFIND / HTTP/1.1\r\n".to_vec(),
        b"EHLO a.example\r\n".to_vec(),
        b"\x00\x0e\x38\xaa".to_vec(),
    ]);
    let mut ran = 0;
    for bytes in beginnings {
        for set in SETS {
            for have in 0..=bytes.len().min(400) {
                properties::sniff(&[&[set], &bytes[..have]].concat());
                ran += 1;
            }
            properties::sniff(&[&[set][..], &bytes].concat());
        }
    }
    assert!(ran > 10_000);
}

#[test]
fn tls_is_what_the_hello_parser_says() {
    let samples = samples();
    assert!(!samples.is_empty());
    for sample in samples {
        let Parse::Found(hello) = ClientHello::parse(&sample.bytes) else {
            panic!("{} is valid", sample.what);
        };
        let answer = sniff(&sample.bytes, &TLS);
        assert_eq!(answer, Sniff::Found(Protocol::Tls(Box::new(hello))), "{}", sample.what);
        assert_eq!(sniff(&sample.bytes, &Interest { tls: false, ..TLS }), Sniff::Unknown);
    }
    let refused = refused();
    assert!(!refused.is_empty());
    for (what, bytes) in refused {
        assert_eq!(sniff(&bytes, &TLS), Sniff::Malformed, "{what}");
    }
}

proptest! {
    #[test]
    fn any_bytes(set in SETS, bytes in vec(any::<u8>(), 0..300)) {
        properties::sniff(&[&[set], &bytes[..]].concat());
    }

    #[test]
    fn any_text(set in SETS, text in "([A-P]{0,100}|SSH-|[A-Z_-]{0,30}| |[0-9a-z]){0,5}") {
        properties::sniff(&[&[set], text.as_bytes()].concat());
    }

    #[test]
    fn no_late_byte_changes_an_answer(
        set in SETS,
        text in "[A-P]{0,97}|S?S?H?-?[A-Z_-]{0,26} ?|\\x16\\x03[\\x00-\\x03][\\x00-\\x01][\\x00-\\xff]{0,20}",
        late in vec(any::<u8>(), 1..50),
    ) {
        let wants = |bit: u8| set >> bit & 1 == 1;
        let interest = Interest {
            tls: wants(0),
            letters: wants(1),
            ssh: wants(2),
            http: wants(3),
            line: wants(4),
            path: wants(5),
        };
        let answer = sniff(text.as_bytes(), &interest);
        if !matches!(answer, Sniff::NeedMore(_)) {
            prop_assert_eq!(sniff(&[text.as_bytes(), &late].concat(), &interest), answer);
        }
    }
}
