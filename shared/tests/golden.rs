//! Golden vectors: a knock that was made once stays valid for good. They come from golden.py beside
//! this file, which shares no code with the crate.

use postern_shared::hex;
use postern_shared::invite::{Grant, Invite};
use postern_shared::knock::{
    Carrier, ClientKey, Header, Intent, Kid, Locator, ServerId, Status, Token,
};

const PLAIN: &[u8; 96] = b"FAFBFCFDFEFFFGFHFIFJFKFLFMFNFOFPDJNMBFANKHEKIDIDKPKFIMJHLOKBCDOCHMHINLCHJNPHMKIEGDANOAJDIADOGGII";
const TLS: &[u8; 96] = b"FAFBFCFDFEFFFGFHFIFJFKFLFMFNFOFPHAKENCIPFELKNENOLKEEHBADEKCIOGBFMEFPGHAHNJFKFJPIIALDHBMGDGBKDGPA";
const ACKS: [(Status, &str); 3] = [
    (Status::Ok, "ad29c989d658ff04400414dbfeb1fddb"),
    (Status::UpstreamDown, "05dfa6ef6676eb1f2f9e42e481a60120"),
    (Status::Busy, "bdf0fbc99a054706fd20f2abc65e5977"),
];
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
    };
    assert_eq!(*invite.to_link(), INVITE);
    assert_eq!(Invite::from_link(INVITE), Ok(invite));
}
