//! Which classes are held, for how long, and which of two goes first. It never tries a protocol's own rules
//! but for the oldest of them: `shared/tests/first_bytes` does.

use super::*;

/// Without HTTP/2, whose preface is HTTP then.
const FOUR: Interest = Interest {
    kinds: Kinds::EMPTY.with(Kind::Tls).with(Kind::Ssh).with(Kind::Http),
    letters: true,
    line: false,
    path: false,
};

const FOUND_SSH: Sniff = Sniff::Found(Protocol::Plain(Kind::Ssh));
const FOUND_HTTP: Sniff = Sniff::Found(Protocol::Plain(Kind::Http));

#[test]
fn without_interest_nothing_is_held() {
    for bytes in ["", "A", "SSH-2.0-x", "GET / HTTP/1.1\r\n", "\x16\x03\x01"] {
        assert_eq!(sniff(bytes.as_bytes(), &Interest::default()), Sniff::Unknown, "{bytes:?}");
    }
}

#[test]
fn only_an_interesting_class_is_held() {
    let only = |class: &str| Interest {
        kinds: Kind::from_name(class).into_iter().collect(),
        letters: class == "letters",
        line: class == "line",
        path: class == "path",
    };
    for (bytes, holds) in [
        ("\x16", &["tls"][..]),
        ("A", &["letters", "http", "line", "path"]),
        ("S", &["ssh", "http", "line", "path"]),
        ("G", &["letters", "http", "line", "path"]),
        ("GET", &["http", "line", "path"]),
        ("GET ", &["path"]),
        ("GET /a", &["path"]),
        ("GET a", &[]),
        (" /", &[]),
        ("SESAME\r", &[]),
        ("SESAME_", &["http", "line", "path"]),
        ("a", &[]),
        ("1", &[]),
        ("\r", &[]),
        ("\0", &[]),
    ] {
        for class in ["tls", "letters", "ssh", "http", "line", "path"] {
            let held = matches!(sniff(bytes.as_bytes(), &only(class)), Sniff::NeedMore(_));
            assert_eq!(held, holds.contains(&class), "{bytes:?} for {class}");
        }
    }
}

#[test]
fn the_least_of_the_live_classes_is_asked_for() {
    assert_eq!(sniff(b"", &FOUR), Sniff::NeedMore(1));
    assert_eq!(sniff(b"AB", &FOUR), Sniff::NeedMore(3));
    assert_eq!(sniff(b"SS", &FOUR), Sniff::NeedMore(3));
    assert_eq!(sniff(b"\x16", &FOUR), Sniff::NeedMore(5));
    assert_eq!(sniff(b"\x16\x03\x01\x00\x10", &FOUR), Sniff::NeedMore(21));
}

#[test]
fn a_request_is_known_when_its_path_is() {
    let both = Interest { kinds: Kinds::of([Kind::Http]), path: true, ..Interest::default() };
    assert_eq!(sniff(b"GET /open", &both), Sniff::NeedMore(10));
    for done in ["GET /open ", "GET /open?", "GET /\r", &format!("GET /{}", "a".repeat(63))] {
        assert_eq!(sniff(done.as_bytes(), &both), FOUND_HTTP, "{done}");
    }
    assert_eq!(sniff(b"GET /open", &both.in_protocols()), FOUND_HTTP);
}

#[test]
fn a_word_is_not_waited_for_beyond_its_length() {
    let line = Interest { line: true, ..Interest::default() };
    assert_eq!(sniff(&[b'Z'; LONGEST_WORD], &line), Sniff::NeedMore(LONGEST_WORD + 1));
    assert_eq!(sniff(&[b'Z'; LONGEST_WORD + 1], &line), Sniff::Unknown);
}

#[test]
fn ssh_and_http_tell_themselves_apart() {
    for (bytes, answer) in [
        ("SSH-", FOUND_SSH),
        ("SSH-2.0-OpenSSH_9.2\r\n", FOUND_SSH),
        ("ssh-2.0", Sniff::Unknown),
        ("SSH2", Sniff::Unknown),
        ("GET /", FOUND_HTTP),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", FOUND_HTTP),
        ("M-SEARCH * HTTP/1.1\r\n", FOUND_HTTP),
        ("VERSION-CONTROL ", FOUND_HTTP),
        ("get /", Sniff::Unknown),
        (" GET /", Sniff::Unknown),
        ("-GET /", Sniff::Unknown),
        ("GET\t/", Sniff::Unknown),
        ("GET1 /", Sniff::Unknown),
        ("ABCDEFGHIJKLMNOPQRSTUVWX", Sniff::NeedMore(25)),
        ("ABCDEFGHIJKLMNOPQRSTUVWX ", FOUND_HTTP),
        ("ABCDEFGHIJKLMNOPQRSTUVWXY", Sniff::Unknown),
    ] {
        assert_eq!(sniff(bytes.as_bytes(), &FOUR), answer, "{bytes:?}");
    }
}

#[test]
fn a_knock_is_96_letters_and_the_stream_behind_it() {
    let knock = [b'A', b'P'].repeat(LETTERS / 2);
    for have in 0..LETTERS {
        assert_eq!(sniff(&knock[..have], &FOUR), Sniff::NeedMore(have + 1));
    }
    for behind in [&b""[..], b"SSH-2.0-x\r\n", b"P", b"\0"] {
        let bytes = [&knock, behind].concat();
        let Sniff::Found(Protocol::Letters(letters)) = sniff(&bytes, &FOUR) else {
            panic!("a knock with {behind:?} behind it is a knock");
        };
        assert_eq!(letters[..], knock);
    }
}

#[test]
fn one_foreign_byte_ends_the_letters() {
    let interest = Interest { letters: true, ..Interest::default() };
    for at in 0..LETTERS {
        for byte in [b'Q', b'@', b'a', b'0', b'\n', 0, 0xff] {
            let mut bytes = [b'A'; LETTERS];
            bytes[at] = byte;
            assert_eq!(sniff(&bytes, &interest), Sniff::Unknown);
            assert_eq!(sniff(&bytes[..=at], &interest), Sniff::Unknown);
        }
    }
}

#[test]
fn debug_shows_no_knock() {
    let found = sniff(&[b'K'; LETTERS], &FOUR);
    assert_eq!(format!("{found:?}"), "Found(letters)");
}

#[test]
fn every_protocol_has_its_place_in_the_order() {
    let ordered = Kinds::of(ORDER);
    assert_eq!(ordered.with(Kind::Tls), Kinds::ALL);
    assert_eq!(ordered.iter().count(), ORDER.len());
    assert!(!ordered.contains(Kind::Tls));
}

#[test]
fn the_preface_of_http2_is_told_from_a_request_when_both_matter() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let both = Interest { kinds: Kinds::of([Kind::Http, Kind::Http2]), ..Interest::default() };
    let only = |kind| Interest { kinds: Kinds::of([kind]), ..Interest::default() };
    let http2 = Sniff::Found(Protocol::Plain(Kind::Http2));
    for have in 0..preface.len() {
        let (begun, _) = preface.split_at(have);
        assert_eq!(sniff(begun, &both), Sniff::NeedMore(have + 1));
        assert_eq!(sniff(begun, &only(Kind::Http2)), Sniff::NeedMore(have + 1));
        let other = [begun, b"\0"].concat();
        assert_eq!(sniff(&other, &only(Kind::Http2)), Sniff::Unknown);
        assert_eq!(sniff(&other, &both), if have < 4 { Sniff::Unknown } else { FOUND_HTTP });
    }
    assert_eq!(sniff(preface, &both), http2);
    assert_eq!(sniff(preface, &only(Kind::Http2)), http2);
    assert_eq!(sniff(preface, &only(Kind::Http)), FOUND_HTTP);
}

#[test]
fn a_word_goes_before_a_request_and_after_everything_else() {
    let interest = Interest { kinds: Kinds::ALL, line: true, path: true, letters: false };
    assert_eq!(sniff(b"SSH-", &interest), FOUND_SSH);
    assert_eq!(sniff(b"PRI ", &interest), Sniff::NeedMore(5));
    assert_eq!(sniff(b"PRI /", &interest), Sniff::NeedMore(6));
    assert_eq!(sniff(b"CNXN", &interest), Sniff::NeedMore(5));
    assert_eq!(sniff(b"CNXN\x01\0\0\x01", &interest), Sniff::NeedMore(14));
}

/// The one overlap that no order makes right for both.
#[test]
fn who_asks_for_a_port_like_an_opcode_is_answered_in_his_own_words() {
    let both = Interest { kinds: Kinds::of([Kind::Socks4, Kind::OpenVpn]), ..Interest::default() };
    let socks = [&[4, 1, 0x50, 0x12, 192, 0, 2, 7][..], b"me\0"].concat();
    for have in 1..8 {
        assert!(matches!(sniff(&socks[..have], &both), Sniff::NeedMore(_)), "{have}");
    }
    assert_eq!(sniff(&socks, &both), Sniff::Found(Protocol::Plain(Kind::Socks4)));
    let openvpn = [4, 1, 0x50, 0x12, 192, 0, 2, 7, 0x99, 0xfe, 0x3c, 0x0f, 0, 0, 1];
    for have in 4..openvpn.len() {
        assert!(matches!(sniff(&openvpn[..have], &both), Sniff::NeedMore(_)), "{have}");
    }
    assert_eq!(sniff(&openvpn, &both), Sniff::Found(Protocol::Plain(Kind::OpenVpn)));
}
