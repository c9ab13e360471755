//! Static secrets and source-address memory: the stock client of an iptables string knock, and what it
//! leaves behind.

use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;

use postern_shared::knock::{Carrier, Intent};
use postern_tests::client::feed;
use postern_tests::net::{Then, connect, connect_from};
use postern_tests::process::text;
use postern_tests::{
    Client, Knocker, Nginx, Posternd, Scratch, Sshd, bounded, exchange, failure, posternd, success,
    until,
};

const SECRET: &str = "OPEN_SESAME_FOR_ME";
const PATH: &str = "/open/Sesame42";
const NAME: &str = "open-sesame.example.com";

/// A website, an sshd behind the memory, and somebody who has a key besides.
struct World {
    client: Client,
    server: Posternd,
    _sshd: Sshd,
    nginx: Nginx,
    _scratch: Scratch,
    invite: String,
}

/// `knock` are further keys of `[knock]`.
fn world(knock: &str) -> World {
    let scratch = Scratch::new();
    let (nginx, sshd) = (Nginx::start(&scratch), Sshd::start(&scratch));
    let secrets = scratch.path("secrets.toml");
    let secret = |name: &str, said: &str| {
        format!("[[secret]]\nname = \"{name}\"\nservice = \"ssh\"\n{said}\n")
    };
    let text = [
        secret("line", &format!("line = \"{SECRET}\"")),
        secret("path", &format!("path = \"{PATH}\"")),
        secret("name", &format!("sni = \"{NAME}\"")),
        secret("past", "line = \"OPEN_SESAME_NO_MORE\"\nuntil = \"2020-01-01T00:00:00Z\""),
    ];
    fs::write(&secrets, text.concat()).expect("write secrets.toml");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("chmod");
    let more = format!(
        "[knock]\nsni = \"www.example.com\"\nstatic-secrets = \"secrets.toml\"\n{knock}\n\
         [service.ssh]\nto = \"tcp://{}\"\nknock = true\n\
         [timeouts]\ndecide = \"30s\"\n",
        sshd.address()
    );
    let server = Posternd::start(&scratch, &posternd::config(nginx.https(), &more));
    let invite = server.invite("laptop", &[]);
    let client = Client::join(&scratch, "laptop", &invite);
    client.use_ssh(&sshd);
    World { client, server, _sshd: sshd, nginx, _scratch: scratch, invite }
}

/// What a visit in the words of ssh brings.
fn is_let_in(world: &World) -> bool {
    let mut stream = connect(world.server.address());
    stream.write_all(b"SSH-2.0-x\r\n\r\n").expect("sent");
    let mut first = [0; 4];
    stream.read_exact(&mut first).is_ok() && first == *b"SSH-"
}

#[test]
fn the_literal_client_of_a_string_knock_works() {
    let world = world("");
    let (host, port) = (world.server.address().ip(), world.server.address().port());
    let proxy = format!(
        "ProxyCommand=sh -c 'echo \"{SECRET}\" | nc -w30 {host} {port} >/dev/null && nc -w30 {host} {port}'"
    );
    for _ in 0..2 {
        let mut ssh = world.client.openssh("ssh");
        assert_eq!(success(ssh.args(["-o", &proxy, "plain", "echo in"])), "in\n");
    }
    assert!(!is_let_in(&world), "each use was used up");
    let log = world.server.connection(|line| line["route"] == "memory");
    assert_eq!((&log["client"], &log["carrier"]), (&"line".into(), &"memory".into()));

    // What the website saw of it is of the same length and class.
    let seen = world.nginx.access_log();
    assert!(seen.contains("XXXX_XXXXXX_XXX_XX") && !seen.contains("SESAME"), "{seen}");
    let log = world.nginx.process.log();
    assert!(!log.contains("SESAME"), "{log}");
    assert!(!world.server.process.log().contains("SESAME"));
}

#[test]
fn a_secret_may_be_said_in_a_path_or_a_name() {
    let world = world("");
    let address = world.server.address();
    let curl = |args: &[&str]| {
        let mut curl = bounded("curl");
        // How the website answers does not matter.
        let _ = curl.args(["-sk", "-o", "/dev/null"]).args(args).output().expect("curl");
    };
    curl(&[&format!("http://{address}{PATH}")]);
    assert!(is_let_in(&world));
    curl(&[
        "--resolve",
        &format!("{NAME}:{}:{}", address.port(), address.ip()),
        &format!("https://{NAME}:{}/", address.port()),
    ]);
    assert!(is_let_in(&world));
    for log in [world.nginx.access_log(), world.nginx.process.log()] {
        assert!(!log.contains("Sesame42"), "{log}");
    }
}

#[test]
fn only_ssh_from_the_armed_address_is_let_in() {
    let world = world("memory-uses = \"unlimited\"");
    let address = world.server.address();
    let direct = exchange(world.nginx.https(), format!("{SECRET}\n").as_bytes(), Then::Wait);
    let said = exchange(address, format!("{SECRET}\n").as_bytes(), Then::Wait);
    assert_eq!(said, direct, "the answer to a decoy is the answer to the secret");

    let mut other = connect_from(Ipv4Addr::new(127, 0, 0, 2), address);
    other.write_all(b"SSH-2.0-x\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = other.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"SSH-2.0-"), "another address: {}", text(&answer));

    let web = exchange(address, b"GET / HTTP/1.1\r\n\r\n", Then::Wait);
    assert_eq!(web, exchange(world.nginx.https(), b"GET / HTTP/1.1\r\n\r\n", Then::Wait));
    for _ in 0..3 {
        assert!(is_let_in(&world));
    }
}

#[test]
fn near_secrets_and_late_ones_arm_nothing() {
    let world = world("");
    for words in [
        format!("{SECRET}X\n"),
        format!("X{SECRET}\n"),
        format!("{SECRET} X\n"),
        format!("GET {PATH}2 HTTP/1.1\r\n\r\n"),
        "OPEN_SESAME_NO_MORE\n".to_owned(),
    ] {
        let through = exchange(world.server.address(), words.as_bytes(), Then::Fin);
        let direct = exchange(world.nginx.https(), words.as_bytes(), Then::Fin);
        assert_eq!(through, direct, "{words}");
        assert!(!is_let_in(&world), "{words}");
    }
    let log = world.server.connection(|line| line["refused"] == "expired");
    assert_eq!(log["client"], "past");
}

#[test]
fn a_secret_may_end_with_its_line_or_the_connection() {
    let world = world("");
    for words in [SECRET.to_owned(), format!("{SECRET} \n"), format!("{SECRET}\r\n")] {
        exchange(world.server.address(), words.as_bytes(), Then::Fin);
        assert!(is_let_in(&world), "{words:?}");
    }
    let log = world.nginx.access_log();
    assert!(!log.contains("SESAME"), "{log}");
}

#[test]
fn a_name_that_is_a_secret_is_a_name_like_others() {
    let world = world("");
    let address = world.server.address();
    let mut curl = bounded("curl");
    curl.args(["-sk", "--resolve", &format!("{NAME}:{}:{}", address.port(), address.ip())]);
    let page = success(curl.arg(format!("https://{NAME}:{}/", address.port())));
    assert_eq!(page, postern_tests::nginx::PAGE);
    assert!(is_let_in(&world));
}

#[test]
fn a_secret_may_come_in_pieces() {
    let world = world("");
    let mut stream = connect(world.server.address());
    for piece in SECRET.as_bytes().chunks(4).chain([&b"\n"[..]]) {
        stream.write_all(piece).expect("sent");
        std::thread::yield_now();
    }
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(is_let_in(&world));
}

#[test]
fn silence_from_an_armed_address_opens_a_service_that_speaks_first() {
    let world = world("memory-silent = \"300ms\"");
    exchange(world.server.address(), format!("{SECRET}\n").as_bytes(), Then::Wait);
    let mut silent = connect(world.server.address());
    let mut banner = [0; 8];
    silent.read_exact(&mut banner).expect("sshd speaks first");
    assert_eq!(&banner, b"SSH-2.0-");
}

#[test]
fn a_key_arms_too() {
    let world = world("");
    for carrier in [Carrier::Hello, Carrier::Plain] {
        let mut arm = world.client.postern(&["arm", "laptop", "--carrier", carrier.name()]);
        assert_eq!(success(&mut arm), "");
        assert!(is_let_in(&world), "{carrier}");
        assert!(!is_let_in(&world), "{carrier}");
    }
    let mut knocker = Knocker::new(&world.invite);
    knocker.header.intent = Intent::Arm;
    let knock = knocker.plain();
    let answer = exchange(world.server.address(), &knock, Then::Fin);
    assert!(answer.bytes.is_empty(), "it asked for no acknowledgement: {answer:?}");
    success(&mut world.server.command(&["client", "revoke", "laptop"]));
    until("the revocation", || {
        let mut connect = world.client.connect(&[]);
        (feed(&mut connect, b"").status.code() == Some(7)).then_some(())
    });
    assert!(!is_let_in(&world), "what a revoked key armed is void");
}

#[test]
fn without_a_memory_nothing_is_armed() {
    let world = postern_tests::World::start();
    let message = failure(&mut world.client.postern(&["arm", "laptop"]), 7);
    assert!(message.contains("not admitted"), "{message}");
    let log = world.server.connection(|line| line["refused"].is_string());
    assert_eq!(log["refused"], "memory");
}

#[test]
fn secrets_that_others_can_read_are_refused() {
    let world = world("");
    let secrets = world.server.file().with_file_name("secrets.toml");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).expect("chmod");
    let message = failure(&mut world.server.command(&["check"]), 3);
    assert!(message.contains("chmod 600"), "{message}");
}
