//! Several posternd that share clients and a Redis: what is spent at one is spent at all, and while they
//! cannot know they admit nobody by plain.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::knock::is_let_in;
use postern_tests::net::Then;
use postern_tests::process::text;
use postern_tests::{Knocker, Posternd, Redis, Scratch, World, exchange, finish, success, until};
use rustix::process::Signal;
use serde_json::Value;

fn with_store(store: &str) -> World {
    World::knocking(&format!("store = \"{store}\""), "")
}

/// The first server of a fleet, and its store.
fn fleet() -> (World, Redis) {
    let redis = Redis::start(&[]);
    (with_store(&redis.url()), redis)
}

fn lets_in(world: &World, letters: &[u8]) -> bool {
    is_let_in(world.server.address(), world.nginx.https(), letters)
}

fn fresh(world: &World) -> Vec<u8> {
    Knocker::new(&world.invite).plain()
}

fn why_closed(world: &World) -> Value {
    let status = success(&mut world.server.command(&["status", "--json"]));
    let status: Value = serde_json::from_str(&status).expect("JSON");
    status["knocks"]["closed"]["why"].clone()
}

/// Visitors and the other carriers have nothing to do with the store.
fn serves_everybody_else(world: &World) {
    let request = b"GET / HTTP/1.0\r\n\r\n";
    let through = exchange(world.server.address(), request, Then::Wait);
    assert_eq!(through, exchange(world.nginx.https(), request, Then::Wait));
    for carrier in [Carrier::Tls, Carrier::Hello] {
        let mut client = world.client.connect(&["--carrier", carrier.name()]);
        assert!(text(&feed(&mut client, b"").stdout).starts_with("SSH-2.0-"), "{carrier}");
    }
}

/// What everybody may read about it.
fn said(world: &World) -> String {
    let status = success(&mut world.server.command(&["status"]));
    let check = finish(&mut world.server.command(&["check"]));
    let check = text(&[check.stdout, check.stderr].concat());
    [world.server.process.log(), status, check].concat()
}

#[test]
fn what_is_spent_at_one_is_spent_at_the_other() {
    let (world, _redis) = fleet();
    let scratch = Scratch::new();
    fs::DirBuilder::new().mode(0o700).create(scratch.path("state")).expect("a directory");
    symlink(world.server.clients_file(), scratch.path("state/clients.toml")).expect("a link");
    for file in ["tls.crt", "tls.key"] {
        fs::copy(world.scratch.path(file), scratch.path(file)).expect("copy");
    }
    let other = Posternd::start(&scratch, &world.config);
    let at_other = |letters: &[u8]| is_let_in(other.address(), world.nginx.https(), letters);
    for _ in 0..3 {
        let letters = fresh(&world);
        assert!(lets_in(&world, &letters));
        assert!(!at_other(&letters));
        let line = other.connection(|line| line["refused"].is_string());
        assert_eq!(line["refused"], "replayed");
    }
    assert!(at_other(&fresh(&world)));
    // The same at the one that was asked second, which it is spent at by now.
    let letters = fresh(&world);
    assert!(at_other(&letters));
    assert!(!lets_in(&world, &letters) && !at_other(&letters));
}

#[test]
fn a_store_that_is_gone_shuts_plain_and_nothing_else() {
    let (world, mut redis) = fleet();
    assert!(lets_in(&world, &fresh(&world)));
    redis.kill();
    let refused = fresh(&world);
    for letters in [&refused, &fresh(&world), &fresh(&world)] {
        assert!(!lets_in(&world, letters));
    }
    let line = world.server.connection(|line| line["refused"].is_string());
    assert_eq!(line["refused"], "store");
    serves_everybody_else(&world);
    until("the failure to be known", || why_closed(&world).is_string().then_some(()));
    assert_eq!(world.server.process.log().matches("plain is closed until it does").count(), 1);
    let check = finish(&mut world.server.command(&["check"]));
    assert!(check.status.success() && text(&check.stderr).contains("does not answer"));

    redis.restart();
    until("the store to answer", || why_closed(&world).is_null().then_some(()));
    assert!(lets_in(&world, &fresh(&world)));
    assert!(!lets_in(&world, &refused), "refused means spent");
}

#[test]
fn a_store_that_hangs_holds_nobody() {
    let (world, redis) = fleet();
    assert!(lets_in(&world, &fresh(&world)));
    redis.process.signal(Signal::STOP);
    let begun = Instant::now();
    assert!(!lets_in(&world, &fresh(&world)));
    // Twice the website's answer besides, on a machine that is busy.
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    until("the failure to be known", || why_closed(&world).is_string().then_some(()));
    assert!(!lets_in(&world, &fresh(&world)));
    serves_everybody_else(&world);
    redis.process.signal(Signal::CONT);
    until("the store to answer", || lets_in(&world, &fresh(&world)).then_some(()));
    assert!(why_closed(&world).is_null());
}

#[test]
fn posternd_starts_without_its_store() {
    let mut redis = Redis::start(&[]);
    redis.kill();
    let world = with_store(&redis.url());
    assert!(!lets_in(&world, &fresh(&world)));
    serves_everybody_else(&world);
    redis.restart();
    until("the store to answer", || lets_in(&world, &fresh(&world)).then_some(()));
}

#[test]
fn a_password_is_used_and_never_shown() {
    const PASSWORD: &str = "open-sesame-77";
    let scratch = Scratch::new();
    let redis = Redis::start(&["--requirepass", PASSWORD]);
    let file = scratch.write("password", format!("{PASSWORD}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
    let in_file = format!("\"\nstore-password-file = \"{}", file.display());
    let socket = format!("unix:{}", redis.socket().display());
    for (store, works) in [
        (redis.url().replace("//", &format!("//:{PASSWORD}@")), true),
        (redis.url() + &in_file, true),
        (socket + &in_file, true),
        (redis.url(), false),
        (redis.url().replace("//", "//:wrong-sesame@"), false),
    ] {
        let world = with_store(&store);
        assert_eq!(lets_in(&world, &fresh(&world)), works, "{store}");
        let said = said(&world);
        assert_eq!(said.contains("does not answer"), !works, "{store}: {said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}
