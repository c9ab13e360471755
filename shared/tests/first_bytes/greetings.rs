//! What clients of each protocol say first, as its specification has it. It never says what is thereby
//! decided: `protocols.rs` does.

use postern_shared::sniff::Kind;

/// The beginning of a connection.
pub(crate) struct Greeting {
    pub(crate) kind: Kind,
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// With how many bytes it can be told.
    pub(crate) told: usize,
    /// Which of them may be others.
    pub(crate) free: Vec<usize>,
}

pub(crate) fn greetings() -> Vec<Greeting> {
    [lines(), streams(), messages(), tunnels(), proxies(), requests(), databases(), queues()]
        .into_iter()
        .flatten()
        .collect()
}

fn lines() -> Vec<Greeting> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let key = format!("0 ?{} 17.1\n", "aZ9+/".repeat(8));
    vec![
        Greeting::of(Kind::Ssh, "OpenSSH", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", 4),
        Greeting::of(Kind::Http, "GET", b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 4),
        Greeting::of(Kind::Http, "a dash", b"M-SEARCH * HTTP/1.1\r\n\r\n", 9),
        Greeting::of(Kind::Http2, "preface and SETTINGS", preface, 24),
        Greeting::of(Kind::Tinc, "tinc 1.0", b"0 alice 17\n1 94 64 0 0 8F", 11),
        Greeting::of(Kind::Tinc, "tinc 1.1", b"0 Laptop_2 17.7\n", 16),
        Greeting::of(Kind::Tinc, "an invitation's answer", key.as_bytes(), key.len()),
    ]
}

fn streams() -> Vec<Greeting> {
    let namespaces =
        "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";
    let declared = |declaration: &str| format!("{declaration}<stream:stream {namespaces}");
    let told = |text: &str| text.find("<stream:stream").expect("its header") + 15;
    [
        ("no declaration", declared("")),
        ("a declaration", declared("<?xml version='1.0'?>")),
        ("a full one", declared("<?xml version=\"1.0\" encoding=\"UTF-8\" standalone='no' ?>\r\n")),
        (
            "its lines broken",
            declared("<?xml\n version='1.0'?>").replace("stream xmlns", "stream\nxmlns"),
        ),
    ]
    .into_iter()
    .map(|(what, text)| Greeting::of(Kind::Xmpp, what, text.as_bytes(), told(&text)))
    .collect()
}

fn messages() -> Vec<Greeting> {
    [
        ("RFC 5424", "<165>1 2003-10-11T22:14:15.003Z a.example evntslog - ID47 - text\n", 8),
        ("RFC 5424 without a time", "<0>1 - - - - - -\n", 6),
        (
            "RFC 5424, counted",
            "66 <34>1 2003-10-11T22:14:15.003Z a su - ID47 - 'su root' failed",
            10,
        ),
        ("RFC 3164", "<34>Oct 11 22:14:15 mymachine su: 'su root' failed\n", 11),
        ("RFC 3164, one digit", "<191>Feb  5 17:32:18 10.0.0.99 Use the BFG!\n", 12),
        ("RFC 3164, counted", "8192 <7>Dec 05 17:32:18 a b: c", 15),
        ("rsyslog", "<13>2026-11-21T08:54:00.123456+00:00 a root: text\n", 9),
    ]
    .into_iter()
    // Of a year two digits may be others, but they are digits, which no flipped bit leaves one.
    .map(|(what, text, told)| Greeting::of(Kind::Syslog, what, text.as_bytes(), told))
    .collect()
}

/// OpenVPN over TCP: each way to wrap the first packet.
fn tunnels() -> Vec<Greeting> {
    let session = b"\x99\x1c\xfe\0\x07\x3b\xa1\x5d";
    let time = b"\x66\xee\x01\x02";
    let packet = |opcode: u8, parts: &[&[u8]]| {
        let body = [&[opcode][..], session, &parts.concat()].concat();
        [&u16::try_from(body.len()).expect("short").to_be_bytes()[..], &body].concat()
    };
    let bare = |opcode| packet(opcode, &[&[0; 5]]);
    let auth = |digest: usize| packet(0x38, &[&vec![0xd1; digest], b"\0\0\0\x01", time, &[0; 5]]);
    let crypt = packet(0x38, &[b"\0\0\0\x01", time, &[0xc1; 32 + 5]]);
    let crypt_v2 = |id: &[u8], key: usize| {
        let len = u16::try_from(key + 2).expect("short").to_be_bytes();
        packet(0x50, &[id, time, &[0xc1; 32 + 5], &vec![0x5c; key], &len])
    };
    let of =
        |what, bytes: Vec<u8>, told| Greeting::of(Kind::OpenVpn, what, &bytes, told).free(3..11);
    vec![
        of("bare", bare(0x38), 16),
        of("bare, key method 1", bare(0x08), 16),
        of("tls-auth, MD5", auth(16), 40).free(11..35),
        of("tls-auth, SHA-1", auth(20), 44).free(11..39),
        of("tls-auth, SHA-256", auth(32), 56).free(11..51),
        of("tls-auth, SHA-512", auth(64), 88).free(11..83),
        of("tls-crypt", crypt, 15),
        of("tls-crypt-v2", crypt_v2(b"\x0f\0\0\x01", 32 + 256), 15).free(1..2),
        of("tls-crypt-v2 before 2.6", crypt_v2(b"\0\0\0\x01", 500), 15).free(1..2),
        of("tls-crypt-v2, the longest key", crypt_v2(b"\x0f\0\0\x01", 1022), 15),
    ]
}

fn proxies() -> Vec<Greeting> {
    let to = b"\x04\x01\x01\xbb\xc0\0\x02\x07";
    let named = b"\x04\x01\0\x50\0\0\0\x01me\0www.example.com\0";
    vec![
        Greeting::of(Kind::Socks4, "nobody", &[&to[..], b"\0"].concat(), 9).free(2..8),
        Greeting::of(Kind::Socks4, "a user", &[&to[..], b"me too\0"].concat(), 15).free(2..8),
        Greeting::of(Kind::Socks4, "bind", b"\x04\x02\0\x15\x0a\0\0\x01\0", 9).free(2..8),
        // With another first byte it is an address, and the user's name is all that comes.
        Greeting::of(Kind::Socks4, "4A", named, named.len()).free(2..5).free(7..8),
        Greeting::of(Kind::Socks5, "ssh's nc", b"\x05\x01\0", 3),
        Greeting::of(Kind::Socks5, "curl", b"\x05\x03\0\x01\x02", 5).free(2..5),
        Greeting::of(Kind::Socks5, "the request with it", b"\x05\x01\x02\x01\x01a\x01b", 3),
        Greeting::of(Kind::Socks5, "a private one first", b"\x05\x02\x80\0", 4).free(2..3),
    ]
}

fn requests() -> Vec<Greeting> {
    let rdp = |behind: &[u8]| {
        let len = u8::try_from(behind.len()).expect("short");
        [&[3, 0, 0, len + 11, len + 6, 0xe0, 0, 0, 0x12, 0x34, 0], behind].concat()
    };
    let of =
        |what, behind: &[u8], told| Greeting::of(Kind::Rdp, what, &rdp(behind), told).free(8..10);
    let cookie = b"Cookie: mstshash=eltons\r\n\x01\0\x08\0\x0b\0\0\0";
    let token = b"Cookie: msts=3640205228.15629.0000\r\n\x01\0\x08\0\x03\0\0\0";
    let adb = b"CNXN\x01\0\0\x01\0\0\x10\0\x0a\0\0\0\xa4\x03\0\0\xbc\xb1\xa7\xb1host::a=b\0";
    let old = b"CNXN\0\0\0\x01\0\x10\0\0\x07\0\0\0\x32\x02\0\0\xbc\xb1\xa7\xb1host::\0";
    vec![
        of("mstsc", cookie, 23),
        of("a token for a balancer", token, 23),
        of("negotiation alone", b"\x01\0\x08\0\x03\0\0\0", 15).free(12..13),
        of("Windows 2000", b"", 11),
        Greeting::of(Kind::Adb, "adb 1.0.41", adb, 24).free(8..13).free(16..20),
        Greeting::of(Kind::Adb, "adb 1.0.31", old, 24).free(8..13).free(16..20),
    ]
}

fn databases() -> Vec<Greeting> {
    let startup = |minor: u16, pairs: &str| {
        let len = u32::try_from(4 + 4 + pairs.len() + 1).expect("short");
        let head = [&len.to_be_bytes()[..], &[0, 3], &minor.to_be_bytes()].concat();
        [&head, pairs.as_bytes(), b"\0"].concat()
    };
    let psql = "user\0bob\0database\0shop\0application_name\0psql\0client_encoding\0UTF8\0";
    let of = |what, bytes: &[u8], told| Greeting::of(Kind::Postgres, what, bytes, told);
    vec![
        of("SSLRequest", b"\0\0\0\x08\x04\xd2\x16\x2f", 8),
        of("GSSENCRequest", b"\0\0\0\x08\x04\xd2\x16\x30", 8),
        of("CancelRequest", b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\x30\x39\xde\xad\xbe\xef", 8)
            .free(3..4),
        of("psql", &startup(0, psql), 13).free(3..4).free(7..8),
        of("protocol 3.2", &startup(2, psql), 13).free(3..4).free(7..8),
        of("one that is to be refused", &startup(9999, psql), 13).free(3..4),
        of("another order", &startup(0, "client_encoding\0UTF8\0user\0bob\0"), 24)
            .free(3..4)
            .free(7..8),
        of("the shortest", &startup(0, "user\0b\0"), 13).free(3..4).free(7..8),
    ]
}

fn queues() -> Vec<Greeting> {
    let of = |what, bytes: &[u8], told: usize| {
        // A bridge's version and a user's flag.
        Greeting::of(Kind::Mqtt, what, bytes, told).free(told - 2..told)
    };
    let long = [&b"\x10\xac\x02\0\x04MQTT\x04\x02\0\x3c\x01\x20"[..], &[b'x'; 288]].concat();
    vec![
        of("3.1.1", b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04sub1", 10),
        of("3.1.1 with a will", b"\x10\x15\0\x04MQTT\x04\x36\0\x3c\0\x01a\0\x02w/\0\x02no", 10)
            .free(1..1),
        of("5.0", b"\x10\x11\0\x04MQTT\x05\x02\0\x3c\0\0\x04sub1", 10),
        of("3.1", b"\x10\x12\0\x06MQIsdp\x03\x02\0\x3c\0\x04sub1", 12),
        of("a bridge", b"\x10\x10\0\x04MQTT\x84\x02\0\x3c\0\x04sub1", 10),
        of("nobody's id", b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", 10),
        of("a length of two bytes", &long, 11),
    ]
}

impl Greeting {
    fn of(kind: Kind, what: &'static str, bytes: &[u8], told: usize) -> Greeting {
        Greeting { kind, what, bytes: bytes.to_vec(), told, free: Vec::new() }
    }

    fn free(mut self, range: std::ops::Range<usize>) -> Greeting {
        self.free.extend(range);
        self
    }
}

/// What begins so, and is none by its last byte.
pub(crate) fn strangers() -> Vec<(Kind, &'static str, Vec<u8>)> {
    let of = |kind, what, bytes: &[u8]| (kind, what, bytes.to_vec());
    vec![
        of(Kind::OpenVpn, "an empty session", b"\0\x0e\x38\0\0\0\0\0\0\0\0"),
        of(Kind::OpenVpn, "a server's reset", b"\0\x0e\x40"),
        of(Kind::OpenVpn, "key id 1", b"\0\x0e\x39"),
        of(Kind::OpenVpn, "data", b"\0\x0e\x30"),
        of(Kind::OpenVpn, "a length between", b"\0\x0f"),
        of(Kind::OpenVpn, "longer than any", b"\x04\x37"),
        of(Kind::OpenVpn, "version 3 as short as version 2", b"\0\x36\x50"),
        of(Kind::OpenVpn, "version 2 as long as version 3", b"\x01\x58\x38"),
        of(Kind::Tinc, "protocol 16", b"0 alice 16"),
        of(Kind::Tinc, "protocol 170", b"0 alice 170"),
        of(Kind::Tinc, "no name", b"0  "),
        of(Kind::Tinc, "a dash", b"0 al-"),
        of(Kind::Tinc, "another request", b"1"),
        of(Kind::Tinc, "no minor", b"0 alice 17.\n"),
        of(Kind::Tinc, "a name too long", &[&b"0 "[..], &[b'a'; 256]].concat()),
        of(Kind::Xmpp, "HTML", b"<!"),
        of(Kind::Xmpp, "another document", b"<?xml version='1.0'?><m"),
        of(Kind::Xmpp, "a longer name", b"<stream:streams"),
        of(Kind::Xmpp, "a stylesheet", b"<?xml-"),
        of(Kind::Xmpp, "a declaration without end", &[&b"<?xml "[..], &[b' '; 101]].concat()),
        of(Kind::Xmpp, "a tag in the declaration", b"<?xml <"),
        of(Kind::Xmpp, "text before the stream", b"<?xml version='1.0'?>a"),
        of(Kind::Adb, "another command", b"O"),
        of(Kind::Adb, "another version", b"CNXN\x02"),
        of(Kind::Adb, "a megabyte of name", b"CNXN\x01\0\0\x01\0\0\x10\0\0\0\x10"),
        of(
            Kind::Adb,
            "the command for its magic",
            b"CNXN\x01\0\0\x01\0\0\x10\0\x07\0\0\0\0\0\0\0C",
        ),
        of(Kind::Socks4, "port 0", b"\x04\x01\0\0"),
        of(Kind::Socks4, "another command", b"\x04\x03"),
        of(Kind::Socks4, "0.0.0.0", b"\x04\x01\0\x50\0\0\0\0"),
        of(Kind::Socks4, "0.1.0.1", b"\x04\x01\0\x50\0\x01"),
        of(Kind::Socks4, "multicast", b"\x04\x01\0\x50\xe0"),
        of(Kind::Socks4, "a line in the name", b"\x04\x01\0\x50\x0a\0\0\x01me\n"),
        of(Kind::Socks4, "no name", b"\x04\x01\0\x50\0\0\0\x01\0\0"),
        of(
            Kind::Socks4,
            "a name too long",
            &[&b"\x04\x01\0\x50\x0a\0\0\x01"[..], &[b'a'; 256]].concat(),
        ),
        of(Kind::Socks5, "no methods", b"\x05\0"),
        of(Kind::Socks5, "more methods than there are", b"\x05\x11"),
        of(Kind::Socks5, "an unassigned one", b"\x05\x02\0\x04"),
        of(Kind::Socks5, "no acceptable one", b"\x05\x01\xff"),
        of(Kind::Socks5, "private ones alone", b"\x05\x02\x80\x81"),
        of(Kind::Syslog, "priority 192", b"<192"),
        of(Kind::Syslog, "a leading zero", b"<01"),
        of(Kind::Syslog, "no priority", b"<>"),
        of(Kind::Syslog, "version 2", b"<13>2 "),
        of(Kind::Syslog, "no timestamp", b"<13>1 a"),
        of(Kind::Syslog, "no month", b"<13>Fo"),
        of(Kind::Syslog, "no day", b"<13>Oct 4"),
        of(Kind::Syslog, "day and no more", b"<13>Oct 111"),
        of(Kind::Syslog, "a count alone", b"12 h"),
        of(Kind::Syslog, "a megabyte", b"1000000"),
        of(Kind::Syslog, "a count of nothing", b"0"),
        of(Kind::Rdp, "a connection confirm", b"\x03\0\0\x0b\x06\xd0"),
        of(Kind::Rdp, "S7, which is in the same wrapping", b"\x03\0\0\x16\x11\xe0\0\0\0\x01\0\xc0"),
        of(Kind::Rdp, "lengths that differ", b"\x03\0\0\x0b\x07"),
        of(Kind::Rdp, "shorter than its header", b"\x03\0\0\x0a"),
        of(Kind::Rdp, "a destination", b"\x03\0\0\x0b\x06\xe0\0\x01"),
        of(Kind::Rdp, "class 1", b"\x03\0\0\x0b\x06\xe0\0\0\0\0\x10"),
        of(Kind::Rdp, "half a negotiation", b"\x03\0\0\x0f\x0a\xe0\0\0\0\0\0\x01"),
        of(Kind::Postgres, "version 2", b"\0\0\x01\x28\0\x02"),
        of(Kind::Postgres, "a request too long", b"\0\0\0\x09\x04\xd2\x16\x2f"),
        of(Kind::Postgres, "to cancel without a key", b"\0\0\0\x0c\x04\xd2\x16\x2e"),
        of(Kind::Postgres, "no parameters", b"\0\0\0\x09\0"),
        of(Kind::Postgres, "an empty name", b"\0\0\0\x20\0\x03\0\0\0"),
        of(Kind::Postgres, "a name longer than all", b"\0\0\0\x10\0\x03\0\0user__"),
        of(Kind::Postgres, "longer than the server takes", b"\0\0\x27\x11"),
        of(Kind::Mqtt, "another packet", b"\x30"),
        of(Kind::Mqtt, "flags in the header", b"\x11"),
        of(Kind::Mqtt, "too short", b"\x10\x0b"),
        of(Kind::Mqtt, "a length longer than it need be", b"\x10\x8c\0"),
        of(Kind::Mqtt, "a length of four bytes", b"\x10\x80\x80\x80"),
        of(Kind::Mqtt, "3.1.1 by the name of 3.1", b"\x10\x10\0\x06MQIsdp\x04"),
        of(Kind::Mqtt, "3.1 by the name of 3.1.1", b"\x10\x10\0\x04MQTT\x03"),
        of(Kind::Mqtt, "the reserved flag", b"\x10\x10\0\x04MQTT\x04\x03"),
        of(Kind::Mqtt, "quality 3", b"\x10\x10\0\x04MQTT\x04\x1e"),
        of(Kind::Mqtt, "no will, but its quality", b"\x10\x10\0\x04MQTT\x04\x0a"),
        of(Kind::Http2, "a request", b"PRI * HTTP/1"),
        of(Kind::Ssh, "another word", b"SSL"),
    ]
}
