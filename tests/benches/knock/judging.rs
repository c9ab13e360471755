//! The time to judge one knock, in process: as many clients as may be, and whatever comes to the gate.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use postern_shared::hello::{ClientHello, Parse};
use postern_shared::knock::{
    Carrier, CarrierKey, ClientKey, Header, Intent, Kid, Locator, ServerId, Token,
};
use postern_shared::sniff::LETTERS;
use postern_tests::Scratch;
use postern_tests::knock::{SESSION_ID, knocking, random, with_session_id};
use posternd::gate::{Gate, Shown, Verdict};

use crate::Bench;
use crate::figures::Metric;
use crate::in_process::{browser_hello, each};

const CLIENTS: [(&str, u32); 3] =
    [("1 client", 1), ("1,000 clients", 1000), ("100,000 clients", 100_000)];

const WINDOW: Duration = Duration::from_secs(300);

const SERVER: ServerId = ServerId([0x5e; 16]);

const LOCATOR: [u8; 32] = [0x10; 32];

/// Nobody has it.
const UNKNOWN: u32 = u32::MAX;

/// Who comes to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Right,
    WrongTag,
    UnknownKid,
    /// Random letters, or a browser's random session id.
    Random,
    /// A browser's hello without one.
    NoSessionId,
}

impl Who {
    const ALL: [Who; 5] =
        [Who::Right, Who::WrongTag, Who::UnknownKid, Who::Random, Who::NoSessionId];

    fn name(self) -> &'static str {
        match self {
            Who::Right => "right",
            Who::WrongTag => "wrong tag",
            Who::UnknownKid => "unknown kid",
            Who::Random => "random",
            Who::NoSessionId => "no session id",
        }
    }
}

pub fn run(bench: &mut Bench) {
    let count = bench.options.size(2000, 200);
    let browser = browser_hello("www.example.com");
    bench.figures.remark(format!("knock: judged hellos have {} bytes", browser.len()));
    bench.rounds(|bench| {
        for (load, clients) in CLIENTS {
            let house = House::open(clients);
            for who in Who::ALL {
                let mut add = |unit, value| {
                    bench.figures.add(Metric { section: "knock", load, unit }, who.name(), value);
                };
                let records: Vec<_> =
                    house.some_kids(count).map(|kid| hello(who, &browser, kid)).collect();
                let read = |record: &Vec<u8>| drop(black_box(parse(record)));
                add("us to read a hello", each(&records, read));
                let hellos: Vec<_> = records.iter().map(|record| parse(record)).collect();
                let judge = |hello| house.judge(who, Shown::Hello(hello));
                add("us to judge a hello", each(&hellos, judge));
                if who == Who::NoSessionId {
                    continue;
                }
                let knocks: Vec<_> = house.some_kids(count).map(|kid| letters(who, kid)).collect();
                let judge = |letters| house.judge(who, Shown::Plain(letters));
                add("us to judge letters", each(&knocks, judge));
            }
        }
    });
}

/// A gate and its clients, for a round: it remembers only so many knocks of one client.
struct House {
    gate: Gate,
    clients: u32,
    _scratch: Scratch,
}

impl House {
    fn open(clients: u32) -> House {
        let scratch = Scratch::new();
        let path = scratch.write("clients.toml", clients_file(clients));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("for its owner only");
        let gate = Gate::open(&path, WINDOW, None).expect("a sound clients file");
        House { gate, clients, _scratch: scratch }
    }

    /// Scattered over all of them, so that no knock finds the client of the one before.
    fn some_kids(&self, count: usize) -> impl Iterator<Item = u32> {
        (1..=u32::MAX).step_by(7919).map(|kid| 1 + kid % self.clients).take(count)
    }

    fn judge(&self, who: Who, shown: Shown<'_>) {
        let verdict = self.gate.judge(shown, IpAddr::from(Ipv4Addr::LOCALHOST), WINDOW);
        let admitted = matches!(verdict, Verdict::Admitted(_));
        assert_eq!(admitted, who == Who::Right, "{who:?}: {verdict:?}");
    }
}

fn clients_file(count: u32) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut file =
        format!("server-id = \"{}\"\nlocators = [\"{}\"]\n", hex(&SERVER.0), hex(&LOCATOR));
    for kid in 1..=count {
        let key = hex(&key(kid));
        let _ = write!(
            file,
            "[[client]]\nname = \"c{kid}\"\nkid = {kid}\nkey = \"{key}\"\nservices = {{ ssh = 1 }}\n"
        );
    }
    file
}

fn key(kid: u32) -> [u8; 32] {
    let mut key = [0; 32];
    key[..4].copy_from_slice(&kid.to_be_bytes());
    key
}

/// What the header of this one says, and the keys he has.
fn made_of(who: Who, kid: u32, carrier: Carrier) -> (Header, CarrierKey, CarrierKey) {
    let named = if who == Who::UnknownKid { UNKNOWN } else { kid };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let header = Header {
        ack: true,
        intent: Intent::Pipe,
        kid: Kid::new(named).expect("not 0"),
        time: u32::try_from(now.as_secs()).expect("before 2106"),
        service: 1,
    };
    let key = if who == Who::Right { key(kid) } else { random() };
    let (locator, key) = (Locator::new(LOCATOR), ClientKey::new(key));
    (header, locator.on(carrier, &SERVER), key.on(carrier, &SERVER))
}

fn hello(who: Who, template: &[u8], kid: u32) -> Vec<u8> {
    let mut record = template.to_vec();
    match who {
        Who::Right | Who::WrongTag | Who::UnknownKid => {
            let (header, locator, key) = made_of(who, kid, Carrier::Hello);
            knocking(record, &header, &locator, &key)
        }
        Who::Random => {
            record[SESSION_ID].copy_from_slice(&random::<32>());
            record
        }
        Who::NoSessionId => with_session_id(record, &[]),
    }
}

fn letters(who: Who, kid: u32) -> [u8; LETTERS] {
    match who {
        Who::Right | Who::WrongTag | Who::UnknownKid => {
            let (header, locator, key) = made_of(who, kid, Carrier::Plain);
            Token::seal(&header, random(), &locator, &key, &[]).letters()
        }
        Who::Random | Who::NoSessionId => random().map(|byte: u8| b'A' + byte % 16),
    }
}

fn parse(record: &[u8]) -> ClientHello {
    match ClientHello::parse(record) {
        Parse::Found(hello) => hello,
        Parse::NeedMore(_) | Parse::Malformed => panic!("no hello: {record:?}"),
    }
}
