//! Knocks inside a ClientHello: what becomes of them at the website, in other hands, and in the middle.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::net::{Then, connect};
use postern_tests::process::text;
use postern_tests::{
    Client, Knocker, Nginx, Scratch, TcpService, World, exchange, failure, success, until,
};

use crate::knocks::shape;

/// What no TLS server takes for a record.
const GARBAGE: &[u8] = b"SSH-2.0-OpenSSH_9.2\r\n";

fn fetched(nginx: &Nginx) -> Vec<String> {
    let request = |line: &str| line.split_once('"').map(|(_, request)| request.to_owned());
    nginx.access_log().lines().filter_map(request).collect()
}

/// A client whose invite's posternd is gone, and the website in its place.
fn meets(nginx: &Nginx, client: &Client) {
    let address = nginx.https().to_string();
    let message = failure(&mut client.connect(&["--carrier", "hello", "--address", &address]), 7);
    assert!(message.contains("a website answered"), "{message}");
}

#[test]
fn the_website_itself_sees_one_visit_and_no_ssh() {
    let world = World::start();
    meets(&world.nginx, &world.client);
    assert_eq!(fetched(&world.nginx), ["GET / HTTP/1.1\""]);

    let profile = world.client.home().join(".config/postern/laptop.toml");
    let text = fs::read_to_string(&profile).expect("read the profile");
    fs::write(&profile, format!("alpn = [\"h2\", \"http/1.1\"]\n{text}")).expect("write it");
    meets(&world.nginx, &world.client);
    assert_eq!(fetched(&world.nginx), ["GET / HTTP/1.1\"", "GET / HTTP/2.0\""]);
    assert_eq!(success(&mut world.client.ssh(Carrier::Hello, "echo in")), "in\n");
}

#[test]
fn a_website_that_asks_for_another_key_share_is_only_visited() {
    let world = World::start();
    let scratch = Scratch::new();
    let nginx = Nginx::start_with(&scratch, "ssl_ecdh_curve secp384r1;");
    meets(&nginx, &world.client);
    assert_eq!(fetched(&nginx), ["GET / HTTP/1.1\""]);
}

#[test]
fn whoever_recognises_a_knock_must_have_the_pinned_key() {
    let world = World::start();
    let profile = world.client.home().join(".config/postern/laptop.toml");
    let text = fs::read_to_string(&profile).expect("read the profile");
    let pin = text.lines().find(|line| line.starts_with("hello-pin")).expect("a pin");
    let other = format!("hello-pin = \"sha256/{}=\"", "A".repeat(43));
    fs::write(&profile, text.replace(pin, &other)).expect("write it");
    let message = failure(&mut world.client.connect(&["--carrier", "hello"]), 6);
    assert!(message.contains("in the middle"), "{message}");
    world.server.connection(|line| line["outcome"] == "tls-failed");
}

/// Passes everything on to `to`, and keeps what the clients said.
fn listening_in(to: SocketAddr) -> (TcpService, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    let service = TcpService::start(move |client| {
        let server = connect(to);
        let down = {
            let (client, server) = (client.try_clone(), server.try_clone());
            let (mut client, mut server) = (client.expect("a copy"), server.expect("a copy"));
            thread::spawn(move || {
                let _ = std::io::copy(&mut server, &mut client);
                let _ = client.shutdown(Shutdown::Write);
            })
        };
        pass_up(client, server, &ear);
        let _ = down.join();
    });
    (service, heard)
}

fn pass_up(mut client: TcpStream, mut server: TcpStream, ear: &Mutex<Vec<u8>>) {
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = client.read(&mut piece) {
        ear.lock().expect("kept").extend_from_slice(&piece[..count]);
        let _ = server.write_all(&piece[..count]);
    }
    let _ = server.shutdown(Shutdown::Write);
}

/// The hello by which a client was let in.
fn captured(world: &World) -> Vec<u8> {
    let (between, heard) = listening_in(world.server.address());
    let address = between.address().to_string();
    let output = feed(
        &mut world.client.connect(&["--carrier", "hello", "--address", &address]),
        b"SSH-2.0-x\r\n",
    );
    assert!(output.stdout.starts_with(b"SSH-2.0-"), "{}", text(&output.stderr));
    let heard = heard.lock().expect("kept");
    let length = usize::from(u16::from_be_bytes([heard[3], heard[4]]));
    heard[..5 + length].to_vec()
}

fn is_the_websites_answer(world: &World, hello: &[u8]) {
    let bytes = [hello, GARBAGE].concat();
    let through = shape(&exchange(world.server.address(), &bytes, Then::Wait));
    assert_eq!(through, shape(&exchange(world.nginx.https(), &bytes, Then::Wait)));
    assert!(through.bytes.starts_with(&[22]), "a ServerHello: {through:?}");
}

#[test]
fn a_captured_hello_shown_again_is_the_websites() {
    let world = World::start();
    let hello = captured(&world);
    is_the_websites_answer(&world, &hello);
    let line = world.server.connection(|line| line["refused"].is_string());
    assert_eq!(line["refused"], "replayed");
}

#[test]
fn a_session_id_taken_to_another_key_share_is_the_websites() {
    let world = World::start();
    let mut hello = Knocker::new(&world.invite).hello();
    let share = hello.len() - 32;
    hello[share..].copy_from_slice(&[9; 32]);
    is_the_websites_answer(&world, &hello);
}

/// Somebody who keeps a hello from arriving and shows it himself cannot finish the handshake: nothing is
/// dialled, and nothing is counted as admitted.
#[test]
fn a_hello_alone_opens_nothing() {
    let reached = Arc::new(Mutex::new(0));
    let counter = reached.clone();
    let secret = TcpService::start(move |_| *counter.lock().expect("kept") += 1);
    let world = World::with(&format!(
        "[service.secret]\nto = \"tcp://{}\"\nknock = true\n",
        secret.address()
    ));
    let invite = world.server.invite("thief", &["--service", "secret"]);
    let knocker = Knocker::new(&invite);
    let hello = knocker.hello();
    let mut stream = connect(world.server.address());
    stream.write_all(&hello).expect("sent");
    let mut first = [0; 43];
    stream.read_exact(&mut first).expect("answered");
    assert!(knocker.is_recognised(&hello, &first));
    drop(stream);
    let line = world.server.connection(|line| line["client"] == "thief");
    assert_eq!((&line["outcome"], &line["route"]), (&"tls-failed".into(), &"none".into()));
    assert_eq!(*reached.lock().expect("kept"), 0);
    let list = success(&mut world.server.command(&["client", "list"]));
    let thief = list.lines().find(|line| line.starts_with("thief")).expect("listed");
    assert!(thief.contains("never used"), "{thief}");
    let status = success(&mut world.server.command(&["status"]));
    assert!(status.contains("0 admitted, 0 refused"), "{status}");
}

/// Whoever has many hellos of a key, but not the key itself, cannot take everybody's places.
#[test]
fn a_key_has_so_many_handshakes_at_a_time() {
    let world = World::with("[limits]\nconnections = 128\n");
    let show = |knocker: &Knocker| {
        let hello = knocker.hello();
        let mut stream = connect(world.server.address());
        stream.write_all(&hello).expect("sent");
        let mut first = [0; 43];
        stream.read_exact(&mut first).expect("answered");
        knocker.is_recognised(&hello, &first).then_some(stream)
    };
    let knocker = Knocker::new(&world.invite);
    let held: Vec<_> = (0..32).map(|_| show(&knocker).expect("recognised")).collect();
    assert!(show(&knocker).is_none(), "one too many is a visitor");
    let line = world.server.connection(|line| line["refused"].is_string());
    assert_eq!(line["refused"], "busy");
    let other = Knocker::new(&world.server.invite("other", &["--service", "ssh"]));
    assert!(show(&other).is_some(), "others have theirs");
    drop(held);
    until("the end of the handshakes", || show(&knocker));
}
