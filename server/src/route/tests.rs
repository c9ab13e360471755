use std::net::{IpAddr, Ipv4Addr};

use postern_shared::sniff::{Kinds, LETTERS, Sniff, sniff};

use super::*;
use crate::nets::Nets;
use crate::service::{Handing, Target};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn route(number: usize, asked: Vec<Asked>) -> Route {
    let target = Target::Pass(Handing::to("/nowhere"));
    let service = Service::new(number.to_string(), target, Duration::from_secs(5));
    let conditions =
        asked.into_iter().map(|asked| Condition { written: String::new(), asked }).collect();
    let action = Action::Service(Arc::new(service));
    Route { number, line: number, action, terminated: false, log: true, conditions }
}

fn table(routes: Vec<Vec<Asked>>) -> Routes {
    Routes::new((1..).zip(routes).map(|(number, asked)| route(number, asked)).collect())
}

fn facts<'a>(seen: &'a Seen, bytes: &'a [u8]) -> Facts<'a> {
    let listener = "0.0.0.0:443".parse().expect("an address");
    Facts {
        seen,
        bytes,
        from: LOCAL,
        listener,
        inside: None,
        answers: Answers::NONE,
        now: Timestamp::UNIX_EPOCH,
    }
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
    match routes.choose(facts, Still::Nothing) {
        Choice::Found(route) => route.map(|route| route.number),
        Choice::Open(_) | Choice::Ask(_) => panic!("all there is has come"),
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
        match routes.choose(&facts, Still::Bytes) {
            Choice::Open(want) => Err(want),
            Choice::Found(route) => Ok(route.map(|route| route.number)),
            Choice::Ask(_) => panic!("nobody is to be asked"),
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

/// What has to become known, and what is taken then.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Route(Option<usize>),
    Bytes(usize),
    Ask(usize),
}

fn next(routes: &Routes, facts: &Facts<'_>, still: Still) -> Next {
    match routes.choose(facts, still) {
        Choice::Found(route) => Next::Route(route.map(|route| route.number)),
        Choice::Open(want) => Next::Bytes(want),
        Choice::Ask(identifier) => Next::Ask(identifier),
    }
}

fn said(all: &[(usize, Answered)]) -> Answers {
    let mut answers = Answers::default();
    all.iter().for_each(|(identifier, answered)| answers.note(*identifier, *answered));
    answers
}

#[test]
fn identifiers_are_asked_in_file_order_and_only_where_all_else_holds() {
    let routes = table(vec![
        vec![prefix(b"\x01"), Asked::External(vec![0])],
        vec![Asked::From(nets(&["10.0.0.0/8"])), Asked::External(vec![9])],
        vec![Asked::External(vec![1, 2])],
        vec![prefix(b"\x02\x03")],
        vec![],
    ]);
    let seen = Seen::Other;
    let next = |bytes, answers: &[(usize, Answered)], still| {
        let answers = said(answers);
        next(&routes, &Facts { answers: &answers, ..facts(&seen, bytes) }, still)
    };
    use Answered::{No, Wants, Yes};
    assert_eq!(next(b"", &[], Still::Bytes), Next::Bytes(1), "of nothing nobody is asked");
    assert_eq!(next(b"\x01", &[], Still::Bytes), Next::Ask(0));
    assert_eq!(next(b"\x02", &[], Still::Bytes), Next::Ask(1));
    assert_eq!(next(b"\x02", &[(1, No)], Still::Bytes), Next::Ask(2));
    assert_eq!(next(b"\x02", &[(2, Yes)], Still::Bytes), Next::Route(Some(3)), "one suffices");
    assert_eq!(next(b"\x02", &[(1, No), (2, No)], Still::Bytes), Next::Bytes(2));
    assert_eq!(next(b"\x02\x03", &[(1, No), (2, No)], Still::Bytes), Next::Route(Some(4)));
    // Who wants more is asked again when it is there; another is asked before that.
    let wants = [(1, Wants(3)), (2, No)];
    assert_eq!(next(b"\x02", &[(1, Wants(3))], Still::Bytes), Next::Ask(2));
    assert_eq!(next(b"\x02\x03", &wants, Still::Bytes), Next::Bytes(3));
    assert_eq!(next(b"\x02\x03\x04", &wants, Still::Bytes), Next::Ask(1));
    // No more bytes: who has not answered is asked all the same. No more time: nobody is.
    assert_eq!(next(b"\x05", &[], Still::Answers), Next::Ask(1));
    assert_eq!(next(b"\x05", &[(1, Wants(2))], Still::Answers), Next::Ask(2));
    assert_eq!(next(b"\x05", &[(1, Wants(2)), (2, No)], Still::Answers), Next::Route(Some(5)));
    assert_eq!(next(b"\x05", &[], Still::Nothing), Next::Route(Some(5)));
}

#[test]
fn identifiers_are_not_asked_of_silence_or_of_a_refused_knock() {
    let routes = table(vec![vec![Asked::External(vec![0])], vec![Asked::External(Vec::new())]]);
    let letters = Seen::Protocol(Protocol::Letters(Box::new([b'A'; LETTERS])));
    assert_eq!(next(&routes, &facts(&letters, b"A"), Still::Bytes), Next::Route(None));
    let silent = Seen::Silent(Duration::from_secs(1));
    assert_eq!(next(&routes, &facts(&silent, b""), Still::Bytes), Next::Route(None));
    let tls = hello("a.example.org");
    assert_eq!(next(&routes, &facts(&tls, b"\x16"), Still::Bytes), Next::Ask(0));
    assert!(routes.outside().kinds.is_empty(), "what they are asked about is for them to know");
}

/// Whatever they answer: it comes to an end, and the first route that then holds is taken.
#[test]
fn whatever_is_answered_the_order_of_the_file_holds() {
    let routes = table(vec![
        vec![Asked::External(vec![0])],
        vec![prefix(b"\x01\x02"), Asked::External(vec![1, 0])],
        vec![Asked::External(vec![2])],
    ]);
    let mut ends = [0; 4];
    for seed in 0..729_usize {
        // Each identifier's first and second answer, in base 3.
        let digit = |place: u32| seed / 3_usize.pow(place) % 3;
        let (mut bytes, mut answers, mut asked) = (vec![1], Answers::default(), [0_u32; 3]);
        let end = (0..20).find_map(|_| {
            let seen = Seen::Other;
            let facts = Facts { answers: &answers, ..facts(&seen, &bytes) };
            match next(&routes, &facts, Still::Bytes) {
                Next::Route(route) => Some(route),
                Next::Bytes(want) => {
                    bytes = b"\x01\x02\x03\x04"[..want].to_vec();
                    None
                }
                Next::Ask(identifier) => {
                    let place = u32::try_from(identifier).expect("small") * 2 + asked[identifier];
                    asked[identifier] = 1;
                    let answered = match digit(place) {
                        0 => Answered::No,
                        1 => Answered::Yes,
                        _ if place % 2 == 0 => Answered::Wants(bytes.len() + 1),
                        _ => Answered::No,
                    };
                    answers.note(identifier, answered);
                    None
                }
            }
        });
        let end = end.expect("decided within twenty steps");
        let yes = |identifier| answers.of(identifier) == Some(Answered::Yes);
        let expected = if yes(0) {
            Some(1)
        } else if yes(1) {
            Some(2)
        } else if yes(2) {
            Some(3)
        } else {
            None
        };
        assert_eq!(end, expected, "{seed}: {answers:?}");
        ends[end.unwrap_or_default()] += 1;
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}
