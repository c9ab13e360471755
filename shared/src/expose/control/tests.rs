use super::*;

fn clients() -> Vec<FromClient> {
    let offer = |id, entrance: &str, terminate| {
        let entrance = entrance.parse().expect(entrance);
        FromClient::Offer(Offer { id, entrance, terminate })
    };
    vec![
        FromClient::Hello(Hello { instance: [7; 16], epoch: 9 }),
        offer(0, "tcp:80", false),
        offer(1, "sni:laptop.example.com", true),
        FromClient::OfferOfUnknown(2),
        FromClient::Ping(u64::MAX),
        FromClient::Health { id: 3, health: Health::LocalDown },
    ]
}

fn servers() -> Vec<FromServer> {
    vec![
        FromServer::Welcome(Welcome {
            epoch: 5,
            pool: Kid::new(6).expect("not 0"),
            key: ClientKey::new([8; 32]),
            most_lanes: 4096,
        }),
        FromServer::Opened { id: 1, at: "192.0.2.1:80".to_owned() },
        FromServer::Opened { id: 2, at: String::new() },
        FromServer::Refused { id: 3, why: Refusal::HeldByAnother },
        FromServer::Want(12),
        FromServer::Pong(3),
        FromServer::Gone(Gone::Superseded),
    ]
}

#[test]
fn what_is_said_is_heard_however_it_is_cut() {
    let (mut count, tail) = (0, b"more");
    for said in clients() {
        let bytes = said.encode();
        for end in 0..bytes.len() {
            assert_eq!(FromClient::parse(&bytes[..end]), Parsed::NeedMore, "{said:?} {end}");
        }
        let heard = FromClient::parse(&[&bytes[..], tail].concat());
        assert_eq!(heard, Parsed::Message(said, bytes.len()));
        count += 1;
    }
    for said in servers() {
        let bytes = said.encode();
        for end in 0..bytes.len() {
            assert_eq!(FromServer::parse(&bytes[..end]), Parsed::NeedMore, "{said:?} {end}");
        }
        let heard = FromServer::parse(&[&bytes[..], tail].concat());
        assert_eq!(heard, Parsed::Message(said, bytes.len()));
        count += 1;
    }
    assert_eq!(count, 13);
}

#[test]
fn unknown_kinds_are_passed_over_and_nonsense_is_not() {
    assert_eq!(FromClient::parse(&[0, 3, 99, 1, 2]), Parsed::Message(FromClient::Unknown, 5));
    assert_eq!(FromServer::parse(&[0, 1, 99]), Parsed::Message(FromServer::Unknown, 3));
    for nonsense in [&[0, 0][..], &[0xff, 0xff, 1], &[0, 2, kind::PING, 1]] {
        assert_eq!(FromClient::parse(nonsense), Parsed::Malformed, "{nonsense:?}");
    }
}

#[test]
fn a_pools_key_is_not_shown() {
    assert!(!format!("{:?}", servers()).contains("8, 8, 8"));
}
