//! How posternd starts, and what it says when it cannot.

use std::net::TcpListener;

use postern_tests::net::{Then, local};
use postern_tests::posternd::{config, posternd};
use postern_tests::{Posternd, Scratch, TcpService, exchange, failure, sha256, success};

#[test]
fn a_port_in_use_is_a_clear_error() {
    let scratch = Scratch::new();
    let taken = TcpListener::bind(local(0)).expect("bind");
    let port = taken.local_addr().expect("an address").port();
    let config = config(local(9), "").replace(":0\"", &format!(":{port}\""));
    let file = scratch.write("posternd.toml", config);
    let message = failure(posternd(&["run", "-c"]).arg(file), 1);
    assert!(message.contains(&port.to_string()) && message.contains("in use"), "{message}");
}

#[test]
fn a_key_file_that_cannot_be_used_is_a_clear_error() {
    let scratch = Scratch::new();
    success(posternd(&["cert", "--name", "a.example", "--out"]).arg(scratch.path("")));
    let tls = "[tls]\ncertificate = \"tls.crt\"\nkey = \"KEY\"\nnames = [\"a.example\"]\nvisitors = \"web\"\n";
    scratch.write("garbage.key", "this is no key\n");
    for key in ["missing.key", "garbage.key", "tls.crt", "state"] {
        let file = scratch.write("posternd.toml", config(local(9), &tls.replace("KEY", key)));
        scratch.dir("state");
        for command in ["check", "run"] {
            let message = failure(posternd(&[command, "-c"]).arg(&file), 3);
            assert!(message.contains(key) && message.contains("posternd.toml:"), "{message}");
        }
    }
}

#[test]
fn a_certificate_is_never_overwritten() {
    let scratch = Scratch::new();
    let cert = || {
        let mut cert = posternd(&["cert", "--name", "a.example", "--out"]);
        cert.arg(scratch.path(""));
        cert
    };
    let pin = success(&mut cert());
    assert!(pin.contains("sha256/"), "{pin}");
    let before = sha256(&scratch.path("tls.key"));
    let message = failure(&mut cert(), 1);
    assert!(message.contains("tls."), "{message}");
    assert_eq!(sha256(&scratch.path("tls.key")), before);
}

#[test]
fn two_cannot_share_their_state() {
    let scratch = Scratch::new();
    let server = Posternd::start(&scratch, &config(local(9), ""));
    let message = failure(&mut server.command(&["run"]), 1);
    assert!(message.contains("another posternd runs with this state directory"), "{message}");
}

#[test]
fn several_listeners_of_both_families() {
    let scratch = Scratch::new();
    let web = TcpService::named("web");
    let mut listen = vec!["127.0.0.1:0", "127.0.0.2:0"];
    // Containers often come without IPv6.
    if TcpListener::bind("[::1]:0").is_ok() {
        listen.push("[::1]:0");
    }
    let several = config(web.address(), "").replace("[\"127.0.0.1:0\"]", &format!("{listen:?}"));
    let server = Posternd::start(&scratch, &several);
    assert_eq!(server.listeners().len(), listen.len());
    for listener in server.listeners() {
        assert_eq!(exchange(*listener, b"hello\r\n", Then::Wait).bytes, b"web", "{listener}");
    }
}
