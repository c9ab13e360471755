use std::path::Path;

use postern_shared::hex;
use postern_shared::knock::{ClientKey, Intent, Kid, Locator, ServerId};

use super::*;

const NOW: u64 = 1_800_000_000;
const WINDOW: Duration = Duration::from_secs(60);
const SERVER: ServerId = ServerId([1; 16]);

fn clients() -> Clients {
    let text = format!(
        "server-id = \"{}\"\nlocators = [\"{}\", \"{}\"]\n\
         [[client]]\nname = \"alice\"\nkid = 7\nkey = \"{}\"\nservices = {{ ssh = 1 }}\n\
         [[client]]\nname = \"late\"\nkid = 8\nkey = \"{}\"\nservices = {{ ssh = 1 }}\nuntil = \"2020-01-01T00:00:00Z\"\n\
         [[client]]\nname = \"home\"\nkid = 9\nkey = \"{}\"\nservices = {{ ssh = 1 }}\nexpose = [\"tcp:80\"]\nfrom = [\"10.0.0.0/8\"]\n",
        *hex::encode(&SERVER.0),
        *hex::encode(&[2; 32]),
        *hex::encode(&[20; 32]),
        *hex::encode(&[7; 32]),
        *hex::encode(&[8; 32]),
        *hex::encode(&[9; 32]),
    );
    Clients::parse(Path::new("clients.toml"), &text).expect("sound")
}

struct Knock {
    carrier: Carrier,
    kid: u32,
    key: u8,
    locator: u8,
    time: u64,
    service: u16,
    intent: Intent,
    sealed_with: &'static [u8],
    shown_with: &'static [u8; 32],
    from: &'static str,
}

const RIGHT: Knock = Knock {
    carrier: Carrier::Plain,
    kid: 7,
    key: 7,
    locator: 2,
    time: NOW,
    service: 1,
    intent: Intent::Pipe,
    sealed_with: b"",
    shown_with: &[0; 32],
    from: "192.0.2.1",
};

fn outcome(knock: &Knock, spend: Spend) -> (String, u32) {
    let header = Header {
        ack: true,
        intent: knock.intent,
        kid: Kid::new(knock.kid).expect("not 0"),
        time: u32::try_from(knock.time).expect("before 2106"),
        service: knock.service,
    };
    let locator = Locator::new([knock.locator; 32]).on(knock.carrier, &SERVER);
    let key = ClientKey::new([knock.key; 32]).on(knock.carrier, &SERVER);
    let token = Token::seal(&header, [5; 16], &locator, &key, knock.sealed_with);
    let letters = token.letters();
    let from = knock.from.parse().expect("an address");
    let shown = match knock.carrier {
        Carrier::Plain => Shown::Plain(&letters),
        Carrier::Tls => Shown::Tls { letters: &letters, binding: knock.shown_with },
        Carrier::Hello => unreachable!("its tokens are tested where hellos are made"),
    };
    let claim = Claim { shown, from };
    let mut spent = 0;
    let verdict = judge(&clients(), &Pools::default(), &claim, NOW, WINDOW, |_| {
        spent += 1;
        spend
    });
    let word = match verdict {
        Verdict::Stranger => "stranger".to_owned(),
        Verdict::Refused { reason, .. } => reason.name().to_owned(),
        Verdict::Admitted(admitted) => {
            let ack = admitted.acknowledgement(Status::Ok).expect("asked for");
            let key = ClientKey::new([knock.key; 32]).ack(&SERVER);
            assert_eq!(Status::open(&ack, &key, &[5; 16]), Some(Status::Ok));
            let wish = match &admitted.wish {
                Wish::Reach(service) => service,
                Wish::Arm(_) => "arm",
                Wish::Expose => "expose",
                Wish::Wait(_) => "wait",
            };
            format!("{} {wish}", admitted.client.name)
        }
    };
    (word, spent)
}

#[test]
fn verdicts() {
    let admitted = "alice ssh";
    for (what, knock, expected, spent) in [
        ("right", RIGHT, admitted, 1),
        ("the older locator", Knock { locator: 20, ..RIGHT }, admitted, 1),
        ("another locator", Knock { locator: 3, ..RIGHT }, "stranger", 0),
        ("another key", Knock { key: 8, ..RIGHT }, "stranger", 0),
        ("a kid nobody has", Knock { kid: 99, ..RIGHT }, "stranger", 0),
        ("too old", Knock { time: NOW - 61, ..RIGHT }, "clock", 0),
        ("too new", Knock { time: NOW + 61, ..RIGHT }, "clock", 0),
        ("another service", Knock { service: 2, ..RIGHT }, "service", 1),
        ("expired", Knock { kid: 8, key: 8, ..RIGHT }, "expired", 1),
        ("wrong place", Knock { kid: 9, key: 9, ..RIGHT }, "address", 1),
        ("right place", Knock { kid: 9, key: 9, from: "10.1.1.1", ..RIGHT }, "home ssh", 1),
    ] {
        assert_eq!(outcome(&knock, Spend::Fresh), (expected.to_owned(), spent), "{what}");
    }
}

#[test]
fn a_spent_token_is_refused() {
    for (spend, word) in [
        (Spend::Replayed, "replayed"),
        (Spend::Full, "flood"),
        (Spend::Early, "early"),
        (Spend::Closed, "closed"),
        (Spend::Unwritten, "journal"),
    ] {
        assert_eq!(outcome(&RIGHT, spend).0, word);
    }
}

#[test]
fn tls_needs_its_session_and_no_clock() {
    let tls = Knock { carrier: Carrier::Tls, sealed_with: &[1; 32], shown_with: &[1; 32], ..RIGHT };
    let late = Knock { time: NOW - 3600, ..tls };
    assert_eq!(outcome(&late, Spend::Replayed), ("alice ssh".to_owned(), 0));
    let relayed = Knock { shown_with: &[2; 32], ..late };
    assert_eq!(outcome(&relayed, Spend::Fresh).0, "stranger");
}

#[test]
fn a_token_without_an_ack_flag_gets_none() {
    let clients = clients();
    let client = Kid::new(7).and_then(|kid| clients.find(kid)).cloned().expect("there");
    let admitted = Admitted {
        client,
        carrier: Carrier::Plain,
        wish: Wish::Reach("ssh".to_owned()),
        wants_ack: false,
        nonce: [0; 16],
        pending: None,
    };
    assert_eq!(admitted.acknowledgement(Status::Ok), None);
}

const TLS: Knock =
    Knock { carrier: Carrier::Tls, sealed_with: &[1; 32], shown_with: &[1; 32], ..RIGHT };

#[test]
fn whoever_may_expose_knocks_inside_tls_for_it() {
    let inside = Knock { intent: Intent::Expose, service: 0, ..TLS };
    let home = Knock { kid: 9, key: 9, from: "10.1.1.1", ..inside };
    assert_eq!(outcome(&home, Spend::Fresh).0, "home expose");
    assert_eq!(outcome(&inside, Spend::Fresh).0, "expose", "alice may expose nothing");
    let plain = Knock { intent: Intent::Expose, kid: 9, key: 9, from: "10.1.1.1", ..RIGHT };
    assert_eq!(outcome(&plain, Spend::Fresh).0, "carrier");
}

#[test]
fn a_lanes_number_counts_once_and_only_while_its_pool_is_open() {
    let (clients, pools) = (clients(), Pools::default());
    let home = Kid::new(9).and_then(|kid| clients.find(kid)).cloned().expect("there");
    let peer = "10.1.1.1:1".parse().expect("an address");
    let (pool, key) = pools.open(home, peer, &SERVER);
    let locator = Locator::new([2; 32]).on(Carrier::Plain, &SERVER);
    let lane = |number: u32, from: &str| {
        let intent = Intent::Accept;
        let header = Header { ack: true, intent, kid: pool.number, time: number, service: 0 };
        let key = key.on(Carrier::Plain, &SERVER);
        let letters = Token::seal(&header, [5; 16], &locator, &key, b"").letters();
        let from = from.parse().expect("an address");
        let claim = Claim { shown: Shown::Plain(&letters), from };
        match judge(&clients, &pools, &claim, NOW, WINDOW, |_| panic!("not the journal's")) {
            Verdict::Admitted(Admitted { wish: Wish::Wait(of), .. }) => {
                assert_eq!(of.number, pool.number);
                "lane"
            }
            Verdict::Admitted(_) => "something else",
            Verdict::Refused { reason, .. } => reason.name(),
            Verdict::Stranger => "stranger",
        }
    };
    assert_eq!(lane(1, "10.1.1.1"), "lane");
    assert_eq!(lane(1, "10.1.1.1"), "replayed");
    assert_eq!(lane(3, "10.1.1.1"), "lane");
    assert_eq!(lane(2, "10.1.1.1"), "lane");
    assert_eq!(lane(4, "192.0.2.1"), "address", "the client's terms hold");
    pools.close(&pool);
    assert_eq!(lane(5, "10.1.1.1"), "stranger");
}
