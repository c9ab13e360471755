//! The relay between real sockets: every byte arrives, ends arrive as ends and resets as resets.

use std::future::pending;
use std::time::Duration;

use postern_relay::{End, Guest, Moved, Relay, Wire};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A client and an upstream with a relay between them.
struct Between {
    client: TcpStream,
    upstream: TcpStream,
    relay: JoinHandle<Ended>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let near = TcpStream::connect(address).await.expect("connected");
    let (far, _) = listener.accept().await.expect("accepted");
    (near, far)
}

#[derive(Debug, PartialEq, Eq)]
struct Ended {
    end: End,
    up: u64,
    down: u64,
}

/// A relay as posternd runs it.
async fn run(mut relay: Relay<Wire, Wire>, cut: impl Future<Output = ()>) -> Ended {
    let mut moved = Moved::default();
    let end = relay.run(&mut moved, Box::pin(cut)).await;
    Ended { end, up: moved.up, down: moved.down }
}

fn relay(guest: Guest, client: TcpStream, upstream: TcpStream) -> Relay<Wire, Wire> {
    Relay::new(guest, wire(client), wire(upstream), Vec::new(), Vec::new())
}

fn wire(socket: TcpStream) -> Wire {
    Wire::tcp(socket.into_std().expect("a socket").into()).expect("registered")
}

async fn between() -> Between {
    let (client, ours) = pair().await;
    let (upstream, theirs) = pair().await;
    let relay = tokio::spawn(run(relay(Guest::Admitted, ours, theirs), pending()));
    Between { client, upstream, relay }
}

async fn ended(relay: JoinHandle<Ended>) -> Ended {
    timeout(PATIENCE, relay).await.expect("it ends").expect("it does not panic")
}

async fn read_all(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut all)).await.expect("it ends")?;
    Ok(all)
}

/// Bytes in which every position can be told.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[tokio::test]
async fn the_answer_after_the_end_arrives() {
    let mut it = between().await;
    it.client.write_all(b"question").await.expect("sent");
    it.client.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut it.upstream).await.expect("read"), b"question");
    it.upstream.write_all(b"answer").await.expect("sent");
    it.upstream.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut it.client).await.expect("read"), b"answer");
    assert_eq!(ended(it.relay).await, Ended { end: End::Closed, up: 8, down: 6 });
}

#[tokio::test]
async fn the_upstream_may_end_first() {
    let mut it = between().await;
    it.upstream.write_all(b"banner").await.expect("sent");
    it.upstream.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut it.client).await.expect("read"), b"banner");
    it.client.write_all(b"late").await.expect("sent");
    it.client.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut it.upstream).await.expect("read"), b"late");
    assert_eq!(ended(it.relay).await.end, End::Closed);
}

#[tokio::test]
async fn a_reset_arrives_as_one_after_the_data() {
    for from_client in [true, false] {
        let it = between().await;
        let (mut sender, mut receiver) =
            if from_client { (it.client, it.upstream) } else { (it.upstream, it.client) };
        let data = pattern(300_000);
        sender.write_all(&data).await.expect("sent");
        // Only what was acknowledged is sure to be ahead of the reset.
        let mut got = vec![0; data.len()];
        timeout(PATIENCE, receiver.read_exact(&mut got)).await.expect("in time").expect("read");
        sender.write_all(b"last").await.expect("sent");
        let mut last = [0; 4];
        timeout(PATIENCE, receiver.read_exact(&mut last)).await.expect("in time").expect("read");
        SockRef::from(&sender).set_linger(Some(Duration::ZERO)).expect("set");
        drop(sender);
        let end = read_all(&mut receiver).await.expect_err("a reset, not an end");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
        assert!(got == data);
        let expected = if from_client { End::ClientReset } else { End::UpstreamReset };
        assert_eq!(ended(it.relay).await.end, expected);
    }
}

/// The reset is seen while the reader is slow, and is told ahead of what lies behind an urgent byte.
#[tokio::test]
async fn what_a_reset_side_sent_before_reaches_a_slow_reader() {
    for urgent in [false, true] {
        let (mut client, ours) = pair().await;
        let (theirs, upstream) = Wire::pair().expect("a pair");
        SockRef::from(theirs.socket()).set_send_buffer_size(16 * 1024).expect("set");
        let relay = Relay::new(Guest::Admitted, wire(ours), theirs, Vec::new(), Vec::new());
        let relay = tokio::spawn(run(relay, pending()));
        let mut sent = Vec::new();
        for length in [100_000, 20_000, 20_001] {
            if urgent && length == 20_001 {
                SockRef::from(&client).send_out_of_band(b"!").expect("sent");
            }
            let block = pattern(length);
            client.write_all(&block).await.expect("sent");
            sent.extend_from_slice(&block);
        }
        // Only what was acknowledged is sure to be ahead of the reset.
        let all_acknowledged = async {
            while unacknowledged(&client) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, all_acknowledged).await.expect("the kernel has room for it");
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("set");
        drop(client);
        let upstream = std::os::unix::net::UnixStream::from(upstream);
        upstream.set_nonblocking(true).expect("set");
        let mut upstream = tokio::net::UnixStream::from_std(upstream).expect("registered");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut got = Vec::new();
        timeout(PATIENCE, upstream.read_to_end(&mut got)).await.expect("it ends").expect("read");
        assert!(got == sent, "{} of {}, urgent: {urgent}", got.len(), sent.len());
        assert_eq!(ended(relay).await.end, End::ClientReset);
    }
}

/// SIOCOUTQ (tcp(7)), from the list of sockets: what rustix and socket2 have no call for.
fn unacknowledged(socket: &TcpStream) -> u64 {
    let own = format!(":{:04X}", socket.local_addr().expect("bound").port());
    let peer = format!(":{:04X}", socket.peer_addr().expect("connected").port());
    let list = std::fs::read_to_string("/proc/net/tcp").expect("proc(5)");
    let fields = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let [mut found] = fields
        .filter(|fields| {
            fields.get(1).is_some_and(|field| field.ends_with(&own))
                && fields.get(2).is_some_and(|field| field.ends_with(&peer))
        })
        .collect::<Vec<_>>()
        .try_into()
        .expect("one such socket");
    let queues = found.swap_remove(4);
    let (sending, _) = queues.split_once(':').expect("two queues");
    u64::from_str_radix(sending, 16).expect("hexadecimal")
}

#[tokio::test]
async fn a_reset_is_seen_on_a_half_closed_connection() {
    let mut it = between().await;
    it.client.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut it.upstream).await.expect("read"), b"");
    SockRef::from(&it.client).set_linger(Some(Duration::ZERO)).expect("set");
    drop(it.client);
    assert_eq!(ended(it.relay).await.end, End::ClientReset);
}

#[tokio::test]
async fn a_reset_is_seen_while_the_other_side_is_full() {
    let it = between().await;
    let mut client = it.client;
    let block = pattern(64 * 1024);
    // Until neither socket nor relay takes any more: the upstream reads nothing.
    while timeout(Duration::from_millis(300), client.write_all(&block)).await.is_ok() {}
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("set");
    drop(client);
    let mut upstream = it.upstream;
    let end = read_all(&mut upstream).await.expect_err("a reset, not an end");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(ended(it.relay).await.end, End::ClientReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ways_at_once_and_in_odd_pieces() {
    let it = between().await;
    let (up, down) = (pattern(8_000_000), pattern(7_654_321));
    let (client, upstream) = (it.client, it.upstream);
    let talk = |mut socket: TcpStream, data: Vec<u8>, piece: usize| {
        tokio::spawn(async move {
            let (mut reading, mut writing) = socket.split();
            let mut got = Vec::new();
            let write = async {
                for piece in data.chunks(piece) {
                    writing.write_all(piece).await.expect("sent");
                }
                writing.shutdown().await.expect("ended");
            };
            let read = async {
                reading.read_to_end(&mut got).await.expect("read");
            };
            tokio::join!(write, read);
            got
        })
    };
    client.set_nodelay(true).expect("set");
    upstream.set_nodelay(true).expect("set");
    let a = talk(client, up.clone(), 997);
    let b = talk(upstream, down.clone(), 65_537);
    let got_down = timeout(PATIENCE, a).await.expect("in time").expect("no panic");
    let got_up = timeout(PATIENCE, b).await.expect("in time").expect("no panic");
    assert!(got_up == up && got_down == down, "every byte, in order");
    let ended = ended(it.relay).await;
    assert_eq!((ended.up, ended.down), (up.len() as u64, down.len() as u64));
}

#[tokio::test]
async fn what_was_read_before_goes_first() {
    let (mut client, ours) = pair().await;
    let (mut upstream, theirs) = pair().await;
    let (ours, theirs) = (wire(ours), wire(theirs));
    let (first_up, first_down) = (b"GET".to_vec(), b"ack".to_vec());
    let relay = Relay::new(Guest::Admitted, ours, theirs, first_up, first_down);
    let relay = tokio::spawn(run(relay, pending()));
    client.write_all(b" /").await.expect("sent");
    client.shutdown().await.expect("ended");
    upstream.shutdown().await.expect("ended");
    assert_eq!(read_all(&mut upstream).await.expect("read"), b"GET /");
    assert_eq!(read_all(&mut client).await.expect("read"), b"ack");
    assert_eq!(ended(relay).await, Ended { end: End::Closed, up: 5, down: 3 });
}

#[tokio::test]
async fn a_cut_ends_both_sides() {
    let (mut client, ours) = pair().await;
    let (mut upstream, theirs) = pair().await;
    let (cut, was_cut) = oneshot::channel::<()>();
    let until = async { was_cut.await.expect("the sender says when") };
    let relay = tokio::spawn(run(relay(Guest::Admitted, ours, theirs), until));
    client.write_all(b"x").await.expect("sent");
    upstream.read_exact(&mut [0]).await.expect("read");
    cut.send(()).expect("the relay waits");
    assert_eq!(ended(relay).await.end, End::Cut);
    assert_eq!(read_all(&mut client).await.expect("read"), b"");
    assert_eq!(read_all(&mut upstream).await.expect("read"), b"");
}

#[tokio::test]
async fn an_urgent_byte_does_no_harm() {
    let mut it = between().await;
    it.client.write_all(b"before").await.expect("sent");
    SockRef::from(&it.client).send_out_of_band(b"!").expect("sent");
    it.client.write_all(b"after").await.expect("sent");
    it.client.shutdown().await.expect("ended");
    // The urgent byte is not part of the stream (tcp(7)): a website would not read it either.
    assert_eq!(read_all(&mut it.upstream).await.expect("read"), b"beforeafter");
    it.upstream.shutdown().await.expect("ended");
    assert_eq!(ended(it.relay).await.end, End::Closed);
}

/// What lies behind an urgent byte is no news to the reactor once it has told of the bytes before it.
#[tokio::test]
async fn bytes_behind_an_urgent_one_need_no_push() {
    let mut it = between().await;
    it.client.set_nodelay(true).expect("set");
    let block = pattern(200_000);
    for round in 0..50 {
        // Small and in bulk, since these are read in different ways.
        let block = if round % 2 == 0 { &block[..] } else { &block[..100] };
        it.client.write_all(block).await.expect("sent");
        SockRef::from(&it.client).send_out_of_band(b"!").expect("sent");
        it.client.write_all(b"after").await.expect("sent");
        let mut got = vec![0; block.len() + 5];
        timeout(PATIENCE, it.upstream.read_exact(&mut got)).await.expect("all").expect("read");
        assert!(got.starts_with(block) && got.ends_with(b"after"), "round {round}");
    }
}

/// splice says then that there is nothing more, while there is.
#[tokio::test]
async fn bytes_between_an_urgent_one_and_the_end_arrive() {
    for bulk in [0, 65_536, 200_000, 1_000_000] {
        let mut it = between().await;
        it.client.set_nodelay(true).expect("set");
        let block = pattern(bulk);
        it.client.write_all(&block).await.expect("sent");
        SockRef::from(&it.client).send_out_of_band(b"!").expect("sent");
        it.client.write_all(&block).await.expect("sent");
        it.client.shutdown().await.expect("ended");
        let got = read_all(&mut it.upstream).await.expect("read");
        assert!(got == [&block[..], &block[..]].concat(), "{} of 2 * {bulk}", got.len());
    }
}

#[tokio::test]
async fn bulk_and_small_exchanges_take_turns() {
    let mut it = between().await;
    let mut sent = 0;
    for round in 0..40 {
        let block = pattern(if round % 3 == 0 { 3_000_000 } else { 10 + round });
        let write = async { it.client.write_all(&block).await.expect("sent") };
        let mut got = vec![0; block.len()];
        let read = async { it.upstream.read_exact(&mut got).await.expect("read") };
        timeout(PATIENCE, async { tokio::join!(write, read) }).await.expect("in time");
        assert!(got == block, "round {round}");
        it.upstream.write_all(b"done").await.expect("sent");
        it.client.read_exact(&mut [0; 4]).await.expect("read");
        sent += block.len();
    }
    it.client.shutdown().await.expect("ended");
    it.upstream.shutdown().await.expect("ended");
    assert_eq!(ended(it.relay).await, Ended { end: End::Closed, up: sent as u64, down: 160 });
}

#[tokio::test]
async fn unix_sockets_are_relayed_like_others() {
    let (client, ours) = pair().await;
    let (theirs, upstream) = Wire::pair().expect("a pair");
    let upstream = std::os::unix::net::UnixStream::from(upstream);
    upstream.set_nonblocking(true).expect("set");
    let upstream = tokio::net::UnixStream::from_std(upstream).expect("registered");
    let relay = Relay::new(Guest::Admitted, wire(ours), theirs, Vec::new(), Vec::new());
    let relay = tokio::spawn(run(relay, pending()));
    let block = pattern(5_000_000);
    let echo = tokio::spawn(async move {
        let (mut reading, mut writing) = upstream.into_split();
        tokio::io::copy(&mut reading, &mut writing).await.expect("copied")
    });
    let (mut reading, mut writing) = client.into_split();
    let sent = block.clone();
    let write = tokio::spawn(async move { writing.write_all(&sent).await.map(|()| writing) });
    let mut got = vec![0; block.len()];
    timeout(PATIENCE, reading.read_exact(&mut got)).await.expect("in time").expect("read");
    assert!(got == block);
    drop(write.await.expect("no panic").expect("sent"));
    assert_eq!(echo.await.expect("no panic"), block.len() as u64);
    assert_eq!(ended(relay).await.end, End::Closed);
}

#[tokio::test]
async fn half_a_connection_does_not_hold_a_visitors_place_for_ever() {
    let (client, ours) = pair().await;
    let (mut upstream, theirs) = pair().await;
    tokio::time::pause();
    let relay = tokio::spawn(run(relay(Guest::Visitor, ours, theirs), pending()));
    upstream.shutdown().await.expect("ended");
    // Time is paused: it goes on only when nothing else can, and so by the relay's own timer.
    assert_eq!(relay.await.expect("no panic").end, End::Closed);
    drop(client);
}
