//! Datagrams on the port of the website: each flow to its service, and every answer back from where it
//! was asked.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use postern_tests::net::{free_port, local};
use postern_tests::posternd::{config, posternd};
use postern_tests::process::{send, text};
use postern_tests::udp::{quic_initial, wireguard};
use postern_tests::{
    Peer, Posternd, Process, Scratch, UdpService, bounded, failure, finish, success, until,
};
use rustix::process::Signal;

pub(crate) const SHORT_HEADER: &[u8] = b"\x40 of a connection that nobody here knows";

/// `[udp]` at `listen`, with further keys and routes.
pub(crate) fn udp(listen: &str, keys: &str, routes: &str) -> String {
    config(local(9), &format!("[udp]\nlisten = [{listen}]\n{keys}\n{routes}"))
}

pub(crate) fn service(name: &str, at: SocketAddr) -> String {
    format!("[udp.service.{name}]\nto = \"udp://{at}\"\n")
}

pub(crate) fn route(asked: &str, service: &str) -> String {
    format!("[[udp.route]]\n{asked}\nservice = \"{service}\"\n")
}

#[test]
fn the_first_datagram_chooses_the_service() {
    let scratch = Scratch::new();
    let (h3, vpn) = (UdpService::named("h3"), UdpService::named("vpn"));
    let tables = [
        service("h3", h3.address()),
        service("vpn", vpn.address()),
        route("protocol = [\"quic\"]", "h3"),
        route("protocol = [\"wireguard\", \"any\"]\nfrom = [\"127.0.0.9\"]", "vpn"),
    ];
    let server = Posternd::start(&scratch, &udp("\"127.0.0.1:0\"", "", &tables.concat()));
    let [at] = server.datagram_listeners()[..] else { panic!("one listener") };

    let browser = Peer::local();
    let (name, port) = browser.ask(at, &quic_initial());
    assert_eq!(name, "h3");
    // What follows goes the same way, whatever it is.
    assert_eq!(browser.ask(at, SHORT_HEADER), (name, port));
    assert_eq!(browser.ask(at, &wireguard()).1, port);
    let phone = Peer::at(Ipv4Addr::new(127, 0, 0, 9));
    assert_eq!(phone.ask(at, &wireguard()).0, "vpn");
    assert_eq!(Peer::at(Ipv4Addr::new(127, 0, 0, 9)).ask(at, b"?").0, "vpn");

    // Of no route: not a byte comes back.
    let stranger = Peer::local();
    for bytes in [SHORT_HEADER, &wireguard(), &quic_initial()[..1199], b""] {
        stranger.send(at, bytes);
    }
    assert_eq!(stranger.hear(), None);
    let status = server.status();
    assert_eq!(status["udp"]["dropped"], 4, "{status}");
    assert_eq!(status["udp"]["flows"], 3, "{status}");
    let shown = success(&mut server.command(&["status"]));
    assert!(shown.contains("3 flows now, 3 in all, 4 datagrams dropped"), "{shown}");
}

/// A host has many addresses, and a peer takes an answer from another for somebody else's.
#[test]
fn answers_come_from_the_address_that_was_asked() {
    let scratch = Scratch::new();
    let all = UdpService::named("all");
    let mut listen = vec!["0.0.0.0:0"];
    if UdpSocket::bind("[::1]:0").is_ok() {
        listen.push("[::]:0");
    }
    let tables = [service("all", all.address()), route("", "all")].concat();
    let quoted = listen.iter().map(|address| format!("\"{address}\"")).collect::<Vec<_>>();
    let server = Posternd::start(&scratch, &udp(&quoted.join(", "), "", &tables));
    for listener in server.datagram_listeners() {
        let port = listener.port();
        if listener.is_ipv4() {
            let peer = Peer::local();
            let [a, b] = ["127.0.0.1", "127.0.0.77"].map(|ip| ip.parse().expect("an address"));
            let [a, b] = [a, b].map(|ip| peer.ask(SocketAddr::new(ip, port), b"x").1);
            assert_ne!(a, b, "two of our addresses are two flows");
        } else {
            let peer = UdpSocket::bind("[::1]:0").expect("bind");
            let to = SocketAddr::new("::1".parse().expect("an address"), port);
            peer.send_to(b"six", to).expect("send");
            let mut answer = [0; 64];
            let (length, from) = peer.recv_from(&mut answer).expect("an answer");
            assert!(text(&answer[..length]).starts_with("all "));
            assert_eq!(from, to);
        }
    }
}

/// Its hello is sent again until socat listens.
#[test]
fn dtls_by_openssl() {
    let scratch = Scratch::new();
    success(posternd(&["cert", "--name", "www.example.com", "--out"]).arg(scratch.path("")));
    let port = free_port();
    let (certificate, key) = (scratch.path("tls.crt"), scratch.path("tls.key"));
    let (certificate, key) = (certificate.display(), key.display());
    let at =
        format!("OPENSSL-DTLS-SERVER:{port},bind=127.0.0.1,cert={certificate},key={key},verify=0");
    let mut echo = Command::new("socat");
    let _echo = Process::spawn("socat", echo.args([&at, "PIPE"]), scratch.path("socat.log"));
    let tables = [service("dtls", local(port)), route("protocol = [\"dtls\"]", "dtls")];
    let server = Posternd::start(&scratch, &udp("\"127.0.0.1:0\"", "", &tables.concat()));
    let at = server.datagram_listeners()[0].to_string();

    let mut client = bounded("openssl");
    client.args(["s_client", "-dtls", "-quiet", "-connect", &at, "-CAfile"]);
    client.arg(scratch.path("tls.crt")).args(["-verify_return_error"]);
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut client = client.spawn().expect("start openssl");
    let mut stdin = client.stdin.take().expect("piped");
    stdin.write_all(b"hello\n").expect("write");
    let mut line = [0; 6];
    client.stdout.take().expect("piped").read_exact(&mut line).expect("the same back");
    assert_eq!(&line, b"hello\n");
    assert_eq!(server.status()["udp"]["flows"], 1);
    // `timeout` passes it on to openssl, which would wait for more.
    send(client.id(), Signal::TERM);
    client.wait().expect("wait for openssl");
}

#[test]
fn a_flow_ends_when_nothing_is_said_and_tells_what_it_was() {
    let scratch = Scratch::new();
    let h3 = UdpService::named("h3");
    let tables = [service("h3", h3.address()), route("protocol = [\"quic\"]", "h3")].concat();
    let server = Posternd::start(&scratch, &udp("\"127.0.0.1:0\"", "idle = \"3s\"", &tables));
    let at = server.datagram_listeners()[0];
    let before = server.descriptors();
    let peer = Peer::local();
    peer.ask(at, &quic_initial());
    assert_eq!(server.descriptors(), before + 1, "a flow takes one");
    let flow = until("the flow to end", || server.flows().pop());
    assert_eq!(flow["outcome"], "idle", "{flow}");
    assert_eq!((&flow["seen"], &flow["rule"]), (&"quic".into(), &1.into()), "{flow}");
    assert_eq!((&flow["service"], &flow["up"]), (&"h3".into(), &1200.into()), "{flow}");
    assert_eq!((&flow["up_datagrams"], &flow["down_datagrams"]), (&1.into(), &1.into()), "{flow}");
    assert_eq!(flow["listener"], at.to_string(), "{flow}");
    assert!(flow["ms"].as_u64().is_some_and(|ms| ms >= 3000), "{flow}");
    assert_eq!(server.descriptors(), before);
    assert_eq!(server.status()["udp"]["outcomes"]["idle"], 1);
}

#[test]
fn a_reload_leaves_flows_where_they_are() {
    let scratch = Scratch::new();
    let (old, new) = (UdpService::named("old"), UdpService::named("new"));
    let tables = [service("old", old.address()), service("new", new.address())].concat();
    let to = |name| udp("\"127.0.0.1:0\"", "", &format!("{tables}{}", route("", name)));
    let mut server = Posternd::start(&scratch, &to("old"));
    let at = server.datagram_listeners()[0];
    let (there, other) = (Peer::local(), Peer::local());
    let before = there.ask(at, b"x");
    server.configure(&to("new"));
    success(&mut server.command(&["reload"]));
    assert_eq!(server.datagram_listeners(), [at]);
    assert_eq!(there.ask(at, b"x"), before);
    assert_eq!(other.ask(at, b"x").0, "new");

    // What cannot be bound changes nothing.
    let taken = UdpSocket::bind(local(0)).expect("bind");
    let port = taken.local_addr().expect("bound").port();
    server.configure(
        &to("old").replace("[\"127.0.0.1:0\"]\n\n", &format!("[\"127.0.0.1:{port}\"]\n\n")),
    );
    let message = failure(&mut server.command(&["reload"]), 1);
    assert!(message.contains("for datagrams") && message.contains("ss -lunp"), "{message}");
    assert_eq!(there.ask(at, b"x"), before);

    server.configure(&config(local(9), ""));
    success(&mut server.command(&["reload"]));
    until("both flows to end", || (server.flows().len() == 2).then_some(()));
    assert!(server.flows().iter().all(|flow| flow["outcome"] == "stopped"));
    assert!(server.status().get("udp").is_none());
    until("the port to be free", || UdpSocket::bind(at).ok());

    server.configure(&to("old"));
    success(&mut server.command(&["reload"]));
    there.ask(server.datagram_listeners()[0], b"x");
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.wait().code(), Some(0));
    assert_eq!(server.flows().len(), 3, "flows that a stop ends are told of");
}

#[test]
fn what_is_doubtful_is_said() {
    let scratch = Scratch::new();
    let tables = [service("a", local(9)), route("", "a"), route("protocol = [\"quic\"]", "a")];
    let cases =
        [(tables.concat(), "can never match"), (String::new(), "every datagram is dropped")];
    for (tables, said) in cases {
        let file = scratch.write("posternd.toml", udp("\"127.0.0.1:0\"", "", &tables));
        let check = finish(posternd(&["check", "-c"]).arg(file));
        assert!(check.status.success() && text(&check.stderr).contains(said), "{check:?}");
    }
}
