//! Every configuration that a reader could copy is one that posternd accepts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use posternd::certificate;
use posternd::policy::Policy;
use tempfile::TempDir;

/// A directory with the files that the samples name.
fn scratch() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("germany.nets"), "192.0.2.0/24\n").expect("written");
    certificate::make(&["ssh.example.com".to_owned()], dir.path(), false).expect("made");
    let password = dir.path().join("redis.password");
    fs::write(&password, "password\n").expect("written");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("changed");
    dir
}

fn top(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A sample, made to run where there is no certificate store and no authority but our own.
fn accepted(text: &str, secrets: &str) -> Policy {
    let dir = scratch();
    let file = dir.path().join("secrets.toml");
    fs::write(&file, secrets).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("changed");
    fs::copy(dir.path().join("tls.crt"), dir.path().join("ca.crt")).expect("copied");
    // Whose rights a program has is root's to say.
    let root = rustix::process::geteuid().is_root();
    let needs_root =
        |line: &&str| root || !line.starts_with("user ") && !line.starts_with("access-user ");
    let text: String = text.split_inclusive('\n').filter(needs_root).collect();
    let text = text
        .replace("to   = \"tls://10.0.0.7:443\"", "ca = \"ca.crt\"\nto = \"tls://10.0.0.7:443\"");
    Policy::parse(&dir.path().join("posternd.toml"), &text).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_sample_in_contrib_is_accepted_without_a_warning() {
    let text = fs::read_to_string(top("contrib/posternd.toml")).expect("read");
    assert_eq!(accepted(&text, "").warnings, [""; 0]);
}

#[test]
fn what_the_readme_shows_is_accepted() {
    let readme = fs::read_to_string(top("README.md")).expect("read");
    let samples: Vec<_> = readme
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("the block's text"))
        .collect();
    let (secrets, configurations): (Vec<&str>, Vec<&str>) = samples
        .into_iter()
        .filter(|sample| !sample.starts_with("[[expose]]"))
        .partition(|sample| {
            // Those that expose are for a client's profile, whose own tests read them.
            sample.starts_with("[[secret]]")
        });
    assert_eq!((secrets.len(), configurations.len()), (1, 1), "one of each is shown");
    let policy = accepted(configurations[0], secrets[0]);
    let expected = [
        "opens \"ssh\" to visitors",
        "static-secrets: ",
        "memory: ",
        "does not tell his address",
        "will not answer: /usr/lib/postern/",
    ];
    for warning in &policy.warnings {
        assert!(expected.iter().any(|words| warning.contains(words)), "{warning}");
    }
}

#[test]
fn what_the_pages_of_contrib_show_is_accepted() {
    let pages = fs::read_dir(top("contrib/migrate")).expect("pages");
    let mut shown = 0;
    for page in pages.map(|page| page.expect("a page").path()) {
        let text = fs::read_to_string(&page).expect("read");
        let Some((_, block)) = text.split_once("```toml\n") else { continue };
        let (block, _) = block.split_once("```").expect("its end");
        // What is not on this machine is for the tests that run it.
        let block = block.replace("wasm:/usr/lib/postern/echo.wasm", "unix:/run/echo.sock");
        let secrets =
            "[[secret]]\nname = \"phone\"\nservice = \"ssh\"\nline = \"OPEN_SESAME_42\"\n";
        accepted(&block, secrets);
        shown += 1;
    }
    assert!(shown >= 5, "{shown} pages with a configuration");
}
