//! The first command of the README, on its own.

use std::process::Command;

use postern_tests::posternd::{binary, posternd};
use postern_tests::{Process, Scratch, failure, success, until};

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
    let demo = Process::spawn("demo", demo.arg("demo"), scratch.path("demo.log"));
    let pasted = |start: &str| {
        until(start, || {
            let log = demo.log();
            log.lines().map(str::trim).find(|line| line.starts_with(start)).map(str::to_owned)
        })
    };
    let curl = pasted("curl ");
    assert!(success(Command::new("sh").args(["-c", &curl])).contains('<'), "{curl}");
    let ssh = pasted("ssh ");
    assert_eq!(success(Command::new("sh").args(["-c", &format!("{ssh} 'echo hello'")])), "hello\n");
    demo.signal(rustix::process::Signal::TERM);
}

#[test]
fn demo_tells_of_a_port_in_use() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("an address").to_string();
    let message = failure(&mut posternd(&["demo", "--listen", &address]), 1);
    assert!(message.contains(&address), "{message}");
}
