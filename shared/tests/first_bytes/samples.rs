//! Hellos of real clients, and a writer of hellos that no client would send. It never checks what
//! it writes: wrong lengths are half of its use.

use std::sync::Arc;

use postern_shared::hello::MAX_HELLO;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// A valid hello in one record, and what it says.
pub(crate) struct Sample {
    pub(crate) what: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) sni: Option<&'static str>,
    pub(crate) alpn: &'static [&'static str],
    pub(crate) tls13: bool,
    pub(crate) session_id: usize,
}

pub(crate) fn samples() -> Vec<Sample> {
    const NAME: &str = "www.example.com";
    const HTTP: &[&str] = &["h2", "http/1.1"];
    let hello = Hello::default;
    let old = Hello { extensions: None, ..hello() };
    vec![
        Sample::new("openssl s_client -tls1", hex(OPENSSL_TLS10)),
        Sample::new("openssl s_client -tls1_2, mixed case", hex(OPENSSL_TLS12)).sni(NAME),
        Sample::new("openssl s_client", hex(OPENSSL_TLS13)).sni(NAME).alpn(HTTP).tls13(),
        Sample::new("rustls", from_rustls(NAME, HTTP, false)).sni(NAME).alpn(HTTP).tls13(),
        Sample::new("rustls, post-quantum", from_rustls(NAME, &[], true)).sni(NAME).tls13(),
        Sample::new("rustls, to an address", from_rustls("192.0.2.1", &[], false)).tls13(),
        Sample::new("before extensions", old.bytes()),
        Sample::new("an empty list of extensions", hello().bytes()),
        Sample::new("trailing dot", hello().sni("WWW.example.COM.").bytes()).sni(NAME),
        Sample::new("underscore", hello().sni("_A.b-c").bytes()).sni("_a.b-c"),
        Sample::new("versions, 1.3 not among them", offering(&[3, 3, 3, 2])),
        Sample { tls13: true, ..Sample::new("no version but 1.3", offering(&[3, 4])) },
        Sample {
            alpn: &["\n\n", "h2"],
            ..Sample::new("grease", greased().bytes()).sni(NAME).tls13()
        },
        Sample::new("as large as allowed", padded_to(MAX_HELLO).bytes()).sni(NAME),
    ]
}

/// Beginnings of connections that begin as a hello and are none.
pub(crate) fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let hello = || Hello::default().sni("a.example");
    let sni = |list: &[u8]| Hello::default().extension(SERVER_NAME, list).bytes();
    let alpn = |list: &[u8]| Hello::default().extension(ALPN, list).bytes();
    let versions = |list: &[u8]| Hello::default().extension(SUPPORTED_VERSIONS, list).bytes();
    let message = hello().message();
    let then = |second: &[u8]| [record(&message[..9]).as_slice(), second].concat();
    vec![
        ("session id of 33 bytes", Hello { session_id: vec![7; 33], ..hello() }.bytes()),
        ("no cipher suites", Hello { suites: vec![], ..hello() }.bytes()),
        ("half a cipher suite", Hello { suites: vec![0, 0x2f, 0], ..hello() }.bytes()),
        ("no compression methods", Hello { compression: vec![], ..hello() }.bytes()),
        ("known extension twice", hello().sni("b.example").bytes()),
        ("unknown extension twice", hello().extension(9999, b"").extension(9999, b"").bytes()),
        (
            "extension cut short",
            Hello { extensions: Some(vec![0x27, 0x0f, 0, 1]), ..hello() }.bytes(),
        ),
        ("half an extension type", Hello { extensions: Some(vec![0x27]), ..hello() }.bytes()),
        ("byte behind the extensions", record(&handshake(&[&hello().body()[..], b"\0"].concat()))),
        ("NUL in the name", hello_to(b"good.example\0.evil")),
        ("space in the name", hello_to(b"good.example ")),
        ("label of 64 bytes", hello_to(&[b'a'; 64])),
        ("name of 254 bytes", hello_to(&[b"a.".repeat(126).as_slice(), b"aa"].concat())),
        ("empty name", hello_to(b"")),
        ("empty list of names", sni(&vec16(b""))),
        ("no list of names", sni(b"")),
        ("two names", sni(&vec16(&[host_name(b"a.example"), host_name(b"b.example")].concat()))),
        ("name of another type", sni(&vec16(&[&[1][..], &vec16(b"a.example")].concat()))),
        ("byte behind the names", sni(&[&vec16(&host_name(b"a.example"))[..], b"\0"].concat())),
        ("no protocols", alpn(&vec16(b""))),
        ("empty protocol", alpn(&vec16(&[vec8(b"h2"), vec8(b"")].concat()))),
        ("protocol cut short", alpn(&vec16(b"\x03h2"))),
        ("byte behind the protocols", alpn(&[&vec16(&vec8(b"h2"))[..], b"\0"].concat())),
        ("no versions", versions(&vec8(b""))),
        ("half a version", versions(&vec8(&[3, 4, 3]))),
        ("byte behind the versions", versions(&[2, 3, 4, 0])),
        ("another handshake message", record(&[&[2][..], &message[1..]].concat())),
        ("second message in the record", record(&[&message[..], &message].concat())),
        ("byte behind the message", record(&[&message[..], b"\0"].concat())),
        ("alert amid the hello", then(&[21, 3, 1, 0, 2, 1, 0])),
        ("SSL 2 amid the hello", then(&[22, 2, 1, 0, 2, 1, 0])),
        ("empty record amid the hello", then(&[22, 3, 1, 0, 0])),
        ("one byte too large", padded_to(MAX_HELLO + 1).bytes()),
        ("one byte too large in two records", cut(&padded_to(MAX_HELLO - 4).message(), &[100])),
        ("announced larger than allowed", record(&[1, 0, 0x40, 0, 3, 3])),
    ]
}

impl Sample {
    fn new(what: &'static str, bytes: Vec<u8>) -> Self {
        Self { what, bytes, sni: None, alpn: &[], tls13: false, session_id: 0 }
    }

    fn sni(self, name: &'static str) -> Self {
        Self { sni: Some(name), ..self }
    }

    fn alpn(self, alpn: &'static [&'static str]) -> Self {
        Self { alpn, ..self }
    }

    /// With the session id that makes a middlebox take it for a resumption (RFC 8446, D.4).
    fn tls13(self) -> Self {
        Self { tls13: true, session_id: 32, ..self }
    }
}

pub(crate) const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PADDING: u16 = 21;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;

#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) session_id: Vec<u8>,
    pub(crate) suites: Vec<u8>,
    pub(crate) compression: Vec<u8>,
    /// What stands in the list; `None` leaves out its length too.
    pub(crate) extensions: Option<Vec<u8>>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            session_id: Vec::new(),
            suites: vec![0xc0, 0x2f],
            compression: vec![0],
            extensions: Some(Vec::new()),
        }
    }
}

impl Hello {
    pub(crate) fn extension(mut self, kind: u16, body: &[u8]) -> Self {
        let list = self.extensions.get_or_insert_default();
        list.extend(kind.to_be_bytes());
        list.extend(vec16(body));
        self
    }

    pub(crate) fn sni(self, name: &str) -> Self {
        self.extension(SERVER_NAME, &vec16(&host_name(name.as_bytes())))
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([0x5a; 32]);
        body.extend(vec8(&self.session_id));
        body.extend(vec16(&self.suites));
        body.extend(vec8(&self.compression));
        body.extend(self.extensions.as_deref().map(vec16).unwrap_or_default());
        body
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        handshake(&self.body())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        record(&self.message())
    }
}

pub(crate) fn handshake(body: &[u8]) -> Vec<u8> {
    let [0, len @ ..] = u32::try_from(body.len()).expect("small").to_be_bytes() else {
        panic!("longer than a handshake message can be");
    };
    [&[1][..], &len, body].concat()
}

pub(crate) fn record(fragment: &[u8]) -> Vec<u8> {
    [&[22, 3, 1][..], &vec16(fragment)].concat()
}

/// The message in records of these sizes, what is left in a last one.
pub(crate) fn cut(message: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut rest = message;
    let mut records = Vec::new();
    for size in sizes {
        let (fragment, behind) = rest.split_at((*size).min(rest.len()));
        records.extend(record(fragment));
        rest = behind;
        if rest.is_empty() {
            return records;
        }
    }
    records.extend(record(rest));
    records
}

pub(crate) fn from_rustls(name: &str, alpn: &[&str], post_quantum: bool) -> Vec<u8> {
    let mut provider = default_provider();
    if post_quantum {
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the default provider has the default versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().expect("a server name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a valid configuration");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a Vec takes all");
    bytes
}

fn offering(versions: &[u8]) -> Vec<u8> {
    Hello::default().extension(SUPPORTED_VERSIONS, &vec8(versions)).bytes()
}

fn hello_to(name: &[u8]) -> Vec<u8> {
    Hello::default().extension(SERVER_NAME, &vec16(&host_name(name))).bytes()
}

pub(crate) fn host_name(name: &[u8]) -> Vec<u8> {
    [&[0][..], &vec16(name)].concat()
}

/// As a browser writes it: reserved values (RFC 8701) in every list, and a post-quantum key share.
fn greased() -> Hello {
    let hello =
        Hello { session_id: vec![9; 32], suites: vec![0x0a, 0x0a, 0x13, 0x01], ..Hello::default() };
    let grease = [&[0x3a, 0x3a][..], &vec16(b"\0")].concat();
    let share = [&[0x11, 0xec][..], &vec16(&[8; 1216])].concat();
    hello
        .extension(0x1a1a, b"")
        .extension(ALPN, &vec16(&[vec8(b"\n\n"), vec8(b"h2")].concat()))
        .sni("www.example.com")
        .extension(SUPPORTED_VERSIONS, &vec8(&[0x2a, 0x2a, 3, 4, 3, 3]))
        .extension(KEY_SHARE, &vec16(&[grease, share].concat()))
        .extension(0x4a4a, b"\0")
}

/// A hello whose one record, header included, has `len` bytes.
pub(crate) fn padded_to(len: usize) -> Hello {
    let hello = Hello::default().sni("www.example.com");
    let padding = len - hello.clone().extension(PADDING, b"").bytes().len();
    hello.extension(PADDING, &vec![0; padding])
}

fn vec8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

pub(crate) fn vec16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

// Captured from OpenSSL 3.0 with nothing but the options that `samples` names, and -servername.
const OPENSSL_TLS10: &str = "\
    160301007f0100007b0301968f9667ae8702f43f7b96481e4770f05383d6d7d27762f4ef59a31aad3a888000002e\
    c00ac0140039003800880087c019003a0089c009c0130033003200450044c0180034004600350084002f004100ff\
    01000024000b000403000102000a000c000a001d0017001e00190018002300000016000000170000";

const OPENSSL_TLS12: &str = "\
    16030100cf010000cb0303f1a559f85e7453f677c07cdc71fc53ae6914daa092bffb4672713fe067d2aef8000038\
    c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c\
    003d003c0035002f00ff0100006a00000014001200000f7777772e4578616d706c652e636f6d000b000403000102\
    000a000c000a001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809\
    080a080b080408050806040105010601030303010302040205020602";

const OPENSSL_TLS13: &str = "\
    160301014e0100014a0303a9b32a380fb343d2708b440b6d0e3783fe407bc996ad69fbdbc7e9fec353fc2620d87d\
    59094a63501c5c2367943a73262c865410babcd9124595c0bb68968c7c9e003e130213031301c02cc030009fcca9\
    cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f\
    00ff010000c300000014001200000f7777772e6578616d706c652e636f6d000b000403000102000a00160014001d\
    0017001e0019001801000101010201030104002300000010000e000c02683208687474702f312e31001600000017\
    0000000d002a0028040305030603080708080809080a080b08040805080604010501060103030301030204020502\
    0602002b0009080304030303020301002d00020101003300260024001d00200f0ae558a1a180397761490079f274\
    8ede72522d66069f7230a70a841f16587a";
