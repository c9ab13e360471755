//! Golden vectors: a knock that was made once stays valid for good. They come from golden.py beside
//! this file, which shares no code with the crate.

use postern_shared::hello::{ClientHello, Parse};
use postern_shared::hex;
use postern_shared::invite::{Grant, Invite};
use postern_shared::knock::{
    Carrier, ClientKey, Header, HelloToken, Intent, Kid, Locator, ServerId, Status, Token, ack,
};

const PLAIN: &[u8; 96] = b"FAFBFCFDFEFFFGFHFIFJFKFLFMFNFOFPDJNMBFANKHEKIDIDKPKFIMJHLOKBCDOCHMHINLCHJNPHMKIEGDANOAJDIADOGGII";
const TLS: &[u8; 96] = b"FAFBFCFDFEFFFGFHFIFJFKFLFMFNFOFPHAKENCIPFELKNENOLKEEHBADEKCIOGBFMEFPGHAHNJFKFJPIIALDHBMGDGBKDGPA";
const ACKS: [(Status, &str); 3] = [
    (Status::Ok, "ad29c989d658ff04400414dbfeb1fddb"),
    (Status::UpstreamDown, "05dfa6ef6676eb1f2f9e42e481a60120"),
    (Status::Busy, "bdf0fbc99a054706fd20f2abc65e5977"),
];
const SESSION_ID: &str = "367c77fbfa430f5c911c6e5cc8130c3bb3b9ae4ef545640868920cc9cf747d6c";
const SERVER_RANDOM: &str = "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf44652eab7f77e3fbc8b8f10dc4f238b2";
const INVITE: &str = "postern://v1/AQ9ib2IuZXhhbXBsZS5vcmcCAgG7AxBAQUJDREVGR0hJSktMTU5PBCAgISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-PwUEAQIDBAYgAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8HBQAHc3NoCAICARoh7jQ";

fn count<const N: usize>(from: u8) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, value) in bytes.iter_mut().zip(from..) {
        *byte = value;
    }
    bytes
}

fn header() -> Header {
    let kid = Kid::new(0x0102_0304).expect("not 0");
    Header { ack: true, intent: Intent::Pipe, kid, time: 1_800_000_000, service: 7 }
}

#[test]
fn tokens() {
    let (key, locator) = (ClientKey::new(count(0)), Locator::new(count(32)));
    let (server, nonce) = (ServerId(count(64)), count(80));
    let binding: [u8; 32] = count(96);
    for (carrier, binding, golden) in
        [(Carrier::Plain, &[][..], PLAIN), (Carrier::Tls, &binding[..], TLS)]
    {
        let (locator, key) = (locator.on(carrier, &server), key.on(carrier, &server));
        let token = Token::seal(&header(), nonce, &locator, &key, binding);
        assert_eq!(token.letters(), *golden, "{carrier}");
        let token = Token::from_letters(golden).expect("letters A-P");
        assert_eq!(token.unmask(&locator), Some(header()));
        assert!(bool::from(token.verify(&key, binding)));
    }
}

#[test]
fn acknowledgements() {
    let key = ClientKey::new(count(0)).ack(&ServerId(count(64)));
    for (status, golden) in ACKS {
        assert_eq!(*hex::encode(&status.seal(&key, &count(80))), golden);
    }
}

/// The hello of golden.py.
fn hello(session_id: &[u8; 32]) -> ClientHello {
    let extensions = hex::decode::<18>("002b00030203040033000700052a2a000107").expect("hex");
    let random: [u8; 32] = count(128);
    let start: [u8; 11] = hex::decode("16030100610100005d0303").expect("hex");
    let middle: [u8; 8] = hex::decode("0002130101000012").expect("hex");
    let bytes = [&start[..], &random, &[32], session_id, &middle, &extensions].concat();
    match ClientHello::parse(&bytes) {
        Parse::Found(hello) => hello,
        Parse::NeedMore(_) | Parse::Malformed => panic!("no hello"),
    }
}

#[test]
fn hellos() {
    let (key, locator, server) =
        (ClientKey::new(count(0)), Locator::new(count(32)), ServerId(count(64)));
    let (carrier, random) = (Carrier::Hello, count(128));
    let untagged = HelloToken::untagged(&header(), &random, &locator.on(carrier, &server));
    let session_id = HelloToken::tagged(&hello(&untagged), &key.on(carrier, &server));
    assert_eq!(*hex::encode(&session_id.expect("of the right form")), SESSION_ID);
    let acknowledged = ack::seal_random(&key.ack(&server), &random, count(160));
    assert_eq!(*hex::encode(&acknowledged), SERVER_RANDOM);
}

#[test]
fn invites() {
    let invite = Invite {
        host: "bob.example.org".to_owned(),
        port: 443,
        server: ServerId(count(64)),
        locator: Locator::new(count(32)),
        kid: header().kid,
        key: ClientKey::new(count(0)),
        services: vec![Grant { service: "ssh".to_owned(), number: 7 }],
        carriers: vec![Carrier::Tls, Carrier::Plain],
        tls_sni: None,
        tls_pin: None,
        hello: None,
    };
    assert_eq!(*invite.to_link(), INVITE);
    assert_eq!(Invite::from_link(INVITE), Ok(invite));
}
