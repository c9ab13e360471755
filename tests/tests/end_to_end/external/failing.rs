//! Identifiers that hang, die, talk nonsense or are not there: started again, and holding up nobody else.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use postern_tests::net::{Then, connect, read_all};
use postern_tests::process::{children, exists};
use postern_tests::{Knocker, exchange, until};
use rustix::process::Signal;

use super::{House, ONE};

/// Whoever is asked about goes the way of a no, it is started again, and nothing of it is left.
fn fails_and_is_started_again(deeds: &[(&str, &str, &str)]) {
    let house = House::puppet();
    house.answers();
    let descriptors = house.server.descriptors();
    for (deed, service, said) in deeds {
        let before = house.started().len();
        assert_eq!(house.answer(deed.as_bytes()), *service, "{deed}");
        assert_eq!(house.answer(b"\x01"), "shop", "who is not asked about");
        until(deed, || (house.started().len() > before).then_some(()));
        house.log_says(said);
        house.answers();
        let last = *house.started().last().expect("started");
        until("one child", || (children(house.server.process.pid()) == [last]).then_some(()));
    }
    house.log_says("answers again");
    until("no descriptor more", || (house.server.descriptors() <= descriptors).then_some(()));
    let started = house.started();
    assert_eq!(started.len(), deeds.len() + 1, "once for each");
    for pid in started.iter().rev().skip(1) {
        assert!(!exists(*pid), "{pid} is gone");
    }
}

#[test]
fn an_identifier_that_dies_is_started_again() {
    fails_and_is_started_again(&[
        ("die", "web", "it ended with status 3"),
        ("orphan", "web", "it ended with status 3"),
        ("hang", "web", "it has not answered a question for 2s"),
        ("stubborn", "web", "it has not answered a question for 2s"),
    ]);
}

#[test]
fn an_identifier_leads_a_session_of_its_own() {
    // Fields 5 and 6 of proc_pid_stat(5): its process group and its session.
    let script = r#"read -r stat < /proc/$$/stat
set -- $stat
[ "$5 $6" = "$$ $$" ] && says=yes || says=no
while read -r number _; do echo "$number $says"; done
"#;
    let house = House::puppet();
    house.scratch.write("own.sh", script);
    house.reload(&ONE.replace("/usr/bin/python3 DIR/puppet.py DIR/pids", "/bin/sh DIR/own.sh"));
    house.answers();
}

#[test]
fn an_identifier_that_talks_nonsense_is_started_again() {
    fails_and_is_started_again(&[
        ("garbage", "web", "it said \\\"nonsense"),
        ("long", "web", "it said \\\"1111"),
        ("twice", "other", "which is no answer"),
        ("flood", "web", "it said \\\"0 yes"),
    ]);
}

#[test]
fn nobody_waits_for_an_identifier_that_hangs_but_who_is_asked_about() {
    let house = House::puppet();
    house.answers();
    let knocker = Knocker::new(&house.server.invite("laptop", &["--service", "inner"]));
    let mut hanging: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = connect(house.server.address());
            stream.write_all(b"hang").expect("sent");
            stream
        })
        .collect();
    assert_eq!(house.answer(b"\x01"), "shop");
    let knock = [knocker.plain(), b"a knock is judged first".to_vec()].concat();
    let seen = exchange(house.server.address(), &knock, Then::Fin);
    assert_eq!(seen.bytes, b"a knock is judged first");
    assert_eq!(house.answer(b"nothing"), "web");
    for stream in &mut hanging {
        assert_eq!(read_all(stream).bytes, b"web");
    }
}

#[test]
fn what_it_says_on_stderr_is_logged_and_bounded() {
    let house = House::puppet();
    house.answers();
    assert_eq!(house.answer(b"remark"), "other");
    house.log_says("a remark");
    house.answers();
    // Without end: it is asked all the same, and what talks ends with it.
    assert_eq!(house.answer(b"chatter"), "other");
    for _ in 0..20 {
        assert_eq!(house.answer(b"yes"), "other");
    }
    assert_eq!(house.answer(b"die"), "web");
    house.log_says("it ended with status 3");
    house.answers();
    let log = house.server.process.log();
    let remarks = log.matches("a helper's remark").count();
    assert!((1..1000).contains(&remarks), "{remarks} of 100,000 are logged");
    assert!(log.lines().all(|line| line.len() < 2000));
}

#[test]
fn a_reload_ends_those_that_changed_and_no_others() {
    let house = House::puppet();
    house.answers();
    let first = house.started();
    house.reload(&format!("{ONE}\n[[route]]\nsilent = true\nservice = \"shop\"\n"));
    house.answers();
    assert_eq!(house.started(), first, "it is what it was");

    house.reload(&ONE.replace("DIR/pids", "DIR/pids changed"));
    house.answers();
    let [_, second] = house.started()[..] else { panic!("one more: {:?}", house.started()) };
    until("the first to end", || (!exists(first[0])).then_some(()));
    assert_eq!(children(house.server.process.pid()), [second]);

    house.reload(&ONE.replace("timeout", "enabled = false\ntimeout"));
    assert_eq!(house.answer(b"yes"), "web");
    until("no child", || children(house.server.process.pid()).is_empty().then_some(()));
    house.reload(ONE);
    house.answers();
    let third = *house.started().last().expect("started");
    let House { mut server, scratch: _scratch, .. } = house;
    server.process.signal(Signal::TERM);
    assert!(server.process.wait().success());
    assert!(!exists(third), "it ends with posternd");
}

#[test]
fn one_that_is_not_there_says_no_until_it_is() {
    let house = House::new(
        r#"
[identifier.socket]
to = "unix:identify.sock"
timeout = "1s"

[[route]]
external = ["socket"]
service = "other"
"#,
    );
    house.log_says("unix:");
    assert_eq!(house.answer(b"first"), "web");
    let output = house.server.command(&["check"]).output().expect("run");
    let doubts = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(doubts.contains("identifier \"socket\" will not answer"), "{doubts}");

    let listener = UnixListener::bind(house.scratch.path("identify.sock")).expect("bound");
    let (heard, hearing) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut answers: UnixStream = stream.try_clone().expect("duplicated");
            for question in BufReader::new(stream).lines().map_while(Result::ok) {
                let (number, bytes) = question.split_once(' ').expect("a number and bytes");
                let _ = writeln!(answers, "{number} yes");
                let _ = heard.send(bytes.to_owned());
            }
        }
    });
    until("it to be asked", || (house.answer(b"\x00\xffx") == "other").then_some(()));
    assert_eq!(hearing.recv().expect("asked"), "00ff78");
}
