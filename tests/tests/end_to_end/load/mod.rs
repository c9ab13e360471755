//! Strangers by the thousand: whatever they hold open or show, the website answers, key holders get in,
//! tunnels go on, and posternd's memory stays within a bound.

mod flood;
mod insiders;
mod judged;
mod soak;

use std::io::Write;
use std::net::Ipv4Addr;

use postern_tests::net::connect_from;
use postern_tests::process::raise_descriptor_limit;
use postern_tests::tls::hello;
use postern_tests::{World, until};

use insiders::Insiders;

/// Half hellos that are held open. posternd needs two descriptors for each, and keeps some for the
/// admitted and for those who are still undecided: with a limit of 20,000 they are 7,500.
const HALF_HELLOS: usize = 10_000;

/// What posternd may grow by for each of them. Between 4 and 8 KB were seen, in a release 5.
const BYTES_EACH: u64 = 12 * 1024;

/// As many of them as there are, from more addresses than one, so that it is the table that is filled.
#[test]
fn half_hellos_held_open_keep_nobody_out() {
    let count = HALF_HELLOS.min(raise_descriptor_limit() / 8 * 3);
    let world = World::with("[limits]\nconnections = 20000\n");
    let mut insiders = Insiders::enter(&world);
    let before = insiders.resident();
    let hello = hello(Some("www.example.com"));
    let half = &hello[..hello.len() / 2];
    let hold = |number: usize| {
        let mut stream = connect_from(address(number), world.server.address());
        stream.write_all(half).expect("write");
        stream
    };

    let one_address: Vec<_> = (0..600).map(|_| hold(0)).collect();
    assert_eq!(undecided(&world, one_address.len()), 256, "as many as one address may have");
    let others: Vec<_> = (one_address.len()..count).map(hold).collect();
    assert_eq!(undecided(&world, count), 1024, "as many as the table holds");
    insiders.go_on();
    let each = insiders.resident().saturating_sub(before) / count as u64;
    eprintln!("{count} half hellos, {each} bytes of posternd's memory for each");
    assert!(each < BYTES_EACH, "{each} bytes each");
    drop((one_address, others));
    insiders.go_on();
}

/// How many are, once so many strangers have come and those who have to leave the table have left it.
fn undecided(world: &World, strangers: usize) -> u64 {
    until("all to be looked at", || {
        let status = world.server.status();
        let places = |kind: &str| status["places"][kind].as_u64().expect("a number");
        let (undecided, visitors) = (places("undecided"), places("visitors"));
        (undecided + visitors >= strangers as u64).then_some(undecided)
    })
}

/// One of the machine's loopback addresses, each for 60 strangers.
fn address(number: usize) -> Ipv4Addr {
    let [.., high, low] = (number / 60).to_be_bytes();
    Ipv4Addr::new(127, 9, high, low)
}
