//! Hellos that the peers get wrong.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread::sleep;
use std::time::Duration;

use postern_tests::net::{Then, connect, read_all};
use postern_tests::posternd::config;
use postern_tests::tls::{hello, send};
use postern_tests::{Pace, Posternd, Scratch, TcpService, exchange};

const ROUTES: &str = r#"
[[route]]
sni = ["good.example"]
service = "good"

[[route]]
silent = true
after = "2s"
service = "ssh"
"#;

fn door(scratch: &Scratch, decide: &str) -> Posternd {
    let good = TcpService::echo_after_eof();
    let ssh = TcpService::start(|mut stream| drop(stream.write_all(b"SSH-2.0-x\r\n")));
    let services = [("good", good.address()), ("ssh", ssh.address())];
    let services = services.map(|(name, to)| format!("[service.{name}]\nto = \"tcp://{to}\"\n"));
    let routes = format!("{ROUTES}[timeouts]\ndecide = \"{decide}\"\n");
    let config = config(TcpService::named("web").address(), &(services.concat() + &routes));
    Posternd::start(scratch, &config)
}

/// The service for the name sends back every byte, once it has seen the end of them.
fn reaches_the_name(server: &Posternd, bytes: &[u8], pace: Pace) -> bool {
    let mut stream = connect(server.address());
    send(&mut stream, bytes, pace);
    stream.shutdown(Shutdown::Write).expect("half-close");
    let seen = read_all(&mut stream);
    let all_there =
        if pace == Pace::TwoRecords { seen.bytes.len() > bytes.len() } else { seen.bytes == bytes };
    all_there || {
        assert_eq!(seen.bytes, b"web");
        false
    }
}

#[test]
fn names_in_any_form_they_come_in() {
    let scratch = Scratch::new();
    let server = door(&scratch, "60s");
    for (name, pace, found) in [
        ("good.example", Pace::Whole, true),
        ("good.example", Pace::TwoRecords, true),
        ("GOOD.Example", Pace::Whole, true),
        ("good.example.", Pace::Whole, true),
        ("good.example\0.evil", Pace::Whole, false),
        ("good.example\0", Pace::Whole, false),
        ("evil.good.example", Pace::Whole, false),
    ] {
        // No client would write a NUL: a digit is written, and replaced.
        let mut bytes = hello(Some(&name.replace('\0', "0")));
        if let Some(nul) = name.find('\0') {
            let spelled = name.replace('\0', "0");
            let at = bytes.windows(name.len()).position(|part| part == spelled.as_bytes());
            bytes[at.expect("the name is in it") + nul] = 0;
        }
        let reaches = reaches_the_name(&server, &bytes, pace);
        assert_eq!(reaches, found, "{name:?} {pace:?}");
    }
}

/// As large as those with a post-quantum key share, which TCP cuts in two.
#[test]
fn a_large_hello_in_two_segments_a_second_apart() {
    let scratch = Scratch::new();
    let server = door(&scratch, "60s");
    let hello = padded(hello(Some("good.example")), 1800);
    let mut stream = connect(server.address());
    let (first, second) = hello.split_at(1400);
    stream.write_all(first).expect("sent");
    sleep(Duration::from_secs(1));
    stream.write_all(second).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-close");
    assert_eq!(read_all(&mut stream).bytes, hello);
}

/// With the extension that is there for this (RFC 7685) behind the others.
fn padded(mut record: Vec<u8>, size: usize) -> Vec<u8> {
    let data = size - record.len() - 4;
    let grow = |record: &mut [u8], at: usize, width: usize| {
        let length =
            record[at..at + width].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let longer = u32::try_from(length + data + 4).expect("short").to_be_bytes();
        record[at..at + width].copy_from_slice(&longer[4 - width..]);
    };
    let session = usize::from(record[43]);
    let suites = 44 + session;
    let methods =
        suites + 2 + usize::from(u16::from_be_bytes([record[suites], record[suites + 1]]));
    let extensions = methods + 1 + usize::from(record[methods]);
    for (at, width) in [(3, 2), (6, 3), (extensions, 2)] {
        grow(&mut record, at, width);
    }
    record.extend([0, 21]);
    record.extend(u16::try_from(data).expect("short").to_be_bytes());
    record.resize(size, 0);
    record
}

#[test]
fn tls_that_comes_late_is_never_taken_for_ssh() {
    let scratch = Scratch::new();
    let server = door(&scratch, "3s");
    let hello = hello(Some("good.example"));
    // The website answers what there is of it when the time is up.
    let mut stream = connect(server.address());
    stream.write_all(&hello[..3]).expect("sent");
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"web");
    let _ = stream.write_all(&hello[3..]);
    assert_eq!(read_all(&mut stream).bytes, b"");

    // ssh has whoever was silent, whatever he says afterwards.
    let mut silent = connect(server.address());
    let mut banner = [0; 4];
    silent.read_exact(&mut banner).expect("a banner");
    assert_eq!(&banner, b"SSH-");
    let _ = silent.write_all(&hello);
    assert_eq!(read_all(&mut silent).bytes, b"2.0-x\r\n");
}

#[test]
fn a_half_close_behind_the_first_bytes_loses_no_answer() {
    let scratch = Scratch::new();
    let server = door(&scratch, "60s");
    for bytes in [&b"SSH-2.0-x\r\n"[..], b"anything", b"\x16\x03"] {
        assert_eq!(exchange(server.address(), bytes, Then::Fin).bytes, b"web", "{bytes:?}");
    }
}
