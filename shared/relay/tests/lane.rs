//! Lanes between real sockets: one visitor after the other, however his bytes are cut, and what is not
//! ended in order is not taken for an end.

use std::future::{pending, poll_fn};
use std::io::ErrorKind;

use postern_relay::{End, Guest, Lane, Leg, Moved, Relay, Wire};
use postern_shared::expose::lane::{Frame, Opening};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: usize = 1024 * 1024;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let near = TcpStream::connect(address).await.expect("connected");
    let (far, _) = listener.accept().await.expect("accepted");
    (near, far)
}

fn wire(socket: TcpStream) -> Wire {
    Wire::tcp(socket.into_std().expect("a socket").into()).expect("registered")
}

async fn lanes() -> (Lane<Wire>, Lane<Wire>) {
    let (near, far) = pair().await;
    (Lane::new(wire(near)), Lane::new(wire(far)))
}

fn opening(visitor: u64) -> Opening {
    let address = |text: &str| text.parse().expect(text);
    Opening { visitor, offer: 1, peer: address("192.0.2.1:5"), local: address("[::1]:80") }
}

fn open(visitor: u64) -> Vec<u8> {
    let body = opening(visitor).encode();
    [&Frame::Open(body.len()).header()[..], &body].concat()
}

fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).expect("below 251")).collect()
}

/// One end brings a visitor to the other, both as relays have them; each way carries `length` bytes.
async fn carry(near: &mut Lane<Wire>, far: &mut Lane<Wire>, visitor: u64, length: usize) {
    near.send(&open(visitor)).await.expect("sent");
    let opened = poll_fn(|cx| far.poll_opening(cx)).await.expect("read");
    assert_eq!(opened, Some(opening(visitor)));
    let bytes = noise(length);
    let one_way = async |from: &mut Lane<Wire>, to: &mut Lane<Wire>| {
        let mut read = Vec::new();
        let write = async {
            from.write_all(&bytes).await.expect("written");
            from.shutdown().await.expect("ended");
        };
        let (_, count) = tokio::join!(write, to.read_to_end(&mut read));
        assert_eq!(count.expect("read"), length);
        assert!(read == bytes, "other bytes arrived");
    };
    one_way(near, far).await;
    assert!(!near.is_spent() && !far.is_spent(), "one way is open");
    one_way(far, near).await;
    assert!(near.is_spent() && far.is_spent());
    near.renew();
    far.renew();
}

#[tokio::test]
async fn one_visitor_after_the_other() {
    let (mut near, mut far) = lanes().await;
    for (visitor, length) in (1..).zip([0, 1, 100, 16 * 1024, 70_000, 3 * MIB, 5]) {
        carry(&mut near, &mut far, visitor, length).await;
    }
}

#[tokio::test]
async fn every_cut_is_healed() {
    let bytes = noise(9);
    let said = [&open(7)[..], &Frame::Data(9).header(), &bytes, &Frame::Fin.header()].concat();
    for cut in 1..said.len() {
        let (mut socket, far) = pair().await;
        socket.set_nodelay(true).expect("set");
        let mut far = Lane::new(wire(far));
        let (first, second) = said.split_at(cut);
        let speak = async {
            socket.write_all(first).await.expect("sent");
            tokio::task::yield_now().await;
            socket.write_all(second).await.expect("sent");
        };
        let mut read = Vec::new();
        let hear = async {
            let opened = poll_fn(|cx| far.poll_opening(cx)).await.expect("read");
            assert_eq!(opened, Some(opening(7)), "cut at {cut}");
            far.read_to_end(&mut read).await.expect("an end");
        };
        tokio::join!(speak, hear);
        assert_eq!(read, bytes, "cut at {cut}");
    }
}

#[tokio::test]
async fn the_next_visitor_may_come_right_behind_the_end_of_the_one_before() {
    let (mut near, mut far) = lanes().await;
    far.shutdown().await.expect("ended");
    let said = [&Frame::Fin.header()[..], &open(2), &Frame::Data(1).header(), b"x"].concat();
    near.send(&said).await.expect("sent");
    far.read_to_end(&mut Vec::new()).await.expect("an end");
    assert!(far.is_spent());
    far.renew();
    let opened = poll_fn(|cx| far.poll_opening(cx)).await.expect("read");
    assert_eq!(opened, Some(opening(2)));
    assert_eq!(far.read_u8().await.expect("read"), b'x');
}

#[tokio::test]
async fn a_connection_that_ends_is_no_end_of_data() {
    for said in [&b""[..], &[0], &Frame::Data(9).header(), b"\0\0\0\x02x"] {
        let (mut socket, far) = pair().await;
        let mut far = Lane::new(wire(far));
        socket.write_all(said).await.expect("sent");
        drop(socket);
        let error = far.read_to_end(&mut Vec::new()).await.expect_err("no end");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{said:?}");
        assert!(!far.is_spent());
    }
}

#[tokio::test]
async fn what_no_lane_says_is_an_error() {
    for said in [&b"GET / HTTP/1.1\r\n"[..], &Frame::Taken.header(), &open(1)] {
        let (mut socket, far) = pair().await;
        let mut far = Lane::new(wire(far));
        socket.write_all(said).await.expect("sent");
        let error = far.read_to_end(&mut Vec::new()).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{said:?}");
    }
}

#[tokio::test]
async fn a_service_that_cannot_be_reached_is_apologised_for() {
    let said = [Frame::Failed, Frame::Fin].map(Frame::header).concat();
    let (mut near, mut far) = lanes().await;
    near.send(&said).await.expect("sent");
    far.apologise(b"hello", |words| (words == b"hello").then(|| b"sorry".to_vec()));
    let mut read = Vec::new();
    far.read_to_end(&mut read).await.expect("an end");
    assert_eq!(read, b"sorry");
    far.shutdown().await.expect("ended");
    assert!(far.is_spent());

    let (mut near, mut far) = lanes().await;
    near.send(&said).await.expect("sent");
    // Nothing was said yet: it is not known how to apologise.
    far.apologise(b"", |words| (words == b"hello").then(|| b"sorry".to_vec()));
    far.write_all(b"what?").await.expect("written");
    let error = far.read_to_end(&mut Vec::new()).await.expect_err("nothing to say");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// visitor - relay - lane - relay - service, twice over one lane, in bulk: the kernel moves it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_passes_two_relays() {
    let (mut near, mut far) = lanes().await;
    assert!(near.can_splice());
    for _ in 0..2 {
        let (mut visitor, at_door) = pair().await;
        let (at_home, mut service) = pair().await;
        let relay = Relay::new(Guest::Visitor, wire(at_door), near, Vec::new(), Vec::new());
        let door = tokio::spawn(async { run(relay).await.1 });
        let relay = Relay::new(Guest::Admitted, far, wire(at_home), Vec::new(), Vec::new());
        let home = tokio::spawn(async { run(relay).await.0 });
        let bytes = noise(32 * MIB);
        let expected = bytes.clone();
        let serve = tokio::spawn(async move {
            let mut heard = Vec::new();
            service.read_to_end(&mut heard).await.expect("read");
            service.write_all(&heard).await.expect("written");
            heard.len()
        });
        let mut answer = Vec::new();
        let (mut reading, mut writing) = visitor.split();
        let (_, read) = tokio::join!(
            async {
                writing.write_all(&bytes).await.expect("written");
                writing.shutdown().await.expect("ended");
            },
            reading.read_to_end(&mut answer)
        );
        assert_eq!(read.expect("read"), expected.len());
        assert!(answer == expected, "other bytes arrived");
        assert_eq!(serve.await.expect("ended"), expected.len());
        near = door.await.expect("ended");
        far = home.await.expect("ended");
        assert!(near.is_spent() && far.is_spent());
        near.renew();
        far.renew();
    }
}

/// The sides, of which the one that is dropped hears the end then.
async fn run<C: Leg, U: Leg>(mut relay: Relay<C, U>) -> (C, U) {
    let end = relay.run(&mut Moved::default(), Box::pin(pending())).await;
    assert_eq!(end, End::Closed);
    relay.into_sides()
}
