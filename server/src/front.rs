//! The client's side of a connection while it is undecided: its first bytes can be looked at again and
//! again. On TCP they stay in the kernel (`MSG_PEEK`), so whoever ends up owning the connection reads
//! them from the first one; inside TLS they are held here. Never decides anything.

use std::io;

use postern_relay::Wire;
use postern_shared::hello::MAX_HELLO;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::AsyncReadExt;

use crate::stream::Stream;
use crate::sys;

/// First bytes looked at, at the most: nobody asks for more than a ClientHello can have.
const MOST: usize = MAX_HELLO;

/// Most hellos and all knocks fit.
const USUAL: usize = 2048;

/// Waits for more bytes, at the most. Beyond this somebody plays with segments, and is a visitor.
const MOST_LOOKS: u32 = 512;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Glance {
    /// As many bytes as were asked for, or more.
    Enough,
    /// What is there is all there will be, or all that is worth waiting for.
    NoMore,
}

/// An undecided client.
#[derive(Debug)]
pub struct Front {
    source: Source,
    seen: Vec<u8>,
    /// What stands in the place of bytes that were taken away.
    instead: Vec<u8>,
    looks: u32,
    /// The socket's SO_RCVLOWAT. Most hellos come whole, and then it is never touched.
    low_water: usize,
}

#[derive(Debug)]
enum Source {
    /// Bytes in `seen` are copies; the kernel still has them.
    Tcp(Wire),
    /// Bytes in `seen` were read and are owed to whoever gets the stream.
    Inside(Stream),
}

impl Front {
    pub fn tcp(wire: Wire) -> Front {
        Front::new(Source::Tcp(wire))
    }

    /// A stream that cannot be peeked, since it comes out of TLS.
    pub fn inside(stream: Stream) -> Front {
        Front::new(Source::Inside(stream))
    }

    fn new(source: Source) -> Front {
        Front { source, seen: Vec::new(), instead: Vec::new(), looks: 0, low_water: 1 }
    }

    /// The first bytes that came so far.
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Waits until at least `want` first bytes have come. May be cancelled and called again.
    pub async fn look(&mut self, want: usize) -> io::Result<Glance> {
        let want = want.min(MOST);
        let Front { source, seen, looks, low_water, .. } = self;
        match source {
            Source::Tcp(wire) => {
                // The first look is before any waiting: most have spoken by the time they are accepted.
                loop {
                    let all = wire.is_walled();
                    peek(wire, seen, want)?;
                    *looks += 1;
                    if seen.len() >= want {
                        break;
                    }
                    if all || *looks >= MOST_LOOKS {
                        return Ok(Glance::NoMore);
                    }
                    // The kernel wakes us only when all of `want` lies ready, or at the end.
                    set_low_water(wire, low_water, want)?;
                    wire.news().await?;
                }
            }
            Source::Inside(stream) => {
                while seen.len() < want {
                    *looks += 1;
                    if *looks >= MOST_LOOKS || stream.read_buf(seen).await? == 0 {
                        return Ok(Glance::NoMore);
                    }
                }
            }
        }
        Ok(Glance::Enough)
    }

    /// Looks once more, without waiting: after a pause of the whole machine the clock may be heard before
    /// the bytes that came in time.
    pub fn look_again(&mut self) {
        if let Source::Tcp(wire) = &self.source {
            // What a socket in error holds no longer matters; the relay will find the error.
            let _ = peek(wire, &mut self.seen, MOST);
        }
    }

    /// Takes away the first `count` bytes: they were for us. On TCP exactly these are read from the
    /// kernel, where they are known to lie.
    pub async fn consume(&mut self, count: usize) -> io::Result<()> {
        let count = count.min(self.seen.len());
        match &mut self.source {
            Source::Tcp(wire) => {
                set_low_water(wire, &mut self.low_water, 1)?;
                wire.has_unread();
                let mut taken = vec![0; count];
                wire.read_exact(&mut taken).await?;
            }
            Source::Inside(_) => {}
        }
        self.seen.drain(..count);
        Ok(())
    }

    /// Puts others in the place of the first bytes.
    pub async fn replace(&mut self, count: usize, with: Vec<u8>) -> io::Result<()> {
        self.consume(count).await?;
        self.instead = with;
        Ok(())
    }

    /// Whether whoever gets the stream finds bytes there.
    pub fn has_bytes(&self) -> bool {
        !self.seen.is_empty() || !self.instead.is_empty()
    }

    /// Takes away all that has come: it was meant for somebody who is gone.
    pub fn discard(&mut self) {
        if let Source::Tcp(wire) = &self.source {
            let mut scratch = [0; 4096];
            // More than was seen may have come; nothing wakes a look before all that it wants is there.
            while recv(wire.socket(), &mut scratch[..], RecvFlags::DONTWAIT)
                .is_ok_and(|(count, _)| count > 0)
            {}
        }
        self.seen.clear();
        self.instead.clear();
    }

    /// The stream, and the bytes that were read from it already.
    pub fn into_stream(self) -> io::Result<(Stream, Vec<u8>)> {
        let Front { source, seen, instead, mut low_water, .. } = self;
        match source {
            Source::Tcp(mut wire) => {
                // Left raised it would block the next owner.
                set_low_water(&wire, &mut low_water, 1)?;
                if !seen.is_empty() {
                    wire.has_unread();
                }
                Ok((wire.into(), instead))
            }
            Source::Inside(stream) => Ok((stream, [instead, seen].concat())),
        }
    }

    /// The socket, where nothing was read from it.
    pub fn into_wire(self) -> Option<Wire> {
        match self.into_stream() {
            Ok((Stream::Bare(wire), _)) => Some(wire),
            Ok((Stream::Tls(_) | Stream::Lane(_), _)) | Err(_) => None,
        }
    }
}

fn set_low_water(wire: &Wire, current: &mut usize, wanted: usize) -> io::Result<()> {
    if *current != wanted {
        sys::set_receive_low_water(wire.socket(), wanted)?;
        *current = wanted;
    }
    Ok(())
}

/// Copies what lies in the kernel into `seen`.
fn peek(wire: &Wire, seen: &mut Vec<u8>, want: usize) -> io::Result<()> {
    // More than wanted, since a knock is often followed by data and a hello by more of it, which may be
    // cut into hundreds of records.
    seen.resize(if want <= USUAL { USUAL } else { MOST }, 0);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let peeked = match recv(wire.socket(), seen.as_mut_slice(), flags) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        peeked => peeked.map(|(_, count)| count),
    };
    seen.truncate(peeked.unwrap_or(0));
    peeked.map(drop).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (TcpStream, Front) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).await.expect("connected");
        client.set_nodelay(true).expect("set");
        let (socket, _) = listener.accept().await.expect("accepted");
        let socket = socket.into_std().expect("a socket");
        (client, Front::tcp(Wire::tcp(socket.into()).expect("registered")))
    }

    #[tokio::test]
    async fn looking_takes_nothing() {
        let (mut client, mut front) = pair().await;
        client.write_all(b"SSH-2.0-x\r\n").await.expect("sent");
        assert_eq!(front.look(4).await.expect("looked"), Glance::Enough);
        assert!(front.seen().starts_with(b"SSH-"));
        let (mut stream, held) = front.into_stream().expect("reset");
        assert!(held.is_empty());
        client.shutdown().await.expect("ended");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.expect("read");
        assert_eq!(all, b"SSH-2.0-x\r\n");
    }

    #[tokio::test]
    async fn bytes_that_dribble_in_are_seen_together() {
        let (mut client, mut front) = pair().await;
        let looked = tokio::spawn(async move {
            let glance = front.look(96).await.expect("looked");
            (glance, front)
        });
        for _ in 0..96 {
            client.write_all(b"A").await.expect("sent");
            tokio::task::yield_now().await;
        }
        let (glance, front) = looked.await.expect("finished");
        assert_eq!((glance, front.seen()), (Glance::Enough, &[b'A'; 96][..]));
        assert!(front.looks < 10, "{} looks for 96 segments", front.looks);
    }

    /// Else a hello in hundreds of records would be read again from its start for each of them.
    #[tokio::test]
    async fn one_look_behind_the_usual_shows_all_that_came() {
        let (mut client, mut front) = pair().await;
        let sent = [7; 2 * USUAL];
        client.write_all(&sent).await.expect("sent");
        assert_eq!(front.look(1).await.expect("looked"), Glance::Enough);
        assert_eq!(front.look(USUAL + 1).await.expect("looked"), Glance::Enough);
        assert_eq!(front.seen(), sent);
    }

    #[tokio::test]
    async fn an_early_end_is_an_answer() {
        let (mut client, mut front) = pair().await;
        client.write_all(b"AB").await.expect("sent");
        client.shutdown().await.expect("ended");
        assert_eq!(front.look(96).await.expect("looked"), Glance::NoMore);
        assert_eq!(front.seen(), b"AB");
    }

    #[tokio::test]
    async fn an_urgent_byte_does_not_hold_a_connection() {
        let (mut client, mut front) = pair().await;
        client.write_all(b"AB").await.expect("sent");
        socket2::SockRef::from(&client).send_out_of_band(b"!").expect("sent");
        client.write_all(&[b'A'; 96]).await.expect("sent");
        assert_eq!(front.look(96).await.expect("looked"), Glance::NoMore);
    }

    /// The reactor tells of bytes once, and whoever waited for the first of them has heard it.
    #[tokio::test]
    async fn all_that_was_there_before_the_decision_goes_on() {
        let (client, mut front) = pair().await;
        client.writable().await.expect("connected");
        let looked = tokio::spawn(async move {
            assert_eq!(front.look(1).await.expect("looked"), Glance::Enough);
            front
        });
        tokio::task::yield_now().await;
        // At once, while nobody listens to the reactor; more than is read at a time.
        let sent = vec![7; 100_000];
        assert_eq!(client.try_write(&sent).expect("sent"), sent.len());
        let front = looked.await.expect("finished");
        let (mut stream, held) = front.into_stream().expect("reset");
        assert!(held.is_empty());
        let mut got = vec![0; sent.len()];
        let read = async {
            let mut at = 0;
            while let Some(rest) = got.get_mut(at..).filter(|rest| !rest.is_empty()) {
                let most = rest.len().min(65_536);
                let count = stream.read(rest.get_mut(..most).expect("within")).await;
                at += count.expect("read");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("nothing stays behind");
        assert!(got == sent);
    }

    #[tokio::test]
    async fn what_came_unseen_is_discarded_too() {
        let (mut client, mut front) = pair().await;
        client.write_all(b"first piece").await.expect("sent");
        // Cancelled: more is wanted than comes, and so the second piece wakes nobody.
        let look = tokio::time::timeout(Duration::from_millis(50), front.look(96));
        assert!(look.await.is_err());
        client.write_all(b"second piece").await.expect("sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        front.discard();
        drop(front);
        // Unread bytes would make the close a reset (RFC 9293, section 3.6.1).
        assert_eq!(client.read(&mut [0; 8]).await.expect("an end, not a reset"), 0);
    }

    #[tokio::test]
    async fn only_what_was_for_us_is_taken() {
        let (mut client, mut front) = pair().await;
        client.write_all(b"0123456789rest").await.expect("sent");
        assert_eq!(front.look(10).await.expect("looked"), Glance::Enough);
        front.consume(10).await.expect("taken");
        client.shutdown().await.expect("ended");
        let (mut stream, _) = front.into_stream().expect("reset");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("read");
        assert_eq!(rest, b"rest");
    }
}
