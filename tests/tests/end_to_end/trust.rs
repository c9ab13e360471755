//! Whom the client takes for its server: by the pin of its invite, by an authority, never by default.

use postern_tests::client::feed;
use postern_tests::process::text;
use postern_tests::{Client, World, bounded, failure, success};

#[test]
fn another_server_at_the_address_is_found_out() {
    let world = World::start();
    let address = world.nginx.https().to_string();
    let ask = |carrier| ["--address", &address, "--carrier", carrier];
    let message = failure(&mut world.client.connect(&ask("tls")), 6);
    assert!(message.contains("in the middle"), "{message}");
    let message = failure(&mut world.client.connect(&ask("plain")), 7);
    assert!(message.contains("not admitted"), "{message}");
}

/// Gives posternd a certificate that an authority signed, whose own is in `ca.crt`.
fn signed_by_an_authority(world: &World) {
    let path = |name: &str| world.scratch.path(name).display().to_string();
    let make = |args: &[&str]| {
        let mut openssl = bounded("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "30", "-newkey", "ec"]);
        success(openssl.args(["-pkeyopt", "ec_paramgen_curve:P-256"]).args(args));
    };
    let (ca, ca_key) = (path("ca.crt"), path("ca.key"));
    make(&["-subj", "/CN=authority", "-out", &ca, "-keyout", &ca_key]);
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    let leaf = ["-CA", &ca, "-CAkey", &ca_key, "-subj", "/CN=leaf", "-addext"];
    let name = ["subjectAltName=DNS:ssh.example.com", "-addext", "basicConstraints=CA:FALSE"];
    make(&[&leaf[..], &name, &["-out", &certificate, "-keyout", &key]].concat());
    success(&mut world.server.command(&["reload"]));
}

#[test]
fn an_authority_vouches_where_no_key_is_pinned() {
    let world = World::start();
    signed_by_an_authority(&world);
    let invite = world.server.invite("other", &["--service", "ssh"]);
    let client = Client::join(&world.scratch, "other", &invite);
    let connect = |args: &[&str]| {
        let mut connect = client.connect(&["--carrier", "tls"]);
        connect.args(args);
        connect
    };
    let ca = world.scratch.path("ca.crt").display().to_string();
    let message = failure(&mut connect(&[]), 6);
    assert!(message.contains("--ca"), "{message}");
    let output = feed(&mut connect(&["--ca", &ca]), b"");
    assert!(text(&output.stdout).starts_with("SSH-2.0-"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    failure(&mut connect(&["--ca", &ca, "--sni", "www.example.com"]), 6);

    let output = feed(&mut connect(&["--insecure"]), b"");
    assert!(text(&output.stdout).starts_with("SSH-2.0-"), "{}", text(&output.stderr));
    assert!(!output.stderr.is_empty(), "never off without a word");
}

#[test]
fn a_changed_key_is_found_out() {
    let world = World::start();
    signed_by_an_authority(&world);
    let message = failure(&mut world.client.connect(&["--carrier", "tls"]), 6);
    assert!(message.contains("not the pinned one"), "{message}");
    let ca = world.scratch.path("ca.crt").display().to_string();
    let message = failure(&mut world.client.connect(&["--carrier", "tls", "--ca", &ca]), 2);
    assert!(message.contains("pin"), "an authority does not overrule a pin: {message}");
}
