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
         [[client]]\nname = \"home\"\nkid = 9\nkey = \"{}\"\nservices = {{ ssh = 1 }}\nfrom = [\"10.0.0.0/8\"]\n",
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
    sealed_with: b"",
    shown_with: &[0; 32],
    from: "192.0.2.1",
};

fn outcome(knock: &Knock, spend: Spend) -> (String, u32) {
    let header = Header {
        ack: true,
        intent: Intent::Pipe,
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
    let verdict = judge(&clients(), &claim, NOW, WINDOW, |_| {
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
            format!("{} {}", admitted.client.name, admitted.service)
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
        service: "ssh".to_owned(),
        intent: Intent::Pipe,
        wants_ack: false,
        nonce: [0; 16],
        pending: None,
    };
    assert_eq!(admitted.acknowledgement(Status::Ok), None);
}
