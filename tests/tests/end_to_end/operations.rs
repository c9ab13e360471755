//! What an operator does to a running posternd.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::net::{connect, read_all};
use postern_tests::posternd::config;
use postern_tests::process::text;
use postern_tests::scratch::MIB;
use postern_tests::tls::hello;
use postern_tests::{
    Client, Posternd, Scratch, TcpService, World, bounded, failure, sha256, success, until,
};
use rustix::process::Signal;

const SHOP: &str = r#"
[[route]]
sni = ["shop.example.com"]
service = "shop"
"#;

fn shop(service: &TcpService) -> String {
    format!("[service.shop]\nto = \"tcp://{}\"\n", service.address())
}

/// The first that is said to a visitor with this name; a website would wait for more.
fn answer(server: &Posternd, name: &str) -> Vec<u8> {
    let mut stream = connect(server.address());
    stream.write_all(&hello(Some(name))).expect("send a ClientHello");
    let mut first = vec![0; 64];
    let length = stream.read(&mut first).expect("an answer");
    first.truncate(length);
    first
}

#[test]
fn a_reload_under_traffic_disturbs_nobody() {
    let world = World::with(&shop(&TcpService::named("shop")));
    let file = world.nginx.publish("big", 60 * MIB);
    let fetched = world.scratch.path("fetched");
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", "--limit-rate", "20M", "https://www.example.com/big"]);
    curl.args(["--connect-to", &format!("::{}", world.server.address()), "--cacert"]);
    curl.arg(world.nginx.certificate()).arg("-o").arg(&fetched);
    let mut download = curl.spawn().expect("start curl");
    let mut command = world.client.ssh(Carrier::Tls, "sleep 2; cat; echo still here");
    let session = command.stdout(Stdio::piped()).spawn().expect("start ssh");
    until("the download to begin", || fetched.metadata().ok().filter(|file| file.len() > 0));
    assert_eq!(world.server.events("connection").len(), 0);

    world.server.configure(&format!("{}{SHOP}", world.config));
    world.server.hang_up();
    until("the new route", || (answer(&world.server, "shop.example.com") == b"shop").then_some(()));
    for carrier in Carrier::ALL {
        assert_eq!(success(&mut world.client.ssh(carrier, "echo new")), "new\n");
    }
    assert!(download.wait().expect("wait for curl").success());
    assert_eq!(sha256(&fetched), sha256(&file));
    let session = session.wait_with_output().expect("wait for ssh");
    assert_eq!(text(&session.stdout), "still here\n");
}

#[test]
fn a_bad_file_is_refused_and_the_old_one_stays() {
    let scratch = Scratch::new();
    let (web, shop_service) = (TcpService::named("web"), TcpService::named("shop"));
    let good = config(web.address(), &(shop(&shop_service) + SHOP));
    let mut server = Posternd::start(&scratch, &good);
    server.configure(&format!("{good}\n[[route]]\nsni = [\"x\"]\nservice = \"nowhere\"\n"));
    let message = failure(&mut server.command(&["reload"]), 3);
    let place = format!("{}:{}", server.file().display(), good.lines().count() + 4);
    assert!(message.contains(&place) && message.contains("nowhere"), "{message}");
    server.hang_up();
    until("the refusal in the log", || server.process.log().contains("nowhere").then_some(()));
    assert_eq!(answer(&server, "shop.example.com"), b"shop");

    server.configure(&good.replace("shop.example.com", "new.example.com"));
    success(&mut server.command(&["reload"]));
    assert_eq!(answer(&server, "new.example.com"), b"shop");
    assert_eq!(answer(&server, "shop.example.com"), b"web");
    assert_eq!(server.process.exited(), None);
}

#[test]
fn listeners_come_and_go_by_reload() {
    let scratch = Scratch::new();
    let web = TcpService::echo_after_eof();
    let listen = |addresses: &str| config(web.address(), "").replace("\"127.0.0.1:0\"", addresses);
    let server = Posternd::start(&scratch, &listen("\"127.0.0.1:0\""));
    let mut visitor = connect(server.address());
    visitor.write_all(b"hello\r\n").expect("write");

    server.configure(&listen("\"127.0.0.2:0\", \"127.0.0.3:0\""));
    success(&mut server.command(&["reload"]));
    until("the old listener to close", || TcpStream::connect(server.address()).err());
    let status = success(&mut server.command(&["status", "--json"]));
    assert!(status.contains("127.0.0.2:") && status.contains("127.0.0.3:"), "{status}");
    visitor.shutdown(Shutdown::Write).expect("shut down");
    assert_eq!(read_all(&mut visitor).bytes, b"hello\r\n", "whoever was there stays");
}

#[test]
fn a_new_client_is_noticed_without_a_reload() {
    let world = World::start();
    let invite = world.server.add_client("phone", &["--service", "ssh"]);
    let phone = Client::join(&world.scratch, "phone", &invite);
    phone.use_ssh(&world.sshd);
    for carrier in Carrier::ALL {
        until("the new client to be known", || {
            let ssh = phone.ssh(carrier, "echo hello").output().expect("run ssh");
            (text(&ssh.stdout) == "hello\n").then_some(())
        });
    }
    let clients = success(&mut world.server.command(&["client", "list"]));
    assert!(clients.contains("laptop") && clients.contains("phone"), "{clients}");
}

#[test]
fn secrets_are_for_their_owner_only() {
    let world = World::start();
    let mode =
        |path: &Path| fs::metadata(path).expect("look at a file").permissions().mode() & 0o777;
    assert_eq!(mode(&world.server.clients_file()), 0o600);
    assert_eq!(mode(&world.scratch.path("tls.key")), 0o600);
    let mut profiles = vec![world.client.home().to_owned()];
    let mut checked = 0;
    while let Some(path) = profiles.pop() {
        if path.is_dir() {
            profiles.extend(fs::read_dir(path).expect("list").flatten().map(|entry| entry.path()));
        } else if fs::read_to_string(&path).is_ok_and(|text| text.contains("locator")) {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            checked += 1;
        }
    }
    assert_eq!(checked, 1, "one profile");
}

#[test]
fn a_broken_clients_file_takes_nobodys_key_away() {
    let world = World::start();
    fs::write(world.server.clients_file(), "server-id = \n").expect("write clients.toml");
    let complaint = format!("{}:1:13: ", world.server.clients_file().display());
    until("a complaint", || world.server.process.log().contains(&complaint).then_some(()));
    assert_eq!(success(&mut world.client.ssh(Carrier::Tls, "echo in")), "in\n");
    let message = failure(&mut world.server.command(&["check"]), 3);
    assert!(message.contains(&complaint), "{message}");
}

#[test]
fn clients_added_at_once_are_all_kept() {
    let world = World::start();
    let names: Vec<_> = (0..16).map(|n| format!("client-{n}")).collect();
    thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| world.server.add_client(name, &[]));
        }
    });
    let listed = success(&mut world.server.command(&["client", "list"]));
    for name in &names {
        assert_eq!(listed.matches(&format!("{name} ")).count(), 1, "{name}: {listed}");
    }
    failure(&mut world.server.command(&["client", "add", "laptop"]), 1);
}

#[test]
fn a_stop_is_orderly() {
    let mut world = World::start();
    let mut ssh = world.client.ssh(Carrier::Tls, "cat").stdin(Stdio::piped()).spawn().expect("ssh");
    world.server.tunnel_of("laptop");
    world.server.process.signal(Signal::TERM);
    assert_eq!(world.server.process.wait().code(), Some(0));
    assert_eq!(world.server.connection(|_| true)["outcome"], "stopped");
    assert_eq!(ssh.wait().expect("wait for ssh").code(), Some(255));
    let message = failure(&mut world.server.command(&["status"]), 1);
    assert!(message.contains("running"), "{message}");
}

#[test]
fn after_a_crash_it_starts_again() {
    let mut world = World::start();
    world.server.process.signal(Signal::KILL);
    world.server.process.wait();
    let again = Posternd::start(&world.scratch, &world.config);
    let address = again.address().to_string();
    let mut client = world.client.connect(&["--address", &address]);
    assert!(text(&feed(&mut client, b"").stdout).starts_with("SSH-2.0-"));
}
