//! Whoever does not knock sees the website, to the last byte and to the way the connection ends.

use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::net::{Then, connect, read_all, without_date};
use postern_tests::posternd::config;
use postern_tests::process::text;
use postern_tests::tls::hello;
use postern_tests::{Nginx, Posternd, Scratch, Seen, exchange};
use socket2::SockRef;

/// What strangers may send, with a name each.
fn probes() -> Vec<(&'static str, Vec<u8>)> {
    let hello = hello(Some("www.example.com"));
    let mut wrong_length = hello.clone();
    wrong_length[7] ^= 1;
    let mut nul_in_name = hello.clone();
    let name = b"www.example.com";
    let at = hello.windows(name.len()).position(|window| window == name).expect("SNI");
    nul_in_name[at + 3] = 0;
    let noise: Vec<u8> =
        (0..400_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    vec![
        ("nothing", vec![]),
        ("one byte of TLS", vec![0x16]),
        ("a record header", hello[..5].to_vec()),
        ("half a hello", hello[..hello.len() / 2].to_vec()),
        ("a hello of another length", wrong_length),
        ("a hello with NUL in its name", nul_in_name),
        ("a record of another version", [&[0x16, 9, 9, 0, 9], &hello[..9]].concat()),
        ("an empty record", vec![0x16, 3, 1, 0, 0]),
        ("a record too long", vec![0x16, 3, 1, 0xff, 0xff]),
        ("an alert", vec![0x15, 3, 1, 0, 2, 1, 0]),
        ("a request in the clear", b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n".to_vec()),
        ("half a request", b"GET / HTTP/1.1\r\nHo".to_vec()),
        ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("one letter", b"A".to_vec()),
        ("letters, one too few", vec![b'C'; 95]),
        ("letters, as many as a knock", vec![b'C'; 96]),
        ("letters, one too many", vec![b'C'; 97]),
        ("letters and a line", [&[b'C'; 96][..], b"\r\n\r\n"].concat()),
        ("letters that end in a digit", [&[b'C'; 50][..], b"7"].concat()),
        ("zeros", vec![0; 300]),
        ("noise", noise),
    ]
}

/// What nginx reads at once, and a little more: it closes on both, with FIN and with RST. In pieces the
/// end would hang on when it reads.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    vec![("a flood that fits", vec![0xff; 16_389]), ("a flood that does not", vec![0xff; 17_000])]
}

/// Shows each probe to the website directly and through posternd, and compares what it says.
fn compare(
    probes: &[(&'static str, Vec<u8>)],
    ask: impl Fn(SocketAddr, &[u8], Then) -> Seen + Sync,
) {
    let scratch = Scratch::new();
    let nginx = Nginx::start_with(&scratch, "client_header_timeout 1s;");
    let server = Posternd::start(&scratch, &config(nginx.https(), ""));
    let (through, direct, ask) = (server.address(), nginx.https(), &ask);
    thread::scope(|scope| {
        for (name, bytes) in probes {
            for then in [Then::Wait, Then::Fin] {
                scope.spawn(move || {
                    let (seen, expected) = (ask(through, bytes, then), ask(direct, bytes, then));
                    assert_eq!(seen, expected, "{name}, then {then:?}");
                });
            }
        }
    });
    assert!(!probes.is_empty());
}

#[test]
fn whatever_is_sent_the_website_answers_as_it_would_directly() {
    compare(&[probes(), floods()].concat(), exchange);
}

/// The pause is longer than posternd waits before it dials the website in advance.
#[test]
fn and_so_it_does_when_it_comes_in_pieces() {
    compare(&probes(), |to, bytes, then| {
        let mut stream = connect(to);
        for piece in bytes.chunks(bytes.len().div_ceil(3).max(1)) {
            let _ = stream.write_all(piece);
            thread::sleep(Duration::from_millis(120));
        }
        if let Then::Fin = then {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let seen = read_all(&mut stream);
        Seen { bytes: without_date(&seen.bytes), ..seen }
    });
}

/// The website's patience counts, whether it ends before our own decision or after it.
#[test]
fn the_websites_own_timeout_ends_the_silent() {
    for decide in ["200ms", "3s"] {
        let scratch = Scratch::new();
        let nginx = Nginx::start_with(&scratch, "client_header_timeout 1s;");
        let patience = format!("[timeouts]\ndecide = \"{decide}\"\n");
        let server = Posternd::start(&scratch, &config(nginx.https(), &patience));
        for held in [&b""[..], b"\x16\x03\x01", b"AAAA"] {
            let start = Instant::now();
            let seen = exchange(server.address(), held, Then::Wait);
            assert!(start.elapsed() > Duration::from_millis(900), "{decide} {held:?}");
            assert_eq!(seen, exchange(nginx.https(), held, Then::Wait), "{decide} {held:?}");
        }
    }
}

/// Peeking reports such a byte for ever, and never shows it.
#[test]
fn an_urgent_byte_is_answered_as_directly() {
    let scratch = Scratch::new();
    let nginx = Nginx::start_with(&scratch, "client_header_timeout 1s;");
    let server = Posternd::start(&scratch, &config(nginx.https(), ""));
    let ask = |to| {
        let mut stream = connect(to);
        SockRef::from(&stream).send_out_of_band(b"!").expect("send");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("write");
        without_date(&read_all(&mut stream).bytes)
    };
    assert_eq!(text(&ask(server.address())), text(&ask(nginx.https())));
}
