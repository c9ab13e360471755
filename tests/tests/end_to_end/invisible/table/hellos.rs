//! ClientHellos that are cut, slow, bent or followed by what does not belong there.

use std::time::Duration;

use super::{PAUSE, noise};
use crate::invisible::hello::{
    ALPN, EARLY_DATA, GROUPS, Hello, KEY_SHARE, PADDING, SERVER_NAME, SUPPORTED_VERSIONS, alpn,
    key_share, message, record, server_name, vec8, vec16,
};
use crate::invisible::probe::Probe;

const CHANGE_CIPHER_SPEC: [u8; 6] = [20, 3, 3, 0, 1, 1];
const CLOSE_NOTIFY: [u8; 7] = [21, 3, 3, 0, 2, 1, 0];
const HANDSHAKE_FAILURE: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];

/// Where the fields of a hello in one record begin, and the last byte.
const CUTS: [usize; 12] = [1, 2, 3, 5, 6, 9, 11, 43, 44, 76, 80, usize::MAX];

/// A hello of which the rest never comes.
pub(crate) fn cut() -> Vec<Probe> {
    let hello = Hello::modern().record();
    let cut = |at: usize| {
        let at = at.min(hello.len() - 1);
        Probe::new(format!("a hello cut at {at}"), &hello[..at])
    };
    let fin = CUTS.iter().map(|at| cut(*at).half_closing());
    let rst = [5, 43].iter().map(|at| cut(*at).resetting());
    CUTS.iter().map(|at| cut(*at)).chain(fin).chain(rst).collect()
}

/// A good hello that takes its time.
pub(crate) fn paced() -> Vec<Probe> {
    let hello = Hello::modern();
    let whole = hello.record();
    let half = whole.len() / 2;
    let thirty = Duration::from_millis(30);
    vec![
        Probe::slowly("a hello in two segments", whole.clone(), half + 1, PAUSE),
        Probe::slowly("a hello in three segments", whole.clone(), whole.len() / 3 + 1, PAUSE),
        Probe::slowly("a hello in twenty segments", whole.clone(), whole.len() / 20 + 1, thirty),
        Probe::slowly("a hello in segments of five bytes", whole.clone(), 5, PAUSE / 30),
        Probe::new("a record header, then the rest", &whole[..5])
            .pausing(PAUSE)
            .sending(&whole[5..]),
        Probe::slowly("two records in two segments", hello.records(150), 155, PAUSE),
        Probe::slowly("half a hello, the rest too late", whole.clone(), half + 1, PAUSE * 12),
        Probe::slowly("a hello over the website's patience", whole, half / 3, PAUSE * 3),
    ]
}

pub(crate) fn probes() -> Vec<Probe> {
    let modern = Hello::modern;
    let whole = modern().record();
    let behind = |bytes: &[u8]| [&whole, bytes].concat();
    let mut probes = vec![
        Probe::new("a hello", &*whole),
        Probe::new("a hello", &*whole).half_closing(),
        Probe::new("a hello", &*whole).resetting(),
        Probe::new("a hello of TLS 1.2", Hello::tls12().record()),
        Probe::new("a hello of TLS 1.2", Hello::tls12().record()).half_closing(),
        Probe::new("a hello in two records", modern().records(150)),
        Probe::new("a hello in records of one byte", modern().records(1)),
        Probe::new("a hello in 600 records", padded(600).records(1)),
        Probe::new("hello, garbage", behind(&noise(0x51, 100))),
        Probe::new("hello, letters", behind(&[b'A'; 96])),
        Probe::new("hello, application data", behind(&record(23, 0x0303, &noise(1, 40)))),
        Probe::new("hello, hello", behind(&whole)),
        Probe::new("hello, close notify", behind(&CLOSE_NOTIFY)),
        Probe::new("hello, handshake failure", behind(&HANDSHAKE_FAILURE)),
        Probe::new("hello, a Finished in the clear", behind(&finished())),
        Probe::new("hello, an empty record", behind(&[23, 3, 3, 0, 0])),
        Probe::new("hello, a heartbeat", behind(&record(24, 0x0303, &[1, 0x40, 0]))),
        Probe::new("hello, a record too long", behind(&[23, 3, 3, 0xff, 0xff])),
        Probe::new("hello, a request in the clear", behind(b"GET / HTTP/1.1\r\n\r\n")),
        Probe::new("close notify, hello", [&CLOSE_NOTIFY[..], &whole].concat()),
        Probe::new("change cipher spec, hello", [&CHANGE_CIPHER_SPEC[..], &whole].concat()),
        Probe::new("an alert", CLOSE_NOTIFY),
        Probe::new("application data first", record(23, 0x0303, &noise(1, 40))),
        Probe::new("a heartbeat first", record(24, 0x0303, &[1, 0x40, 0])),
        Probe::new("a ServerHello", record(22, 0x0303, &message(2, &noise(3, 70)))),
        Probe::new("an empty message", record(22, 0x0301, &message(1, &[]))),
        Probe::new("an empty record", [22, 3, 1, 0, 0]),
        Probe::new("an empty record, hello", [&[22, 3, 1, 0, 0][..], &whole].concat()),
        Probe::new("a hello of SSL 2", ssl2()),
        Probe::new("a hello, late garbage", &*whole).pausing(PAUSE).sending(noise(9, 300)),
        Probe::new("a hello, late close notify", &*whole).pausing(PAUSE).sending(CLOSE_NOTIFY),
    ];
    for count in [1, 2, 31, 32, 33, 100] {
        let many = behind(&CHANGE_CIPHER_SPEC.repeat(count));
        probes.push(Probe::new(format!("hello, {count} change cipher specs"), many));
    }
    probes.extend(bent().into_iter().map(|(name, hello)| Probe::new(name, hello.record())));
    probes.extend(of_other_lengths());
    probes
}

/// Hellos whose fields say something unusual.
fn bent() -> Vec<(String, Hello)> {
    let mut bent = Vec::new();
    let mut add = |name: &str, hello| bent.push((name.to_owned(), hello));
    let modern = Hello::modern;
    for version in [0, 0x0200, 0x0300, 0x0302, 0x0303, 0x0304, 0x03ff, 0x0400, 0x0909] {
        let hello = modern().bent(|hello| hello.record_version = version);
        add(&format!("record version {version:04x}"), hello);
    }
    for version in [0, 0x0300, 0x0301, 0x0302, 0x0304, 0x0400] {
        let hello = Hello::tls12().bent(|hello| hello.version = version);
        add(&format!("hello version {version:04x}"), hello);
    }
    for versions in
        [&[3_u8, 2][..], &[0x7f, 0x1c], &[3, 3], &[0x0a, 0x0a, 3, 4], &[3, 0], &[3], &[]]
    {
        let hello = modern().with(SUPPORTED_VERSIONS, vec8(versions));
        add(&format!("supported versions {versions:02x?}"), hello);
    }
    for length in [0, 1, 31, 33, 255] {
        let hello = modern().bent(|hello| hello.session_id = noise(7, length));
        add(&format!("a session id of {length} bytes"), hello);
    }
    add("a random session id", modern().bent(|hello| hello.session_id = noise(0xa7, 32)));
    add("no cipher suites", modern().bent(|hello| hello.suites.clear()));
    add("unknown cipher suites", modern().bent(|hello| hello.suites = vec![0xfafa, 0xfbfb]));
    add("2,000 cipher suites", modern().bent(|hello| hello.suites = (0..2000).collect()));
    add("suites of TLS 1.2 for 1.3", modern().bent(|hello| hello.suites = vec![0xc02f]));
    add("a downgrade", Hello::tls12().bent(|hello| hello.suites.push(0x5600)));
    add("no compression", modern().bent(|hello| hello.compression.clear()));
    add("another compression", modern().bent(|hello| hello.compression = vec![1]));
    add("no extensions", Hello::tls12().bent(|hello| hello.extensions.clear()));
    add("no extensions of TLS 1.3", modern().bent(|hello| hello.extensions.clear()));
    add("an extension twice", modern().bent(|hello| hello.extensions.push((ALPN, alpn(&["h2"])))));
    add("an unknown extension", modern().with(0xfafa, noise(1, 30)));
    let (name, longest) = (&b"www.example.com"[..], &[b'a'; 255][..]);
    for (what, data) in [
        ("nothing", vec![]),
        ("an empty list", vec![0, 0]),
        ("an empty name", server_name(b"")),
        ("a name of another site", server_name(b"www.example.org")),
        ("a name in capitals", server_name(b"WWW.EXAMPLE.COM")),
        ("an address", server_name(b"127.0.0.1")),
        ("a name with NUL", server_name(b"www\0.example.com")),
        ("bytes that are no name", server_name(&[0xff; 20])),
        ("the longest name", server_name(longest)),
        ("too long a name", server_name(&[b'a'; 256])),
        ("two names", vec16(&[&[0], &vec16(name)[..], &[0], &vec16(name)].concat())),
        ("a name of another kind", vec16(&[&[9], &vec16(name)[..]].concat())),
        ("a list longer than it", vec![0, 90, 0, 0, 3, b'a', b'b', b'c']),
    ] {
        add(&format!("SNI: {what}"), modern().with(SERVER_NAME, data));
    }
    add("no SNI", modern().without(SERVER_NAME));
    add("ALPN: unknown", modern().with(ALPN, alpn(&["postern"])));
    add("ALPN: an empty list", modern().with(ALPN, [0, 0]));
    add("ALPN: an empty name", modern().with(ALPN, alpn(&[""])));
    add("no key share", modern().with(KEY_SHARE, vec16(&[])));
    add("no key share at all", modern().without(KEY_SHARE));
    let share = |group, key: &[u8]| modern().with(KEY_SHARE, vec16(&key_share(group, key)));
    add("a key share of zeros", share(0x1d, &[0; 32]));
    add("a key share that is short", share(0x1d, &[1; 31]));
    add("a key share of an unknown group", share(0x1337, &[1; 32]));
    add("unknown groups", modern().with(GROUPS, vec16(&[0x13, 0x37])));
    add("early data", modern().with(EARLY_DATA, []));
    let psk = [vec16(&[&vec16(&noise(5, 90))[..], &[0; 4]].concat()), vec16(&vec8(&[3; 32]))];
    add("an unknown ticket", modern().with(41, psk.concat()));
    add("a hello of 8,000 bytes", padded(8000));
    add("a hello of 16,000 bytes", padded(16_000));
    bent
}

/// Lengths that are not true.
fn of_other_lengths() -> Vec<Probe> {
    let whole = Hello::modern().record();
    let at = |offset: usize, value: u16| {
        let mut bytes = whole.clone();
        bytes[offset..offset + 2].copy_from_slice(&value.to_be_bytes());
        bytes
    };
    let length = u16::try_from(whole.len() - 5).expect("short");
    let mut probes = Vec::new();
    for value in [1, 4, length - 1, length + 1, 0x4000, 0x4001, 0x4800, 0x4801, 0xffff] {
        probes.push(Probe::new(format!("record length {value}"), at(3, value)));
    }
    let inner = length - 4;
    for value in [0, inner - 1, inner + 1, 0xffff] {
        probes.push(Probe::new(format!("message length {value}"), at(7, value)));
    }
    let mut enormous = whole.clone();
    enormous[6] = 1;
    probes.push(Probe::new("a message of 64 KiB and more", enormous));
    probes.push(Probe::new("a hello in 20,000 bytes of records", padded(20_000).records(4096)));
    probes.push(Probe::new("a hello and a second message", {
        let two = [Hello::modern().message(), message(1, &[0; 10])].concat();
        record(22, 0x0301, &two)
    }));
    probes
}

fn padded(length: usize) -> Hello {
    Hello::modern().with(PADDING, vec![0; length])
}

fn finished() -> Vec<u8> {
    record(22, 0x0303, &message(20, &[0; 32]))
}

/// RFC 5246, appendix E.2.
fn ssl2() -> Vec<u8> {
    let body = [&[1, 3, 1, 0, 6, 0, 0, 0, 16, 0, 0, 0x2f, 0, 0, 0x35][..], &noise(3, 16)].concat();
    let length = u16::try_from(body.len()).expect("short") | 0x8000;
    [&length.to_be_bytes()[..], &body].concat()
}
