//! Names on the server's own port: TLS passed through to the laptop, or ended at the server.

use std::io::{Read, Write};
use std::net::SocketAddr;

use postern_tests::expose::{certify, expose, exposing_config};
use postern_tests::net::{connect, read_all};
use postern_tests::posternd::binary;
use postern_tests::tls::hello;
use postern_tests::{
    Client, Nginx, Posternd, Process, Scratch, TcpService, TlsClient, bounded, failure, success,
    until,
};

struct Named {
    process: Process,
    server: Posternd,
    scratch: Scratch,
}

/// Exposes the service at `to` as this name.
fn named(entrance: &str, to: SocketAddr, certified: &[&str], args: &[&str]) -> Named {
    named_with("", entrance, to, certified, args)
}

/// `more` follows `[timeouts]` in posternd's configuration.
fn named_with(
    more: &str,
    entrance: &str,
    to: SocketAddr,
    certified: &[&str],
    args: &[&str],
) -> Named {
    let scratch = Scratch::new();
    certify(&scratch, certified);
    let server = Posternd::start(&scratch, &exposing_config(more));
    let invite = server.invite("laptop", &["--expose", entrance]);
    let client = Client::join(&scratch, "laptop", &invite);
    let to = to.to_string();
    let args = [&[entrance, "--to", &to], args].concat();
    let process = expose(&scratch, &client, "expose", &args);
    Named { process, server, scratch }
}

fn get(server: SocketAddr, name: &str, ca: &std::path::Path) -> String {
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", "--connect-to", &format!("::{server}"), "--cacert"]).arg(ca);
    success(curl.arg(format!("https://{name}/")))
}

#[test]
fn tls_passes_through_to_the_laptop() {
    let laptop = Scratch::new();
    let nginx = Nginx::start(&laptop);
    // The name for which nginx has its certificate is the website's own here, so another one it is.
    let named = named("sni:laptop.example.com", nginx.https(), &["ssh.example.com"], &[]);
    named.server.until_held("sni:laptop.example.com");
    let mut visitor = connect(named.server.address());
    visitor.write_all(&hello(Some("laptop.example.com"))).expect("sent");
    let mut first = [0; 3];
    visitor.read_exact(&mut first).expect("a ServerHello");
    assert_eq!(&first, b"\x16\x03\x03", "nginx's own handshake");
    // Others are still the website's.
    let mut stranger = connect(named.server.address());
    stranger.write_all(&hello(Some("www.example.org"))).expect("sent");
    assert_eq!(read_all(&mut stranger).bytes, b"web");
}

#[test]
fn tls_ends_at_the_server_for_a_laptop_that_speaks_http() {
    let laptop = Scratch::new();
    let nginx = Nginx::start(&laptop);
    let name = "laptop.example.com";
    let named =
        named(&format!("sni:{name}"), nginx.http(), &["ssh.example.com", name], &["--terminate"]);
    named.server.until_held(&format!("sni:{name}"));
    let page = get(named.server.address(), name, &named.scratch.path("tls.crt"));
    assert_eq!(page, postern_tests::nginx::PAGE);
    // What comes inside is nobody's knock, and nobody's route.
    let stream = connect(named.server.address());
    let mut tls = TlsClient::connect(stream, name, &named.scratch.path("tls.crt"));
    tls.write_all(&[b'A'; 96]).expect("sent");
    tls.write_all(b"\r\n\r\n").expect("sent");
    let mut answer = String::new();
    tls.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("400 Bad Request"), "{answer}");
}

#[test]
fn a_name_without_a_certificate_is_not_ended_here() {
    let service = TcpService::named("laptop");
    let entrance = "sni:laptop.example.com";
    let mut named =
        named(entrance, service.address(), &["ssh.example.com"], &["--terminate", "--strict"]);
    assert_eq!(named.process.wait().code(), Some(11));
    assert!(named.process.log().contains("certificate"), "{}", named.process.log());
}

#[test]
fn names_that_have_another_use_cannot_be_exposed() {
    let scratch = Scratch::new();
    certify(&scratch, &["ssh.example.com"]);
    let routed = "[[route]]\nsni = [\"shop.example.com\"]\nservice = \"web\"\n";
    let server = Posternd::start(&scratch, &exposing_config(routed));
    for (entrance, why) in [
        ("sni:ssh.example.com", "has a use for ssh.example.com already"),
        ("sni:www.example.com", "has a use for www.example.com already"),
        ("sni:shop.example.com", "has a use for shop.example.com already"),
        (&format!("tcp:{}", server.address().port()), "posternd itself has"),
        (&format!("tcp:1-{}", server.address().port()), "posternd itself has"),
    ] {
        let refused =
            failure(&mut server.command(&["client", "add", "laptop", "--expose", entrance]), 2);
        assert!(refused.contains(why), "{entrance}: {refused}");
    }
    let refused = failure(&mut server.command(&["client", "add", "x", "--expose", "udp:1"]), 2);
    assert!(refused.contains("tcp:80"), "{refused}");
}

/// Whatever the server's own names are, a visitor of an exposed one waits like at a port.
#[test]
fn a_name_waits_for_its_client() {
    let service = TcpService::named("laptop");
    let entrance = "sni:laptop.example.com";
    let mut named = named(entrance, service.address(), &["ssh.example.com"], &[]);
    named.server.until_held(entrance);
    named.process.signal(rustix::process::Signal::KILL);
    named.process.wait();
    named.server.until_free(entrance);
    let mut visitor = connect(named.server.address());
    visitor.write_all(&hello(Some("laptop.example.com"))).expect("sent");
    let scratch = &named.scratch;
    let mut again = std::process::Command::new(binary("postern"));
    again.env("HOME", scratch.path("laptop")).args(["expose", entrance, "--profile", "laptop"]);
    again.args(["--to", &service.address().to_string()]);
    let _again = Process::spawn("postern again", &mut again, scratch.path("again.log"));
    assert_eq!(read_all(&mut visitor).bytes, b"laptop");
    until("a line in the log", || {
        let lines = named.server.events("connection");
        lines.into_iter().find(|line| line["route"] == "exposed" && line["service"] == entrance)
    });
}

#[test]
fn a_visitor_of_a_name_that_ends_here_is_told_so_while_its_client_is_away() {
    let service = TcpService::named("laptop");
    let (name, entrance) = ("laptop.example.com", "sni:laptop.example.com");
    let certified = ["ssh.example.com", name];
    let mut named =
        named_with("expose = \"1s\"", entrance, service.address(), &certified, &["--terminate"]);
    named.server.until_held(entrance);
    named.process.signal(rustix::process::Signal::KILL);
    named.process.wait();
    named.server.until_free(entrance);
    let trusted = named.scratch.path("tls.crt");
    let page = TlsClient::connect(connect(named.server.address()), name, &trusted).get("/");
    assert!(page.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{page}");
}

/// The server does not know yet what its client wants, and must not guess.
#[test]
fn a_visitor_of_a_name_that_ends_here_waits_when_the_server_comes_back() {
    let laptop = Scratch::new();
    let nginx = Nginx::start(&laptop);
    let (name, entrance) = ("laptop.example.com", "sni:laptop.example.com");
    let certified = ["ssh.example.com", name];
    let mut named =
        named_with("expose = \"60s\"", entrance, nginx.http(), &certified, &["--terminate"]);
    named.server.until_held(entrance);
    named.process.signal(rustix::process::Signal::STOP);
    named.server.end(rustix::process::Signal::KILL);
    named.server.again();
    let (server, trusted) = (named.server.address(), named.scratch.path("tls.crt"));
    let visitor = std::thread::spawn(move || get(server, name, &trusted));
    // He is there before the client is.
    std::thread::sleep(std::time::Duration::from_millis(500));
    named.process.signal(rustix::process::Signal::CONT);
    assert_eq!(visitor.join().expect("served"), postern_tests::nginx::PAGE);
}
