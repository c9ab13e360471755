//! How ssh and signals end it, in every phase.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use postern_shared::knock::Carrier;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::home::{Client, Home, SOON};
use crate::server;

/// Promised is one second; the rest is for a machine that runs other tests. What waits in vain waits
/// for ten.
const AT_ONCE: Duration = SOON;

/// Greets, then swallows everything.
fn quiet_server(carrier: Carrier) -> SocketAddr {
    server::serve(carrier, |knocked| async {
        let mut stream = knocked.admit().await;
        stream.write_all(b"hi").await.expect("the client reads");
        stream.flush().await.expect("the client reads");
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        tokio::time::sleep(SOON * 4).await;
    })
}

/// Accepts connections, in the kernel at least, and never says a word.
fn mute_server() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")
}

/// What a kill -9 of ssh leaves: nobody at the other end of either pipe.
fn abandon(client: &mut Client) {
    drop((client.stdin.take(), client.stdout.take()));
}

#[test]
fn an_ssh_that_was_killed_ends_it() {
    for carrier in server::CARRIERS {
        let home = Home::with(quiet_server(carrier), &[carrier]);
        let mut client = home.connect(&[]);
        assert_eq!(client.read(2), b"hi");
        abandon(&mut client);
        client.ends_well_within(AT_ONCE);
    }
}

#[test]
fn an_ssh_that_was_killed_ends_it_also_before_it_is_connected() {
    let server = mute_server();
    for carrier in server::CARRIERS {
        let home = Home::with(server.local_addr().expect("bound"), &[carrier]);
        let mut client = home.connect(&[]);
        // Long enough to be in the handshake, or to have knocked.
        thread::sleep(Duration::from_millis(300));
        assert!(client.is_running());
        abandon(&mut client);
        client.ends_well_within(AT_ONCE);
    }
}

#[test]
fn a_reader_that_goes_ends_it_though_it_still_writes() {
    let home = Home::with(quiet_server(Carrier::Tls), &[Carrier::Tls]);
    let mut client = home.connect(&[]);
    assert_eq!(client.read(2), b"hi");
    drop(client.stdout.take());
    client.ends_well_within(AT_ONCE);
}

#[test]
fn a_reader_that_goes_in_the_middle_of_data_is_no_error() {
    for carrier in server::CARRIERS {
        let home = Home::with(flood(carrier), &[carrier]);
        let mut client = home.connect(&[]);
        client.read(1 << 16);
        drop(client.stdout.take());
        client.ends_well_within(AT_ONCE);
    }
}

/// Sends as fast as anybody reads.
fn flood(carrier: Carrier) -> SocketAddr {
    server::serve(carrier, |knocked| async {
        let mut stream = knocked.admit().await;
        while stream.write_all(&[5; 1 << 16]).await.is_ok() {}
    })
}

#[test]
fn signals_end_it_also_while_nobody_reads() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 0)] {
        for carrier in server::CARRIERS {
            let home = Home::with(flood(carrier), &[carrier]);
            let mut client = home.connect(&[]);
            client.read(1);
            // Until pipe and socket are full.
            thread::sleep(Duration::from_millis(200));
            client.signal(signal);
            assert_eq!(client.ends_within(AT_ONCE), (code, String::new()), "{signal:?}");
        }
    }
}

#[test]
fn signals_end_it_before_it_is_connected() {
    let server = mute_server();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 0)] {
        let home = Home::with(server.local_addr().expect("bound"), &[Carrier::Tls]);
        let mut client = home.connect(&[]);
        thread::sleep(Duration::from_millis(300));
        client.signal(signal);
        assert_eq!(client.ends_within(AT_ONCE), (code, String::new()), "{signal:?}");
    }
}

#[test]
fn the_last_words_before_a_hangup_arrive() {
    for carrier in server::CARRIERS {
        let (heard, words) = mpsc::channel();
        let address = server::serve(carrier, move |knocked| {
            let heard = heard.clone();
            async move {
                let mut stream = knocked.admit().await;
                stream.write_all(b"hi").await.expect("the client reads");
                stream.flush().await.expect("the client reads");
                let mut words = Vec::new();
                let end = stream.read_to_end(&mut words).await;
                heard.send((words, end.is_ok())).expect("the test waits");
            }
        });
        let home = Home::with(address, &[carrier]);
        let mut client = home.connect(&[]);
        assert_eq!(client.read(2), b"hi");
        // Both are there when it wakes, and the pipe is not even closed.
        client.signal(Signal::STOP);
        client.write(b"disconnect");
        client.signal(Signal::HUP);
        client.signal(Signal::CONT);
        client.ends_well_within(AT_ONCE);
        assert_eq!(words.recv_timeout(SOON), Ok((b"disconnect".to_vec(), true)));
    }
}
