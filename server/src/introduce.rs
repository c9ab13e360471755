//! The PROXY header by which a proxy that is trusted says for whom it speaks. It is read once, ahead of
//! everything else, and from nobody else: a stranger's is the website's to answer.

use std::net::SocketAddr;
use std::time::Duration;

use postern_shared::proxy::{Header, Parse};
use tokio::time::timeout;

use crate::front::{Front, Glance};
use crate::listen::fold;

/// The peer and our address, as the proxy tells them; its own where it speaks for itself. `None` if no
/// header comes in time: whoever is trusted must not be guessed at (proxy-protocol.txt, section 2).
pub(crate) async fn introduce(
    front: &mut Front,
    own: (SocketAddr, SocketAddr),
    within: Duration,
) -> Option<(SocketAddr, SocketAddr)> {
    let header = timeout(within, header(front)).await.ok()??;
    front.consume(header.len).await.ok()?;
    Some(header.addresses.map_or(own, |(peer, local)| (fold(peer), fold(local))))
}

async fn header(front: &mut Front) -> Option<Header> {
    let mut complete = true;
    loop {
        match Header::parse(front.seen()) {
            Parse::Found(header) => return Some(header),
            Parse::NeedMore(want) if complete => {
                complete = front.look(want).await.ok()? == Glance::Enough;
            }
            Parse::NeedMore(_) | Parse::Malformed => return None,
        }
    }
}
