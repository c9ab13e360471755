//! Decides whether the bytes of a connection begin with a complete TLS ClientHello, however it was
//! cut into segments and records, and what it says. It never guesses: whatever a strict reading of
//! RFC 8446 would refuse is malformed, and a malformed hello is the website's to answer.

use std::collections::BTreeSet;
use std::fmt;

use crate::reader::Reader;

/// What a parser of a connection's first bytes can say.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse<T> {
    /// The least number of bytes, counted from the connection's start, that can change the answer.
    NeedMore(usize),
    Found(T),
    Malformed,
}

/// The whole hello lies within this many first bytes of a connection, record headers included, so
/// a peek buffer of this size is always large enough. The largest in the wild, post-quantum key
/// shares and a padded ticket included, stay under 4 KiB.
pub const MAX_HELLO: usize = 16 * 1024;

/// First byte of a record that carries handshake messages (RFC 8446, 5.1).
pub(crate) const HANDSHAKE: u8 = 22;

const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
const RANDOM: usize = 32;
/// Where the session id begins in the handshake message: behind its header, two bytes of legacy version,
/// the random, and the id's own length.
pub const SESSION_ID: usize = MESSAGE_HEADER + 2 + RANDOM + 1;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const TLS13: u16 = 0x0304;

#[derive(Clone, PartialEq, Eq)]
pub struct ClientHello {
    message: Vec<u8>,
    random: [u8; RANDOM],
    session_id: Vec<u8>,
    sni: Option<HostName>,
    /// The list as it came, checked: as a Vec of Vecs, 16 KiB of it would take half a megabyte.
    alpn: Vec<u8>,
    offers_tls13: bool,
    len: usize,
}

impl ClientHello {
    /// Reads a hello from a connection's first bytes; what lies behind it is not looked at.
    ///
    /// A server that speaks TLS answers a bad record at its header and everything else at the
    /// record's end, so these are the only places where this asks for more.
    pub fn parse(bytes: &[u8]) -> Parse<Self> {
        match bytes.first() {
            None => return Parse::NeedMore(1),
            Some(&HANDSHAKE) => {}
            Some(_) => return Parse::Malformed,
        }
        let mut records = Reader::new(bytes);
        let mut message = Vec::new();
        loop {
            let start = bytes.len() - records.left();
            let Some([kind, major, _minor, high, low]) = records.array::<RECORD_HEADER>() else {
                return Parse::NeedMore(start + RECORD_HEADER);
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            let end = start + RECORD_HEADER + len;
            if kind != HANDSHAKE || major != 3 || len == 0 || end > MAX_HELLO {
                return Parse::Malformed;
            }
            let Some(fragment) = records.take(len) else {
                return Parse::NeedMore(end);
            };
            message.extend_from_slice(fragment);
            match missing(&message) {
                Some(0) => return Self::read(message, end).map_or(Parse::Malformed, Parse::Found),
                Some(n) if end + RECORD_HEADER + n <= MAX_HELLO => {}
                _ => return Parse::Malformed,
            }
        }
    }

    /// The handshake message with its four-byte header, without the headers of the records.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    pub fn random(&self) -> &[u8; RANDOM] {
        &self.random
    }

    pub fn session_id(&self) -> &[u8] {
        &self.session_id
    }

    pub fn sni(&self) -> Option<&HostName> {
        self.sni.as_ref()
    }

    /// The protocol names in the client's order of preference.
    pub fn alpn(&self) -> impl Iterator<Item = &[u8]> {
        let mut list = Reader::new(&self.alpn);
        std::iter::from_fn(move || vec8(&mut list).map(|mut name| name.rest()))
    }

    pub fn offers_tls13(&self) -> bool {
        self.offers_tls13
    }

    /// How many of the connection's bytes are records of this hello.
    #[expect(clippy::len_without_is_empty, reason = "there is no empty hello")]
    pub fn len(&self) -> usize {
        self.len
    }

    fn read(message: Vec<u8>, len: usize) -> Option<Self> {
        let mut body = Reader::new(message.get(MESSAGE_HEADER..)?);
        let _legacy_version = body.u16()?;
        let random = body.array()?;
        let session_id = vec8(&mut body)?.rest().to_vec();
        let suites = vec16(&mut body)?;
        let compression = vec8(&mut body)?;
        // Before TLS 1.2 a hello could end here.
        let mut extensions = if body.is_empty() { body.clone() } else { vec16(&mut body)? };
        if session_id.len() > 32
            || suites.is_empty()
            || !suites.left().is_multiple_of(2)
            || compression.is_empty()
            || !body.is_empty()
        {
            return None;
        }

        let (mut sni, mut alpn, mut offers_tls13) = (None, Vec::new(), false);
        let mut seen = BTreeSet::new();
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let data = vec16(&mut extensions)?;
            if !seen.insert(kind) {
                return None;
            }
            match kind {
                SERVER_NAME => sni = Some(server_name(data)?),
                ALPN => alpn = protocol_list(data)?.to_vec(),
                SUPPORTED_VERSIONS => offers_tls13 = lists_tls13(data)?,
                _ => {}
            }
        }
        Some(Self { message, random, session_id, sni, alpn, offers_tls13, len })
    }
}

/// Without the random and the session id: in the hello carrier these are the knock.
impl fmt::Debug for ClientHello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHello")
            .field("sni", &self.sni)
            .field("offers_tls13", &self.offers_tls13)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A host name as routes and certificates compare it: ASCII, lower case, no trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Folds case and drops one trailing dot, as nginx does, so that no spelling of a name slips
    /// past a rule; refuses every byte (NUL above all) at which two readers could part ways.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let name = bytes.strip_suffix(b".").unwrap_or(bytes);
        let in_label = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let is_label = |label: &[u8]| (1..=63).contains(&label.len()) && label.iter().all(in_label);
        if name.len() > 253 || !name.split(|b| *b == b'.').all(is_label) {
            return None;
        }
        String::from_utf8(name.to_ascii_lowercase()).ok().map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many bytes the message lacks, if it is a ClientHello and nothing lies behind it: a second
/// message in the last record could only be meant for another reader than this one.
fn missing(message: &[u8]) -> Option<usize> {
    let mut handshake = Reader::new(message);
    if handshake.u8()? != CLIENT_HELLO {
        return None;
    }
    let Some(body) = handshake.u24() else {
        return Some(MESSAGE_HEADER - message.len());
    };
    usize::try_from(body).ok()?.checked_sub(handshake.left())
}

/// RFC 6066, section 3: a list, in which servers have only ever agreed on one entry.
fn server_name(mut data: Reader<'_>) -> Option<HostName> {
    const HOST_NAME: u8 = 0;
    let mut list = vec16(&mut data)?;
    let kind = list.u8()?;
    let name = vec16(&mut list)?.rest();
    let alone = kind == HOST_NAME && list.is_empty() && data.is_empty();
    HostName::parse(name).filter(|_| alone)
}

/// RFC 7301, section 3.1: at least one name, none of them empty.
fn protocol_list(mut data: Reader<'_>) -> Option<&[u8]> {
    let list = vec16(&mut data)?.rest();
    let mut names = Reader::new(list);
    while !names.is_empty() {
        if vec8(&mut names)?.is_empty() {
            return None;
        }
    }
    (data.is_empty() && !list.is_empty()).then_some(list)
}

/// RFC 8446, section 4.2.1: at least one version.
fn lists_tls13(mut data: Reader<'_>) -> Option<bool> {
    let mut list = vec8(&mut data)?;
    if list.is_empty() || !list.left().is_multiple_of(2) || !data.is_empty() {
        return None;
    }
    Some(std::iter::from_fn(|| list.u16()).any(|version| version == TLS13))
}

/// What follows a length of one byte.
fn vec8<'a>(from: &mut Reader<'a>) -> Option<Reader<'a>> {
    let len = from.u8()?;
    from.sub(usize::from(len))
}

/// What follows a length of two bytes.
fn vec16<'a>(from: &mut Reader<'a>) -> Option<Reader<'a>> {
    let len = from.u16()?;
    from.sub(usize::from(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &[u8]) -> Option<String> {
        HostName::parse(name).map(|name| name.to_string())
    }

    #[test]
    fn host_names_are_folded() {
        for (name, folded) in [
            ("example.com", "example.com"),
            ("EXAMPLE.Com", "example.com"),
            ("example.com.", "example.com"),
            ("_sip.a-b.example", "_sip.a-b.example"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(host(name.as_bytes()).as_deref(), Some(folded));
        }
    }

    #[test]
    fn whatever_is_no_host_name_is_refused() {
        for name in ["", ".", "..", ".a", "a..", "a..b", "good.example\0.evil", "bücher.example"] {
            assert_eq!(host(name.as_bytes()), None, "{name:?}");
        }
        let foreign = |b: &u8| !b.is_ascii_alphanumeric() && !b"-_.".contains(b);
        for byte in (0..=u8::MAX).filter(foreign) {
            assert_eq!(host(&[b'a', byte, b'b']), None, "{byte}");
            assert_eq!(host(&[b'a', byte]), None, "{byte}");
        }
    }

    #[test]
    fn host_names_have_the_lengths_of_dns() {
        let label = |n: usize| "a".repeat(n);
        assert!(host(label(63).as_bytes()).is_some());
        assert!(host(label(64).as_bytes()).is_none());
        let longest = [label(63), label(63), label(63), label(61)].join(".");
        assert_eq!(longest.len(), 253);
        assert!(host(longest.as_bytes()).is_some());
        assert!(host(format!("{longest}.").as_bytes()).is_some());
        assert!(host(format!("{longest}a").as_bytes()).is_none());
    }
}
