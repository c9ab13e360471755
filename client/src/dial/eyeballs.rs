//! Happy Eyeballs (RFC 8305): the addresses of a host are tried in turn, a quarter of a second apart,
//! and the first that answers wins. Never leaves an address out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// RFC 8305, section 8, recommends this.
const STAGGER: Duration = Duration::from_millis(250);

/// The first connection that any of `addresses` gives, or the last reason why none did.
pub(super) async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = interleave(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            Some(ended) = attempts.join_next() => match ended.map_err(io::Error::other) {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) | Err(error) => failure = error,
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
            else => return Err(failure),
        }
    }
}

/// Families in turn, beginning with the one that the resolver put first (section 4); within a
/// family the resolver's order stands.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let count = addresses.len();
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut mixed = Vec::with_capacity(count);
    while mixed.len() < count {
        mixed.extend(preferred.next());
        mixed.extend(other.next());
    }
    mixed
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn families_take_turns() {
        for (given, mixed) in [
            (&[][..], &[][..]),
            (&["[::1]:1", "[::2]:1", "1.1.1.1:1"], &["[::1]:1", "1.1.1.1:1", "[::2]:1"]),
            (&["1.1.1.1:1", "[::1]:1", "[::2]:1"], &["1.1.1.1:1", "[::1]:1", "[::2]:1"]),
            (&["1.1.1.1:1", "1.1.1.2:1"], &["1.1.1.1:1", "1.1.1.2:1"]),
        ] {
            assert_eq!(interleave(addresses(given)), addresses(mixed), "{given:?}");
        }
    }

    /// An address that refuses: nobody listens there any more.
    fn dead() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    }

    #[tokio::test]
    async fn dead_addresses_do_not_hide_a_live_one() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let live = listener.local_addr().expect("bound");
        let stream = connect(vec![dead(), dead(), live]).await.expect("the third answers");
        assert_eq!(stream.peer_addr().expect("connected"), live);
    }

    #[tokio::test]
    async fn no_address_and_only_dead_ones_are_errors() {
        let error = connect(vec![dead(), dead()]).await.expect_err("nobody there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(connect(Vec::new()).await.is_err());
    }
}
