//! Every condition of a route, what a route can do but lead to a service, and what `explain` says of it.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::net::{End, Seen, Then, connect, connect_from, read_all};
use postern_tests::posternd::config;
use postern_tests::tls::hello;
use postern_tests::{
    Posternd, Scratch, TcpService, TlsClient, World, bounded, exchange, failure, finish, success,
    until,
};

/// A website and two services, each of which says its name, and these routes.
struct Routed {
    server: Posternd,
    scratch: Scratch,
}

impl Routed {
    fn new(routes: &str) -> Routed {
        Routed::listening(&["127.0.0.1:0"], routes)
    }

    fn listening(addresses: &[&str], more: &str) -> Routed {
        let scratch = Scratch::new();
        scratch.write("office.nets", "# the office\n127.0.0.64/26\n127.0.1.1  # and its printer\n");
        let services = ["shop", "other"].map(|name| {
            format!("[service.{name}]\nto = \"tcp://{}\"\n", TcpService::named(name).address())
        });
        let config = config(TcpService::named("web").address(), &(services.concat() + more));
        let config = config.replacen("[\"127.0.0.1:0\"]", &format!("{addresses:?}"), 1);
        Routed { server: Posternd::start(&scratch, &config), scratch }
    }

    fn answer(&self, bytes: &[u8]) -> String {
        self.answer_to(Ipv4Addr::LOCALHOST, bytes)
    }

    fn answer_to(&self, from: Ipv4Addr, bytes: &[u8]) -> String {
        let mut stream = connect_from(from, self.server.address());
        stream.write_all(bytes).expect("write");
        String::from_utf8(read_all(&mut stream).bytes).expect("a service's name")
    }

    fn explain(&self, question: &[&str]) -> String {
        success(self.server.command(&["explain"]).args(question))
    }
}

#[test]
fn first_bytes_by_prefix_and_expression() {
    let routed = Routed::new(
        r#"
[timeouts]
decide = "60s"

[[route]]
prefix = ["00 ff 01", "deadbeef"]
service = "shop"

[[route]]
regex = ['echo [0-9]{1,3}\n', '\xfe+x']
service = "other"
"#,
    );
    for (bytes, service) in [
        (&b"\x00\xff\x01"[..], "shop"),
        (b"\xde\xad\xbe\xef and more", "shop"),
        (b"echo 12\n", "other"),
        (b"\xfe\xfe\xfex", "other"),
        (b"\x00\xff\x02", "web"),
        (b"echo 1234\n", "web"),
        (b" echo 12\n", "web"),
    ] {
        assert_eq!(routed.answer(bytes), service, "{}", bytes.escape_ascii());
        let mut stream = connect(routed.server.address());
        for byte in bytes {
            // Once it is decided whoever answers may close.
            let _ = stream.write_all(&[*byte]);
        }
        assert_eq!(read_all(&mut stream).bytes, service.as_bytes(), "{}", bytes.escape_ascii());
    }
}

#[test]
fn every_protocol_by_its_name_and_any_for_the_rest() {
    let routed = Routed::new(
        r#"
[[route]]
protocol = ["mqtt", "postgres", "socks5", "http2"]
service = "shop"

[[route]]
protocol = ["any"]
service = "other"
"#,
    );
    for (bytes, service) in [
        (&b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02id"[..], "shop"),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", "shop"),
        (b"\x05\x01\x00", "shop"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "shop"),
        (b"\x93\x17\xfe\x80 nothing that is known", "other"),
        (b"GET / HTTP/1.1\r\n\r\n", "web"),
        (&hello(Some("www.example.com")), "web"),
    ] {
        assert_eq!(routed.answer(bytes), service, "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_name_and_a_protocol_of_the_application_must_both_hold() {
    let routed = Routed::new(
        r#"
[[route]]
sni = ["shop-*.example.com"]
alpn = ["acme-tls/1", "x-*"]
service = "shop"

[[route]]
alpn = ["acme-tls/1"]
service = "other"
"#,
    );
    let goes_to = |name: &str, alpn: &str| {
        let before = routed.server.events("connection").len();
        let mut client = bounded("openssl");
        client.args(["s_client", "-connect", &routed.server.address().to_string()]);
        finish(client.args(["-servername", name, "-alpn", alpn]));
        let line = until("its line", || routed.server.events("connection").into_iter().nth(before));
        line["service"].as_str().expect("a service").to_owned()
    };
    assert_eq!(goes_to("shop-1.example.com", "h2,acme-tls/1"), "shop");
    assert_eq!(goes_to("shop-1.example.com", "x-y"), "shop");
    assert_eq!(goes_to("shop-1.example.com", "h2"), "web");
    assert_eq!(goes_to("shop.example.com", "acme-tls/1"), "other");
}

#[test]
fn whoever_is_turned_away() {
    let routed = Routed::new(
        r#"
[[route]]
prefix = ["01"]
reject = "rst"

[[route]]
prefix = ["02"]
reject = "close"
"#,
    );
    let end = |bytes: &[u8]| exchange(routed.server.address(), bytes, Then::Wait);
    assert_eq!(end(b"\x01 and more"), Seen { bytes: vec![], end: End::Reset });
    assert_eq!(end(b"\x02 and more"), Seen { bytes: vec![], end: End::Fin });
    assert_eq!(end(b"\x03").bytes, b"web");
    let line = routed.server.connection(|line| line["rule"] == 2);
    assert_eq!((&line["outcome"], &line["route"]), (&"rejected".into(), &"route".into()), "{line}");
}

#[test]
fn ranges_may_stand_in_a_file() {
    let routed = Routed::new(
        r#"
[[route]]
prefix = ["01"]
from = ["file:office.nets", "127.0.2.0/24"]
not-from = ["127.0.0.65"]
service = "shop"
"#,
    );
    for (from, service) in [
        ([127, 0, 0, 66], "shop"),
        ([127, 0, 1, 1], "shop"),
        ([127, 0, 2, 200], "shop"),
        ([127, 0, 0, 65], "web"),
        ([127, 0, 1, 2], "web"),
    ] {
        assert_eq!(routed.answer_to(Ipv4Addr::from(from), b"\x01"), service, "{from:?}");
    }
}

#[test]
fn each_listener_may_have_its_own_website_and_routes() {
    let routed = Routed::listening(
        &["127.0.0.1:0", "127.0.0.2:0"],
        r#"
[listener."127.0.0.2:0"]
fallback = "other"

[[route]]
prefix = ["01"]
listen = ["127.0.0.1:0"]
service = "shop"
"#,
    );
    let [first, second] = routed.server.listeners() else { panic!("two listeners") };
    let answer = |to: &SocketAddr, bytes| exchange(*to, bytes, Then::Wait).bytes;
    assert_eq!(answer(first, b"\x01"), b"shop");
    assert_eq!(answer(first, b"\x02"), b"web");
    assert_eq!(answer(second, b"\x01"), b"other");
    assert_eq!(answer(second, b"\x02"), b"other");
}

#[test]
fn what_comes_inside_our_tls_can_be_routed_too() {
    let greeter = TcpService::start(|mut stream| drop(stream.write_all(b"greeter")));
    let inner = TcpService::named("inner");
    let world = World::with(&format!(
        r#"
[service.inner]
to = "tcp://{}"

[service.greeter]
to = "tcp://{}"

[[route]]
terminated = true
protocol = ["http"]
service = "inner"

[[route]]
terminated = true
silent = true
after = "3s"
service = "greeter"
"#,
        inner.address(),
        greeter.address()
    ));
    let ask = |bytes: &[u8]| {
        let certificate = world.scratch.path("tls.crt");
        let stream = connect(world.server.address());
        let mut tls = TlsClient::connect(stream, "ssh.example.com", &certificate);
        tls.write_all(bytes).and_then(|()| tls.flush()).expect("sent");
        String::from_utf8(read_all(&mut tls).bytes).expect("words")
    };
    assert_eq!(ask(b"GET / HTTP/1.1\r\n\r\n"), "inner");
    assert_eq!(ask(b""), "greeter");
    assert!(ask(b"\x01\x02\x03\x04\r\n\r\n").contains("400 Bad Request"), "the visitors' service");
}

const EXPLAINED: &str = r#"
[[route]]
sni = ["shop.example.com"]
from = ["127.0.0.64/26"]
service = "shop"

[[route]]
protocol = ["ssh"]
hours = ["mon-fri 08:00-18:00"]
time-zone = "UTC"
service = "other"

[[route]]
prefix = ["00 01 02"]
enabled = false
service = "other"

[[route]]
prefix = ["00 01 02"]
reject = "rst"
"#;

#[test]
fn explain_says_which_route_and_why_not_the_others() {
    let routed = Routed::new(EXPLAINED);
    for (question, words) in [
        (
            &["--sni", "shop.example.com", "--from", "127.0.0.70"][..],
            &["seen: tls for shop.example.com", "to shop: matches", "an earlier one matches"][..],
        ),
        (
            &["--sni", "shop.example.com", "--from", "192.0.2.1"],
            &[r#"from = ["127.0.0.64/26"] does not hold"#, "goes to the fallback, web"],
        ),
        (
            &["--hex", "53 53 48 2d", "--at", "2026-11-21T12:00:00Z"],
            &[
                "seen: ssh",
                "hours = mon-fri 08:00-18:00, UTC does not hold",
                "goes to the fallback",
            ],
        ),
        (&["--hex", "5353482d", "--at", "2026-11-20T12:00:00Z"], &["goes to other"]),
        (
            &["--hex", "000102"],
            &["route 4", "to rejected (rst): matches", "goes to rejected (rst)"],
        ),
        (&["--hex", "0001"], &["until 3 bytes have come", "needs more bytes"]),
        (&[], &["not one byte", "goes to the fallback"]),
    ] {
        let said = routed.explain(question);
        for words in words {
            assert!(said.contains(words), "{question:?}: {words:?} in\n{said}");
        }
        assert!(!said.contains("route 3"), "{said}");
    }
    let line = EXPLAINED.lines().position(|line| line.starts_with("sni")).expect("there");
    let text = std::fs::read_to_string(routed.server.file()).expect("read");
    let before = text.lines().position(|line| line.starts_with("sni")).expect("there");
    assert!(line > 0 && routed.explain(&[]).contains(&format!("route 1 (line {before})")));

    let hello = routed.scratch.write("hello", hello(Some("shop.example.com")));
    let said = routed.explain(&["--file", hello.to_str().expect("text")]);
    assert!(said.contains("seen: tls for shop.example.com"), "{said}");
    let refused =
        failure(routed.server.command(&["explain", "--hex", "5"]).args::<[&str; 0], _>([]), 2);
    assert!(refused.contains("pairs of hex digits"), "{refused}");
}

#[test]
fn check_names_what_can_never_match_and_what_would_be_held_for_long() {
    let routed = Routed::new(
        r#"
[[route]]
sni = ["*.example.org"]
service = "shop"

[[route]]
sni = ["a.example.org"]
service = "other"

[[route]]
regex = ['(?s).*needle']
service = "other"
"#,
    );
    let output = finish(&mut routed.server.command(&["check"]));
    let said = String::from_utf8_lossy(&output.stderr);
    let line = |text: &str, nth: usize| {
        let config = std::fs::read_to_string(routed.server.file()).expect("read");
        let mut lines = config.lines().enumerate().filter(|(_, line)| line.contains(text));
        lines.nth(nth).expect("there").0
    };
    let (earlier, later) = (line("sni = ", 0), line("sni = ", 1));
    let never =
        format!("the route in line {later} can never match: the one in line {earlier} takes");
    assert!(said.contains(&never), "{never} in {said}");
    assert!(said.contains("does not fail by what other visitors send"), "{said}");
}

/// However much of first bytes a route would look at.
#[test]
fn a_knock_waits_for_no_route() {
    let world = World::with("[[route]]\nregex = ['(?s)\\x16.*never']\nservice = \"web\"\n");
    for carrier in Carrier::ALL {
        let output = feed(&mut world.client.connect(&["--carrier", carrier.name()]), b"x\r\n");
        assert!(output.stdout.starts_with(b"SSH-2.0-"), "{carrier}: {output:?}");
        let line = world.server.connection(|line| line["carrier"] == carrier.name());
        // The route is open until 1024 bytes have come, or for 30 s.
        assert!(line["ms"].as_u64().is_some_and(|ms| ms < 20_000), "{line}");
    }
}
