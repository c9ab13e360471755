//! Everything that is no TLS: silence, noise, letters, other protocols, and requests in the clear.

use std::time::Duration;

use super::{PAUSE, noise};
use crate::invisible::hello::Hello;
use crate::invisible::probe::Probe;

pub(crate) fn probes() -> Vec<Probe> {
    let mut probes = vec![
        Probe::new("nothing", []),
        Probe::new("nothing", []).half_closing(),
        Probe::new("nothing", []).resetting(),
    ];
    for (name, bytes) in sayings() {
        probes.push(Probe::new(name.clone(), &*bytes));
        // By then it can have had an answer and an end, and then its own end shows nothing.
        if bytes.len() < 1000 {
            probes.push(Probe::new(name, bytes).half_closing());
        }
    }
    for first in [0, b'\n', 0x16, b'A', b'a', 0x7f, 0x80, 0xff] {
        for length in [1, 7, 96, 1000, 17_000, 100_000] {
            let name = format!("{length} bytes of noise from {first:02x}");
            probes.push(Probe::new(name, noise(first, length)));
        }
    }
    probes
}

/// What takes its time.
pub(crate) fn paced() -> Vec<Probe> {
    let slowly = |name, bytes: &[u8], size| Probe::slowly(name, bytes, size, PAUSE);
    vec![
        slowly("letters in pieces", &[b'C'; 96], 20),
        slowly("letters in pieces, one too many", &[b'C'; 97], 96),
        slowly("letters, then a digit", &[&[b'C'; 90][..], b"7"].concat(), 90),
        slowly("letters, then a line", &[&[b'C'; 96][..], b"\r\n\r\n"].concat(), 96),
        slowly("a word in pieces", b"OPEN_SESAME_4\n", 5),
        slowly("a word in pieces, its end for itself", b"OPEN_SESAME_NOT\r\n", 15),
        slowly("a word of two kinds in pieces", b"OPEN_sesame\n", 4),
        slowly("a path in pieces", b"GET /open/sesam HTTP/1.1\r\nHost: x\r\n\r\n", 7),
        slowly("a path with a zero", b"GET /open\0sesame HTTP/1.1\r\n\r\n", 9),
        slowly("half a word", &[b"OPEN_SESAME"[..].to_vec(), vec![b'Z'; 60]].concat(), 60),
        slowly("ssh in pieces", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 4),
        slowly("a request in pieces", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 5),
        slowly("a method in pieces", b"POST / HTTP/1.0\r\n\r\n", 2),
        Probe::new("silence, then a line", []).pausing(PAUSE).sending(*b"hello\r\n\r\n"),
        Probe::new("silence, then letters", []).pausing(PAUSE * 3).sending([b'C'; 96]),
        Probe::slowly("letters without end", [b'C'; 10], 1, Duration::from_millis(150)),
        Probe::slowly("letters too late", [b'C'; 96], 95, PAUSE * 12),
    ]
}

fn sayings() -> Vec<(String, Vec<u8>)> {
    let mut sayings: Vec<(String, Vec<u8>)> = Vec::new();
    for count in [1, 2, 15, 95, 96, 97, 500, 1023, 1024, 1025, 8192, 16_384, 16_389, 17_000, 40_000]
    {
        sayings.push((format!("{count} letters A"), vec![b'A'; count]));
    }
    let letters = |more: &str| [&[b'C'; 96], more.as_bytes()].concat();
    let http = |text: &str| text.replace('\n', "\r\n").into_bytes();
    let long_header = format!("GET / HTTP/1.1\nHost: x\nX: {}\n\n", "x".repeat(40_000));
    for (name, bytes) in [
        ("a letter beyond P", b"Q".to_vec()),
        ("letters up to P and one beyond", [&[b'P'; 50][..], b"Q"].concat()),
        ("letters and a line", letters("\r\n\r\n")),
        ("letters and ssh", letters("SSH-2.0-OpenSSH_9.2\r\n\r\n")),
        ("letters and NUL", letters("\0")),
        ("95 letters and a dash", [&[b'C'; 95][..], b"-"].concat()),
        ("lower case letters", vec![b'c'; 96]),
        ("digits", vec![b'1'; 96]),
        ("zeros", vec![0; 300]),
        ("0xff", vec![0xff; 16_389]),
        ("more 0xff", vec![0xff; 17_000]),
        ("a line", b"\r\n".to_vec()),
        ("a space", b" ".to_vec()),
        ("S", b"S".to_vec()),
        ("SSH-", b"SSH-".to_vec()),
        ("an ssh banner", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("an ssh banner without its end", b"SSH-2.0-OpenSSH_9.2".to_vec()),
        ("an old ssh banner", b"SSH-1.99-x\r\n\r\n".to_vec()),
        ("ssh in lower case", b"ssh-2.0-x\r\n\r\n".to_vec()),
        ("ssh with keys", [b"SSH-2.0-libssh_0.9\r\n", &noise(0, 600)[..]].concat()),
        ("HTTP/1.0", http("GET / HTTP/1.0\n\n")),
        ("HTTP/1.1", http("GET / HTTP/1.1\nHost: www.example.com\n\n")),
        ("HTTP/0.9", http("GET /\n")),
        ("HEAD", http("HEAD / HTTP/1.1\nHost: x\nConnection: close\n\n")),
        ("OPTIONS", http("OPTIONS * HTTP/1.1\nHost: x\n\n")),
        ("CONNECT", http("CONNECT localhost:22 HTTP/1.1\nHost: x\n\n")),
        ("a POST", http("POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\nabcde")),
        ("a POST without its body", http("POST / HTTP/1.1\nHost: x\nContent-Length: 50\n\nabc")),
        ("chunks", http("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n5\nabc")),
        ("two requests", http("GET /a HTTP/1.1\nHost: x\n\nGET /b HTTP/1.1\nHost: x\n\n")),
        ("a websocket", http("GET / HTTP/1.1\nHost: x\nUpgrade: websocket\n\n")),
        ("an absolute request", http("GET http://x/ HTTP/1.1\nHost: x\n\n")),
        ("a request without Host", http("GET / HTTP/1.1\n\n")),
        ("a request by bare LF", b"GET / HTTP/1.1\nHost: x\n\n".to_vec()),
        ("half a request", http("GET / HTTP/1.1\nHo")),
        ("a method", b"GET".to_vec()),
        ("a method and a space", b"GET ".to_vec()),
        ("a method in lower case", http("get / HTTP/1.1\nHost: x\n\n")),
        ("an unknown method", http("POSTERN / HTTP/1.1\nHost: x\n\n")),
        ("an enormous header", http(&long_header)),
        ("HTTP/2", [&http("PRI * HTTP/2.0\n\nSM\n\n")[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()),
        ("PROXY v1", b"PROXY TCP4 10.0.0.1 10.0.0.2 1111 443\r\n".to_vec()),
        ("PROXY v1, unknown", b"PROXY UNKNOWN\r\n".to_vec()),
        ("PROXY v1, half", b"PROXY TCP4 10.0.0.1".to_vec()),
        ("PROXY v1, hello", [b"PROXY UNKNOWN\r\n", &Hello::modern().record()[..]].concat()),
        ("PROXY v1, ssh", b"PROXY TCP4 10.0.0.1 10.0.0.2 1111 443\r\nSSH-2.0-x\r\n".to_vec()),
        ("PROXY v2", proxy_v2(b"")),
        ("PROXY v2, hello", proxy_v2(&Hello::modern().record())),
        ("SOCKS4", vec![4, 1, 0, 22, 127, 0, 0, 1, 0]),
        ("SOCKS5", vec![5, 1, 0]),
        ("RDP", [&[3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0][..], &[1, 0, 8, 0, 3, 0, 0, 0]].concat()),
        ("SMTP", b"EHLO example.com\r\n".to_vec()),
        ("redis", b"PING\r\n".to_vec()),
        ("XMPP", b"<?xml version='1.0'?><stream:stream>".to_vec()),
        ("OpenVPN", [&[0, 14, 0x38][..], &noise(8, 13)].concat()),
        ("DNS", [&[0, 29][..], &noise(1, 29)].concat()),
        ("MQTT", [&[0x10, 0x0c, 0, 4][..], b"MQTT", &[4, 2, 0, 60, 0, 0]].concat()),
    ] {
        sayings.push((name.to_owned(), bytes));
    }
    sayings
}

fn proxy_v2(behind: &[u8]) -> Vec<u8> {
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    let addresses = [10, 0, 0, 1, 10, 0, 0, 2, 4, 87, 1, 187];
    [&header[..], &addresses, behind].concat()
}
