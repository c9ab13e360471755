//! Identifiers: programs and modules that say what first bytes are. Whatever they do, visitors get their
//! answer and posternd goes on.

mod failing;

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::thread;

use postern_tests::net::{Then, connect, connect_from, read_all};
use postern_tests::posternd::config;
use postern_tests::{Posternd, Scratch, TcpService, exchange, success, until};
use rustix::process::geteuid;

/// A website, two services that say their names and one behind a knock, and this configuration. `DIR`
/// in it is the scratch directory.
struct House {
    server: Posternd,
    scratch: Scratch,
    base: String,
}

/// Patient, as tests are many and the machine may be small.
const PATIENT: &str = "[timeouts]\ndecide = \"60s\"\n";

impl House {
    fn new(more: &str) -> House {
        let scratch = Scratch::new();
        let services = ["shop", "other"].map(|name| {
            format!("[service.{name}]\nto = \"tcp://{}\"\n", TcpService::named(name).address())
        });
        let inner = TcpService::echo_after_eof().address();
        let inner = format!("[service.inner]\nto = \"tcp://{inner}\"\nknock = true\n{PATIENT}");
        let debug = "format = \"json\"\nlevel = \"debug\"";
        let base = config(TcpService::named("web").address(), &(services.concat() + &inner))
            .replacen("format = \"json\"", debug, 1);
        for (name, text) in [("puppet.py", PUPPET), ("spin.wat", SPIN)] {
            scratch.write(name, text);
        }
        for (wat, wasm) in
            [(contrib("echo.wat"), "echo.wasm"), (scratch.path("spin.wat"), "spin.wasm")]
        {
            let text = fs::read_to_string(wat).expect("the module's text");
            scratch.write(wasm, wat::parse_str(text).expect("a module"));
        }
        let house = format!("{base}{}", in_place(&scratch, more));
        House { server: Posternd::start(&scratch, &house), scratch, base }
    }

    /// With the puppet behind one route, and a route before it that asks nobody.
    fn puppet() -> House {
        House::new(ONE)
    }

    fn answer(&self, bytes: &[u8]) -> String {
        let seen = exchange(self.server.address(), bytes, Then::Wait);
        String::from_utf8(seen.bytes).expect("a service's name")
    }

    /// Waits until the puppet answers: it takes a moment to start, and to start again.
    fn answers(&self) {
        until("the identifier to answer", || (self.answer(b"yes") == "other").then_some(()));
    }

    fn reload(&self, more: &str) {
        self.server.configure(&format!("{}{}", self.base, in_place(&self.scratch, more)));
        success(&mut self.server.command(&["reload"]));
    }

    /// The puppets that were started so far.
    fn started(&self) -> Vec<u32> {
        let pids = fs::read_to_string(self.scratch.path("pids")).unwrap_or_default();
        pids.lines().map(|pid| pid.parse().expect("a process id")).collect()
    }

    fn log_says(&self, words: &str) {
        until(words, || self.server.process.log().contains(words).then_some(()));
    }
}

fn contrib(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contrib/identifiers").join(name)
}

fn in_place(scratch: &Scratch, text: &str) -> String {
    let contrib = contrib("").display().to_string();
    text.replace("DIR", scratch.path("").display().to_string().trim_end_matches('/'))
        .replace("CONTRIB", &contrib)
}

/// An identifier that does as it is told by the first bytes.
const PUPPET: &str = r#"
import os, signal, subprocess, sys, time

with open(sys.argv[1], "a") as pids:
    print(os.getpid(), file=pids)
held = None
for question in sys.stdin:
    number, _, text = question.rstrip("\n").partition(" ")
    first = bytes.fromhex(text)
    if first.startswith(b"hang"):
        time.sleep(1000)
    elif first.startswith(b"stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    elif first.startswith(b"die"):
        os._exit(3)
    elif first.startswith(b"orphan"):
        subprocess.Popen(["sleep", "1000"])
        os._exit(3)
    elif first.startswith(b"garbage"):
        print("nonsense", flush=True)
    elif first.startswith(b"long"):
        print("1" * 5000, end="", flush=True)
    elif first.startswith(b"twice"):
        print(f"{number} yes\n{number} yes", flush=True)
    elif first.startswith(b"flood"):
        while True:
            print("0 yes\n" * 1000, end="", flush=True)
    elif first.startswith(b"remark"):
        print("x" * 1000 + "\n" + "a remark\n" * 100000, file=sys.stderr, flush=True)
        print(number, "yes", flush=True)
    elif first.startswith(b"chatter"):
        subprocess.Popen(["sh", "-c", "exec yes a remark >&2"])
        print(number, "yes", flush=True)
    elif first.startswith(b"later"):
        held = number
    else:
        print(number, "yes" if first.startswith(b"yes") else "no", flush=True)
        if held and first.startswith(b"yes"):
            print(held, "yes", flush=True)
            held = None
"#;

const ONE: &str = r#"
[identifier.puppet]
to = "exec:/usr/bin/python3 DIR/puppet.py DIR/pids"
timeout = "1s"

[[route]]
prefix = ["01"]
service = "shop"

[[route]]
external = ["puppet"]
service = "other"
"#;

/// It computes for ever where the first byte is not 0.
const SPIN: &str = r#"
(module
  (memory (export "memory") 1)
  (func (export "alloc") (param i32) (result i32) (i32.const 0))
  (func (export "identify") (param i32 i32) (result i32)
    (if (i32.load8_u (i32.const 0)) (then (loop $next (br $next))))
    (i32.const 0)))
"#;

#[test]
fn the_samples_identify() {
    for to in ["exec:CONTRIB/identify-echo", "wasm:DIR/echo.wasm"] {
        let house = House::new(&format!(
            "[identifier.echo]\nto = \"{to}\"\ntimeout = \"1s\"\n\
             [[route]]\nexternal = [\"echo\"]\nservice = \"other\"\n"
        ));
        until(to, || (house.answer(b"echo 1\n") == "other").then_some(()));
        for (bytes, service) in [
            (&b"echo "[..], "other"),
            (b"echo and more", "other"),
            (b"echO 1", "web"),
            (b"\x16\x03\x01", "web"),
            (&[b'e'; 9000], "web"),
        ] {
            assert_eq!(house.answer(bytes), service, "{to}: {}", bytes.escape_ascii());
        }
        // Byte by byte it says `more`.
        let mut stream = connect(house.server.address());
        for byte in b"echo" {
            stream.write_all(&[*byte]).expect("sent");
            thread::sleep(std::time::Duration::from_millis(20));
        }
        stream.write_all(b" ").expect("sent");
        assert_eq!(read_all(&mut stream).bytes, b"other", "{to}");
        // Who ends before there is more is none.
        for (bytes, service) in [(&b"echo 1\n"[..], "other"), (b"ech", "web")] {
            let seen = exchange(house.server.address(), bytes, Then::Fin);
            assert_eq!(seen.bytes, service.as_bytes(), "{to}: {}", bytes.escape_ascii());
        }
    }
}

#[test]
fn the_order_of_routes_and_their_other_conditions_hold() {
    let house = House::new(
        r#"
[identifier.echo]
to = "exec:CONTRIB/identify-echo"
timeout = "1s"

[identifier.module]
to = "wasm:DIR/echo.wasm"
timeout = "1s"

[identifier.off]
to = "exec:/nowhere/identify"
enabled = false

[[route]]
external = ["off"]
service = "shop"

[[route]]
external = ["echo"]
from = ["127.0.0.64/26"]
service = "shop"

[[route]]
prefix = ["65"]
external = ["off", "module"]
service = "other"
"#,
    );
    let ask = |from, bytes: &[u8]| {
        let mut stream = connect_from(Ipv4Addr::from(from), house.server.address());
        stream.write_all(bytes).expect("sent");
        String::from_utf8(read_all(&mut stream).bytes).expect("a service's name")
    };
    until("both to answer", || (ask([127, 0, 0, 66], b"echo 1") == "shop").then_some(()));
    assert_eq!(ask([127, 0, 0, 6], b"echo 1"), "other");
    assert_eq!(ask([127, 0, 0, 66], b"each 1"), "web");

    let explain = |bytes| {
        success(&mut house.server.command(&["explain", "--from", "127.0.0.6", "--hex", bytes]))
    };
    let said = explain("6563686f20");
    assert!(said.contains("asks the identifier module; if it says no:"), "{said}");
    assert!(said.contains("external = [\"off\", \"module\"] asks the identifier module"), "{said}");
    assert!(said.contains("external = [\"off\"] does not hold"), "{said}");
    assert!(said.contains("goes to the fallback, web"), "{said}");
    assert!(!explain("ff").contains("asks the identifier"));
    let output = house.server.command(&["check"]).output().expect("run");
    let doubts = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(doubts.contains("\"off\" is not enabled: for its routes it says no"), "{doubts}");
    assert!(!doubts.contains("/nowhere"), "it is not to run: {doubts}");
}

#[test]
fn answers_come_in_any_order() {
    let house = House::puppet();
    house.answers();
    let mut later = connect(house.server.address());
    later.write_all(b"later").expect("sent");
    // By now it is asked: whoever comes next is answered first.
    until("both answers", || {
        (house.answer(b"yes") == "other").then_some(())?;
        let mut again = connect(house.server.address());
        again.write_all(b"later").expect("sent");
        thread::scope(|scope| {
            let held = scope.spawn(|| read_all(&mut again).bytes);
            thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(house.answer(b"yes"), "other");
            (held.join().expect("read") == b"other").then_some(())
        })
    });
    drop(later);
    let many: Vec<_> = (0..100)
        .map(|number| {
            let bytes: &[u8] = if number % 2 == 0 { b"yes" } else { b"nothing" };
            let mut stream = connect(house.server.address());
            stream.write_all(bytes).expect("sent");
            (stream, if number % 2 == 0 { b"other".to_vec() } else { b"web".to_vec() })
        })
        .collect();
    for (mut stream, service) in many {
        assert_eq!(read_all(&mut stream).bytes, service);
    }
    assert_eq!(house.started().len(), 1, "it was never started again");
}

#[test]
fn a_module_that_computes_for_ever_says_no() {
    let house = House::new(
        r#"
[identifier.spin]
to = "wasm:DIR/spin.wasm"
timeout = "1s"

[identifier.echo]
to = "wasm:DIR/echo.wasm"
timeout = "1s"

[[route]]
external = ["spin", "echo"]
service = "other"
"#,
    );
    assert_eq!(house.answer(b"echo 1"), "other");
    assert_eq!(house.answer(b"x"), "web");
    house.log_says("spin.wasm failed");
    // A changed file is another module; one that does not fit is refused, and the old one stays.
    let spin = house.scratch.path("spin.wasm");
    fs::copy(house.scratch.path("echo.wasm"), &spin).expect("copied");
    success(&mut house.server.command(&["reload"]));
    assert_eq!(house.answer(b"echo 1"), "other");
    fs::write(&spin, "nonsense").expect("written");
    let refused = postern_tests::failure(&mut house.server.command(&["reload"]), 3);
    assert!(refused.contains("spin.wasm is no WebAssembly"), "{refused}");
    assert_eq!(house.answer(b"echo 1"), "other");
}

/// What strangers send is read by somebody who has no rights.
#[test]
fn an_identifier_may_run_as_somebody_else() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root may become somebody else");
        return;
    }
    let house = House::new(
        r#"
[identifier.nobody]
to = 'exec:/bin/sh -c "while read -r n b; do test $(id -un) = nobody && echo $n yes || echo $n no; done"'
user = "nobody"
timeout = "1s"

[[route]]
external = ["nobody"]
service = "other"
"#,
    );
    until("the identifier to answer", || (house.answer(b"x") == "other").then_some(()));
}
