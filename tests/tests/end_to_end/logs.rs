//! The log: where it goes, what of it is left out, and what fail2ban makes of it.

use std::fs;
use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postern_tests::net::{Then, connect};
use postern_tests::posternd::config;
use postern_tests::{Knocker, Posternd, Scratch, TcpService, World, exchange, success, until};

fn with_log(scratch: &Scratch, log: &str) -> Posternd {
    let config = config(TcpService::named("web").address(), "");
    Posternd::start(scratch, &config.replace("format = \"json\"", log))
}

/// The lines of connections, whatever stands ahead of them.
fn connections(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("connection peer=")).collect()
}

#[test]
fn syslog_is_told_in_its_own_form() {
    let scratch = Scratch::new();
    let path = scratch.path("log.sock");
    let daemon = UnixDatagram::bind(&path).expect("bind");
    daemon.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    let server = with_log(&scratch, "to = \"syslog:log.sock\"\nfacility = \"local0\"");
    exchange(server.address(), b"hello", Then::Wait);
    let mut buffer = [0; 8192];
    let line = until("the connection's line", || {
        let count = daemon.recv(&mut buffer).expect("a message");
        let line = String::from_utf8(buffer[..count].to_vec()).expect("text");
        line.contains("connection peer=").then_some(line)
    });
    // local0 is 16, information is 6: RFC 5424, section 6.2.1.
    let (priority, rest) = line.split_once('>').expect("a priority");
    assert_eq!(priority, "<134", "{line}");
    let own = format!(" posternd[{}]: connection peer=127.0.0.1:", server.process.pid());
    assert_eq!(rest.find(&own), Some("Nov 21 09:31:28".len()), "{line}");
    assert!(line.ends_with(|last: char| last.is_ascii_digit()), "no end of a line: {line:?}");

    // While the daemon is away its lines are not lost, and it is found again.
    drop(daemon);
    fs::remove_file(&path).expect("remove the socket");
    exchange(server.address(), b"hello", Then::Wait);
    until("a line on stderr", || server.process.log().contains("connection peer=").then_some(()));
    let daemon = UnixDatagram::bind(&path).expect("bind");
    daemon.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    exchange(server.address(), b"hello", Then::Wait);
    assert!(daemon.recv(&mut buffer).expect("a message") > 0);
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let scratch = Scratch::new();
    let server = with_log(&scratch, "to = \"journald\"");
    exchange(server.address(), b"hello", Then::Wait);
    let log = until("the connection's line", || {
        Some(server.process.log()).filter(|log| !connections(log).is_empty())
    });
    let line = connections(&log)[0];
    assert!(line.starts_with("<6>connection peer="), "{line}");
    assert!(log.contains("<4>no service has knock = true"), "{log}");
}

#[test]
fn who_says_nothing_is_not_logged_unless_asked_for() {
    for (empty, expected) in [("false", 1), ("true", 2)] {
        let scratch = Scratch::new();
        let server = with_log(&scratch, &format!("empty = {empty}"));
        let silent = connect(server.address());
        silent.shutdown(Shutdown::Write).expect("shut down");
        drop(silent);
        until("the end of the silent", || {
            (server.status()["outcomes"]["done"].as_u64()? > 0).then_some(())
        });
        exchange(server.address(), b"hello", Then::Wait);
        let log = until("the connection's line", || {
            Some(server.process.log()).filter(|log| log.contains("up=5"))
        });
        assert_eq!(connections(&log).len(), expected, "empty = {empty}: {log}");
    }
}

/// As an operator would try it.
fn banned(log: &Path) -> usize {
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/fail2ban/filter.d");
    let mut regex = Command::new("fail2ban-regex");
    let said = success(regex.arg(log).arg(filter.join("postern.conf")));
    let count = said.split("Failregex: ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count: {said}"))
}

#[test]
fn fail2ban_bans_whose_knocks_are_signed_and_refused_and_nobody_else() {
    for format in ["human", "json"] {
        let world = World::start();
        let config = world.config.replace("format = \"json\"", &format!("format = \"{format}\""));
        let scratch = Scratch::new();
        for file in ["tls.crt", "tls.key"] {
            fs::copy(world.scratch.path(file), scratch.path(file)).expect("copy");
        }
        let server = Posternd::start(&scratch, &config);
        let knocker = Knocker::new(&server.invite("alice", &["--from", "192.0.2.0/24"]));
        let strangers: [&[u8]; 4] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"SSH-2.0-x\r\n",
            &[b'A'; 96],
            b"connection peer=192.0.2.1:1 refused=\"replayed\"\r\n\r\n",
        ];
        for bytes in strangers {
            exchange(server.address(), bytes, Then::Fin);
        }
        let right_but_from_elsewhere = [knocker.plain(), knocker.plain()];
        for knock in &right_but_from_elsewhere {
            exchange(server.address(), knock, Then::Fin);
        }
        let log = until("all lines", || {
            let log = server.process.log();
            (log.matches("up").count() >= 6 && log.matches("address").count() >= 2).then_some(log)
        });
        let log = scratch.write("posternd.lines", log);
        assert_eq!(banned(&log), right_but_from_elsewhere.len(), "{format}");
    }
}

#[test]
fn a_route_may_be_none_of_the_logs_business() {
    let scratch = Scratch::new();
    let quiet = "\n[[route]]\nprefix = [\"01\"]\nservice = \"web\"\nlog = false\n";
    let config = config(TcpService::named("web").address(), quiet);
    let server = Posternd::start(&scratch, &config);
    exchange(server.address(), b"\x01", Then::Wait);
    exchange(server.address(), b"\x02", Then::Wait);
    server.connection(|line| line["route"] == "fallback");
    assert_eq!(server.events("connection").len(), 1);
    assert_eq!(server.status()["outcomes"]["done"], 2, "it counts all the same");
}
