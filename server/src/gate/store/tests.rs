use super::*;

fn new(name: &str) -> NewClient {
    let services = vec!["ssh".to_owned()];
    NewClient { name: name.to_owned(), services, expose: Vec::new(), terms: Written::default() }
}

#[test]
fn clients_come_and_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("clients.toml");
    let server = open(&path).expect("made").server;
    let alice = add(&path, new("alice")).expect("added");
    add(&path, new("bob")).expect("added");
    let taken = add(&path, new("bob")).expect_err("the name is taken").to_string();
    assert!(taken.contains("already"), "{taken}");

    let clients = open(&path).expect("read");
    assert_eq!((clients.server, clients.len()), (server, 2));
    assert_eq!(revoke(&path, "alice"), Ok(alice.kid));
    assert!(revoke(&path, "alice").is_err());
    let clients = read(&path).expect("read");
    assert_eq!(clients.iter().map(|client| client.name.as_str()).collect::<Vec<_>>(), ["bob"]);
}

#[test]
fn a_rotated_key_leaves_one_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("clients.toml");
    open(&path).expect("made");
    let first = add(&path, new("alice")).expect("added");
    let later = Timestamp::now() + std::time::Duration::from_secs(3600);
    let second = rotate(&path, "alice", later, |_| true).expect("rotated");
    assert_ne!((first.kid, &first.key), (second.kid, &second.key));
    assert_eq!(first.services, second.services);
    let old = |clients: &Clients| clients.replaced().map(|old| old.kid).collect::<Vec<_>>();
    assert_eq!(old(&second.clients), [first.kid]);
    let third = rotate(&path, "alice", later, |_| true).expect("rotated");
    assert_eq!(old(&third.clients), [second.kid]);
    let lost = rotate(&path, "alice", later, |kid| kid != third.kid).expect("rotated");
    assert_eq!(old(&lost.clients), [second.kid], "the one that was never used goes");
    let fourth = rotate(&path, "alice", Timestamp::now(), |_| true).expect("rotated");
    assert_eq!(old(&fourth.clients), []);
    assert!(rotate(&path, "bob", later, |_| true).is_err());
}

#[test]
fn two_locators_may_be_live() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("clients.toml");
    let first = open(&path).expect("made").locators;
    assert!(drop_locator(&path).is_err());
    add_locator(&path).expect("added");
    let both = read(&path).expect("read").locators;
    assert_eq!((both.len(), both.last()), (2, first.first()));
    assert!(add_locator(&path).is_err());
    drop_locator(&path).expect("dropped");
    assert_eq!(read(&path).expect("read").locators, both[..1]);
}

#[test]
fn keys_are_kept_from_others() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("clients.toml");
    open(&path).expect("made");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
    let refused = read(&path).expect_err("too wide").to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
}

#[test]
fn two_writers_at_once_lose_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("clients.toml");
    open(&path).expect("made");
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let path = &path;
            scope.spawn(move || add(path, new(&format!("client-{writer}"))).expect("added"));
        }
    });
    assert_eq!(read(&path).expect("read").len(), 8);
}

#[test]
fn a_link_stays_a_link() {
    let dir = tempfile::tempdir().expect("a directory");
    let (shared, path) = (dir.path().join("shared.toml"), dir.path().join("clients.toml"));
    open(&shared).expect("made");
    std::os::unix::fs::symlink(&shared, &path).expect("linked");
    add(&path, new("alice")).expect("added");
    assert!(path.is_symlink());
    assert_eq!(read(&shared).expect("read").len(), 1);
}

#[test]
fn a_changed_file_is_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("clients.toml");
    open(&path).expect("made");
    let before = Stamp::of(&path);
    assert_eq!(Stamp::of(&path), before);
    add(&path, new("alice")).expect("added");
    assert_ne!(Stamp::of(&path), before);
}
