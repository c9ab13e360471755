//! Decides from a connection's first bytes which protocol they are, or how many more must come
//! before that can be told. It never asks for bytes that could not change the answer, and never
//! takes an answer back when more bytes arrive.

use std::fmt;

use crate::hello::{ClientHello, HANDSHAKE, Parse};

/// The classes that some carrier or route could act on. Bytes are held for no other: for a class
/// that interests nobody the website must get to speak as early as it would alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub tls: bool,
    pub letters: bool,
    pub ssh: bool,
    pub http: bool,
    /// A first line of capitals, `_` and `-`.
    pub line: bool,
    /// The path of an HTTP request in clear.
    pub path: bool,
}

impl Interest {
    /// Without what no protocol is, but only a word that somebody may say: for when time is up.
    pub fn in_protocols(self) -> Interest {
        Interest { line: false, path: false, ..self }
    }
}

/// What the first bytes are. They are classed by syntax alone, never by a secret: holding what
/// "still matches" one would tell a prober its next byte.
#[derive(Clone, PartialEq, Eq)]
pub enum Protocol {
    Tls(Box<ClientHello>),
    Letters(Box<[u8; LETTERS]>),
    Ssh,
    Http,
}

#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// The least number of bytes, counted from the connection's start, that can change the answer.
    NeedMore(usize),
    Found(Protocol),
    /// It began as a ClientHello and cannot become one.
    Malformed,
    Unknown,
}

/// A knock is 48 bytes in letters A to P, four bits each. On a TLS port nginx takes capitals in
/// silence for the beginning of a request; lower case and digits it answers at once, so that
/// holding those would show.
pub const LETTERS: usize = 96;

/// A word that is waited for has no more: a path, or a line without its end.
pub const LONGEST_WORD: usize = 63;

pub fn sniff(bytes: &[u8], interest: &Interest) -> Sniff {
    let word = word(bytes, interest);
    // SSH before HTTP, whose method names may contain a dash. A request may be seen to be one before its
    // path has come.
    let answers = [
        interest.tls.then(|| tls(bytes)),
        interest.letters.then(|| letters(bytes)),
        interest.ssh.then(|| ssh(bytes)),
        (interest.http && word.is_none()).then(|| http(bytes)),
        word.map(Sniff::NeedMore),
    ];
    let mut least = None;
    for answer in answers.into_iter().flatten() {
        match answer {
            Sniff::Unknown => {}
            Sniff::NeedMore(n) => least = Some(least.map_or(n, |least: usize| least.min(n))),
            Sniff::Found(_) | Sniff::Malformed => return answer,
        }
    }
    least.map_or(Sniff::Unknown, Sniff::NeedMore)
}

impl Protocol {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tls(_) => "tls",
            Self::Letters(_) => "letters",
            Self::Ssh => "ssh",
            Self::Http => "http",
        }
    }
}

/// Only the name: whoever read a knock in a log could spend it before its owner does.
impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn tls(bytes: &[u8]) -> Sniff {
    if let Some(first) = bytes.first()
        && *first != HANDSHAKE
    {
        return Sniff::Unknown;
    }
    match ClientHello::parse(bytes) {
        Parse::NeedMore(n) => Sniff::NeedMore(n),
        Parse::Found(hello) => Sniff::Found(Protocol::Tls(Box::new(hello))),
        Parse::Malformed => Sniff::Malformed,
    }
}

fn letters(bytes: &[u8]) -> Sniff {
    if !bytes.iter().take(LETTERS).all(|b| matches!(b, b'A'..=b'P')) {
        return Sniff::Unknown;
    }
    match bytes.first_chunk() {
        Some(letters) => Sniff::Found(Protocol::Letters(Box::new(*letters))),
        None => Sniff::NeedMore(bytes.len() + 1),
    }
}

/// How many bytes it takes to know the first line, or the path in it. nginx is silent as long: at any
/// other byte, the end of a line among them, it may speak.
fn word(bytes: &[u8], interest: &Interest) -> Option<usize> {
    let first = bytes.iter().take_while(|b| matches!(b, b'A'..=b'Z' | b'_' | b'-')).count();
    let (_, rest) = bytes.split_at(first);
    let path = match rest {
        [] => (interest.line || interest.path).then_some(rest),
        [b' ', path @ ..] if first > 0 && interest.path => Some(path),
        [..] => None,
    }?;
    let path = match path {
        [] => path,
        [b'/', path @ ..] => path,
        [..] => return None,
    };
    let in_path = |b: &u8| b.is_ascii_alphanumeric() || b"/._~-".contains(b);
    let open = path.iter().all(in_path) && path.len() < LONGEST_WORD && first <= LONGEST_WORD;
    open.then_some(bytes.len() + 1)
}

/// RFC 4253, section 4.2.
fn ssh(bytes: &[u8]) -> Sniff {
    const BANNER: &[u8] = b"SSH-";
    if bytes.starts_with(BANNER) {
        Sniff::Found(Protocol::Ssh)
    } else if BANNER.starts_with(bytes) {
        Sniff::NeedMore(bytes.len() + 1)
    } else {
        Sniff::Unknown
    }
}

/// A method as nginx reads it, and the space behind it. HTTP/2's preface begins in the same way.
fn http(bytes: &[u8]) -> Sniff {
    /// UPDATEREDIRECTREF, the longest that is registered, has 17.
    const MAX_METHOD: usize = 24;
    if let Some(first) = bytes.first()
        && !first.is_ascii_uppercase()
    {
        return Sniff::Unknown;
    }
    let in_method = |b: &&u8| matches!(b, b'A'..=b'Z' | b'_' | b'-');
    let method = bytes.iter().take_while(in_method).count();
    match bytes.get(method) {
        None if method <= MAX_METHOD => Sniff::NeedMore(bytes.len() + 1),
        Some(b' ') if method <= MAX_METHOD => Sniff::Found(Protocol::Http),
        _ => Sniff::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Interest =
        Interest { tls: true, letters: true, ssh: true, http: true, line: false, path: false };

    const FOUND_SSH: Sniff = Sniff::Found(Protocol::Ssh);
    const FOUND_HTTP: Sniff = Sniff::Found(Protocol::Http);

    #[test]
    fn without_interest_nothing_is_held() {
        for bytes in ["", "A", "SSH-2.0-x", "GET / HTTP/1.1\r\n", "\x16\x03\x01"] {
            assert_eq!(sniff(bytes.as_bytes(), &Interest::default()), Sniff::Unknown, "{bytes:?}");
        }
    }

    #[test]
    fn only_an_interesting_class_is_held() {
        let only = |class: &str| Interest {
            tls: class == "tls",
            letters: class == "letters",
            ssh: class == "ssh",
            http: class == "http",
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
        assert_eq!(sniff(b"", &ALL), Sniff::NeedMore(1));
        assert_eq!(sniff(b"AB", &ALL), Sniff::NeedMore(3));
        assert_eq!(sniff(b"SS", &ALL), Sniff::NeedMore(3));
        assert_eq!(sniff(b"\x16", &ALL), Sniff::NeedMore(5));
        assert_eq!(sniff(b"\x16\x03\x01\x00\x10", &ALL), Sniff::NeedMore(21));
    }

    #[test]
    fn a_request_is_known_when_its_path_is() {
        let both = Interest { http: true, path: true, ..Interest::default() };
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
            assert_eq!(sniff(bytes.as_bytes(), &ALL), answer, "{bytes:?}");
        }
    }

    #[test]
    fn a_knock_is_96_letters_and_the_stream_behind_it() {
        let knock = [b'A', b'P'].repeat(LETTERS / 2);
        for have in 0..LETTERS {
            assert_eq!(sniff(&knock[..have], &ALL), Sniff::NeedMore(have + 1));
        }
        for behind in [&b""[..], b"SSH-2.0-x\r\n", b"P", b"\0"] {
            let bytes = [&knock, behind].concat();
            let Sniff::Found(Protocol::Letters(letters)) = sniff(&bytes, &ALL) else {
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
        let found = sniff(&[b'K'; LETTERS], &ALL);
        assert_eq!(format!("{found:?}"), "Found(letters)");
    }
}
