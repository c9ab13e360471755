//! Access programs: who may go to a service, by the word of a program of the operator's.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use postern_shared::knock::Status;
use postern_tests::client::feed;
use postern_tests::net::{End, Seen, Then, connect, connect_from, read_all};
use postern_tests::posternd::config;
use postern_tests::process::{children, text};
use postern_tests::{
    Client, Knocker, Posternd, Scratch, TcpService, exchange, failure, success, until,
};

/// A website, a service behind a knock and one behind a route, both of which this program guards.
struct House {
    server: Posternd,
    scratch: Scratch,
}

impl House {
    fn new(program: &str, rules: &str) -> House {
        let scratch = Scratch::new();
        let guard = scratch.write("guard", rules).display().to_string();
        let access = format!("access = \"exec:{} {guard}\"", program.replace("GUARD", &guard));
        let more = format!(
            r#"
[service.inner]
to = "tcp://{}"
knock = true
{access}

[service.shop]
to = "tcp://{}"
{access}
access-timeout = "10s"

[[route]]
prefix = ["01"]
service = "shop"

[timeouts]
decide = "60s"
"#,
            TcpService::echo_after_eof().address(),
            TcpService::named("shop").address(),
        );
        let config = config(TcpService::named("web").address(), &more);
        House { server: Posternd::start(&scratch, &config), scratch }
    }

    fn visit(&self, from: [u8; 4]) -> Seen {
        let mut stream = connect_from(Ipv4Addr::from(from), self.server.address());
        let _ = stream.write_all(b"\x01");
        read_all(&mut stream)
    }

    /// What becomes of a plain knock of this person's.
    fn knock(&self, knocker: &Knocker) -> Option<Status> {
        let mut knocker = knocker.clone();
        knocker.header.ack = true;
        let letters = knocker.plain();
        let seen = exchange(self.server.address(), &[&letters[..], b"hello"].concat(), Then::Fin);
        let status = knocker.acknowledged(&letters, &seen.bytes);
        let rest = if status == Some(Status::Ok) { &b"hello"[..] } else { b"" };
        assert_eq!(seen.bytes.get(16..).unwrap_or_default(), rest, "{status:?}");
        status
    }

    fn knocker(&self, name: &str) -> Knocker {
        Knocker::new(&self.server.invite(name, &["--service", "inner"]))
    }
}

fn sample() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/access/allow");
    path.canonicalize().expect("the sample").display().to_string()
}

const RESET: Seen = Seen { bytes: Vec::new(), end: End::Reset };

#[test]
fn the_sample_decides_by_its_rules() {
    let house = House::new(
        &sample(),
        "deny * * 127.0.0.9/32 *   # whoever it is\nallow shop - * *\nallow inner alice * *\n",
    );
    let (alice, bob) = (house.knocker("alice"), house.knocker("bob"));
    until("the program to answer", || (house.visit([127, 0, 0, 1]).bytes == b"shop").then_some(()));
    assert_eq!(house.visit([127, 0, 0, 9]), RESET);
    assert_eq!(house.knock(&alice), Some(Status::Ok));
    assert_eq!(house.knock(&bob), Some(Status::Denied));
    for (peer, client) in [("127.0.0.9", None), ("127.0.0.1", Some("bob"))] {
        let line = house.server.connection(|line| {
            line["refused"] == "access"
                && line["client"].as_str() == client
                && line["peer"].as_str().is_some_and(|from| from.starts_with(peer))
        });
        assert_eq!(line["outcome"], "rejected", "{line}");
    }
    let invite = house.server.invite("carol", &["--service", "inner"]);
    let carol = Client::join(&house.scratch, "carol", &invite);
    let said = failure(&mut carol.connect(&["--carrier", "plain"]), 7);
    assert!(said.contains("access program does not let you to 'inner'"), "{said}");
}

#[test]
fn the_sample_knows_hours() {
    let scratch = Scratch::new();
    let rules = "deny ssh * 10.0.0.0/8 22:00-06:00\nallow ssh a* * 08:00-18:00\nallow * - * *\n";
    let mut allow = Command::new(sample());
    allow.arg(scratch.write("rules", rules)).env("TZ", "UTC");
    // 1970: so many seconds into its first day.
    let questions = [
        ("10.1.2.3 1 36000 ssh alice", "allow"),
        ("10.1.2.3 1 82800 ssh alice", "deny"),
        ("10.1.2.3 1 3600 ssh -", "deny"),
        ("::1 1 36000 ssh bob", "deny"),
        ("::1 1 64800 ssh alice", "deny"),
        ("::1 1 64799 ssh alice", "allow"),
        ("192.0.2.1 1 0 web -", "allow"),
    ];
    let (mut lines, mut answers) = (String::new(), String::new());
    for (number, (question, answer)) in questions.iter().enumerate() {
        lines += &format!("{number} {question}\n");
        answers += &format!("{number} {answer}\n");
    }
    let output = feed(&mut allow, lines.as_bytes());
    assert_eq!(text(&output.stdout), answers, "{}", text(&output.stderr));
}

/// It answers for those who knocked, and leaves visitors without an answer.
const PARTIAL: &str = r#"
import sys
for question in sys.stdin:
    number, address, port, now, service, client = question.split()
    assert client == "-" or service == "inner"
    if client != "-":
        print(number, "allow", flush=True)
"#;

#[test]
fn strangers_do_not_take_the_places_of_those_who_knock() {
    let house = House::new("/usr/bin/python3", PARTIAL);
    let alice = house.knocker("alice");
    until("the program to answer", || (house.knock(&alice) == Some(Status::Ok)).then_some(()));
    let before = house.server.descriptors();
    let mut strangers: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(house.server.address());
            stream.write_all(b"\x01").expect("sent");
            stream
        })
        .collect();
    // Those for whom there is no place are denied while the others wait.
    let turned_away =
        || house.server.events("connection").iter().filter(|l| l["rule"] == 1).count();
    until("36 to be turned away", || (turned_away() == 36).then_some(()));
    for _ in 0..5 {
        assert_eq!(house.knock(&alice), Some(Status::Ok));
    }
    for stream in &mut strangers {
        assert!(stream.read(&mut [0; 8]).is_err(), "none is let in");
    }
    drop(strangers);
    until("no descriptor more", || (house.server.descriptors() <= before).then_some(()));
}

#[test]
fn without_an_answer_nobody_is_let_in() {
    let house = House::new("/usr/bin/python3", "import time\ntime.sleep(1000)\n");
    let alice = house.knocker("alice");
    assert_eq!(house.knock(&alice), Some(Status::Denied), "it hangs");
    let web = exchange(house.server.address(), b"GET / HTTP/1.1\r\n\r\n", Then::Wait);
    assert_eq!(web.bytes, b"web", "nobody is asked about");

    fs::write(house.scratch.path("guard"), "import sys\nsys.exit('no')\n").expect("written");
    let file = fs::read_to_string(house.server.file()).expect("read");
    // Another command is another program.
    fs::write(house.server.file(), file.replace("python3 ", "python3 -B ")).expect("written");
    success(&mut house.server.command(&["reload"]));
    assert_eq!(house.knock(&alice), Some(Status::Denied), "it ends");
    assert_eq!(house.visit([127, 0, 0, 1]), RESET);

    fs::write(house.server.file(), file.replace("access", "# access")).expect("written");
    success(&mut house.server.command(&["reload"]));
    assert_eq!(house.knock(&alice), Some(Status::Ok), "none is there");
    until("no child", || children(house.server.process.pid()).is_empty().then_some(()));
}
