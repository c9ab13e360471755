//! That the sniffer's answers are early, final, and only about what is of interest, whatever is. It
//! never looks into a hello: the parser's own tests do.

use postern_shared::hello::{ClientHello, Parse};
use postern_shared::sniff::{Interest, Kind, Kinds, LETTERS, Protocol, Sniff, sniff};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::greetings::{greetings, strangers};
use crate::properties;
use crate::samples::{refused, samples};

const TLS: Interest =
    Interest { kinds: Kinds::EMPTY.with(Kind::Tls), letters: false, line: false, path: false };

/// Sets of interests, by the bits that the property reads: with each choice of what is no protocol none,
/// every one, any two and all of those that are.
fn sets() -> Vec<[u8; 3]> {
    let one = |bit: usize| 1_u16 << bit;
    let kinds = Kind::ALL.len();
    let mut sets = vec![0, u16::MAX];
    for first in 0..kinds {
        sets.extend((0..=first).map(|second| one(first) | one(second)));
    }
    let others = 0..8;
    others
        .flat_map(|others| {
            sets.iter().map(move |set| {
                let [low, high] = set.to_le_bytes();
                [low, high, others]
            })
        })
        .collect()
}

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
    ]);
    beginnings.extend(greetings().into_iter().map(|greeting| greeting.bytes));
    beginnings.extend(strangers().into_iter().map(|(_, _, bytes)| bytes));
    let (sets, mut ran) = (sets(), 0);
    for bytes in beginnings {
        for set in &sets {
            properties::sniff(&[&set[..], &bytes].concat());
        }
        for set in [[0xff, 0xff, 0], [0xff; 3], [1, 0, 0], [6, 0, 7], [0, 0, 7]] {
            for have in 0..=bytes.len().min(400) {
                properties::sniff(&[&set[..], &bytes[..have]].concat());
                ran += 1;
            }
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
        assert_eq!(sniff(&sample.bytes, &Interest::default()), Sniff::Unknown);
    }
    let refused = refused();
    assert!(!refused.is_empty());
    for (what, bytes) in refused {
        assert_eq!(sniff(&bytes, &TLS), Sniff::Malformed, "{what}");
    }
}

proptest! {
    #[test]
    fn any_bytes(set in any::<[u8; 3]>(), bytes in vec(any::<u8>(), 0..300)) {
        properties::sniff(&[&set[..], &bytes].concat());
    }

    #[test]
    fn any_text(set in any::<[u8; 3]>(), text in "([A-P]{0,100}|SSH-|[A-Z_-]{0,30}| |[0-9a-z]){0,5}") {
        properties::sniff(&[&set[..], text.as_bytes()].concat());
    }

    #[test]
    fn no_late_byte_changes_an_answer(
        set in any::<[u8; 3]>(),
        text in "[A-P]{0,97}|S?S?H?-?[A-Z_-]{0,26} ?|\\x16\\x03[\\x00-\\x03][\\x00-\\x01][\\x00-\\xff]{0,20}",
        late in vec(any::<u8>(), 1..50),
    ) {
        let interest = properties::interest(set);
        let answer = sniff(text.as_bytes(), &interest);
        if !matches!(answer, Sniff::NeedMore(_)) {
            prop_assert_eq!(sniff(&[text.as_bytes(), &late].concat(), &interest), answer);
        }
    }
}
