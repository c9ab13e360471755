//! Replays the fuzzers' seeds, so that a fixed finding stays fixed without a nightly compiler.
//! It never looks for new inputs: `contrib/fuzz` does.

use std::fs;
use std::path::Path;

#[path = "../../contrib/fuzz/properties.rs"]
pub mod properties;

#[test]
fn hello() {
    replay("hello", properties::hello);
}

#[test]
fn sniff() {
    replay("sniff", properties::sniff);
}

#[test]
fn datagram() {
    replay("datagram", properties::datagram);
}

#[test]
fn token() {
    replay("token", properties::token);
}

#[test]
fn invite() {
    replay("invite", properties::invite);
}

#[test]
fn proxy() {
    replay("proxy", properties::proxy);
}

#[test]
fn expose() {
    replay("expose", properties::expose);
}

fn replay(target: &str, property: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/fuzz/corpus").join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&corpus).expect("each target has a corpus") {
        let path = entry.expect("readable").path();
        let data = fs::read(&path).expect("readable");
        // Named on the side where libtest shows it: beside the panic of a property that fails.
        eprintln!("{}", path.display());
        property(&data);
        replayed += 1;
    }
    assert!(replayed > 0, "{} is empty", corpus.display());
}
