//! The programs that posternd replaces, row by row: the configurations of `contrib/migrate` as they stand
//! there, with the real programs behind them.

mod haproxy;
mod hellos;
mod net_proxy;
mod sslh;
mod tcpmux;

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;

use postern_tests::net::connect;
use postern_tests::{Posternd, Scratch};

/// posternd with what a page of `contrib/migrate` says under "Ours". Each address there is replaced by the
/// one of a program that runs.
fn ours(scratch: &Scratch, page: &str, services: &[(&str, SocketAddr)]) -> Posternd {
    let quoted = |address: &str| format!("\"tcp://{address}\"");
    let services: Vec<_> =
        services.iter().map(|(shown, real)| (quoted(shown), quoted(&real.to_string()))).collect();
    adapted(scratch, page, &services)
}

/// The same with any words of it replaced.
fn adapted(scratch: &Scratch, page: &str, words: &[(String, String)]) -> Posternd {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/migrate").join(page);
    let text = fs::read_to_string(path).expect("read the page");
    let (_, ours) = text.split_once("```toml\n").expect("a block of TOML");
    let (ours, _) = ours.split_once("```").expect("its end");
    let mut config = ours
        .replace("0.0.0.0:443", "127.0.0.1:0")
        .replace("\"/var/lib/postern\"", "\"state\"")
        .replace("\"syslog\"", "\"syslog:log.sock\"");
    for (shown, real) in words {
        assert_eq!(config.matches(shown).count(), 1, "{page} has {shown} once");
        config = config.replace(shown, real);
    }
    Posternd::start(scratch, &config)
}

/// The first line that a service which speaks first says.
fn greeting(server: SocketAddr) -> String {
    let mut stream = connect(server);
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a greeting");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}
