//! Decides whether first bytes are those of a protocol that begins with numbers: lengths, versions,
//! opcodes. It never reads further than what their formats fix, nor what lies behind a first message.

use super::start::{Doubt, Start};

/// Of OpenVPN over TCP the first packet, behind its length.
pub(super) fn openvpn(mut start: Start<'_>) -> Result<(), Doubt> {
    let len = start.number::<2>(BARE..=*CRYPT_V2.end())?;
    openvpn_packet(start, len, 1)
}

/// Opcode, session id, no acknowledgements and packet id 0.
const BARE: usize = 14;
const WRAPPED: usize = BARE + 4 + 4;
const CRYPT: usize = WRAPPED + 32;
/// A wrapped key holds a tag, 256 bytes of key and its own length, and has at most 1024.
const CRYPT_V2: std::ops::RangeInclusive<usize> = CRYPT + 32 + 256 + 2..=CRYPT + 1024;

/// Of OpenVPN the first packet, which resets the peer (OpenVPN's doc/doxygen, "Control channel" and
/// "tls-crypt-v2"). tls-auth puts an HMAC, a packet id and the time into the bare one; tls-crypt encrypts
/// what is behind them; tls-crypt-v2 adds the client's wrapped key at the end. `last` is the last of the
/// packet ids of the wrapping that it may have, of which each resending takes one.
pub(super) fn openvpn_packet(mut start: Start<'_>, len: usize, last: u8) -> Result<(), Doubt> {
    /// By the length of the digest: MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512.
    const AUTH: [usize; 6] =
        [WRAPPED + 16, WRAPPED + 20, WRAPPED + 28, WRAPPED + 32, WRAPPED + 48, WRAPPED + 64];
    /// Opcode and key id 0 in one byte: P_CONTROL_HARD_RESET_CLIENT_V1, _V2, _V3.
    const RESET_V1: u8 = 1 << 3;
    const RESET_V2: u8 = 7 << 3;
    const RESET_V3: u8 = 10 << 3;

    let is_short = len == BARE || AUTH.contains(&len);
    let is_v2 = CRYPT_V2.contains(&len);
    if !is_short && !is_v2 {
        return Err(Doubt::Other);
    }
    let opcode = start.byte(|opcode| match opcode {
        RESET_V1 | RESET_V2 => is_short,
        RESET_V3 => is_v2,
        _ => false,
    })?;
    if start.array()? == [0; 8] {
        return Err(Doubt::Other);
    }
    if opcode == RESET_V3 {
        return packet_id(start, last);
    }
    if len == CRYPT {
        // As long as with an HMAC of SHA-256.
        match packet_id(start.clone(), last) {
            Err(Doubt::Other) => {}
            told => return told,
        }
    }
    start.skip(len - BARE);
    start.literal(&[0; 5])
}

/// Of the wrapping. Counted from 1, or from 0x0f000000 by who can resend a wrapped key.
fn packet_id(mut start: Start<'_>, last: u8) -> Result<(), Doubt> {
    start.byte(|byte| matches!(byte, 0 | 0x0f))?;
    start.literal(&[0, 0])?;
    start.byte(|byte| byte <= last).map(|_| ())
}

/// The CONNECT message of the Android Debug Bridge, with the complement of its command at its end
/// (AOSP, packages/modules/adb/protocol.txt).
pub(super) fn adb(mut start: Start<'_>) -> Result<(), Doubt> {
    start.literal(b"CNXN")?;
    start.byte(|version| version <= 1)?;
    start.literal(&[0, 0, 1])?;
    // The largest payload, and the length of this one, which is less than 4097: nothing else was agreed yet.
    start.skip(4 + 1);
    start.byte(|length| length <= 0x10)?;
    start.literal(&[0, 0])?;
    // A checksum, that newer versions leave 0.
    start.skip(4);
    start.literal(&b"CNXN".map(|byte| !byte))
}

/// A request of SOCKS 4 or 4A to connect or to bind. Few of its bytes are fixed, so all are looked at.
pub(super) fn socks4(mut start: Start<'_>) -> Result<(), Doubt> {
    const LONGEST_TEXT: usize = 255;
    start.literal(&[4])?;
    start.byte(|command| matches!(command, 1 | 2))?;
    if start.array()? == [0, 0] {
        return Err(Doubt::Other);
    }
    // 0.0.0.x stands for a name behind the user id, and nothing else is connected to below 1 or above 223.
    let is_named = start.byte(|byte| byte < 224)? == 0;
    if is_named {
        start.literal(&[0, 0])?;
        start.byte(|byte| byte > 0)?;
    } else {
        start.skip(3);
    }
    start.until(0, LONGEST_TEXT, |byte| byte == b' ' || byte.is_ascii_graphic())?;
    if is_named {
        start.byte(|byte| byte.is_ascii_graphic())?;
        start.until(0, LONGEST_TEXT - 1, |byte| byte.is_ascii_graphic())?;
    }
    Ok(())
}

/// The methods that a client of SOCKS 5 offers (RFC 1928, section 3): as many as it says, and at least
/// one that IANA has assigned. That is little, so every byte of it counts.
pub(super) fn socks5(mut start: Start<'_>) -> Result<(), Doubt> {
    /// Nine are assigned.
    const MOST_METHODS: u8 = 16;
    let is_assigned = |method: u8| matches!(method, 0..=3 | 5..=9);
    let is_private = |method: u8| matches!(method, 0x80..=0xfe);
    start.literal(&[5])?;
    let methods = start.byte(|methods| (1..=MOST_METHODS).contains(&methods))?;
    let mut any_assigned = false;
    for left in (0..methods).rev() {
        let method = start.byte(|method| {
            is_assigned(method) || (is_private(method) && (any_assigned || left > 0))
        })?;
        any_assigned |= is_assigned(method);
    }
    Ok(())
}

/// An X.224 connection request in a TPKT (MS-RDPBCGR, section 2.2.1.1), with the cookie, routing token or
/// negotiation request that tell it from those of other protocols in the same wrapping.
pub(super) fn rdp(mut start: Start<'_>) -> Result<(), Doubt> {
    const TPKT_HEADER: usize = 4;
    const BARE: usize = TPKT_HEADER + 7;
    const NEGOTIATION: usize = 8;
    start.literal(&[3, 0])?;
    // The indicator in the next byte does not count itself, and is at most 254.
    let len = start.number::<2>(BARE..=TPKT_HEADER + 1 + 254)?;
    start.byte(|indicator| TPKT_HEADER + 1 + usize::from(indicator) == len)?;
    // Connection request, no destination yet.
    start.literal(&[0xe0, 0, 0])?;
    start.skip(2);
    start.literal(&[0])?;
    if len == BARE {
        return Ok(());
    }
    if start.one_of(&[b"Cookie: msts", b"tsv:", &[1]])?.len() > 1 {
        return Ok(());
    }
    if len < BARE + NEGOTIATION {
        return Err(Doubt::Other);
    }
    start.skip(1);
    start.literal(&[8, 0])
}

/// What a client of PostgreSQL may say first (its manual, "Message Formats"): that it asks for TLS, for
/// GSSAPI, to cancel a query, or a StartupMessage of version 3 as far as its first parameter's name.
pub(super) fn postgres(mut start: Start<'_>) -> Result<(), Doubt> {
    /// The server's MAX_STARTUP_PACKET_LENGTH.
    const LONGEST: usize = 10_000;
    const CODE: usize = 4 + 4;
    /// `user`, without which there is no session, its value of one letter, and the end.
    const SHORTEST_STARTUP: usize = CODE + 5 + 2 + 1;
    const LONGEST_NAME: usize = 63;
    let len = start.number::<4>(CODE..=LONGEST)?;
    if start.byte(|byte| byte == 4 || (byte == 0 && len >= SHORTEST_STARTUP))? == 4 {
        start.literal(&[0xd2, 0x16])?;
        let code = |code| match code {
            // Behind it a process id and a key of 4 to 256 bytes.
            0x2e => (CODE + 8..=CODE + 4 + 256).contains(&len),
            0x2f | 0x30 => len == CODE,
            _ => false,
        };
        return start.byte(code).map(|_| ());
    }
    start.literal(&[3])?;
    // 0 and 2 are in use, 9999 is what newer clients say to see it refused.
    start.number::<2>(0..=9999)?;
    start.byte(|byte| byte.is_ascii_alphabetic() || byte == b'_')?;
    let longest = LONGEST_NAME.min(len - CODE - 3) - 1;
    start.until(0, longest, |byte| byte.is_ascii_graphic())
}

/// The CONNECT packet (MQTT 3.1.1 and 5.0, section 3.1) as far as its flags. MQTT 3.1 had a longer name;
/// mosquitto's bridges set the highest bit of the version.
pub(super) fn mqtt(mut start: Start<'_>) -> Result<(), Doubt> {
    /// The variable header and an empty client id.
    const SHORTEST: u8 = 12;
    const CONTINUES: u8 = 0x80;
    const RESERVED: u8 = 1;
    const WILL: u8 = 1 << 2;
    const WILL_QOS: u8 = 3 << 3;
    const WILL_RETAIN: u8 = 1 << 5;
    start.literal(&[0x10])?;
    // Two megabytes, in three bytes, are far more than what a first packet can have to say.
    if start.byte(|length| length >= SHORTEST)? >= CONTINUES
        && start.byte(|length| length > 0)? >= CONTINUES
    {
        start.byte(|length| (1..CONTINUES).contains(&length))?;
    }
    let is_old = start.one_of(&[b"\0\x04MQTT", b"\0\x06MQIsdp"])?.len() > 6;
    start.byte(|version| match version & 0x7f {
        3 => is_old,
        4 | 5 => !is_old,
        _ => false,
    })?;
    let flags = |flags: u8| {
        let without_will = flags & (WILL_QOS | WILL_RETAIN) == 0;
        flags & RESERVED == 0 && flags & WILL_QOS != WILL_QOS && (flags & WILL > 0 || without_will)
    };
    start.byte(flags).map(|_| ())
}
