//! The first command of the README, on its own.

use std::process::Command;

use postern_tests::posternd::{binary, posternd};
use postern_tests::{Process, Scratch, bounded, failure, success, until};
use rustix::process::Signal;

#[test]
fn demo_checks_itself() {
    let shown = success(&mut posternd(&["demo", "--once"]));
    for said in ["website", "plain", "tls"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
}

#[test]
fn what_demo_prints_can_be_pasted() {
    let scratch = Scratch::new();
    let mut demo = Command::new(binary("posternd"));
    let mut demo = Process::spawn("demo", demo.arg("demo"), scratch.path("demo.log"));
    let all = until("the last words", || Some(demo.log()).filter(|log| log.contains("Ctrl-C")));
    let pasted =
        |start: &'static str| all.lines().map(str::trim).filter(move |l| l.starts_with(start));
    let shell = |command: &str| success(bounded("sh").args(["-c", command]));
    for curl in pasted("curl ") {
        assert!(shell(curl).contains("<title>"), "{curl}");
    }
    for ssh in pasted("ssh ") {
        assert_eq!(shell(&format!("{ssh} 'echo hello'")), "hello\n", "{ssh}");
    }
    assert_eq!((pasted("curl ").count(), pasted("ssh ").count()), (1, 3), "{all}");
    demo.signal(Signal::TERM);
    assert_eq!(demo.wait().code(), Some(0));
}

#[test]
fn demo_tells_of_a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("an address").to_string();
    let message = failure(&mut posternd(&["demo", "--listen", &address]), 1);
    assert!(message.contains(&address), "{message}");
}
