//! Knocks that are not good: whoever shows one sees the website, to the last byte.

use std::io::{Read, Write};
use std::{fs, thread};

use postern_shared::knock::Carrier;
use postern_tests::knock::SSH;
use postern_tests::net::{Then, connect, read_all};
use postern_tests::process::text;
use postern_tests::{
    Client, Knocker, Seen, TlsClient, World, each_carrier, exchange, failure, success, until,
};

each_carrier!(
    a_wrong_key,
    a_revoked_key,
    an_expired_key,
    a_service_that_was_not_granted,
    a_foreign_address,
    a_flipped_bit,
);

/// Shows this knock by the carrier; returns what came back, and what the website itself says. Of TLS
/// that the website speaks itself only the shape can be compared.
fn show(world: &World, carrier: Carrier, knock: &dyn Fn(&[u8; 32]) -> Vec<u8>) -> (Seen, Seen) {
    match carrier {
        Carrier::Plain => {
            let bytes = [&knock(&[0; 32]), SSH].concat();
            let through = exchange(world.server.address(), &bytes, Then::Wait);
            (through, exchange(world.nginx.https(), &bytes, Then::Wait))
        }
        Carrier::Tls => {
            let stream = connect(world.server.address());
            let certificate = world.scratch.path("tls.crt");
            let mut tls = TlsClient::connect(stream, "ssh.example.com", &certificate);
            let bytes = [&knock(&tls.exporter()), SSH].concat();
            (tls.exchange(&bytes), exchange(world.nginx.http(), &bytes, Then::Wait))
        }
        Carrier::Hello => {
            let bytes = [&knock(&[0; 32]), SSH].concat();
            let show = |to| shape(&exchange(to, &bytes, Then::Wait));
            (show(world.server.address()), show(world.nginx.https()))
        }
    }
}

/// The types of the records, and what alerts say; or what is no TLS, as it is.
pub(crate) fn shape(seen: &Seen) -> Seen {
    let (mut bytes, mut rest) = (Vec::new(), &seen.bytes[..]);
    while let [kind, 3, _, high, low, data @ ..] = rest {
        let (record, next) = data.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        bytes.push(*kind);
        if *kind == 21 {
            bytes.extend(record);
        }
        rest = next;
    }
    Seen { bytes: [&bytes, rest].concat(), end: seen.end }
}

/// Whether a hello of this person is recognised; nobody else can finish a handshake with it.
fn is_recognised(world: &World, knocker: &Knocker) -> bool {
    let hello = knocker.hello();
    let bytes = [&hello, SSH].concat();
    let mut stream = connect(world.server.address());
    stream.write_all(&bytes).expect("sent");
    let mut first = [0; 43];
    if stream.read_exact(&mut first).is_ok() && knocker.is_recognised(&hello, &first) {
        return true;
    }
    let rest = read_all(&mut stream);
    let through = Seen { bytes: [&first, &rest.bytes[..]].concat(), end: rest.end };
    let direct = exchange(world.nginx.https(), &bytes, Then::Wait);
    assert_eq!(shape(&through), shape(&direct), "neither recognised nor shown the website");
    assert!(direct.bytes.starts_with(&[22, 3, 3]), "{direct:?}");
    false
}

fn is_admitted(world: &World, carrier: Carrier, knocker: &Knocker) -> bool {
    if carrier == Carrier::Hello {
        return is_recognised(world, knocker);
    }
    let (through, direct) = show(world, carrier, &|exporter| knocker.letters(carrier, exporter));
    if through.bytes.starts_with(b"SSH-2.0-") {
        return true;
    }
    assert_eq!(through, direct, "neither let in nor shown the website");
    assert!(text(&direct.bytes).contains("400 Bad Request"), "{direct:?}");
    false
}

fn a_wrong_key(carrier: Carrier) {
    let world = World::start();
    assert!(is_admitted(&world, carrier, &Knocker::new(&world.invite)));
    let knocker = Knocker::new(&world.invite).with_wrong_key();
    assert!(!is_admitted(&world, carrier, &knocker));

    let stranger = Client::join(&world.scratch, "stranger", &knocker.invite.to_link());
    let message = failure(&mut stranger.connect(&["--carrier", carrier.name()]), 7);
    assert!(message.contains("not admitted"), "{message}");
    let line =
        world.server.connection(|line| line["route"] != "knock" && line["outcome"] != "tls-failed");
    assert!(line["refused"].is_null() && line["client"].is_null(), "nobody knows who: {line}");
}

/// Why a knock that was right is said to be refused in the log.
fn refusal(world: &World) -> String {
    let line = world.server.connection(|line| line["refused"].is_string());
    line["refused"].as_str().map(str::to_owned).expect("a text")
}

fn a_revoked_key(carrier: Carrier) {
    let world = World::start();
    success(&mut world.server.command(&["client", "revoke", "laptop"]));
    let knocker = Knocker::new(&world.invite);
    until("the revocation", || (!is_admitted(&world, carrier, &knocker)).then_some(()));
}

fn an_expired_key(carrier: Carrier) {
    let world = World::start();
    let invite =
        world.server.invite("late", &["--service", "ssh", "--until", "2030-01-01T00:00:00Z"]);
    assert!(is_admitted(&world, carrier, &Knocker::new(&invite)));
    let clients = fs::read_to_string(world.server.clients_file()).expect("read clients.toml");
    assert!(clients.contains("2030-"), "{clients}");
    fs::write(world.server.clients_file(), clients.replace("2030-", "2020-"))
        .expect("write clients.toml");
    until("the expiry", || (!is_admitted(&world, carrier, &Knocker::new(&invite))).then_some(()));
    assert_eq!(refusal(&world), "expired");
    assert!(is_admitted(&world, carrier, &Knocker::new(&world.invite)), "others are not affected");
}

fn a_service_that_was_not_granted(carrier: Carrier) {
    let world = World::start();
    let mut knocker = Knocker::new(&world.invite);
    knocker.header.service += 1;
    assert!(!is_admitted(&world, carrier, &knocker));
    assert_eq!(refusal(&world), "service");
}

fn a_foreign_address(carrier: Carrier) {
    let world = World::start();
    let grants = |from| ["--service", "ssh", "--from", from];
    let here = world.server.invite("here", &grants("127.0.0.0/8"));
    let elsewhere = world.server.invite("elsewhere", &grants("10.0.0.0/8"));
    assert!(is_admitted(&world, carrier, &Knocker::new(&here)));
    assert!(!is_admitted(&world, carrier, &Knocker::new(&elsewhere)));
    assert_eq!(refusal(&world), "address");
}

fn a_flipped_bit(carrier: Carrier) {
    let world = World::start();
    let knocker = Knocker::new(&world.invite);
    // Letters stay letters from A to P. In a hello it is its random and its session id that are bent.
    let (places, least) = if carrier == Carrier::Hello { (11..76, 0) } else { (0..96, b'A') };
    for at in places.step_by(5) {
        let bend = |exporter: &[u8; 32]| {
            let mut knock = match carrier {
                Carrier::Plain | Carrier::Tls => knocker.letters(carrier, exporter),
                Carrier::Hello => knocker.hello(),
            };
            knock[at] = least + ((knock[at] - least) ^ 1);
            knock
        };
        let (through, direct) = show(&world, carrier, &bend);
        assert_eq!(through, direct, "byte {at}");
    }
}

#[test]
fn a_token_that_was_seen_before() {
    let world = World::start();
    let letters = Knocker::new(&world.invite).plain();
    let (first, _) = show(&world, Carrier::Plain, &|_| letters.clone());
    assert!(first.bytes.starts_with(b"SSH-2.0-"), "{first:?}");
    let (again, direct) = show(&world, Carrier::Plain, &|_| letters.clone());
    assert_eq!(again, direct);
    assert_eq!(refusal(&world), "replayed");
}

#[test]
fn of_many_who_show_one_token_one_is_let_in() {
    let world = World::start();
    let bytes = [&Knocker::new(&world.invite).plain(), SSH].concat();
    let admitted = thread::scope(|scope| {
        let show = || exchange(world.server.address(), &bytes, Then::Wait);
        let shows: Vec<_> = (0..16).map(|_| scope.spawn(show)).collect();
        let seen = shows.into_iter().map(|show| show.join().expect("a stranger"));
        seen.filter(|seen| seen.bytes.starts_with(b"SSH-2.0-")).count()
    });
    assert_eq!(admitted, 1);
}

#[test]
fn a_wrong_clock_shuts_the_plain_carrier_only() {
    let world = World::start();
    for seconds in [-3600, 3600] {
        let knocker = Knocker::new(&world.invite).off_by(seconds);
        assert!(!is_admitted(&world, Carrier::Plain, &knocker), "{seconds}");
        assert!(is_admitted(&world, Carrier::Tls, &knocker), "{seconds}");
    }
    for seconds in [-30, 30] {
        let knocker = Knocker::new(&world.invite).off_by(seconds);
        assert!(is_admitted(&world, Carrier::Plain, &knocker), "{seconds}");
    }
}
