//! Bytes both ways between two decided sides, exactly: half-close passes as half-close, a reset as a
//! reset after the data that came before it, and a full side stops its source. Never looks at the
//! bytes, and sets no timer on a tunnel.

pub(crate) mod pipes;
mod way;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use crate::stream::Stream;
use way::{Broken, Way};

/// How the relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides finished.
    Closed,
    ClientReset,
    UpstreamReset,
    /// The caller's `cut` came first.
    Cut,
}

/// Bytes delivered each way, and the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub end: End,
    /// From the client to the upstream.
    pub up: u64,
    /// From the upstream to the client.
    pub down: u64,
}

/// Whom a relay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// May keep half a connection for as long as it likes.
    Admitted,
    /// Is let go when it keeps half a connection that the upstream has ended for a minute without
    /// sending a byte: so long the kernel keeps one for a website that has closed it
    /// (`tcp_fin_timeout`, tcp(7)), and without an end a stranger's silence would hold its place.
    Visitor,
}

const ORPHAN: Duration = Duration::from_secs(60);

/// Relays until both sides have finished, one is reset, or `cut` completes. `first_up` and
/// `first_down` are bytes already read from a side: they go ahead of what it sends next.
pub async fn relay(
    guest: Guest,
    mut client: Stream,
    mut upstream: Stream,
    first_up: Vec<u8>,
    first_down: Vec<u8>,
    cut: impl Future<Output = ()>,
) -> Ended {
    let (client_wire, upstream_wire) = (client.wire().clone(), upstream.wire().clone());
    let mut up = Way::new(first_up);
    let mut down = Way::new(first_down);
    let mut orphan = Orphan::default();

    // `biased`, so that data which arrived together with a reset is moved before the reset is seen.
    let end = tokio::select! {
        biased;
        end = poll_fn(|cx| {
            let end = pump(cx, &mut client, &mut upstream, &mut up, &mut down);
            if end.is_pending() && guest == Guest::Visitor && down.is_done() {
                return orphan.poll(cx, up.delivered).map(|()| End::Closed);
            }
            end
        }) => end,
        () = client_wire.broken() => End::ClientReset,
        () = upstream_wire.broken() => End::UpstreamReset,
        () = cut => End::Cut,
    };

    match end {
        End::Closed | End::Cut => {}
        End::ClientReset => {
            up.drain(&mut client, &mut upstream).await;
            upstream.reset().await;
        }
        End::UpstreamReset => {
            down.drain(&mut upstream, &mut client).await;
            client.reset().await;
        }
    }
    Ended { end, up: up.delivered, down: down.delivered }
}

fn pump(
    cx: &mut Context<'_>,
    client: &mut Stream,
    upstream: &mut Stream,
    up: &mut Way,
    down: &mut Way,
) -> Poll<End> {
    let up = match up.poll(cx, client, upstream) {
        Poll::Ready(Err(Broken::Source)) => return Poll::Ready(End::ClientReset),
        Poll::Ready(Err(Broken::Sink)) => return Poll::Ready(End::UpstreamReset),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    let down = match down.poll(cx, upstream, client) {
        Poll::Ready(Err(Broken::Source)) => return Poll::Ready(End::UpstreamReset),
        Poll::Ready(Err(Broken::Sink)) => return Poll::Ready(End::ClientReset),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    if up && down { Poll::Ready(End::Closed) } else { Poll::Pending }
}

/// The time since a half-closed connection last moved a byte. The timer is made only then.
#[derive(Default)]
struct Orphan {
    timer: Option<Pin<Box<Sleep>>>,
    delivered: u64,
}

impl Orphan {
    fn poll(&mut self, cx: &mut Context<'_>, delivered: u64) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(ORPHAN)));
        if self.delivered != delivered {
            self.delivered = delivered;
            timer.as_mut().reset(Instant::now() + ORPHAN);
        }
        timer.as_mut().poll(cx)
    }
}
