//! What is done before the first connection: invites, profiles, ssh's configuration.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

use postern_shared::invite::Invite;
use postern_shared::knock::{Carrier, ClientKey};
use tokio::io::AsyncWriteExt;

use crate::home::{Client, Home, SOON};
use crate::server;

fn invite() -> Invite {
    let mut invite = server::invite(([192, 0, 2, 1], 443).into(), &[Carrier::Tls, Carrier::Plain]);
    invite.host = "bob.example.org".to_owned();
    invite
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("there").permissions().mode() & 0o7777
}

fn assert_ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

fn assert_fails(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

#[test]
fn an_invite_becomes_a_private_profile() {
    let home = Home::empty();
    let said = assert_ok(&home.run(&["join"], invite().to_link().as_bytes()));
    let file = home.path().join(".config/postern/bob.example.org.toml");
    assert!(said.contains(file.to_str().expect("text")), "{said}");
    assert!(said.contains("postern ssh-config bob.example.org --write"), "{said}");
    assert_eq!(said.lines().count(), 2);
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(&home.path().join(".config/postern")), 0o700);
    let profile = fs::read_to_string(&file).expect("there");
    assert!(profile.contains("service = \"ssh\"") && profile.contains(&"33".repeat(32)));
}

#[test]
fn what_is_no_invite_says_so_and_is_not_repeated() {
    let home = Home::empty();
    let link = invite().to_link();
    for (input, why) in [
        ("", "an invite is one line"),
        ("ssh://secret", "an invite is one line"),
        (&link[..link.len() - 9], "damaged or cut short"),
    ] {
        let said = assert_fails(&home.run(&["join", "bob"], input.as_bytes()), 1);
        assert!(said.contains(why), "{said}");
        assert!(input.is_empty() || !said.contains(input), "{said}");
    }
    assert!(!home.profile().exists());
}

#[test]
fn another_key_is_replaced_only_by_force() {
    let home = Home::joined(&invite());
    let mut other = invite();
    other.key = ClientKey::new([0x44; 32]);
    let link = other.to_link();
    let before = fs::read(home.profile()).expect("there");
    let said = assert_fails(&home.run(&["join", "bob"], link.as_bytes()), 1);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(fs::read(home.profile()).expect("there"), before);
    assert_ok(&home.run(&["join", "bob", "--force"], link.as_bytes()));
    assert_eq!(home.key(), "44".repeat(32));
    assert_ok(&home.run(&["join", "bob"], link.as_bytes()));
}

#[test]
fn profiles_are_listed_without_their_secrets() {
    let home = Home::joined(&invite());
    let said = assert_ok(&home.run(&["profiles"], b""));
    assert_eq!(
        said,
        "NAME  ADDRESS              CARRIERS   SERVICES\n\
         bob   bob.example.org:443  tls,plain  ssh,git\n"
    );
    fs::set_permissions(home.profile(), Permissions::from_mode(0o644)).expect("ours");
    let output = home.run(&["profiles"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("chmod 600"), "{output:?}");
}

#[test]
fn a_profile_open_to_others_is_not_used() {
    let home = Home::joined(&invite());
    fs::set_permissions(home.profile(), Permissions::from_mode(0o640)).expect("ours");
    let (code, stderr) = home.fails(&[], SOON);
    assert_eq!(code, 1);
    assert!(stderr.contains(&format!("run: chmod 600 {}", home.profile().display())), "{stderr}");
}

#[test]
fn an_unknown_profile_says_how_to_make_it() {
    for arguments in [&["connect", "eve"][..], &["ssh-config", "eve"]] {
        let said = assert_fails(&Home::empty().run(arguments, b""), 1);
        assert!(said.contains("postern join eve < invite"), "{said}");
    }
}

#[test]
fn usage_errors_go_to_standard_error() {
    for arguments in [&[][..], &["connect"], &["connect", "-x"], &["connect", "a;b"], &["dance"]] {
        assert_fails(&Home::empty().run(arguments, b""), 2);
    }
    let help = assert_ok(&Home::empty().run(&["connect", "--help"], b""));
    assert!(help.contains("7  not admitted"), "{help}");
}

#[test]
fn without_home_the_directories_may_be_named() {
    let home = Home::joined(&invite());
    let mut command = home.postern(&["profiles"]);
    command
        .env_remove("HOME")
        .env("XDG_CONFIG_HOME", home.path().join(".config"))
        .env("XDG_STATE_HOME", home.path().join(".local/state"));
    assert!(assert_ok(&command.output().expect("it runs")).contains("bob.example.org"));
}

#[test]
fn the_key_may_come_from_a_descriptor_or_a_helper() {
    let address = server::serve(Carrier::Tls, |knocked| async {
        knocked.admit().await.write_all(b"in").await.expect("the client reads");
    });
    let home = Home::with(address, &[Carrier::Tls]);
    let file = home.path().join("key");
    fs::write(&file, home.key() + "\n").expect("ours");
    let key = format!("\nkey = \"{}\"", home.key());

    home.edit_profile(&key, "\nkey = \"fd:7\"");
    let mut command = home.command("/bin/sh");
    let line = format!("exec \"$0\" connect bob 7<{}", file.display());
    command.args(["-c", &line, env!("CARGO_BIN_EXE_postern")]);
    assert_eq!(Client::start(&mut command).read(2), b"in");
    let (code, stderr) = home.connect(&[]).ends_within(SOON);
    assert!(code == 1 && stderr.contains("descriptor"), "{stderr}");

    home.edit_profile("fd:7", &format!("command:cat {}", file.display()));
    assert_eq!(home.connect(&[]).read(2), b"in");
}

#[test]
fn a_stanza_is_printed_with_a_path_that_works_anywhere() {
    let home = Home::joined(&invite());
    let said = assert_ok(&home.run(&["ssh-config", "bob", "--user", "alice"], b""));
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_postern")).expect("there");
    assert_eq!(
        said,
        format!(
            "Host bob\n    HostKeyAlias bob\n    User alice\n    ProxyCommand {} connect bob\n",
            program.display()
        )
    );
    let mut command = home.postern(&["ssh-config", "bob"]);
    let said = assert_ok(
        &command.env("PATH", program.parent().expect("a directory")).output().expect("it runs"),
    );
    assert!(said.contains("ProxyCommand postern connect bob\n"), "{said}");
    assert!(!home.path().join(".ssh").exists());
}

#[test]
fn ssh_is_configured_once_and_nothing_else_is_changed() {
    let home = Home::joined(&invite());
    let ssh = home.path().join(".ssh");
    assert_ok(&home.run(&["ssh-config", "bob", "--write"], b""));
    assert_eq!((mode(&ssh), mode(&ssh.join("config"))), (0o700, 0o600));
    assert_eq!(mode(&ssh.join("postern.conf")), 0o600);
    assert_eq!(fs::read(ssh.join("config")).expect("there"), b"Include postern.conf\n");

    let mine = b"# caf\xe9\nHost x\n\tPort 1\n".as_slice();
    fs::write(home.path().join("dotfile"), mine).expect("ours");
    fs::set_permissions(home.path().join("dotfile"), Permissions::from_mode(0o640)).expect("ours");
    fs::remove_file(ssh.join("config")).expect("ours");
    symlink("../dotfile", ssh.join("config")).expect("a link");
    for _ in 0..2 {
        assert_ok(&home.run(&["ssh-config", "bob", "--user", "b", "--write"], b""));
        assert!(fs::symlink_metadata(ssh.join("config")).expect("there").is_symlink());
        let expected = [b"Include postern.conf\n", mine].concat();
        assert_eq!(fs::read(home.path().join("dotfile")).expect("there"), expected);
        assert_eq!(mode(&home.path().join("dotfile")), 0o640);
    }
    let ours = fs::read_to_string(ssh.join("postern.conf")).expect("there");
    assert_eq!(ours.matches("Host bob\n").count(), 1);
    assert!(ours.contains("User b\n"));
}
