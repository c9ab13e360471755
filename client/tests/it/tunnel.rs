//! Bytes and their ends, both ways, over both carriers.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use postern_shared::knock::{Carrier, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::home::{Client, Home, SOON};
use crate::server::{self, GIT, SSH};

const BULK: usize = 64 << 20;

/// A stream of bytes in which every loss, repetition or swap shows.
struct Pattern(u64);

impl Pattern {
    fn new(seed: u64) -> Pattern {
        Pattern(seed)
    }

    fn fill(&mut self, block: &mut [u8]) {
        for word in block.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

#[test]
fn both_directions_saturated_lose_nothing() {
    for carrier in server::CARRIERS {
        let address = server::serve(carrier, |knocked| async {
            let (mut from, mut to) = tokio::io::split(knocked.admit().await);
            let sending = tokio::spawn(async move {
                let (mut pattern, mut block) = (Pattern::new(2), vec![0; 1 << 16]);
                for _ in 0..BULK / block.len() {
                    pattern.fill(&mut block);
                    to.write_all(&block).await.expect("the client reads");
                }
                to
            });
            let (mut pattern, mut block, mut expected) =
                (Pattern::new(1), vec![0; 1 << 16], vec![0; 1 << 16]);
            for _ in 0..BULK / block.len() {
                from.read_exact(&mut block).await.expect("the client writes");
                pattern.fill(&mut expected);
                assert!(block == expected);
            }
            assert_eq!(from.read(&mut block).await.expect("half-closed"), 0);
            let mut to = sending.await.expect("sent");
            to.write_all(b"all of it").await.expect("the client reads");
            to.shutdown().await.expect("closed");
        });
        let home = Home::with(address, &[carrier]);
        let mut client = home.connect(&[]);
        let mut stdin = client.stdin.take().expect("a pipe");
        let writing = thread::spawn(move || {
            let (mut pattern, mut block) = (Pattern::new(1), vec![0; 1 << 16]);
            for _ in 0..BULK / block.len() {
                pattern.fill(&mut block);
                stdin.write_all(&block).expect("it reads");
            }
        });
        let (mut pattern, mut expected) = (Pattern::new(2), vec![0; 1 << 16]);
        for _ in 0..BULK / expected.len() {
            pattern.fill(&mut expected);
            assert!(client.read(expected.len()) == expected);
        }
        writing.join().expect("written");
        assert_eq!(client.read(9), b"all of it");
        client.ends_well_within(SOON);
    }
}

#[test]
fn one_byte_at_a_time_arrives() {
    for carrier in server::CARRIERS {
        let address = server::serve(carrier, |knocked| async {
            let mut stream = knocked.admit().await;
            while let Ok(byte) = stream.read_u8().await {
                stream.write_u8(byte).await.expect("the client reads");
                stream.flush().await.expect("the client reads");
            }
            stream.shutdown().await.expect("closed");
        });
        let home = Home::with(address, &[carrier]);
        let mut client = home.connect(&[]);
        for byte in 0..=255 {
            client.write(&[byte]);
            assert_eq!(client.read(1), [byte]);
        }
        drop(client.stdin.take());
        client.ends_well_within(SOON);
    }
}

#[test]
fn what_ssh_has_written_travels_with_the_knock() {
    let (seen, first) = mpsc::channel();
    let address = server::serve_tcp(move |mut stream: TcpStream| {
        let seen = seen.clone();
        async move {
            let mut bytes = vec![0; 8192];
            let count = stream.read(&mut bytes).await.expect("a knock");
            bytes.truncate(count);
            seen.send(bytes).expect("the test waits");
            // No answer: all of this came without one.
            tokio::time::sleep(SOON).await;
        }
    });
    let home = Home::with(address, &[Carrier::Plain]);
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(b"SSH-2.0-test\r\n").expect("room");
    let mut command = home.postern(&["connect", "bob"]);
    let _client = Client::start_as_is(command.stdin(reader).stdout(Stdio::piped()));
    let first = first.recv_timeout(SOON).expect("a knock");
    assert!(first[..96].iter().all(|letter| (b'A'..=b'P').contains(letter)));
    assert_eq!(&first[96..], b"SSH-2.0-test\r\n");
}

#[test]
fn the_service_asked_for_is_the_one_knocked_for() {
    for (arguments, number) in [(&[][..], SSH), (&["--service", "git"], GIT)] {
        let address = server::serve(Carrier::Tls, |knocked| async {
            let service = knocked.service;
            knocked.admit().await.write_u16(service).await.expect("the client reads");
        });
        let home = Home::with(address, &[Carrier::Tls, Carrier::Plain]);
        assert_eq!(home.connect(arguments).read(2), number.to_be_bytes());
    }
}

#[test]
fn the_servers_end_ends_it_at_once_and_loses_nothing() {
    for carrier in server::CARRIERS {
        let address = server::serve(carrier, |knocked| async {
            let mut stream = knocked.admit().await;
            stream.write_all(&vec![7; 1 << 20]).await.expect("the client reads");
            stream.shutdown().await.expect("closed");
            // The connection itself stays open.
            tokio::time::sleep(SOON * 2).await;
        });
        let home = Home::with(address, &[carrier]);
        let mut client = home.connect(&[]);
        // The end is there long before a slow reader has everything.
        thread::sleep(Duration::from_millis(300));
        assert!(client.is_running());
        let mut bytes = Vec::new();
        client.stdout.as_mut().expect("a pipe").read_to_end(&mut bytes).expect("readable");
        assert!(bytes == vec![7; 1 << 20]);
        // Standard input is still open.
        client.ends_well_within(SOON);
    }
}

#[test]
fn the_answer_after_our_end_arrives() {
    for carrier in server::CARRIERS {
        let address = server::serve(carrier, |knocked| async {
            let mut stream = knocked.admit().await;
            let mut question = Vec::new();
            stream.read_to_end(&mut question).await.expect("half-closed");
            tokio::time::sleep(Duration::from_millis(500)).await;
            question.reverse();
            stream.write_all(&question).await.expect("the client reads");
            stream.shutdown().await.expect("closed");
        });
        let home = Home::with(address, &[carrier]);
        let mut client = home.connect(&[]);
        client.write(b"question");
        drop(client.stdin.take());
        assert_eq!(client.read(8), b"noitseuq");
        client.ends_well_within(SOON);
    }
}

#[test]
fn an_answer_that_never_ends_is_waited_for_ten_seconds_after_its_last_byte() {
    let address = server::serve(Carrier::Plain, |knocked| async {
        let mut stream = knocked.admit().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        stream.write_all(b"late").await.expect("the client reads");
        tokio::time::sleep(Duration::from_secs(60)).await;
    });
    let home = Home::with(address, &[Carrier::Plain]);
    let mut client = home.connect(&[]);
    drop(client.stdin.take());
    assert_eq!(client.read(4), b"late");
    let answered = Instant::now();
    client.ends_well_within(Duration::from_secs(10) + SOON);
    assert!(answered.elapsed() > Duration::from_secs(9));
}

#[test]
fn a_reset_is_an_error_after_what_came_before() {
    let (go, wait) = watch::channel(false);
    let address = server::serve_tcp(move |mut stream: TcpStream| {
        let mut wait = wait.clone();
        async move {
            let knock = server::judge(&mut stream, Carrier::Plain, b"").await;
            let (token, _) = knock.expect("a right knock");
            stream.write_all(&server::ack(&token, Status::Ok)).await.expect("the client reads");
            stream.write_all(b"before").await.expect("the client reads");
            wait.wait_for(|go| *go).await.expect("the test goes on");
            stream.set_zero_linger().expect("a socket");
        }
    });
    let home = Home::with(address, &[Carrier::Plain]);
    let mut client = home.connect(&[]);
    assert_eq!(client.read(6), b"before");
    go.send_replace(true);
    let (code, stderr) = client.ends_within(SOON);
    assert_eq!(code, 4, "{stderr}");
    assert_eq!(
        stderr,
        format!("postern: the connection to {address} was lost: Connection reset by peer\n")
    );
}

#[test]
fn tls_that_is_cut_off_is_an_error() {
    let address = server::serve(Carrier::Tls, |knocked| async {
        let mut stream = knocked.admit().await;
        stream.write_all(b"before").await.expect("the client reads");
        stream.flush().await.expect("the client reads");
    });
    let home = Home::with(address, &[Carrier::Tls]);
    let mut client = home.connect(&[]);
    assert_eq!(client.read(6), b"before");
    let (code, stderr) = client.ends_within(SOON);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("closed without warning"), "{stderr}");
}
