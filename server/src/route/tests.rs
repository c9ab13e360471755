use std::net::{IpAddr, Ipv4Addr};

use postern_shared::sniff::{Kinds, LETTERS, Sniff, sniff};

use super::*;
use crate::nets::Nets;
use crate::service::Target;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn route(number: usize, asked: Vec<Asked>) -> Route {
    let target = Target::Pass("/nowhere".into());
    let service = Service::new(number.to_string(), target, Duration::from_secs(5));
    let conditions =
        asked.into_iter().map(|asked| Condition { written: String::new(), asked }).collect();
    let action = Action::Service(Arc::new(service));
    Route { number, line: number, action, terminated: false, conditions }
}

fn table(routes: Vec<Vec<Asked>>) -> Routes {
    Routes::new((1..).zip(routes).map(|(number, asked)| route(number, asked)).collect())
}

fn facts<'a>(seen: &'a Seen, bytes: &'a [u8]) -> Facts<'a> {
    let listener = "0.0.0.0:443".parse().expect("an address");
    Facts { seen, bytes, from: LOCAL, listener, inside: None, now: Timestamp::UNIX_EPOCH }
}

fn names(patterns: &[&str]) -> Asked {
    let patterns = patterns.iter().map(|text| NamePattern::parse(text).expect("a pattern"));
    Asked::Sni(patterns.collect())
}

fn nets(texts: &[&str]) -> Nets {
    texts.iter().map(|text| text.parse::<ipnet::IpNet>().expect("a range")).collect()
}

fn protocol(kinds: impl IntoIterator<Item = Kind>) -> Asked {
    Asked::Protocol { kinds: Kinds::of(kinds), any: false }
}

fn prefix(bytes: &[u8]) -> Asked {
    Asked::Bytes(vec![BytePattern::Prefix(bytes.to_vec())])
}

/// A hello for this name, offering h2 and http/1.1.
fn hello(name: &str) -> Seen {
    let extension = |kind: u16, data: &[u8]| {
        let length = u16::try_from(data.len()).expect("short").to_be_bytes();
        [&kind.to_be_bytes()[..], &length, data].concat()
    };
    let listed =
        |data: &[u8]| [&u16::try_from(data.len()).expect("short").to_be_bytes()[..], data].concat();
    let sni = listed(&[&[0][..], &listed(name.as_bytes())].concat());
    let alpn = listed(b"\x02h2\x08http/1.1");
    let extensions = [extension(0, &sni), extension(16, &alpn)].concat();
    let body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &listed(&extensions)].concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    let record = [&[22, 3, 1][..], &listed(&message)].concat();
    let interest = postern_shared::sniff::Interest { kinds: Kinds::ALL, ..Default::default() };
    match sniff(&record, &interest) {
        Sniff::Found(protocol) => Seen::Protocol(protocol),
        Sniff::NeedMore(_) | Sniff::Malformed | Sniff::Unknown => panic!("not a hello"),
    }
}

/// The number of the route that is taken when no more bytes come.
fn taken(routes: &Routes, facts: &Facts<'_>) -> Option<usize> {
    match routes.choose(facts, false) {
        Choice::Found(route) => route.map(|route| route.number),
        Choice::Open(_) => panic!("all there is has come"),
    }
}

#[test]
fn the_first_route_whose_conditions_all_hold_wins() {
    let ssh = || protocol([Kind::Ssh]);
    let routes = table(vec![
        vec![ssh(), Asked::From(nets(&["10.0.0.0/8"]))],
        vec![ssh(), Asked::NotFrom(nets(&["192.0.2.0/24"]))],
        vec![ssh()],
    ]);
    let seen = Seen::Protocol(Protocol::Plain(Kind::Ssh));
    for (from, number) in [([10, 1, 2, 3], 1), ([198, 51, 100, 1], 2), ([192, 0, 2, 1], 3)] {
        let facts = Facts { from: IpAddr::from(from), ..facts(&seen, b"SSH-") };
        assert_eq!(taken(&routes, &facts), Some(number), "{from:?}");
    }
}

#[test]
fn names_are_found_in_file_order_among_all_others() {
    let routes = table(vec![
        vec![names(&["b.example.org", "*.shop.example.org"])],
        vec![names(&["*.example.org"]), Asked::Alpn(vec![Glob::new("h3")])],
        vec![names(&["a*.example.org"])],
        vec![names(&["*.example.org"]), Asked::Alpn(vec![Glob::new("http/*")])],
        vec![Asked::NoSni],
        vec![names(&["*"])],
        vec![protocol([Kind::Tls])],
    ]);
    for (name, number) in [
        ("b.example.org", 1),
        ("a.shop.example.org", 1),
        ("a.b.shop.example.org", 1),
        ("ab.example.org", 3),
        ("shop.example.org", 4),
        ("example.org", 6),
        ("org", 6),
    ] {
        let seen = hello(name);
        assert_eq!(taken(&routes, &facts(&seen, b"\x16")), Some(number), "{name}");
    }
}

#[test]
fn doubt_matches_no_condition_on_bytes() {
    let routes = table(vec![
        vec![protocol(Kind::ALL)],
        vec![Asked::NoSni],
        vec![names(&["*"])],
        vec![Asked::Silent { after: Duration::from_secs(1) }],
        vec![prefix(b"\x01\x02")],
    ]);
    assert_eq!(taken(&routes, &facts(&Seen::Other, b"\x01")), None);
    let letters = Seen::Protocol(Protocol::Letters(Box::new([b'A'; LETTERS])));
    assert_eq!(taken(&routes, &facts(&letters, b"A")), None, "a refused knock is nobody's");
    let early = Seen::Silent(Duration::from_millis(999));
    assert_eq!(taken(&routes, &facts(&early, b"")), None);
    let late = Seen::Silent(Duration::from_secs(1));
    assert_eq!(taken(&routes, &facts(&late, b"")), Some(4));
}

#[test]
fn any_is_a_byte_that_no_protocol_begins_with() {
    let routes = table(vec![vec![Asked::Protocol { kinds: Kinds::EMPTY, any: true }]]);
    assert_eq!(taken(&routes, &facts(&Seen::Other, b"x")), Some(1));
    assert_eq!(taken(&routes, &facts(&Seen::Other, b"")), None);
    let http = Seen::Protocol(Protocol::Plain(Kind::Http));
    assert_eq!(taken(&routes, &facts(&http, b"GET /")), None);
    assert_eq!(routes.outside().kinds, Kinds::ALL, "or it could not be told");
}

/// What is open in an earlier route is waited for, in a later one it is not.
#[test]
fn bytes_are_waited_for_in_file_order() {
    let routes = table(vec![
        vec![prefix(b"\x01\x02"), Asked::From(nets(&["10.0.0.0/8"]))],
        vec![prefix(b"\x01")],
        vec![prefix(b"\x01\x03\x04")],
    ]);
    let open = |from, bytes: &[u8]| {
        let facts = Facts { from: IpAddr::from(from), ..facts(&Seen::Other, bytes) };
        match routes.choose(&facts, true) {
            Choice::Open(want) => Err(want),
            Choice::Found(route) => Ok(route.map(|route| route.number)),
        }
    };
    assert_eq!(open([10, 0, 0, 1], b"\x01"), Err(2));
    assert_eq!(open([10, 0, 0, 1], b"\x01\x03"), Ok(Some(2)));
    assert_eq!(open([192, 0, 2, 1], b"\x01"), Ok(Some(2)));
    assert_eq!(open([192, 0, 2, 1], b"\x02"), Ok(None));
}

#[test]
fn what_is_inside_our_tls_has_its_own_routes() {
    let mut inner = route(1, vec![names(&["ssh.example.com"]), protocol([Kind::Ssh])]);
    inner.terminated = true;
    let routes = Routes::new(vec![inner, route(2, vec![protocol([Kind::Ssh])])]);
    let seen = Seen::Protocol(Protocol::Plain(Kind::Ssh));
    let name = postern_shared::hello::HostName::parse(b"ssh.example.com");
    let inside = Inside { name, alpn: None };
    let outside = facts(&seen, b"SSH-");
    assert_eq!(taken(&routes, &outside), Some(2));
    assert_eq!(taken(&routes, &Facts { inside: Some(&inside), ..outside }), Some(1));
    assert_eq!(routes.inside().kinds, Kinds::of([Kind::Ssh]), "the name is known already");
}

#[test]
fn only_what_a_route_asks_for_is_waited_for() {
    assert!(table(Vec::new()).outside().kinds.is_empty());
    let routes = table(vec![vec![Asked::NoSni], vec![protocol([Kind::Ssh])]]);
    assert_eq!(routes.outside().kinds, Kinds::of([Kind::Tls, Kind::Ssh]));
    assert_eq!(routes.silent_after(&facts(&Seen::Other, b"")), None);
    let silent = |after, from| vec![Asked::Silent { after }, Asked::From(nets(&[from]))];
    let routes = table(vec![
        silent(Duration::from_secs(1), "10.0.0.0/8"),
        silent(Duration::from_secs(2), "127.0.0.0/8"),
    ]);
    let after = routes.silent_after(&facts(&Seen::Other, b""));
    assert_eq!(after, Some(Duration::from_secs(2)));
}

#[test]
fn a_route_that_can_never_match_is_found() {
    let covered = |routes| {
        let table = table(routes);
        let numbers = table.covered().into_iter().map(|(later, by)| (later.number, by.number));
        numbers.collect::<Vec<_>>()
    };
    assert_eq!(covered(vec![vec![], vec![Asked::NoSni]]), [(2, 1)]);
    let from = |net| Asked::From(nets(&[net]));
    let ssh = || protocol([Kind::Ssh]);
    assert_eq!(covered(vec![vec![from("10.0.0.0/8")], vec![ssh(), from("10.1.0.0/16")]]), [(2, 1)]);
    assert_eq!(covered(vec![vec![from("10.1.0.0/16")], vec![ssh(), from("10.0.0.0/8")]]), []);
    assert_eq!(
        covered(vec![vec![names(&["*.a.org"])], vec![names(&["b.a.org", "*.c.a.org"])]]),
        [(2, 1)]
    );
    assert_eq!(covered(vec![vec![names(&["b.a.org"])], vec![names(&["b.a.org", "c.org"])]]), []);
    assert_eq!(covered(vec![vec![protocol([Kind::Tls])], vec![names(&["b.a.org"])]]), [(2, 1)]);
    assert_eq!(covered(vec![vec![prefix(b"a")], vec![prefix(b"ab")]]), [(2, 1)]);
}
