//! What narrows a key, and how one takes another's place.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::SystemTime;

use postern_shared::invite::Invite;
use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::net::connect;
use postern_tests::process::text;
use postern_tests::{Client, Knocker, World, failure, success, until};

/// Whether whoever holds this invite is led to sshd.
fn is_let_in(world: &World, invite: &str) -> bool {
    let mut stream = connect(world.server.address());
    stream.write_all(&Knocker::new(invite).plain()).expect("sent");
    stream.write_all(b"SSH-2.0-x\r\n\r\n").expect("sent");
    let mut first = [0; 4];
    stream.read_exact(&mut first).is_ok() && first == *b"SSH-"
}

fn refusal(world: &World, client: &str) -> String {
    let line =
        world.server.connection(|line| line["client"] == client && line["refused"].is_string());
    line["refused"].as_str().map(str::to_owned).expect("a text")
}

#[test]
fn a_rotated_key_works_beside_the_new_one() {
    let world = World::start();
    let rotate = |keep: &[&str]| {
        let mut rotate = world.server.command(&["client", "rotate", "laptop"]);
        success(rotate.args(keep))
    };
    let first = world.invite.clone();
    let second = rotate(&[]);
    assert!(is_let_in(&world, &first) && is_let_in(&world, &second));
    let list = success(&mut world.server.command(&["client", "list"]));
    assert!(list.contains("old key"), "{list}");

    let mut lasting = open(&world.client);
    let third = rotate(&["--keep", "0s"]);
    until("the end of the old key", || (!is_let_in(&world, &second)).then_some(()));
    assert!(!is_let_in(&world, &first) && is_let_in(&world, &third));
    assert!(!lasting.wait().expect("ends").success(), "the tunnel of a void key is closed");
    let message = failure(&mut world.server.command(&["client", "rotate", "nobody"]), 1);
    assert!(message.contains("no client is named"), "{message}");
}

#[test]
fn a_locator_can_be_replaced() {
    let world = World::start();
    let client = |args: &[&str]| success(world.server.command(&["client", "rotate"]).args(args));
    client(&["--locator"]);
    assert!(is_let_in(&world, &world.invite), "the older one stays live");
    let renewed = client(&["laptop"]);
    let locator = |invite: &str| Invite::from_link(invite).expect("an invite").locator;
    assert!(locator(&renewed) != locator(&world.invite));
    assert!(is_let_in(&world, &renewed));
    client(&["--drop-locator"]);
    until("the end of the locator", || (!is_let_in(&world, &world.invite)).then_some(()));
    assert!(is_let_in(&world, &renewed));
}

/// An ssh that stays, and has begun.
fn open(client: &Client) -> Child {
    let mut ssh = client.lasting_ssh();
    let ssh = ssh.args(["plain", "echo in; cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut ssh = ssh.stderr(Stdio::null()).spawn().expect("ssh");
    ssh.stdout.as_mut().expect("piped").read_exact(&mut [0; 3]).expect("it runs");
    ssh
}

#[test]
fn a_key_has_as_many_tunnels_as_it_may() {
    let world = World::start();
    let invite = world.server.invite("one", &["--service", "ssh", "--max-tunnels", "1"]);
    let client = Client::join(&world.scratch, "one", &invite);
    client.use_ssh(&world.sshd);
    let mut first = open(&client);
    for carrier in Carrier::ALL {
        let message = failure(&mut client.connect(&["--carrier", carrier.name()]), 4);
        assert!(message.contains("as many tunnels"), "{message}");
    }
    assert_eq!(refusal(&world, "one"), "tunnels");
    drop(first.stdin.take());
    assert!(first.wait().expect("ends").success());
    let output = feed(&mut client.connect(&[]), b"SSH-2.0-x\r\n");
    assert!(output.stdout.starts_with(b"SSH-2.0-"), "{}", text(&output.stderr));
}

/// A weekday that is neither today nor next to it, in any time zone.
fn another_day() -> &'static str {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    // The epoch began on a Thursday.
    let day = now.as_secs() / 86_400 + 3 + 3;
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][usize::try_from(day % 7).expect("a day")]
}

#[test]
fn terms_of_a_key_hold() {
    let world = World::start();
    let invite = |name: &str, terms: &[&str]| {
        world.server.invite(name, &[&["--service", "ssh"], terms].concat())
    };
    let hours = format!("{} 00:00-24:00", another_day());
    for (name, term, value) in [
        ("not-before", "--not-before", "2036-01-01"),
        ("hours", "--hours", hours.as_str()),
        ("carrier", "--carrier", "hello"),
    ] {
        let invite = invite(name, &[term, value]);
        assert!(!is_let_in(&world, &invite), "{name}");
        assert_eq!(refusal(&world, name), name);
    }
    let always = invite("always", &["--hours", "00:00-24:00", "--time-zone", "UTC"]);
    assert!(is_let_in(&world, &always));
    let list = success(&mut world.server.command(&["client", "list"]));
    for words in ["not before 2036-01-01", "00:00-24:00, UTC", "by hello"] {
        assert!(list.contains(words), "{list}");
    }
    let hello =
        Invite::from_link(invite("other", &["--carrier", "hello"]).trim()).expect("an invite");
    assert_eq!(hello.carriers, [Carrier::Hello], "what it may not use is not offered");

    for (terms, words) in [
        (["--hours", "sometimes"], "is no time of the week"),
        (["--carrier", "smoke"], "no carrier"),
        (["--max-tunnels", "0"], "revoke the key"),
        (["--until", "2000-01-01"], "has passed"),
    ] {
        let mut add = world.server.command(&["client", "add", "bad", "--service", "ssh"]);
        let message = failure(add.args(terms), 2);
        assert!(message.contains(words), "{message}");
    }
}
