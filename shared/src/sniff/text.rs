//! Decides whether first bytes are those of a protocol that begins with a line of text. It never reads
//! further than it takes to tell them from every other.

use super::start::{Doubt, Start};

/// RFC 4253, section 4.2.
pub(super) fn ssh(mut start: Start<'_>) -> Result<(), Doubt> {
    start.literal(b"SSH-")
}

/// A method as nginx reads it, and the space behind it. HTTP/2's preface begins in the same way.
pub(super) fn http(mut start: Start<'_>) -> Result<(), Doubt> {
    /// UPDATEREDIRECTREF, the longest that is registered, has 17.
    const LONGEST_METHOD: usize = 24;
    start.byte(|byte| byte.is_ascii_uppercase())?;
    start.until(b' ', LONGEST_METHOD - 1, |byte| matches!(byte, b'A'..=b'Z' | b'_' | b'-'))
}

/// The preface of a client that knows that HTTP/2 is spoken here (RFC 9113, section 3.4).
pub(super) fn http2(mut start: Start<'_>) -> Result<(), Doubt> {
    start.literal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
}

/// The header of a stream (RFC 6120, section 4.2), behind an XML declaration or without one. Its prefix
/// is always `stream` (section 4.8.5), and no other vocabulary has an element of that name.
pub(super) fn xmpp(mut start: Start<'_>) -> Result<(), Doubt> {
    /// Version, encoding and standalone in their longest forms have 61.
    const LONGEST_DECLARATION: usize = 100;
    const LONGEST_GAP: usize = 16;
    let in_declaration =
        |byte: u8| byte.is_ascii_alphanumeric() || is_space(byte) || b"='\".-_".contains(&byte);
    start.literal(b"<")?;
    if start.one_of(&[b"?xml", b"s"])?.len() > 1 {
        start.byte(is_space)?;
        start.until(b'?', LONGEST_DECLARATION, in_declaration)?;
        start.literal(b">")?;
        start.until(b'<', LONGEST_GAP, is_space)?;
        start.literal(b"s")?;
    }
    start.literal(b"tream:stream")?;
    start.byte(is_space).map(|_| ())
}

/// The ID request that opens tinc's meta protocol, version 17 ever since tinc 1.0: a node's name or,
/// behind a question mark, the key of one who answers an invitation (tinc's manual, "The meta-protocol").
pub(super) fn tinc(mut start: Start<'_>) -> Result<(), Doubt> {
    /// A node's name is the name of its host file, too.
    const LONGEST_NAME: usize = 255;
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let in_key = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    start.literal(b"0 ")?;
    if start.byte(|byte| byte == b'?' || in_name(byte))? == b'?' {
        start.until(b' ', LONGEST_NAME, in_key)?;
    } else {
        start.until(b' ', LONGEST_NAME - 1, in_name)?;
    }
    start.literal(b"17")?;
    if start.one_of(&[b".", b"\n"])? == b"." {
        start.byte(|byte| byte.is_ascii_digit())?;
        start.until(b'\n', 2, |byte| byte.is_ascii_digit())?;
    }
    Ok(())
}

/// A message over TCP in either framing of RFC 6587: its priority, and then its version and timestamp
/// (RFC 5424, section 6), the timestamp of RFC 3164 (section 4.1.2), or the one that rsyslog writes
/// when it forwards: RFC 3339 without a version before it.
pub(super) fn syslog(mut start: Start<'_>) -> Result<(), Doubt> {
    /// Six digits: no collector takes a message of a megabyte.
    const LONGEST_COUNT: usize = 6;
    let is_digit = |byte: u8| byte.is_ascii_digit();
    if start.byte(|byte| matches!(byte, b'<' | b'1'..=b'9'))? != b'<' {
        start.until(b' ', LONGEST_COUNT - 1, is_digit)?;
        start.literal(b"<")?;
    }
    priority(&mut start)?;
    let time = start.one_of(&[
        b"1 ", b"20", b"Jan ", b"Feb ", b"Mar ", b"Apr ", b"May ", b"Jun ", b"Jul ", b"Aug ",
        b"Sep ", b"Oct ", b"Nov ", b"Dec ",
    ])?;
    match time {
        b"1 " => start.byte(|byte| byte == b'-' || is_digit(byte)).map(|_| ()),
        b"20" => {
            start.byte(is_digit)?;
            start.byte(is_digit)?;
            start.literal(b"-")
        }
        _ => {
            start.byte(|byte| matches!(byte, b' ' | b'0'..=b'3'))?;
            start.byte(is_digit)?;
            start.literal(b" ")
        }
    }
}

/// 0 to 191 without leading zeros, and the bracket behind it.
fn priority(start: &mut Start<'_>) -> Result<(), Doubt> {
    const MOST: u16 = 23 * 8 + 7;
    let value = |digit: u8| u16::from(digit) - u16::from(b'0');
    let mut priority = value(start.byte(|byte| byte.is_ascii_digit())?);
    let may_follow = |priority: u16, byte: u8| {
        byte == b'>'
            || (byte.is_ascii_digit() && priority > 0 && priority * 10 + value(byte) <= MOST)
    };
    loop {
        match start.byte(|byte| may_follow(priority, byte))? {
            b'>' => return Ok(()),
            digit => priority = priority * 10 + value(digit),
        }
    }
}

/// White space as XML has it.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}
