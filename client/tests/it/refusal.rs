//! Every way of not getting in: its exit code, what is said, and that nothing is printed.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use postern_shared::knock::{Carrier, Status};
use postern_shared::pin::Pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::home::{Client, Home, SOON};
use crate::server::{self, CERTIFICATE, NAME};

const BOTH: &[Carrier] = &[Carrier::Tls, Carrier::Plain];

/// What a website says to letters, by a clock that is off by so much.
fn bad_request(off: SignedDuration) -> String {
    let date = DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&(Timestamp::now() + off))
        .expect("a date");
    format!(
        "HTTP/1.1 400 Bad Request\r\nServer: x\r\nDate: {date}\r\nConnection: close\r\n\r\n<html>"
    )
}

fn admitting(carrier: Carrier) -> std::net::SocketAddr {
    server::serve(carrier, |knocked| async {
        knocked.admit().await.write_all(b"in").await.expect("the client reads");
    })
}

#[test]
fn another_key_than_the_pinned_one() {
    let address = admitting(Carrier::Tls);
    let mut invite = server::invite(address, BOTH);
    invite.tls_pin = Some(Pin([9; 32]));
    let (code, stderr) = Home::joined(&invite).fails(&[], SOON);
    assert_eq!(code, 6);
    assert!(stderr.contains("someone is in the middle") && stderr.contains("sha256/"), "{stderr}");
    assert!(!stderr.contains("--carrier"), "not the moment to leave TLS: {stderr}");
}

#[test]
fn a_certificate_is_verified_unless_that_is_turned_off() {
    let address = admitting(Carrier::Tls);
    let mut invite = server::invite(address, BOTH);
    invite.tls_pin = None;
    let home = Home::joined(&invite);
    let (code, stderr) = home.fails(&[], SOON);
    assert_eq!(code, 6);
    assert!(stderr.contains("does not verify") && stderr.contains("--ca FILE"), "{stderr}");
    assert!(stderr.contains("or try --carrier plain"), "{stderr}");

    let ca = home.path().join("ca.pem");
    fs::write(&ca, CERTIFICATE.cert.pem()).expect("ours");
    let ca = ca.to_str().expect("text");
    assert_eq!(home.connect(&["--ca", ca]).read(2), b"in");
    assert_eq!(home.fails(&["--ca", ca, "--sni", "other.example.com"], SOON).0, 6);
    assert_eq!(home.fails(&["--ca", "/dev/null"], SOON).0, 1);

    let mut client = home.connect(&["--insecure", "--sni", "other.example.com"]);
    assert_eq!(client.read(2), b"in");
    let (_, stderr) = client.ends_within(SOON);
    assert!(stderr.starts_with("postern: WARNING: --insecure"), "{stderr}");
}

#[test]
fn a_pin_asks_neither_for_a_name_nor_for_an_authority() {
    let home = Home::with(admitting(Carrier::Tls), BOTH);
    assert_eq!(home.connect(&["--sni", "other.example.com"]).read(2), b"in");
    assert_eq!(home.fails(&["--ca", "/etc/hostname"], SOON).0, 2);
}

#[test]
fn a_profiles_own_authority_is_beside_it() {
    let mut invite = server::invite(admitting(Carrier::Tls), BOTH);
    invite.tls_pin = None;
    let home = Home::joined(&invite);
    home.edit_profile("\nkey", "\nca = \"ca.pem\"\nkey");
    fs::write(home.profile().with_file_name("ca.pem"), CERTIFICATE.cert.pem()).expect("ours");
    assert_eq!(home.connect(&[]).read(2), b"in");
}

#[test]
fn a_website_that_answers_tells_whose_clock_is_off() {
    for (hours, side) in [(1, "behind"), (-1, "ahead of")] {
        let address = server::serve_tcp(move |mut stream: TcpStream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = bad_request(SignedDuration::from_hours(hours));
            // Its head may come in pieces.
            let (first, rest) = answer.split_at(20);
            for part in [first, rest] {
                stream.write_all(part.as_bytes()).await.expect("the client reads");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let home = Home::with(address, &[Carrier::Plain, Carrier::Tls]);
        let (code, stderr) = home.fails(&[], SOON);
        assert_eq!(code, 7);
        assert!(stderr.contains("a website answered"), "{stderr}");
        let expected =
            [3599, 3600, 3601].map(|s| format!("your clock is {s} s {side} the server's"));
        assert!(expected.iter().any(|text| stderr.contains(text)), "{stderr}");
        assert!(stderr.contains("or try --carrier tls"), "{stderr}");
    }
}

#[test]
fn a_website_with_the_right_time_leaves_the_likely_causes() {
    let address = server::serve_tcp(|mut stream: TcpStream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let answer = bad_request(SignedDuration::ZERO);
        stream.write_all(answer.as_bytes()).await.expect("the client reads");
    });
    let (code, stderr) = Home::with(address, &[Carrier::Plain]).fails(&[], SOON);
    assert_eq!(code, 7);
    assert!(stderr.contains("revoked") && stderr.contains("'ssh' is not granted"), "{stderr}");
}

#[test]
fn a_website_that_waits_for_the_rest_of_a_line_is_given_one() {
    let address = server::serve_tcp(|mut stream: TcpStream| async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let answer = bad_request(SignedDuration::from_hours(-1));
        stream.write_all(answer.as_bytes()).await.expect("the client reads");
    });
    let started = Instant::now();
    let home = Home::with(address, &[Carrier::Plain]);
    let (code, stderr) = home.fails(&[], Duration::from_secs(15));
    assert_eq!(code, 7);
    assert!(stderr.contains("ahead of the server's"), "{stderr}");
    assert!(started.elapsed() > Duration::from_secs(5), "posternd has 5 s to reach a service");
}

#[test]
fn silence_is_not_admittance() {
    let address = server::serve_tcp(|stream: TcpStream| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(stream);
    });
    let home = Home::with(address, &[Carrier::Plain]);
    let (code, stderr) = home.fails(&[], Duration::from_secs(15));
    assert_eq!(code, 7);
    assert!(stderr.contains("no answer to the knock"), "{stderr}");
}

#[test]
fn an_end_a_reset_or_another_protocol_is_not_admittance() {
    let address = server::serve_tcp(|mut stream: TcpStream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let (code, stderr) = Home::with(address, &[Carrier::Plain]).fails(&[], SOON);
    assert!(code == 7 && stderr.contains("it closed the connection"), "{code} {stderr}");

    let address = server::serve_tcp(|stream: TcpStream| async move {
        stream.peek(&mut [0]).await.expect("a knock");
        stream.set_zero_linger().expect("a socket");
    });
    let (code, stderr) = Home::with(address, &[Carrier::Plain]).fails(&[], SOON);
    assert!(code == 7 && stderr.contains("it reset the connection"), "{code} {stderr}");

    let address = server::serve_tcp(|mut stream: TcpStream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.expect("the client reads");
        let _ = stream.read(&mut [0; 4096]).await;
        tokio::time::sleep(SOON).await;
    });
    let (code, stderr) = Home::with(address, &[Carrier::Plain]).fails(&[], SOON);
    assert!(code == 7 && stderr.contains("in another protocol"), "{code} {stderr}");
    assert!(!stderr.contains("OpenSSH"), "{stderr}");
}

#[test]
fn a_wrong_key_is_not_admitted() {
    for carrier in server::CARRIERS {
        let home = Home::with(admitting(carrier), &[carrier]);
        home.edit_profile("\nkey = \"33", "\nkey = \"34");
        let (code, stderr) = home.fails(&[], SOON);
        assert_eq!(code, 7, "{stderr}");
        assert_eq!(stderr.contains("clock"), carrier == Carrier::Plain, "{stderr}");
    }
}

#[test]
fn admitted_but_no_use() {
    for (status, said) in [
        (Status::UpstreamDown, "the service 'ssh' is down behind it"),
        (Status::Busy, "no place left"),
    ] {
        for carrier in server::CARRIERS {
            let address = server::serve(carrier, move |knocked| async move {
                knocked.answer(status).await.shutdown().await.expect("closed");
            });
            let (code, stderr) = Home::with(address, &[carrier]).fails(&[], SOON);
            assert_eq!(code, 4);
            assert!(stderr.contains("admitted") && stderr.contains(said), "{stderr}");
        }
    }
}

#[test]
fn a_service_that_is_down_may_be_reported_late() {
    for (status, expected) in [(Status::UpstreamDown, 4), (Status::Ok, 9)] {
        let address = server::serve(Carrier::Plain, move |knocked| async move {
            tokio::time::sleep(Duration::from_millis(6_700)).await;
            knocked.answer(status).await.shutdown().await.expect("closed");
        });
        let home = Home::with(address, &[Carrier::Plain]);
        let (code, stderr) = home.fails(&[], Duration::from_secs(15));
        assert_eq!(code, expected, "{stderr}");
        assert!(stderr.contains("admitted"), "{stderr}");
    }
}

#[test]
fn no_such_name() {
    let home = Home::with(admitting(Carrier::Tls), BOTH);
    let (code, stderr) = home.fails(&["--address", "nobody.invalid"], SOON * 4);
    assert_eq!(code, 3, "{stderr}");
    assert!(stderr.contains("cannot resolve nobody.invalid"), "{stderr}");
}

#[test]
fn nobody_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let (code, stderr) = Home::with(address, BOTH).fails(&[], SOON);
    assert_eq!(code, 4);
    assert!(
        stderr.contains(&format!("cannot connect to {address}: Connection refused")),
        "{stderr}"
    );
    assert!(!stderr.contains("--carrier"), "another carrier would not help: {stderr}");
}

#[test]
fn nobody_speaks_tls() {
    let address = server::serve_tcp(|mut stream: TcpStream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("the client reads");
        let _ = stream.read(&mut [0; 4096]).await;
    });
    let (code, stderr) = Home::with(address, BOTH).fails(&[], SOON);
    assert_eq!(code, 6);
    assert!(stderr.contains("or try --carrier plain"), "{stderr}");
}

#[test]
fn nobody_ever_answers() {
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let started = Instant::now();
    let home = Home::with(mute.local_addr().expect("bound"), BOTH);
    let (code, stderr) = home.fails(&[], Duration::from_secs(20));
    assert_eq!(code, 9);
    assert!(stderr.contains("within 15 s (the TLS handshake)"), "{stderr}");
    assert!(started.elapsed() > Duration::from_secs(14));
}

#[test]
fn a_service_that_was_not_granted() {
    let home = Home::with(admitting(Carrier::Tls), BOTH);
    let (code, stderr) = home.fails(&["--service", "web"], SOON);
    assert_eq!(code, 2);
    assert!(stderr.contains("it has: git, ssh"), "{stderr}");
}

#[test]
fn the_address_may_be_another() {
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let home = Home::with(elsewhere.local_addr().expect("bound"), BOTH);
    let address = admitting(Carrier::Tls).to_string();
    assert_eq!(home.connect(&["--address", &address]).read(2), b"in");
    assert_eq!(home.fails(&["--address", "a;b"], SOON).0, 2);
}

#[test]
fn the_name_shown_is_the_invites() {
    let address = server::serve_tcp(|stream: TcpStream| async move {
        let mut hello = vec![0; 4096];
        let read = async {
            stream.readable().await?;
            stream.peek(&mut hello).await
        };
        let count = read.await.expect("a hello");
        let shown = hello[..count].windows(NAME.len()).any(|part| part == NAME.as_bytes());
        let answer: &[u8] =
            if shown { &[21, 3, 3, 0, 2, 2, 112] } else { &[21, 3, 3, 0, 2, 2, 40] };
        let mut stream = stream;
        stream.write_all(answer).await.expect("the client reads");
    });
    let (code, stderr) = Home::with(address, BOTH).fails(&[], SOON);
    assert_eq!(code, 6);
    assert!(stderr.contains("UnrecognisedName"), "{stderr}");
}

#[test]
fn a_client_that_fails_leaves_no_trace_on_a_reader() {
    let home = Home::with(admitting(Carrier::Tls), BOTH);
    home.edit_profile("\nport = ", "\nprot = ");
    let mut client = Client::start(&mut home.postern(&["connect", "bob"]));
    let stdout = client.read_to_end();
    let (code, stderr) = client.ends_within(SOON);
    assert_eq!((code, stdout.join().expect("read")), (1, Vec::new()));
    assert!(stderr.contains("bob.toml:2: unknown field `prot`"), "{stderr}");
}
