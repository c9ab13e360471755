//! A million of what strangers could show, judged without a socket between: none is let in, and none
//! leaves a trace by which the next one would be judged otherwise.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use postern_shared::sniff::{Interest, Kind, Kinds, Protocol, Sniff, sniff};
use postern_tests::posternd::{config, posternd};
use postern_tests::{Knocker, Scratch, TcpService, success};
use posternd::gate::{Gate, Refusal, Shown, Verdict};

const STRANGERS: u64 = 1_000_000;

const WINDOW: Duration = Duration::from_secs(300);

const INTEREST: Interest =
    Interest { kinds: Kinds::EMPTY.with(Kind::Tls), letters: true, line: false, path: false };

/// What these first bytes come to; `None` if they are no knock by their form.
fn judge(gate: &Gate, bytes: &[u8]) -> Option<Verdict> {
    let judge = |shown| Some(gate.judge(shown, IpAddr::from(Ipv4Addr::LOCALHOST), WINDOW));
    match sniff(bytes, &INTEREST) {
        Sniff::Found(Protocol::Tls(hello)) => judge(Shown::Hello(&hello)),
        Sniff::Found(Protocol::Letters(letters)) => judge(Shown::Plain(&letters)),
        Sniff::Found(Protocol::Plain(_))
        | Sniff::NeedMore(_)
        | Sniff::Malformed
        | Sniff::Unknown => None,
    }
}

/// Numbers that are the same in every run (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        for multiplier in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb] {
            number = (number ^ (number >> 29)).wrapping_mul(multiplier);
        }
        usize::try_from(number >> 32).expect("32 bits")
    }
}

#[test]
fn a_million_bent_knocks_are_strangers() {
    let (scratch, service) = (Scratch::new(), TcpService::named("inside"));
    let inside = format!(
        "[service.inside]\nto = \"tcp://{}\"\nknock = true\n[knock]\nsni = \"www.example.com\"\n",
        service.address()
    );
    let inside = config(service.address(), &inside).replace("PUBLIC", "127.0.0.1:1");
    let file = scratch.write("posternd.toml", inside);
    let invite = success(posternd(&["client", "add", "laptop", "-c"]).arg(file));
    let gate =
        Gate::open(&scratch.path("state/clients.toml"), WINDOW, None).expect("a clients file");
    let knocker = Knocker::new(&invite);
    let (hello, letters) = (knocker.hello(), knocker.plain());

    let (mut numbers, mut judged) = (Numbers(1), 0);
    for number in 0..STRANGERS {
        let (mut bytes, first, bits) = match number % 2 {
            // Behind the record's header, which is not a part of what is signed.
            0 => (hello.clone(), 5, 8),
            _ => (letters.clone(), 0, 4),
        };
        for _ in 0..1 + numbers.next() % 3 {
            let at = first + numbers.next() % (bytes.len() - first);
            let bit = 1 << (numbers.next() % bits);
            bytes[at] = if first > 0 { bytes[at] ^ bit } else { b'A' + ((bytes[at] - b'A') ^ bit) };
        }
        // Two bits may have met.
        if bytes == hello || bytes == letters {
            continue;
        }
        let verdict = judge(&gate, &bytes);
        assert!(matches!(verdict, None | Some(Verdict::Stranger)), "{number}: {verdict:?}");
        judged += u64::from(verdict.is_some());
    }
    assert!(judged > STRANGERS / 4 * 3, "{judged} had the form of a knock");

    for right in [&hello, &letters] {
        assert!(matches!(judge(&gate, right), Some(Verdict::Admitted(_))));
        let again = judge(&gate, right);
        assert!(matches!(again, Some(Verdict::Refused { reason: Refusal::Replayed, .. })));
    }
}
