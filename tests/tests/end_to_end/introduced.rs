//! Proxies in front of posternd that say for whom they speak, and strangers who would like to.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use postern_tests::net::{End, Seen, Then, connect_from, read_all, without_date};
use postern_tests::posternd::config;
use postern_tests::{Nginx, Posternd, Process, Scratch, bounded, exchange, finish};

/// HAProxy in front of posternd, telling for whom it speaks.
fn proxy(scratch: &Scratch, behind: SocketAddr, option: &str) -> (SocketAddr, Process) {
    Process::listening(scratch, "haproxy", |address| {
        let config = format!(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
             listen front\n bind {address}\n server posternd {behind} {option}\n"
        );
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(scratch.write(&format!("{option}.cfg"), config));
        command
    })
}

#[test]
fn a_trusted_proxy_says_for_whom_it_speaks() {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let more =
        "proxy-protocol = \"v1\"\n[listener.\"127.0.0.2:0\"]\nproxy-from = [\"127.0.0.1\"]\n";
    let config = config(nginx.proxied(), more)
        .replace("[\"127.0.0.1:0\"]", "[\"127.0.0.1:0\", \"127.0.0.2:0\"]");
    let server = Posternd::start(&scratch, &config);
    let [open, trusting] = *server.listeners() else { panic!("two listeners") };
    let get = |from: &str, to: SocketAddr| {
        let mut curl = bounded("curl");
        curl.args(["-sk", "--interface", from, &format!("https://{to}/{from}")]);
        finish(&mut curl);
    };
    for (from, option) in [("127.0.0.7", "send-proxy"), ("127.0.0.8", "send-proxy-v2")] {
        let (proxy, _process) = proxy(&scratch, trusting, option);
        get(from, proxy);
        let told = format!("{from}:");
        let line = server
            .connection(|line| line["peer"].as_str().is_some_and(|peer| peer.starts_with(&told)));
        assert!(
            line["proxy"].as_str().is_some_and(|proxy| proxy.starts_with("127.0.0.1:")),
            "{line}"
        );
        assert!(nginx.access_log().contains(&told), "{option}: {}", nginx.access_log());
    }

    // Once: what follows a header is the visitor's, also where it looks like one.
    let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n";
    let twice = exchange(trusting, &[&header[..], header].concat(), Then::Wait);
    let direct = exchange(nginx.https(), header, Then::Wait);
    assert_eq!(twice, direct);
    // From nobody else.
    assert_eq!(exchange(open, header, Then::Wait), direct);
    let mut stranger = connect_from(Ipv4Addr::new(127, 0, 0, 3), trusting);
    stranger.write_all(header).expect("sent");
    assert_eq!(without_date(&read_all(&mut stranger).bytes), direct.bytes);
    // Whoever is trusted is not guessed at.
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 192.0.2.1\r\n", b"\r\n\r\n\0\r\nQUIT\n\x31"]
    {
        let seen = exchange(trusting, bytes, Then::Wait);
        assert_eq!(seen, Seen { bytes: vec![], end: End::Reset });
    }
    assert_eq!(server.connection(|line| line["outcome"] == "no-proxy-header")["seen"], "");
}
