//! Decides from a connection's first bytes which protocol they are, or how many more must come
//! before that can be told. It never asks for bytes that could not change the answer, and never
//! takes an answer back when more bytes arrive.

mod binary;
pub mod datagram;
mod kind;
mod start;
mod text;

use std::fmt;

pub use self::kind::{Kind, Kinds};
use self::start::{Doubt, Start};
use crate::hello::{ClientHello, HANDSHAKE, Parse};

/// The classes that some carrier or route could act on. Bytes are held for no other: for a class
/// that interests nobody the website must get to speak as early as it would alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub kinds: Kinds,
    pub letters: bool,
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
    /// Any but TLS, of which there is a hello to tell.
    Plain(Kind),
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

/// All protocols but TLS, in the order in which they are believed. A later one waits until the earlier
/// are ruled out, or an answer would be taken back. The same bytes can be two of them where a method
/// begins with "SSH-", where HTTP/2's preface reads as a request, and where OpenVPN's packet has 1025 or
/// 1026 bytes and a session id that reads as the rest of a SOCKS 4 request: nobody has metadata of such
/// a length in his key, whereas a SOCKS client says no more before it is answered.
const ORDER: [Kind; 13] = [
    Kind::Ssh,
    Kind::Http2,
    Kind::Tinc,
    Kind::Xmpp,
    Kind::Adb,
    Kind::Socks4,
    Kind::Socks5,
    Kind::OpenVpn,
    Kind::Syslog,
    Kind::Rdp,
    Kind::Postgres,
    Kind::Mqtt,
    Kind::Http,
];

pub fn sniff(bytes: &[u8], interest: &Interest) -> Sniff {
    let early = [
        interest.kinds.contains(Kind::Tls).then(|| tls(bytes)),
        interest.letters.then(|| letters(bytes)),
    ];
    for answer in early.into_iter().flatten() {
        match answer {
            Sniff::Unknown => {}
            Sniff::NeedMore(_) | Sniff::Found(_) | Sniff::Malformed => return answer,
        }
    }
    let word = word(bytes, interest);
    for kind in ORDER.into_iter().filter(|kind| interest.kinds.contains(*kind)) {
        // A request may be seen to be one before its path has come.
        if let (Kind::Http, Some(more)) = (kind, word) {
            return Sniff::NeedMore(more);
        }
        match plain(kind, Start::of(bytes)) {
            Ok(()) => return Sniff::Found(Protocol::Plain(kind)),
            Err(Doubt::More(more)) => return Sniff::NeedMore(more),
            Err(Doubt::Other) => {}
        }
    }
    word.map_or(Sniff::Unknown, Sniff::NeedMore)
}

impl Protocol {
    /// What a route may call it: letters are nobody's protocol.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Tls(_) => Some(Kind::Tls),
            Self::Letters(_) => None,
            Self::Plain(kind) => Some(*kind),
        }
    }

    pub fn name(&self) -> &'static str {
        self.kind().map_or("letters", Kind::name)
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

fn plain(kind: Kind, start: Start<'_>) -> Result<(), Doubt> {
    match kind {
        // Only with its hello.
        Kind::Tls => Err(Doubt::Other),
        Kind::Ssh => text::ssh(start),
        Kind::Http => text::http(start),
        Kind::Http2 => text::http2(start),
        Kind::OpenVpn => binary::openvpn(start),
        Kind::Tinc => text::tinc(start),
        Kind::Xmpp => text::xmpp(start),
        Kind::Adb => binary::adb(start),
        Kind::Socks4 => binary::socks4(start),
        Kind::Socks5 => binary::socks5(start),
        Kind::Syslog => text::syslog(start),
        Kind::Rdp => binary::rdp(start),
        Kind::Postgres => binary::postgres(start),
        Kind::Mqtt => binary::mqtt(start),
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

#[cfg(test)]
mod tests;
