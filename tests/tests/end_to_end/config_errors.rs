//! What posternd says of a configuration that cannot hold: where, what, and what to write instead.

use postern_tests::posternd::posternd;
use postern_tests::{Scratch, failure, success};

/// A sound file. Each case changes a piece of it.
const SOUND: &str = r#"listen = ["127.0.0.1:0"]
public = "gate.example.com"
fallback = "web"
state = "state"

[knock]
carriers = ["tls", "plain"]
window = "60s"

[tls]
certificate = "tls.crt"
key = "tls.key"
names = ["ssh.example.com"]
visitors = "web"

[service.web]
to = "tcp://127.0.0.1:8443"

[service.ssh]
to = "tcp://127.0.0.1:22"
knock = true

[[route]]
sni = ["shop.example.com"]
service = "web"

[timeouts]
decide = "3s"
"#;

struct Case {
    /// The piece of `SOUND`, and what stands in its place.
    change: (&'static str, &'static str),
    /// What is said, behind the file's name.
    says: &'static str,
}

const CASES: &[Case] = &[];

fn check(scratch: &Scratch, text: &str) -> std::process::Command {
    let mut check = posternd(&["check", "-c"]);
    check.arg(scratch.write("posternd.toml", text));
    check
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let scratch = Scratch::new();
    success(posternd(&["cert", "--name", "ssh.example.com", "--out"]).arg(scratch.path("")));
    success(&mut check(&scratch, SOUND));
    let directory = format!("{}/", scratch.path("").display());
    for Case { change: (piece, instead), says } in CASES {
        assert_eq!(SOUND.matches(piece).count(), 1, "{piece:?} names one place");
        let message = failure(&mut check(&scratch, &SOUND.replace(piece, instead)), 3);
        assert_eq!(message.replace(&directory, "").trim_end(), *says, "{instead:?}");
    }
    assert!(CASES.len() >= 20);
}

#[test]
fn a_file_that_is_not_there() {
    let scratch = Scratch::new();
    let missing = scratch.path("nowhere.toml");
    let message = failure(posternd(&["check", "-c"]).arg(&missing), 3);
    assert!(message.starts_with(&format!("{}: cannot be read: ", missing.display())), "{message}");
}
