//! What `check` finds doubtful about the website itself.

use std::process::Command;

use postern_tests::net::Refusing;
use postern_tests::process::text;
use postern_tests::{Nginx, Scratch, TcpService, World, finish, posternd, success};

/// The warnings, which change nothing about that the configuration is right.
fn warnings(check: &mut Command) -> String {
    let output = finish(check);
    assert!(output.status.success(), "{output:?}");
    text(&output.stderr)
}

#[test]
fn a_website_that_waits_as_posternd_does_is_fine() {
    let world = World::start();
    assert_eq!(warnings(&mut world.server.command(&["check"])), "");
}

#[test]
fn a_website_that_answers_at_once_would_tell() {
    let world = World::start();
    let quick = TcpService::named("quick");
    let config =
        world.config.replace(&world.nginx.https().to_string(), &quick.address().to_string());
    world.server.configure(&config);
    let said = warnings(&mut world.server.command(&["check"]));
    for words in
        ["first letter of a knock by plain", "header of a TLS hello", "TLS 1.3 with X25519"]
    {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_website_that_is_not_there_is_named() {
    let (scratch, nowhere) = (Scratch::new(), Refusing::bind());
    let file = scratch.write("posternd.toml", posternd::config(nowhere.address(), ""));
    let said = warnings(posternd::posternd(&["check", "-c"]).arg(file));
    assert!(said.contains("\"web\", cannot be reached"), "{said}");
}

#[test]
fn a_website_without_tls_1_3_would_make_a_hello_stand_out() {
    let world = World::start();
    let scratch = Scratch::new();
    let nginx = Nginx::start_with(&scratch, "ssl_ecdh_curve secp384r1;");
    let config = world.config.replace(&world.nginx.https().to_string(), &nginx.https().to_string());
    world.server.configure(&config);
    let said = warnings(&mut world.server.command(&["check"]));
    assert!(said.contains("TLS 1.3 with X25519") && said.lines().count() == 1, "{said}");
    success(&mut world.server.command(&["reload"]));
}
