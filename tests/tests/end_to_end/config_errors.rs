//! What posternd says of a configuration that cannot hold: where, what, and what to write instead.
//! The messages stand in `config_errors.txt`, each behind the change that brings it about.

use std::process::Command;

use postern_tests::posternd::posternd;
use postern_tests::{Scratch, failure, success};

/// A sound file. Each case changes some lines of it.
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

/// The lines to take out, the lines to put in their place, and what is said then.
fn cases() -> Vec<[String; 3]> {
    let cases = include_str!("config_errors.txt").split("\n\n").map(|case| {
        let mut parts = [const { String::new() }; 3];
        for line in case.lines() {
            let (part, text) = match line.split_at_checked(2) {
                Some(("- ", text)) => (0, text),
                Some(("+ ", text)) => (1, text),
                Some(_) | None => (2, line),
            };
            parts[part] += text;
            parts[part] += "\n";
        }
        parts
    });
    cases.collect()
}

fn check(scratch: &Scratch, text: &str) -> Command {
    let mut check = posternd(&["check", "-c"]);
    check.arg(scratch.write("posternd.toml", text));
    check
}

#[test]
fn every_mistake_is_named_with_its_place() {
    let scratch = Scratch::new();
    success(posternd(&["cert", "--name", "ssh.example.com", "--out"]).arg(scratch.path("")));
    success(&mut check(&scratch, SOUND));
    let directory = scratch.path("").display().to_string();
    let cases = cases();
    for [lines, instead, said] in &cases {
        assert_eq!(SOUND.matches(lines).count(), 1, "{lines:?} is in one place");
        let message = failure(&mut check(&scratch, &SOUND.replace(lines, instead)), 3);
        assert_eq!(&message.replace(&directory, ""), said, "{instead}");
    }
    assert!(cases.len() >= 20, "{} cases", cases.len());
}

#[test]
fn a_file_that_is_not_there() {
    let scratch = Scratch::new();
    let missing = scratch.path("nowhere.toml");
    let message = failure(posternd(&["check", "-c"]).arg(&missing), 3);
    let said = format!("{}: cannot be read: No such file", missing.display());
    assert!(message.contains(&said), "{message}");
}
