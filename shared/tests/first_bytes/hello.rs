//! What the hello parser reads, how early it answers, and that cuts do not change the answer. It
//! never calls the sniffer: that one only passes these answers on.

use postern_shared::hello::{ClientHello, MAX_HELLO, Parse};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::properties;
use crate::samples::{Hello, cut, handshake, record, refused, samples};

fn found(bytes: &[u8]) -> ClientHello {
    match ClientHello::parse(bytes) {
        Parse::Found(hello) => hello,
        other @ (Parse::NeedMore(_) | Parse::Malformed) => panic!("{other:?}"),
    }
}

#[test]
fn every_sample_says_what_it_says() {
    let samples = samples();
    assert!(!samples.is_empty());
    for sample in samples {
        let hello = found(&sample.bytes);
        let what = sample.what;
        assert_eq!(hello.sni().map(|name| name.as_str()), sample.sni, "{what}");
        assert!(hello.alpn().eq(sample.alpn.iter().map(|name| name.as_bytes())), "{what}");
        assert_eq!(hello.offers_tls13(), sample.tls13, "{what}");
        assert_eq!(hello.session_id().len(), sample.session_id, "{what}");
        assert_eq!(hello.len(), sample.bytes.len(), "{what}");
        assert_eq!(hello.message(), &sample.bytes[5..], "{what}");
        assert_eq!(hello.random()[..], sample.bytes[11..43], "{what}");
        let session_id = &hello.message()[postern_shared::hello::SESSION_ID..];
        assert!(session_id.starts_with(hello.session_id()), "{what}");
    }
}

#[test]
fn every_prefix_asks_for_the_header_and_then_for_the_record() {
    let mut prefixes = 0;
    for sample in samples() {
        for have in 0..sample.bytes.len() {
            let need = [1, 5, sample.bytes.len()].into_iter().find(|n| *n > have);
            let need = Parse::NeedMore(need.expect("less than all"));
            assert_eq!(ClientHello::parse(&sample.bytes[..have]), need, "{} {have}", sample.what);
            prefixes += 1;
        }
    }
    assert!(prefixes > 1000);
}

#[test]
fn every_prefix_of_every_cut_in_two_asks_record_by_record() {
    let mut cuts = 0;
    for sample in samples().iter().filter(|sample| sample.bytes.len() < 400) {
        let whole = found(&sample.bytes);
        for at in 1..whole.message().len() {
            let bytes = cut(whole.message(), &[at]);
            for have in 0..bytes.len() {
                let need = [1, 5, 5 + at, 10 + at, bytes.len()].into_iter().find(|n| *n > have);
                let need = Parse::NeedMore(need.expect("less than all"));
                assert_eq!(ClientHello::parse(&bytes[..have]), need, "{} {at}", sample.what);
            }
            same_but_for_its_len(&found(&bytes), &whole);
            cuts += 1;
        }
    }
    assert!(cuts > 1000);
}

#[test]
fn a_record_for_every_byte_is_the_same_hello() {
    let mut read = 0;
    for sample in samples().iter().filter(|sample| sample.bytes.len() * 6 < MAX_HELLO) {
        let whole = found(&sample.bytes);
        let bytes = cut(whole.message(), &vec![1; whole.message().len()]);
        assert_eq!(bytes.len(), 6 * whole.message().len());
        same_but_for_its_len(&found(&bytes), &whole);
        read += 1;
    }
    assert!(read > 0);
}

#[test]
fn what_lies_behind_a_hello_is_not_looked_at() {
    let samples = samples();
    assert!(!samples.is_empty());
    for sample in samples {
        let hello = found(&sample.bytes);
        for behind in [&b"\0"[..], b"\x16\x03\x01", b"\x17\x03\x03\0\x01x", b"GET / HTTP/1.1\r\n"] {
            assert_eq!(found(&[&sample.bytes, behind].concat()), hello, "{}", sample.what);
        }
    }
}

#[test]
fn what_is_refused_is_malformed_and_stays_so() {
    let refused = refused();
    assert!(!refused.is_empty());
    for (what, bytes) in refused {
        assert_eq!(ClientHello::parse(&bytes), Parse::Malformed, "{what}");
        assert_eq!(
            ClientHello::parse(&[&bytes[..], b"\x16\x03"].concat()),
            Parse::Malformed,
            "{what}"
        );
        for have in 0..bytes.len() {
            let answer = ClientHello::parse(&bytes[..have]);
            assert!(!matches!(answer, Parse::Found(_)), "{what} {have}");
        }
        properties::hello(&bytes);
    }
}

#[test]
fn every_shortened_body_is_malformed() {
    let hello = Hello::default().sni("a.example");
    let body = hello.body();
    let before_extensions = Hello { extensions: None, ..hello }.body().len();
    for len in 0..body.len() {
        let answer = ClientHello::parse(&record(&handshake(&body[..len])));
        assert_eq!(matches!(answer, Parse::Found(_)), len == before_extensions, "{len}");
        assert_eq!(matches!(answer, Parse::Malformed), len != before_extensions, "{len}");
    }
}

/// OpenSSL 3.0 answers a header of another major version, or of a record it could never hold, at
/// its fifth byte. The rest of the table it answers later than this.
#[test]
fn a_bad_record_header_is_malformed_at_once() {
    for header in [
        [22, 2, 0, 1, 0],
        [22, 4, 0, 1, 0],
        [22, 0x31, 0x2f, 0x31, 0x0d],
        [22, 3, 1, 0, 0],
        [22, 3, 1, 0x40, 1],
        [22, 3, 1, 0x41, 0x41],
        [22, 3, 1, 0xff, 0xff],
    ] {
        for have in 1..5 {
            assert_eq!(ClientHello::parse(&header[..have]), Parse::NeedMore(5), "{header:?}");
        }
        assert_eq!(ClientHello::parse(&header), Parse::Malformed, "{header:?}");
    }
    for minor in 0..=u8::MAX {
        assert_eq!(ClientHello::parse(&[22, 3, minor, 0, 9]), Parse::NeedMore(14));
    }
}

#[test]
fn another_first_byte_is_malformed_at_once() {
    const SSL2: &[u8] = &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
    assert_eq!(ClientHello::parse(SSL2), Parse::Malformed);
    for first in (0..=u8::MAX).filter(|first| *first != 22) {
        assert_eq!(ClientHello::parse(&[first]), Parse::Malformed);
    }
}

#[test]
fn debug_shows_no_session_id() {
    let hello = Hello { session_id: vec![0xab; 32], ..Hello::default() };
    let shown = format!("{:?}", found(&hello.sni("a.example").bytes()));
    assert!(shown.contains("a.example"), "{shown}");
    assert!(!shown.contains("171") && !shown.contains("90"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_behind_a_record_header(bytes in vec(any::<u8>(), 0..200)) {
        properties::hello(&bytes);
        properties::hello(&record(&bytes));
        properties::hello(&record(&handshake(&bytes)));
    }

    #[test]
    fn any_cut_gives_the_same_hello(
        which in any::<prop::sample::Index>(),
        sizes in vec(1..400_usize, 0..200),
    ) {
        let samples = samples();
        let whole = found(&which.get(&samples).bytes);
        let bytes = cut(whole.message(), &sizes);
        properties::hello(&bytes);
        if bytes.len() > MAX_HELLO {
            prop_assert_eq!(ClientHello::parse(&bytes), Parse::Malformed);
        } else {
            same_but_for_its_len(&found(&bytes), &whole);
        }
    }

    #[test]
    fn any_extensions_are_read_back(
        session_id in vec(any::<u8>(), 0..=32),
        name in "[A-Za-z0-9_-]{1,63}(\\.[A-Za-z0-9_-]{1,30}){0,4}\\.?",
        unknown in prop::collection::btree_map(1000..60_000_u16, vec(any::<u8>(), 0..300), 0..20),
    ) {
        let mut hello = Hello { session_id: session_id.clone(), ..Hello::default() };
        for (kind, body) in &unknown {
            hello = hello.extension(*kind, body);
        }
        let read = found(&hello.sni(&name).bytes());
        prop_assert_eq!(read.session_id(), session_id);
        let folded = name.strip_suffix('.').unwrap_or(&name).to_ascii_lowercase();
        prop_assert_eq!(read.sni().map(|name| name.as_str()), Some(&*folded));
    }
}

fn same_but_for_its_len(a: &ClientHello, b: &ClientHello) {
    assert_eq!(a.message(), b.message());
    assert_eq!(a.random(), b.random());
    assert_eq!(a.session_id(), b.session_id());
    assert_eq!(a.sni(), b.sni());
    assert!(a.alpn().eq(b.alpn()));
    assert_eq!(a.offers_tls13(), b.offers_tls13());
}
