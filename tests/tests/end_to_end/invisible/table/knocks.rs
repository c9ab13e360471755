//! Knocks that open nothing: recorded ones, bent ones, and those of people who may not come in.

use postern_shared::knock::{Carrier, Kid, ServerId};
use postern_tests::Knocker;

use super::PAUSE;
use crate::invisible::probe::Probe;

/// Those who have, or had, a key.
pub(crate) struct Keys {
    pub(crate) good: Knocker,
    pub(crate) revoked: Knocker,
    pub(crate) expired: Knocker,
    /// Who may come from elsewhere only.
    pub(crate) elsewhere: Knocker,
    /// 96 letters that have let somebody in.
    pub(crate) spent: Vec<u8>,
}

/// Why tokens with a right tag are refused in what follows.
pub(crate) const REFUSALS: [&str; 5] = ["address", "clock", "expired", "replayed", "service"];

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n\r\n";

pub(crate) fn probes(keys: &Keys) -> Vec<Probe> {
    let good = &keys.good;
    let mut knocks = vec![
        ("a recorded knock".to_owned(), keys.spent.clone()),
        ("a knock of a revoked key".to_owned(), keys.revoked.plain()),
        ("a knock of an expired key".to_owned(), keys.expired.plain()),
        ("a knock from elsewhere".to_owned(), keys.elsewhere.plain()),
        ("a knock by a clock that is slow".to_owned(), good.clone().off_by(-3600).plain()),
        ("a knock by a clock that is fast".to_owned(), good.clone().off_by(3600).plain()),
        (
            "a knock of an unknown key".to_owned(),
            bent(good, |it| it.header.kid = another(it.header.kid)),
        ),
        ("a knock with another's key".to_owned(), good.clone().with_wrong_key().plain()),
        ("a knock for another service".to_owned(), bent(good, |it| it.header.service += 1)),
        (
            "a knock at another server".to_owned(),
            bent(good, |it| it.invite.server = ServerId([0x17; 16])),
        ),
        ("a token of the tls carrier".to_owned(), good.letters(Carrier::Tls, &[3; 32])),
    ];
    // Each part of it: nonce, masked header, tag.
    for at in [0, 31, 32, 33, 40, 50, 63, 64, 80, 95] {
        let mut letters = good.plain();
        letters[at] = b'A' + ((letters[at] - b'A') ^ 1);
        knocks.push((format!("a knock with a bit of letter {at} flipped"), letters));
    }
    let mut probes = Vec::new();
    for (name, letters) in knocks {
        probes.push(Probe::new(format!("{name}, a banner"), [&letters, BANNER].concat()));
        probes.push(Probe::new(name, letters));
    }
    let spent = &keys.spent;
    probes.push(Probe::new("a recorded knock", &**spent).half_closing());
    probes.push(Probe::new("a recorded knock", &**spent).resetting());
    probes.push(Probe::slowly("a recorded knock in pieces", &**spent, 25, PAUSE));
    probes.push(Probe::new("a recorded knock, then", &**spent).pausing(PAUSE).sending(BANNER));
    probes.push(Probe::new("a knock behind a space", [b" ", &good.plain()[..]].concat()));
    probes.push(Probe::new("a knock behind a letter", [b"A", &good.plain()[..]].concat()));
    probes.push(Probe::new("a knock without its last letter", &good.plain()[..95]).half_closing());
    probes.push(
        Probe::new("a knock too late", &good.plain()[..95]).pausing(PAUSE * 12).sending(*b"A"),
    );
    probes
}

fn bent(knocker: &Knocker, bend: impl FnOnce(&mut Knocker)) -> Vec<u8> {
    let mut knocker = knocker.clone();
    bend(&mut knocker);
    knocker.plain()
}

fn another(kid: Kid) -> Kid {
    Kid::new(kid.value() ^ 0x8000_0000).or(Kid::new(1)).expect("not 0")
}
