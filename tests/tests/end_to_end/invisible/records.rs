//! What a TLS server says before encryption begins, without what is random in it.

use std::hash::{DefaultHasher, Hash, Hasher};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

const SERVER_HELLO: u8 = 2;
const SERVER_KEY_EXCHANGE: u8 = 12;

const KEY_SHARE: u16 = 51;
const SUPPORTED_VERSIONS: u16 = 43;
const RANDOM: usize = 32;

/// A ServerHello with this random is a HelloRetryRequest (RFC 8446, 4.1.3): its first bytes.
const RETRY: &[u8] = &[0xcf, 0x21, 0xad, 0x74];
/// What a random ends with after a downgrade (ibid.): but for the last byte, which says to what.
const DOWNGRADE: &[u8] = b"DOWNGRD";

/// A line for each record, then one for each handshake message; `None` if these are no TLS records.
pub(crate) fn describe(bytes: &[u8]) -> Option<Vec<String>> {
    let (mut lines, mut messages, mut encrypted) = (Vec::new(), Vec::new(), false);
    let mut rest = bytes;
    while !rest.is_empty() {
        let [kind @ CHANGE_CIPHER_SPEC..=APPLICATION_DATA, 3, minor, high, low, ..] = *rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let body = rest.get(5..5 + length)?;
        rest = &rest[5 + length..];
        let content = match kind {
            ALERT if length == 2 => format!(" level {} description {}", body[0], body[1]),
            _ => String::new(),
        };
        lines.push(format!("record {kind} version 3.{minor} length {length}{content}"));
        encrypted |= kind == CHANGE_CIPHER_SPEC;
        if kind == HANDSHAKE && !encrypted {
            messages.extend_from_slice(body);
        }
    }
    lines.extend(describe_messages(&messages)?);
    (!bytes.is_empty()).then_some(lines)
}

/// The first ServerHello among these records, without what is random.
pub(crate) fn server_hello(bytes: &[u8]) -> Option<String> {
    describe(bytes)?.into_iter().find(|line| line.starts_with("ServerHello"))
}

fn describe_messages(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let [kind, a, b, c, ..] = *rest else { return None };
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let body = rest.get(4..4 + length)?;
        rest = &rest[4 + length..];
        lines.push(match kind {
            SERVER_HELLO => describe_hello(body)?,
            SERVER_KEY_EXCHANGE => format!("ServerKeyExchange length {length}"),
            _ => {
                let mut hash = DefaultHasher::new();
                body.hash(&mut hash);
                format!("message {kind} length {length} hash {:016x}", hash.finish())
            }
        });
    }
    Some(lines)
}

fn describe_hello(body: &[u8]) -> Option<String> {
    let (version, body) = body.split_at_checked(2)?;
    let (random, body) = body.split_at_checked(RANDOM)?;
    let (length, body) = body.split_first()?;
    let (session_id, body) = body.split_at_checked(usize::from(*length))?;
    let (cipher, body) = body.split_at_checked(2)?;
    let (compression, body) = body.split_first()?;
    let extensions = extensions(body)?;
    let random = match random {
        retry if retry.starts_with(RETRY) => "retry".to_owned(),
        random if random[24..31] == *DOWNGRADE => format!("downgrade to {}", random[31]),
        _ => "any".to_owned(),
    };
    // TLS 1.3 sends the client's own back; before that the server chose it.
    let tls13 = extensions.iter().any(|(kind, _)| *kind == SUPPORTED_VERSIONS);
    let session_id = match tls13 {
        true => format!("{session_id:02x?}"),
        false => format!("of {length} bytes"),
    };
    let shown = extensions.iter().map(|(kind, data)| match *kind {
        // The group, or the group and the length of a key.
        KEY_SHARE => format!("{kind}={:02x?} of {} bytes", &data[..data.len().min(4)], data.len()),
        _ => format!("{kind}={data:02x?}"),
    });
    let shown = shown.collect::<Vec<_>>().join(" ");
    Some(format!(
        "ServerHello version {version:?} random {random} session id {session_id} \
         cipher {cipher:02x?} compression {compression} extensions {shown}"
    ))
}

fn extensions(body: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    // Before TLS 1.2 there may be none.
    let mut rest = body.get(2..).unwrap_or_default();
    let mut extensions = Vec::new();
    while let [a, b, c, d, ..] = *rest {
        let length = usize::from(u16::from_be_bytes([c, d]));
        extensions.push((u16::from_be_bytes([a, b]), rest.get(4..4 + length)?));
        rest = &rest[4 + length..];
    }
    Some(extensions)
}
