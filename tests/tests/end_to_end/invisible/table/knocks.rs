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
    /// A hello that was recognised.
    pub(crate) spent_hello: Vec<u8>,
}

/// Why tokens with a right tag are refused in what follows.
pub(crate) const REFUSALS: [&str; 5] = ["address", "clock", "expired", "replayed", "service"];

const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n\r\n";

pub(crate) fn probes(keys: &Keys) -> Vec<Probe> {
    let good = &keys.good;
    let mut knocks = vec![
        ("a recorded knock".to_owned(), keys.spent.clone()),
        ("a recorded hello".to_owned(), keys.spent_hello.clone()),
        ("a token of the tls carrier".to_owned(), good.letters(Carrier::Tls, &[3; 32])),
    ];
    for (whose, knocker) in [
        ("of a revoked key", keys.revoked.clone()),
        ("of an expired key", keys.expired.clone()),
        ("from elsewhere", keys.elsewhere.clone()),
        ("by a clock that is slow", good.clone().off_by(-3600)),
        ("by a clock that is fast", good.clone().off_by(3600)),
        ("of an unknown key", bent(good, |it| it.header.kid = another(it.header.kid))),
        ("with another's key", good.clone().with_wrong_key()),
        ("for another service", bent(good, |it| it.header.service += 1)),
        ("at another server", bent(good, |it| it.invite.server = ServerId([0x17; 16]))),
    ] {
        knocks.push((format!("a knock {whose}"), knocker.plain()));
        knocks.push((format!("a hello {whose}"), knocker.hello()));
    }
    // Each part of it: nonce, masked header, tag.
    for at in [0, 31, 32, 33, 40, 50, 63, 64, 80, 95] {
        let mut letters = good.plain();
        letters[at] = b'A' + ((letters[at] - b'A') ^ 1);
        knocks.push((format!("a knock with a bit of letter {at} flipped"), letters));
    }
    // Random, masked header, tag, and key share.
    let share = good.hello().len() - 32;
    for at in [11, 42, 44, 59, 60, 75, share, share + 30] {
        let mut hello = good.hello();
        hello[at] ^= 1;
        knocks.push((format!("a hello with a bit of byte {at} flipped"), hello));
    }
    let mut probes = Vec::new();
    for (name, letters) in knocks {
        probes.push(Probe::new(format!("{name}, a banner"), [&letters, BANNER].concat()));
        probes.push(Probe::new(name, letters));
    }
    for (name, bytes) in [("knock", &keys.spent), ("hello", &keys.spent_hello)] {
        let name = |how: &str| format!("a recorded {name}{how}");
        probes.push(Probe::new(name(""), &**bytes).half_closing());
        probes.push(Probe::new(name(""), &**bytes).resetting());
        probes.push(Probe::slowly(name(" in pieces"), &**bytes, 25, PAUSE));
        probes.push(Probe::new(name(", then"), &**bytes).pausing(PAUSE).sending(BANNER));
    }
    probes.push(Probe::new("a knock behind a space", [b" ", &good.plain()[..]].concat()));
    probes.push(Probe::new("a knock behind a letter", [b"A", &good.plain()[..]].concat()));
    probes.push(Probe::new("a knock without its last letter", &good.plain()[..95]).half_closing());
    probes.push(
        Probe::new("a knock too late", &good.plain()[..95]).pausing(PAUSE * 12).sending(*b"A"),
    );
    probes
}

fn bent(knocker: &Knocker, bend: impl FnOnce(&mut Knocker)) -> Knocker {
    let mut knocker = knocker.clone();
    bend(&mut knocker);
    knocker
}

fn another(kid: Kid) -> Kid {
    Kid::new(kid.value() ^ 0x8000_0000).or(Kid::new(1)).expect("not 0")
}
