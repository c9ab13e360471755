//! The hello parser beside rustls' own, over valid, cut and bent hellos: where both read a hello
//! they read the same, and what rustls accepts is refused for the listed reasons only.

use std::net::{Ipv4Addr, Ipv6Addr};

use postern_shared::hello::{ClientHello, MAX_HELLO, Parse};
use postern_shared::reader::Reader;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rustls::server::Acceptor;

use crate::samples::{Hello, SERVER_NAME, cut, host_name, padded_to, samples, vec16};

#[derive(Debug, PartialEq, Eq)]
enum Theirs {
    NeedMore,
    Accepted { sni: Option<String>, alpn: Vec<Vec<u8>> },
    Refused,
}

fn theirs(mut bytes: &[u8]) -> Theirs {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        acceptor.read_tls(&mut bytes).expect("a slice has no errors");
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let hello = accepted.client_hello();
                return Theirs::Accepted {
                    sni: hello.server_name().map(str::to_owned),
                    alpn: hello.alpn().into_iter().flatten().map(<[u8]>::to_vec).collect(),
                };
            }
            Err(_) => return Theirs::Refused,
        }
    }
    Theirs::NeedMore
}

/// Whether both accepted. rustls keeps a trailing dot and takes an IPv4 address for no name.
fn agree(bytes: &[u8]) -> bool {
    match (ClientHello::parse(bytes), theirs(bytes)) {
        (Parse::Found(hello), Theirs::Accepted { sni, alpn }) => {
            let ours = hello.sni().map(|name| name.as_str());
            let address = ours.is_some_and(|name| name.parse::<Ipv4Addr>().is_ok());
            let sni = sni.as_deref().map(|name| name.strip_suffix('.').unwrap_or(name));
            assert!(ours == sni || (address && sni.is_none()), "{ours:?} {sni:?}");
            assert!(hello.alpn().eq(alpn.iter().map(Vec::as_slice)));
            true
        }
        (Parse::Malformed, Theirs::Accepted { .. }) => {
            assert!(reason_to_be_stricter(bytes).is_some(), "refused, but rustls reads a hello");
            false
        }
        (Parse::NeedMore(n), Theirs::Accepted { .. }) => panic!("rustls needs no {n} bytes"),
        (Parse::Found(_) | Parse::Malformed, Theirs::Refused | Theirs::NeedMore) => false,
        (Parse::NeedMore(_), Theirs::NeedMore | Theirs::Refused) => false,
    }
}

#[test]
fn every_sample_that_both_accept_reads_the_same() {
    let both = samples().iter().filter(|sample| agree(&sample.bytes)).count();
    assert!(both >= 5, "only {both}");
}

#[test]
fn every_reason_to_be_stricter_is_one() {
    let to =
        |list: &[u8]| for_rustls(Hello::default()).extension(SERVER_NAME, &vec16(list)).bytes();
    let other_type = [&host_name(b"a.example")[..], b"\x01\0\x01x"].concat();
    for bytes in
        [for_rustls(padded_to(MAX_HELLO)).bytes(), to(&other_type), to(&host_name(b"2001:db8::1"))]
    {
        let reason = reason_to_be_stricter(&bytes).expect("a reason");
        assert!(matches!(theirs(&bytes), Theirs::Accepted { .. }), "{reason}");
        assert_eq!(ClientHello::parse(&bytes), Parse::Malformed, "{reason}");
    }
}

/// Of a hello that rustls accepts. Each is a doubt, which is the website's to resolve.
fn reason_to_be_stricter(bytes: &[u8]) -> Option<&'static str> {
    if bytes.len() > MAX_HELLO {
        return Some("too large");
    }
    let list = server_names(bytes)?;
    let mut list = Reader::new(&list);
    let _host_name = list.u8()?;
    let name = std::str::from_utf8(sized(&mut list)?).ok()?;
    if name.parse::<Ipv6Addr>().is_ok() {
        Some("an address for a name, which rustls passes over")
    } else if !list.is_empty() {
        Some("names of other types, which rustls passes over")
    } else {
        None
    }
}

/// The list of names in a hello that rustls found well-formed.
fn server_names(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut records = Reader::new(bytes);
    let mut message = Vec::new();
    while records.take(3).is_some() {
        message.extend_from_slice(sized(&mut records).unwrap_or_default());
    }
    let mut body = Reader::new(&message);
    body.take(4 + 2 + 32)?;
    let session_id = usize::from(body.u8()?);
    body.take(session_id)?;
    let _suites = sized(&mut body)?;
    let compression = usize::from(body.u8()?);
    body.take(compression)?;
    let mut extensions = Reader::new(sized(&mut body)?);
    loop {
        let kind = extensions.u16()?;
        let data = sized(&mut extensions)?;
        if kind == SERVER_NAME {
            return sized(&mut Reader::new(data)).map(<[u8]>::to_vec);
        }
    }
}

fn sized<'a>(from: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = from.u16()?;
    from.take(usize::from(len))
}

/// rustls accepts nothing without signature algorithms.
fn for_rustls(hello: Hello) -> Hello {
    const SIGNATURE_ALGORITHMS: u16 = 13;
    hello.extension(SIGNATURE_ALGORITHMS, &vec16(&[4, 3]))
}

#[derive(Clone, Debug)]
enum Bend {
    Set(u8),
    Flip(u8),
    Insert(u8),
    Remove,
}

impl Bend {
    fn apply(&self, bytes: &mut Vec<u8>, at: Index) {
        let at = at.index(bytes.len());
        match self {
            Self::Set(byte) => bytes[at] = *byte,
            Self::Flip(bit) => bytes[at] ^= 1 << bit,
            Self::Insert(byte) => bytes.insert(at, *byte),
            Self::Remove => {
                bytes.remove(at);
            }
        }
    }
}

fn bends() -> impl Strategy<Value = Vec<(Index, Bend)>> {
    let bend = prop_oneof![
        any::<u8>().prop_map(Bend::Set),
        (0..8_u8).prop_map(Bend::Flip),
        any::<u8>().prop_map(Bend::Insert),
        Just(Bend::Remove),
    ];
    vec((any::<Index>(), bend), 0..4)
}

proptest! {
    #[test]
    fn bent_and_cut_hellos(
        which in any::<Index>(),
        message_bends in bends(),
        sizes in vec(1..300_usize, 0..6),
        record_bends in bends(),
    ) {
        let samples = samples();
        let mut message = which.get(&samples).bytes[5..].to_vec();
        for (at, bend) in message_bends {
            bend.apply(&mut message, at);
        }
        let mut bytes = cut(&message, &sizes);
        agree(&bytes);
        for (at, bend) in record_bends {
            bend.apply(&mut bytes, at);
        }
        agree(&bytes);
    }

    #[test]
    fn any_name(name in prop_oneof![
        "[a-zA-Z0-9._-]{1,30}",
        "[ab.]{200,260}",
        "[0-9.]{1,16}",
        "[0-9a-f:]{1,20}",
        "[ -~]{1,10}",
    ]) {
        let list = vec16(&host_name(name.as_bytes()));
        let bytes = for_rustls(Hello::default()).extension(SERVER_NAME, &list).bytes();
        agree(&bytes);
    }
}
