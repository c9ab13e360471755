//! Files and trees through the tunnel, compared at both ends.

use std::fs;
use std::path::Path;
use std::process::Command;

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::process::text;
use postern_tests::scratch::{MIB, random_file};
use postern_tests::{World, each_carrier, sha256, success};

each_carrier!(scp_of_200_mb, sftp_of_200_mb, rsync_of_a_tree, tar_of_a_tree, git_clone_and_push);

const LARGE: usize = 200 * MIB;

fn scp_of_200_mb(carrier: Carrier) {
    let world = World::start();
    let file = world.scratch.random_file("file", LARGE);
    let (there, back) = (world.scratch.path("there"), world.scratch.path("back"));
    let remote = format!("{carrier}:{}", there.display());
    success(world.client.openssh("scp").arg(&file).arg(&remote));
    assert_eq!(sha256(&there), sha256(&file));
    success(world.client.openssh("scp").arg(&remote).arg(&back));
    assert_eq!(sha256(&back), sha256(&file));
}

fn sftp_of_200_mb(carrier: Carrier) {
    let world = World::start();
    let file = world.scratch.random_file("file", LARGE);
    let (there, back) = (world.scratch.path("there"), world.scratch.path("back"));
    let batch = format!(
        "put {} {there}\nget {there} {}\n",
        file.display(),
        back.display(),
        there = there.display()
    );
    let mut sftp = world.client.openssh("sftp");
    let output = feed(sftp.args(["-b", "-", carrier.name()]), batch.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(sha256(&there), sha256(&file));
    assert_eq!(sha256(&back), sha256(&file));
}

fn rsync_of_a_tree(carrier: Carrier) {
    let world = World::start();
    let tree = tree(&world);
    let ssh = format!("ssh -F {}", world.client.ssh_config().display());
    let copy = world.scratch.path("copy");
    let sync = |from: &str, to: &str| {
        let mut rsync = world.client.at_home("rsync");
        success(rsync.args(["-a", "--delete", "--stats", "-e", &ssh, from, to]))
    };
    let local = |path: &Path| format!("{}/", path.display());
    let remote = |path: &Path| format!("{carrier}:{}/", path.display());

    sync(&local(&tree), &remote(&copy));
    assert_same(&tree, &copy);
    fs::write(tree.join("0/new"), "new").expect("write a file");
    fs::remove_file(tree.join("1/2")).expect("remove a file");
    sync(&remote(&tree), &local(&copy));
    assert_same(&tree, &copy);
}

fn tar_of_a_tree(carrier: Carrier) {
    let world = World::start();
    let (tree, copy) = (tree(&world), world.scratch.dir("copy"));
    let pipeline = format!(
        "set -o pipefail; tar cf - -C {} . | ssh -F {} {carrier} 'tar xf - -C {}'",
        tree.display(),
        world.client.ssh_config().display(),
        copy.display()
    );
    success(world.client.at_home("bash").args(["-c", &pipeline]));
    assert_same(&tree, &copy);
}

fn git_clone_and_push(carrier: Carrier) {
    let world = World::start();
    let (origin, clone) = (world.scratch.path("origin"), world.scratch.path("clone"));
    let git = |dir: &Path, args: &[&str]| {
        success(world.client.at_home("git").arg("-C").arg(dir).args(args))
    };
    let commit = |dir: &Path, message: &str| {
        git(dir, &["add", "."]);
        git(dir, &["commit", "-q", "-m", message]);
        git(dir, &["rev-parse", "HEAD"])
    };
    fs::rename(tree(&world), &origin).expect("move a tree");
    git(&origin, &["init", "-q", "-b", "main"]);
    let first = commit(&origin, "first");

    let url = format!("ssh://{carrier}{}", origin.display());
    git(&world.scratch.path(""), &["clone", "-q", &url, "clone"]);
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), first);
    random_file(&clone.join("pushed"), 20 * MIB);
    let second = commit(&clone, "second");
    git(&clone, &["push", "-q", "origin", "HEAD:refs/heads/pushed"]);
    assert_eq!(git(&origin, &["rev-parse", "pushed"]), second);
    git(&origin, &["fsck", "--full", "--strict"]);
}

/// Two hundred files of growing size.
fn tree(world: &World) -> std::path::PathBuf {
    let tree = world.scratch.dir("tree");
    for dir in 0..10 {
        let dir = tree.join(dir.to_string());
        fs::create_dir(&dir).expect("create a directory");
        for n in 0..20 {
            random_file(&dir.join(n.to_string()), n * n * 500);
        }
    }
    tree
}

fn assert_same(a: &Path, b: &Path) {
    assert_eq!(success(Command::new("diff").arg("-r").arg(a).arg(b)), "");
}
