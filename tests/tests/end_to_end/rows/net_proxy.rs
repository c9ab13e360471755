//! Net::Proxy's dual mode.

use std::io::Write;
use std::time::{Duration, Instant};

use postern_tests::net::{connect, read_all};
use postern_tests::{Nginx, Scratch, Sshd, TlsClient};

use super::{greeting, ours};

#[test]
fn the_silent_reach_ssh_and_those_who_talk_the_website_at_once() {
    let scratch = Scratch::new();
    let (nginx, sshd) = (Nginx::start(&scratch), Sshd::start(&scratch));
    let services = [("127.0.0.1:8443", nginx.https()), ("127.0.0.1:22", sshd.address())];
    let server = ours(&scratch, "net-proxy.md", &services);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let silent = (0..20).map(|_| scope.spawn(|| (greeting(server.address()), began.elapsed())));
        let silent: Vec<_> = silent.collect();
        // Each of these is served whole while the others are silent.
        let mut first_served = None;
        for _ in 0..20 {
            let stream = connect(server.address());
            let mut tls = TlsClient::connect(stream, "www.example.com", &nginx.certificate());
            assert!(tls.get("/").contains("Nothing to see here"));
            first_served.get_or_insert(began.elapsed());
        }
        for silent in silent {
            let (banner, greeted) = silent.join().expect("greeted");
            assert!(banner.starts_with("SSH-2.0-OpenSSH"), "{banner}");
            assert!(greeted >= Duration::from_secs(2), "{greeted:?}");
            assert!(first_served < Some(greeted), "{first_served:?} {greeted:?}");
        }
    });
    // Whoever talks in the end is a visitor of the website.
    let mut late = connect(server.address());
    std::thread::sleep(Duration::from_millis(500));
    late.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    let seen = read_all(&mut late);
    assert!(seen.bytes.starts_with(b"HTTP/1.1 400"), "{seen:?}");
}
