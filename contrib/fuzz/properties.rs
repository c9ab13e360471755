//! What must hold for every input of a parser; the fuzz targets and `shared/tests/corpus.rs` run
//! the same functions. They never judge whether an answer is the wished one: tests with samples do.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postern_shared::expose::Permit;
use postern_shared::expose::control::{FromClient, FromServer, Parsed};
use postern_shared::expose::lane::{Frame, MOST_OPENING, Opening};
use postern_shared::hello::{ClientHello, HostName, MAX_HELLO, Parse};
use postern_shared::invite::{Invite, PREFIX};
use postern_shared::knock::{Carrier, ClientKey, Locator, ServerId, Token};
use postern_shared::proxy::{self, Version};
use postern_shared::reader::Reader;
use postern_shared::sniff::datagram::DatagramKind;
use postern_shared::sniff::{Interest, Kind, LETTERS, Protocol, Sniff, sniff as sniff_bytes};

pub fn hello(data: &[u8]) {
    let more = |answer: &Parse<ClientHello>| match answer {
        Parse::NeedMore(n) => Some(*n),
        Parse::Found(_) | Parse::Malformed => None,
    };
    asks_for_what_it_needs(data, ClientHello::parse, more);

    let Parse::Found(hello) = ClientHello::parse(data) else {
        return;
    };
    let message = hello.message();
    assert!(hello.len() <= data.len().min(MAX_HELLO) && message.len() < hello.len());
    assert!(hello.session_id().len() <= 32);
    assert!(message.split_at(postern_shared::hello::SESSION_ID).1.starts_with(hello.session_id()));
    assert!(hello.alpn().all(|name| !name.is_empty()));
    if let Some(name) = hello.sni() {
        assert_eq!(HostName::parse(name.as_str().as_bytes()).as_ref(), Some(name));
    }

    let (head, tail) = message.split_at(usize::from(hello.random()[0]).min(message.len() - 1));
    let cut: Vec<u8> =
        [head, tail].into_iter().filter(|part| !part.is_empty()).flat_map(record).collect();
    match ClientHello::parse(&cut) {
        Parse::Found(again) => {
            assert_eq!(again.message(), message);
            assert_eq!(again.sni(), hello.sni());
            assert!(again.alpn().eq(hello.alpn()));
        }
        other @ (Parse::NeedMore(_) | Parse::Malformed) => {
            assert!(cut.len() > MAX_HELLO, "{other:?} once it is cut into records");
        }
    }
}

/// The first three bytes choose what is of interest.
pub fn sniff(data: &[u8]) {
    let Some((set, data)) = data.split_first_chunk() else {
        return;
    };
    let interest = interest(*set);
    let more = |answer: &Sniff| match answer {
        Sniff::NeedMore(n) => Some(*n),
        Sniff::Found(_) | Sniff::Malformed | Sniff::Unknown => None,
    };
    asks_for_what_it_needs(data, |bytes| sniff_bytes(bytes, &interest), more);

    match sniff_bytes(data, &interest) {
        Sniff::NeedMore(_) => assert_ne!(interest, Interest::default()),
        Sniff::Malformed => {
            assert!(interest.kinds.contains(Kind::Tls) && data.starts_with(&[22]));
        }
        Sniff::Unknown => {}
        Sniff::Found(Protocol::Tls(hello)) => {
            assert!(interest.kinds.contains(Kind::Tls));
            assert_eq!(ClientHello::parse(data), Parse::Found(*hello));
        }
        Sniff::Found(Protocol::Letters(letters)) => {
            assert!(interest.letters && data.starts_with(&*letters));
            assert!(Token::from_letters(&letters).is_some());
        }
        Sniff::Found(Protocol::Plain(kind)) => {
            assert!(kind != Kind::Tls && interest.kinds.contains(kind));
            let alone = Interest { kinds: [kind].into_iter().collect(), ..Interest::default() };
            let alone = sniff_bytes(data, &alone);
            assert_eq!(alone, Sniff::Found(Protocol::Plain(kind)), "whoever else is waited for");
        }
    }
}

/// Each protocol has first bytes and lengths that no other has.
pub fn datagram(data: &[u8]) {
    let Some(kind) = DatagramKind::of(data) else {
        return;
    };
    let own = match (kind, data) {
        (DatagramKind::Quic, [0x80..=0xff, ..]) => data.len() >= 1200,
        (DatagramKind::WireGuard, [1, 0, 0, 0, ..]) => data.len() == 148,
        (DatagramKind::WireGuard, [4, 0, 0, 0, ..]) => data.len().is_multiple_of(16),
        (DatagramKind::OpenVpn, [8 | 56 | 80, ..]) => data.len() % 4 == 2 || data.len() > 300,
        (DatagramKind::Dtls, [22, 0xfe, ..]) => data.len() >= 27,
        (DatagramKind::Stun, [0..=0x3f, ..]) => data.len().is_multiple_of(4),
        _ => false,
    };
    assert!(own, "{kind:?} of {} bytes", data.len());
}

/// The protocols by their number, lowest bit first; then letters, lines and paths.
pub fn interest([low, high, others]: [u8; 3]) -> Interest {
    let kinds = u16::from_le_bytes([low, high]);
    Interest {
        kinds: (0..)
            .zip(Kind::ALL)
            .filter(|(at, _)| kinds >> at & 1 == 1)
            .map(|(_, k)| k)
            .collect(),
        letters: others & 1 != 0,
        line: others & 2 != 0,
        path: others & 4 != 0,
    }
}

/// 96 letters; what opens must be spelled by the same letters and made by nobody.
pub fn token(data: &[u8]) {
    let Some(letters) = data.first_chunk::<LETTERS>() else {
        return;
    };
    let in_range = letters.iter().all(|letter| (b'A'..=b'P').contains(letter));
    let Some(token) = Token::from_letters(letters) else {
        assert!(!in_range);
        return;
    };
    assert!(in_range);
    assert_eq!(token.letters(), *letters);

    let (server, nobody) = (ServerId([0; 16]), [0x5a; 32]);
    for carrier in Carrier::ALL {
        let locator = Locator::new(nobody).on(carrier, &server);
        let key = ClientKey::new(nobody).on(carrier, &server);
        let _header = token.unmask(&locator);
        assert!(!bool::from(token.verify(&key, b"")));
    }
}

/// As a link, and as the fields inside one: no fuzzer guesses their checksum.
pub fn invite(data: &[u8]) {
    let sum = digest(&SHA256, data);
    let checked: Vec<u8> = data.iter().chain(sum.as_ref().iter().take(4)).copied().collect();
    let around = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(checked));
    for link in [std::str::from_utf8(data).unwrap_or_default(), &around] {
        if let Ok(invite) = Invite::from_link(link) {
            assert_eq!(Invite::from_link(&invite.to_link()), Ok(invite));
        }
    }
}

/// Two addresses; each version's header must say them again.
pub fn proxy(data: &[u8]) {
    let mut reader = Reader::new(data);
    let (Some(source), Some(destination)) = (address(&mut reader), address(&mut reader)) else {
        return;
    };
    let same = |ip: IpAddr, told: IpAddr| ip.to_canonical() == told.to_canonical();

    let line = proxy::header(Version::V1, source, destination);
    assert!(line.len() <= 107, "longer than the specification's longest line");
    let line = std::str::from_utf8(&line).expect("ASCII");
    let words: Vec<&str> = line.strip_suffix("\r\n").expect("one line").split(' ').collect();
    let ["PROXY", family, from, to, from_port, to_port] = words[..] else {
        panic!("six words: {line:?}");
    };
    let [from, to] = [from, to].map(|ip| ip.parse::<IpAddr>().expect("an address"));
    assert!(same(source.ip(), from) && same(destination.ip(), to), "{line:?}");
    assert_eq!(family, if from.is_ipv4() { "TCP4" } else { "TCP6" });
    assert_eq!(from.is_ipv4(), to.is_ipv4());
    assert_eq!(from_port, source.port().to_string());
    assert_eq!(to_port, destination.port().to_string());

    let block = proxy::header(Version::V2, source, destination);
    let mut block = Reader::new(&block);
    assert_eq!(block.array(), Some(*b"\r\n\r\n\0\r\nQUIT\n\x21"));
    let told = match (block.u8(), block.u16()) {
        (Some(0x11), Some(12)) => [v4(&mut block), v4(&mut block)],
        (Some(0x21), Some(36)) => [v6(&mut block), v6(&mut block)],
        other => panic!("family and length {other:?}"),
    };
    assert_eq!(told, [Some(from), Some(to)]);
    assert_eq!(block.u16(), Some(source.port()));
    assert_eq!(block.u16(), Some(destination.port()));
    assert!(block.is_empty());
}

/// As what either end of a control connection says, as a lane's frame and as an entrance's name.
pub fn expose(data: &[u8]) {
    if let Parsed::Message(said, length) = FromClient::parse(data) {
        assert!((3..=data.len()).contains(&length));
        if said != FromClient::Unknown {
            let again = said.encode();
            assert_eq!(FromClient::parse(&again), Parsed::Message(said, again.len()));
        }
    }
    if let Parsed::Message(said, length) = FromServer::parse(data) {
        assert!((3..=data.len()).contains(&length));
        if said != FromServer::Unknown {
            let again = said.encode();
            assert_eq!(FromServer::parse(&again), Parsed::Message(said, again.len()));
        }
    }
    if let Some(header) = data.first_chunk()
        && let Some(frame) = Frame::parse(*header)
    {
        assert_eq!(frame.header(), *header);
    }
    if let Some(opening) = Opening::parse(data) {
        let again = opening.encode();
        assert!(again.len() <= MOST_OPENING && data.starts_with(&again));
    }
    if let Ok(permit) = std::str::from_utf8(data).unwrap_or_default().parse::<Permit>() {
        assert_eq!(permit.to_string().parse(), Ok(permit.clone()));
        assert!(permit.exact().is_none_or(|entrance| permit.covers(entrance)));
    }
}

/// Reading exactly as much as was asked for ends in the answer that all bytes at once give, and
/// with one byte less there is no answer yet.
fn asks_for_what_it_needs<T: Debug + PartialEq>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> T,
    more: impl Fn(&T) -> Option<usize>,
) {
    let mut have = 0;
    loop {
        let answer = parse(&data[..have]);
        let Some(n) = more(&answer) else {
            assert_eq!(answer, parse(data), "the bytes behind {have} changed the answer");
            return;
        };
        assert!(have < n && n <= MAX_HELLO, "{have} bytes ask for {n}");
        let short = data.len().min(n - 1);
        assert_eq!(answer, parse(&data[..short]), "{have} bytes need not wait for {n}");
        if n > data.len() {
            return;
        }
        have = n;
    }
}

fn record(fragment: &[u8]) -> Vec<u8> {
    let len = u16::try_from(fragment.len()).expect("a message is less than 16 KiB");
    [&[22, 3, 1][..], &len.to_be_bytes(), fragment].concat()
}

fn address(from: &mut Reader<'_>) -> Option<SocketAddr> {
    let ip = if from.u8()? % 2 == 0 { v4(from) } else { v6(from) };
    Some(SocketAddr::new(ip?, from.u16()?))
}

fn v4(from: &mut Reader<'_>) -> Option<IpAddr> {
    from.array::<4>().map(Ipv4Addr::from).map(IpAddr::V4)
}

fn v6(from: &mut Reader<'_>) -> Option<IpAddr> {
    from.array::<16>().map(Ipv6Addr::from).map(IpAddr::V6)
}
