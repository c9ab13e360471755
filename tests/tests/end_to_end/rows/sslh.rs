//! sslh's own `example.cfg`. Behind each of its rows stands a service that says its name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use postern_tests::net::Then;
use postern_tests::{Nginx, Scratch, Sshd, TcpService, bounded, exchange, finish, success, until};

use super::{greeting, ours};

#[test]
fn the_rows_of_its_example() {
    let scratch = Scratch::new();
    let (nginx, sshd) = (Nginx::start(&scratch), Sshd::start(&scratch));
    let daytime = TcpService::start(|mut stream| {
        use std::io::Write;
        drop(stream.write_all(b"21 NOV 2026\r\n"));
    });
    let reached = Arc::new(AtomicUsize::new(0));
    let count = reached.clone();
    let elsewhere = TcpService::start(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let named = |name| TcpService::named(name).address();
    let services: &[(&str, SocketAddr)] = &[
        ("localhost:22", sshd.address()),
        ("localhost:80", nginx.http()),
        ("localhost:5225", elsewhere.address()),
        ("localhost:443", nginx.https()),
        ("localhost:5223", named("im")),
        ("localhost:993", named("mail")),
        ("localhost:5224", named("letsencrypt")),
        ("localhost:1194", named("openvpn")),
        ("localhost:5222", named("jabber")),
        ("localhost:13", daytime.address()),
    ];
    let server = ours(&scratch, "sslh.md", services);
    let door = server.address();

    let seen = exchange(door, b"SSH-2.0-x\r\n", Then::Fin);
    assert!(seen.bytes.starts_with(b"SSH-2.0-OpenSSH"), "{seen:?}");
    assert!(success(bounded("curl").arg("-s").arg(format!("http://{door}/"))).contains("Nothing"));

    let hello = |name: Option<&str>, alpn: Option<&str>| {
        let mut client = bounded("openssl");
        client.args(["s_client", "-connect", &door.to_string()]);
        match name {
            Some(name) => client.args(["-servername", name]),
            None => client.arg("-noservername"),
        };
        finish(client.args(alpn.into_iter().flat_map(|alpn| ["-alpn", alpn])));
    };
    // posternd's own line says where TLS of this kind went.
    let lines = || server.process.log().matches("connection peer=").count();
    let goes_to = |name: Option<&str>, alpn: Option<&str>| {
        let before = lines();
        hello(name, alpn);
        until("its line", || {
            let log = server.process.log();
            let line = log.lines().filter(|line| line.contains("connection peer=")).nth(before)?;
            let (_, service) = line.split_once("service=\"")?;
            Some(service.split('"').next()?.to_owned())
        })
    };
    // This one is none of the log's business: `log_level: 0`.
    hello(Some("im.somethingelse.net"), Some("xmpp-client"));
    assert_eq!(reached.load(Ordering::SeqCst), 1);
    for (name, alpn, service) in [
        (Some("im.somethingelse.net"), Some("h2"), "web"),
        (Some("im.rutschle.net"), Some("xmpp-client"), "im"),
        (Some("mail.rutschle.net"), None, "mail"),
        (Some("Mail.EnglishInToulouse.com"), None, "mail"),
        (Some("mail.rutschle.net"), Some("http/1.1"), "web"),
        (Some("a.b.acme.invalid"), None, "letsencrypt"),
        (Some("acme.invalid"), None, "web"),
        (None, None, "web"),
    ] {
        assert_eq!(goes_to(name, alpn), service, "{name:?} {alpn:?}");
    }
    assert!(!server.process.log().contains("im-elsewhere"), "{}", server.process.log());

    let openvpn = b"\x00\x0e\x38\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x00\x00";
    let jabber = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' to='x'>";
    for (bytes, service) in [(&openvpn[..], "openvpn"), (jabber, "jabber")] {
        let seen = exchange(door, bytes, Then::Wait);
        assert_eq!(String::from_utf8_lossy(&seen.bytes), service);
    }
    assert_eq!(greeting(door), "21 NOV 2026\r\n");
    let (other, direct) = (b"\x00\xfe not OpenVPN\r\n\r\n", nginx.https());
    assert_eq!(exchange(door, other, Then::Wait), exchange(direct, other, Then::Wait));
}
