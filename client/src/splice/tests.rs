//! One tunnel on the reactor, with ssh and the server in threads at its ends.

use std::future::poll_fn;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{Ipv4Addr, TcpListener};
use std::pin::{Pin, pin};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;
use tokio::time::timeout;

use super::*;

const BULK: usize = 16 << 20;

/// What waits so long waits for ever.
const LONG: Duration = Duration::from_secs(60);

/// Our end of a connection, and the server's.
fn tcp() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let ours = std::net::TcpStream::connect(address).expect("a listener");
    ours.set_nonblocking(true).expect("a socket");
    let (theirs, _) = listener.accept().expect("a connection");
    (TcpStream::from_std(ours).expect("a reactor"), theirs)
}

/// What ssh writes to, and our end of it.
fn input() -> (PipeWriter, Input) {
    let (reader, writer) = pipe().expect("a pipe");
    (writer, Input::new(reader.into()).expect("a reactor"))
}

/// What ssh reads from, and our end of it.
fn output() -> (PipeReader, Output) {
    let (reader, writer) = pipe().expect("a pipe");
    (reader, Output::new(writer.into()).expect("a reactor"))
}

async fn down(tunnel: &TcpStream, output: &Output) -> End {
    loop {
        if let Err(error) = tunnel.heard().await {
            return End::Lost(error);
        }
        if let ControlFlow::Break(end) = tunnel.downward(output).await {
            return end;
        }
    }
}

/// Bytes in which every loss, repetition or swap shows.
fn pattern(mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BULK);
    while bytes.len() < BULK {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend_from_slice(&seed.to_be_bytes());
    }
    bytes
}

/// Writes a single byte and 64 KiB in turn, then lets go.
fn write_in_bursts(mut to: impl Write + Send + 'static, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut rest = &bytes[..];
        for size in [1, 1 << 16].into_iter().cycle() {
            let (burst, after) = rest.split_at(size.min(rest.len()));
            to.write_all(burst).expect("it is read");
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    })
}

fn read_all(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("readable");
        bytes
    })
}

/// Whoever spins is polled millions of times meanwhile.
async fn assert_waits<F: Future>(mut work: Pin<&mut F>) {
    let mut polls = 0;
    let counted = poll_fn(|cx| {
        polls += 1;
        work.as_mut().poll(cx)
    });
    assert!(timeout(Duration::from_millis(300), counted).await.is_err(), "nobody reads");
    assert!(polls < 1000, "{polls}");
}

#[tokio::test]
async fn both_directions_saturated_lose_nothing() {
    let (tunnel, server) = tcp();
    let ((ssh_writes, input), (ssh_reads, output)) = (input(), output());
    let (asked, answered) = (pattern(1), pattern(2));
    let writer = write_in_bursts(ssh_writes, asked.clone());
    let heard = read_all(ssh_reads);
    let arrived = read_all(server.try_clone().expect("a copy"));
    let answering = write_in_bursts(server, answered.clone());
    let up = async {
        tunnel.upward(&input).await.expect("the server reads");
        tunnel.close().await.expect("a socket");
    };
    let both = async { tokio::join!(up, down(&tunnel, &output)) };
    let ((), end) = timeout(LONG, both).await.expect("no deadlock");
    assert!(matches!(end, End::Server), "{end:?}");
    drop(output);
    for thread in [writer, answering] {
        thread.join().expect("written");
    }
    assert!(arrived.join().expect("read") == asked);
    assert!(heard.join().expect("read") == answered);
}

#[tokio::test]
async fn a_stalled_reader_is_waited_for_without_spinning() {
    let (tunnel, server) = tcp();
    let (ssh_reads, output) = output();
    let sent = pattern(3);
    let writer = write_in_bursts(server, sent.clone());
    let mut down = pin!(down(&tunnel, &output));
    assert_waits(down.as_mut()).await;
    let heard = read_all(ssh_reads.try_clone().expect("a copy").take(BULK as u64));
    let end = timeout(LONG, down).await.expect("it goes on");
    assert!(matches!(end, End::Server), "{end:?}");
    writer.join().expect("written");
    assert!(heard.join().expect("read") == sent);
}

#[tokio::test]
async fn a_stalled_server_is_waited_for_without_spinning() {
    let (tunnel, server) = tcp();
    let (ssh_writes, input) = input();
    let sent = pattern(4);
    let writer = write_in_bursts(ssh_writes, sent.clone());
    let mut up = pin!(tunnel.upward(&input));
    assert_waits(up.as_mut()).await;
    let arrived = read_all(server);
    timeout(LONG, up).await.expect("it goes on").expect("the server reads");
    tunnel.close().await.expect("a socket");
    writer.join().expect("written");
    assert!(arrived.join().expect("read") == sent);
}

/// Splice stops in front of an urgent byte, and with the end behind it says zero.
#[tokio::test]
async fn an_urgent_byte_holds_nothing_up_and_ends_nothing() {
    for end_is_there in [false, true] {
        let (tunnel, mut server) = tcp();
        let (ssh_reads, output) = output();
        server.write_all(b"before").expect("room");
        SockRef::from(&server).send_out_of_band(b"!").expect("room");
        server.write_all(b"behind").expect("room");
        // Closed before anything is read, or only after everything was.
        let server = (!end_is_there).then_some(server);
        let heard = read_all(ssh_reads.try_clone().expect("a copy").take(12));
        let reading = thread::spawn(move || {
            let heard = heard.join();
            drop(server);
            heard.expect("read")
        });
        let end = timeout(LONG, down(&tunnel, &output)).await.expect("an end");
        assert!(matches!(end, End::Server), "{end:?}");
        assert_eq!(reading.join().expect("read"), b"beforebehind");
    }
}

#[tokio::test]
async fn what_lies_in_the_pipe_at_ssh_s_end_arrives() {
    let (tunnel, server) = tcp();
    let (mut ssh_writes, input) = input();
    ssh_writes.write_all(b"last words").expect("room");
    drop(ssh_writes);
    timeout(LONG, tunnel.upward(&input)).await.expect("an end").expect("the server reads");
    tunnel.close().await.expect("a socket");
    assert_eq!(read_all(server).join().expect("read"), b"last words");
}

#[tokio::test]
async fn a_reader_that_has_gone_ends_it() {
    let (tunnel, mut server) = tcp();
    let (ssh_reads, output) = output();
    drop(ssh_reads);
    server.write_all(b"x").expect("room");
    let end = timeout(LONG, down(&tunnel, &output)).await.expect("an end");
    assert!(matches!(end, End::Reader), "{end:?}");
}

/// Else all of the above would only show that copying works.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_moves_the_bytes_both_ways() {
    let (tunnel, mut server) = tcp();
    let ((mut ssh_writes, input), (mut ssh_reads, output)) = (input(), output());
    assert_eq!(splice(&input, &tunnel), Ok(None), "there is nothing");
    assert_eq!(splice(&tunnel, &output), Ok(None), "there is nothing");
    let mut bytes = [0; 4];

    ssh_writes.write_all(b"up").expect("room");
    assert_eq!(splice(&input, &tunnel), Ok(Some(2)));
    server.read_exact(&mut bytes[..2]).expect("readable");
    server.write_all(b"down").expect("room");
    timeout(LONG, tunnel.heard()).await.expect("it arrives").expect("a socket");
    assert_eq!(splice(&tunnel, &output), Ok(Some(4)));
    ssh_reads.read_exact(&mut bytes).expect("readable");
    assert_eq!(&bytes, b"down");
}
