//! Knocks that somebody captured and shows again, whatever became of posternd in between: they are
//! answered by the website, and fresh ones are let in as soon as they can be told from old ones.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::knock;
use postern_tests::net::Then;
use postern_tests::process::text;
use postern_tests::{Knocker, Posternd, World, exchange, failure, success, until};
use rustix::process::Signal;
use serde_json::Value;

const NARROW: &str = "window = \"5s\"";

fn is_let_in(world: &World, letters: &[u8]) -> bool {
    knock::is_let_in(world.server.address(), world.nginx.https(), letters)
}

fn fresh(world: &World) -> Vec<u8> {
    Knocker::new(&world.invite).plain()
}

/// A knock that was good once, as somebody on the way saw it.
fn captured(world: &World) -> Vec<u8> {
    let letters = fresh(world);
    assert!(is_let_in(world, &letters));
    letters
}

fn journal(world: &World) -> PathBuf {
    world.server.clients_file().with_file_name("replay.journal")
}

fn stop(world: &mut World, signal: Signal) {
    world.server.process.signal(signal);
    world.server.process.wait();
}

fn start(world: &mut World) {
    world.server = Posternd::start(&world.scratch, &world.config);
}

/// Why the last knock of a key holder was refused.
fn refusal(world: &World) -> String {
    let line = world.server.connection(|line| line["refused"].is_string());
    line["refused"].as_str().map(str::to_owned).expect("a text")
}

fn status(world: &World) -> Value {
    let status = success(&mut world.server.command(&["status", "--json"]));
    serde_json::from_str(&status).expect("JSON")
}

fn comes_in(world: &World, carrier: Carrier) -> bool {
    let address = world.server.address().to_string();
    let mut client = world.client.connect(&["--carrier", carrier.name(), "--address", &address]);
    text(&feed(&mut client, b"").stdout).starts_with("SSH-2.0-")
}

/// A narrow window must have passed since `start` before knocks count again; it is not much longer.
fn opens_after_the_window(world: &World, start: Instant) {
    assert!(!is_let_in(world, &fresh(world)), "a knock of the time that may be unknown");
    assert_eq!(refusal(world), "early");
    let status = status(world);
    assert!(status["knocks"]["closed"]["until"].is_string(), "{status}");
    assert!(comes_in(world, Carrier::Tls), "tls needs no memory");
    assert!(!comes_in(world, Carrier::Hello));
    until("fresh knocks to count", || is_let_in(world, &fresh(world)).then_some(()));
    assert!(start.elapsed() > Duration::from_secs(4), "{:?}", start.elapsed());
    assert!(success(&mut world.server.command(&["status"])).contains("knocks"));
}

#[test]
fn at_once() {
    let world = World::start();
    let letters = captured(&world);
    thread::sleep(Duration::from_millis(100));
    assert!(!is_let_in(&world, &letters));
    assert_eq!(refusal(&world), "replayed");
    assert!(status(&world)["knocks"]["closed"].is_null());
}

#[test]
fn after_a_restart() {
    let mut world = World::start();
    let knocker = Knocker::new(&world.invite);
    let hello = knocker.hello();
    let is_recognised = |world: &World| {
        let seen = exchange(world.server.address(), &hello, Then::Fin);
        knocker.is_recognised(&hello, &seen.bytes)
    };
    assert!(is_recognised(&world));
    let mut all = vec![captured(&world)];
    for signal in [Signal::TERM, Signal::KILL, Signal::KILL] {
        stop(&mut world, signal);
        start(&mut world);
        for letters in &all {
            assert!(!is_let_in(&world, letters), "after {signal:?}");
        }
        assert!(!is_recognised(&world), "after {signal:?}");
        assert_eq!(refusal(&world), "replayed");
        all.push(captured(&world));
    }
}

#[test]
fn after_the_machine_went_down() {
    let mut world = World::knocking(NARROW, "");
    let letters = captured(&world);
    stop(&mut world, Signal::KILL);
    // As if by an earlier boot: its id stands behind the magic, and the header ends with a check.
    let mut bytes = fs::read(journal(&world)).expect("a journal");
    bytes[8] ^= 1;
    let check = digest(&SHA256, &bytes[..36]);
    bytes[36..40].copy_from_slice(&check.as_ref()[..4]);
    fs::write(journal(&world), bytes).expect("write the journal");
    let begun = Instant::now();
    start(&mut world);
    assert!(!is_let_in(&world, &letters));
    opens_after_the_window(&world, begun);
    assert!(world.server.process.log().contains("the machine went down while posternd ran"));
}

#[test]
fn after_its_journal_was_damaged() {
    let mut world = World::knocking(NARROW, "");
    let letters = captured(&world);
    stop(&mut world, Signal::KILL);
    let mut bytes = fs::read(journal(&world)).expect("a journal");
    bytes.truncate(bytes.len() - 5);
    fs::write(journal(&world), bytes).expect("write the journal");
    let begun = Instant::now();
    start(&mut world);
    assert!(!is_let_in(&world, &letters));
    opens_after_the_window(&world, begun);
    assert_eq!(world.server.process.log().matches("the journal is damaged").count(), 1);
}

#[test]
fn after_its_journal_was_removed() {
    let mut world = World::knocking(NARROW, "");
    let letters = captured(&world);
    let first_use = world.server.clients_file().with_file_name("first-use.toml");
    until("the first use to be noted", || first_use.exists().then_some(()));
    stop(&mut world, Signal::TERM);
    fs::remove_file(journal(&world)).expect("remove the journal");
    let begun = Instant::now();
    start(&mut world);
    assert!(!is_let_in(&world, &letters));
    opens_after_the_window(&world, begun);
}

#[test]
fn a_journal_that_cannot_be_written_shuts_plain_until_it_can() {
    let world = World::start();
    let letters = captured(&world);
    let closed = || status(&world)["knocks"]["closed"]["why"].is_string();
    // posternd may be quicker, and make its journal anew.
    until("a directory in the journal's place", || {
        let _ = fs::remove_file(journal(&world));
        fs::create_dir(journal(&world)).ok()
    });
    until("plain to be closed", || closed().then_some(()));
    let refused = fresh(&world);
    for letters in [&letters, &refused, &fresh(&world)] {
        assert!(!is_let_in(&world, letters));
    }
    world.server.connection(|line| line["refused"] == "journal");
    assert!(success(&mut world.server.command(&["status"])).contains("closed"));
    assert!(comes_in(&world, Carrier::Tls), "tls needs no memory");
    assert!(comes_in(&world, Carrier::Hello), "hello is of no use to whoever replays it");

    fs::remove_dir(journal(&world)).expect("remove the directory");
    until("plain to be open", || (!closed()).then_some(()));
    assert!(is_let_in(&world, &fresh(&world)));
    for letters in [&letters, &refused] {
        assert!(!is_let_in(&world, letters), "refused means spent");
    }
    let log = world.server.process.log();
    assert_eq!(log.matches("plain is closed").count(), 1, "once, not for each knock");
    assert_eq!(log.matches("can be told from fresh ones again").count(), 1);
}

#[test]
fn a_disk_that_is_full_shuts_plain() {
    let world = World::start();
    let letters = captured(&world);
    world.server.process.limit_file_size(Some(64));
    let refused = fresh(&world);
    assert!(!is_let_in(&world, &refused));
    assert!(status(&world)["knocks"]["closed"]["why"].is_string());
    world.server.process.limit_file_size(None);
    until("plain to be open", || is_let_in(&world, &fresh(&world)).then_some(()));
    assert!(!is_let_in(&world, &letters) && !is_let_in(&world, &refused));
}

#[test]
fn a_wider_window_takes_a_reload() {
    let world = World::knocking(NARROW, "");
    let slow = || Knocker::new(&world.invite).off_by(-30).plain();
    assert!(!is_let_in(&world, &slow()));
    let letters = captured(&world);
    world.server.configure(&world.config.replace("\"5s\"", "\"120s\""));
    success(&mut world.server.command(&["reload"]));
    assert!(is_let_in(&world, &slow()));
    assert!(!is_let_in(&world, &letters));
}

#[test]
fn another_posternd_leaves_the_journal_alone() {
    let world = World::start();
    let letters = captured(&world);
    let before = fs::read(journal(&world)).expect("a journal");
    let message = failure(&mut world.server.command(&["run"]), 1);
    assert!(message.contains("another posternd") && message.contains("replay.lock"), "{message}");
    assert_eq!(fs::read(journal(&world)).expect("a journal"), before);
    assert!(!is_let_in(&world, &letters) && is_let_in(&world, &fresh(&world)));
}
