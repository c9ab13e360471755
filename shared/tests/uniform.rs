//! What travels of a knock looks drawn by lot: a watcher who has seen a hundred thousand of one client,
//! for one service and within one second, finds no letter, byte or bit that leans to one side.
//!
//! The nonces are hashes of a counter, so a run that passes passes always. A sound cipher would fail
//! with about one in a million choices of them: each test takes less than a thousand figures, each of
//! which leaves its bounds once in 10^9 (chi-squared and normal quantiles, both sides together).

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use postern_shared::hello::{ClientHello, Parse, SESSION_ID};
use postern_shared::knock::{
    Carrier, CarrierKey, ClientKey, Header, HelloToken, Intent, Kid, Locator, ServerId, Token,
};

const KNOCKS: u32 = 100_000;

/// Standard deviations of a normal variable.
const NORMAL: f64 = 6.11;

/// What may stand in one place, and the bounds of chi-squared with one degree of freedom less.
struct Alphabet {
    symbols: usize,
    chi_squared: (f64, f64),
}

const BYTES: Alphabet = Alphabet { symbols: 256, chi_squared: (140.2, 418.1) };
const LETTERS: Alphabet = Alphabet { symbols: 16, chi_squared: (0.421, 75.3) };

/// The places, and the bits in them, where these texts are not as if drawn by lot.
fn leanings(texts: &[Vec<u8>], alphabet: &Alphabet) -> Vec<String> {
    let Alphabet { symbols, chi_squared: (least, most) } = *alphabet;
    let length = texts.first().map_or(0, Vec::len);
    let mut counts = vec![vec![0_u32; symbols]; length];
    for text in texts {
        for (counts, symbol) in counts.iter_mut().zip(text) {
            counts[usize::from(*symbol)] += 1;
        }
    }
    let all = texts.len() as f64;
    let mut found = Vec::new();
    for (place, counts) in counts.iter().enumerate() {
        let expected = all / symbols as f64;
        let chi_squared: f64 =
            counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        if !(least..most).contains(&chi_squared) {
            found.push(format!("place {place}: chi-squared {chi_squared:.1}"));
        }
        for bit in 0..symbols.ilog2() {
            let set = counts.iter().enumerate().filter(|(symbol, _)| symbol >> bit & 1 == 1);
            let set: f64 = set.map(|(_, count)| f64::from(*count)).sum();
            let deviations = (set - all / 2.0) / (all / 4.0).sqrt();
            if deviations.abs() > NORMAL {
                found.push(format!("place {place} bit {bit}: {deviations:.1} deviations"));
            }
        }
    }
    found
}

/// How each text differs from the one that was made just before it.
fn differences(texts: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let differ = |pair: &[Vec<u8>]| pair[0].iter().zip(&pair[1]).map(|(a, b)| a ^ b).collect();
    texts.chunks_exact(2).map(differ).collect()
}

fn assert_uniform(texts: &[Vec<u8>], alphabet: &Alphabet) {
    assert_eq!(leanings(texts, alphabet), [""; 0]);
    assert_eq!(leanings(&differences(texts), alphabet), [""; 0], "from one to the next");
    assert_eq!(texts.iter().collect::<HashSet<_>>().len(), texts.len(), "one was made twice");
}

fn nonce(number: u32) -> [u8; 32] {
    let hash = digest(&SHA256, &number.to_be_bytes());
    hash.as_ref().try_into().expect("32 bytes")
}

fn keys(carrier: Carrier) -> (CarrierKey, CarrierKey) {
    let server = ServerId([3; 16]);
    (Locator::new([1; 32]).on(carrier, &server), ClientKey::new([2; 32]).on(carrier, &server))
}

fn header() -> Header {
    let kid = Kid::new(7).expect("not 0");
    Header { ack: true, intent: Intent::Pipe, kid, time: 1_800_000_000, service: 1 }
}

/// A hello of one suite and nothing but TLS 1.3, in one record.
fn hello(random: &[u8; 32], session_id: [u8; 32]) -> ClientHello {
    let tail = [0, 2, 0x13, 1, 1, 0, 0, 7, 0, 43, 0, 3, 2, 3, 4];
    let body = [&[3, 3][..], random, &[32], &session_id, &tail].concat();
    let length = u8::try_from(body.len()).expect("short");
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat();
    match ClientHello::parse(&record) {
        Parse::Found(hello) => hello,
        Parse::NeedMore(_) | Parse::Malformed => panic!("no hello: {record:?}"),
    }
}

fn session_ids() -> Vec<Vec<u8>> {
    let (locator, key) = keys(Carrier::Hello);
    let session_id = |number| {
        let random = nonce(number);
        let untagged = hello(&random, HelloToken::untagged(&header(), &random, &locator));
        let knocking = HelloToken::tagged(&untagged, &key).expect("a session id of 32 bytes");
        assert_eq!(untagged.message()[SESSION_ID..][..16], knocking[..16]);
        knocking.to_vec()
    };
    (0..KNOCKS).map(session_id).collect()
}

#[test]
fn session_ids_lean_to_no_side() {
    assert_uniform(&session_ids(), &BYTES);
}

#[test]
fn letters_lean_to_no_side() {
    let (locator, key) = keys(Carrier::Plain);
    let halves = |number| {
        let nonce = *nonce(number).first_chunk().expect("32 bytes");
        let token = Token::seal(&header(), nonce, &locator, &key, &[]);
        token.letters().iter().map(|letter| letter - b'A').collect()
    };
    let texts: Vec<Vec<u8>> = (0..KNOCKS).map(halves).collect();
    assert_uniform(&texts, &LETTERS);
}

/// As a header whose mask missed a bit would show, or a tag that was cut from something else.
#[test]
fn one_bit_in_25_texts_would_be_found() {
    let mut texts = session_ids();
    for text in texts.iter_mut().step_by(25) {
        text[9] |= 0x10;
    }
    let found = leanings(&texts, &BYTES);
    assert!(found.iter().any(|lean| lean.starts_with("place 9 bit 4")), "{found:?}");
    assert!(found.iter().all(|lean| lean.starts_with("place 9")), "{found:?}");
}
