//! Bytes both ways between two decided sides, exactly: half-close passes as half-close, a reset as a
//! reset after the data that came before it, and a full side stops its source. Never looks at the
//! bytes, and sets no timer on a tunnel.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::stream::Stream;

/// One read, and so the most that waits for a slow reader in each direction. Larger than the bytes
/// held while a connection was undecided, so that they go on in one write.
const CHUNK: usize = 64 * 1024;

/// How long what a reset side sent before may take to reach the other one.
const DRAIN: Duration = Duration::from_secs(10);

thread_local! {
    /// Reads land here and are written from here; only what a full side leaves over is kept by the
    /// connection, so an idle one holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

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
            if end.is_pending() && guest == Guest::Visitor && down.state == State::Done {
                return orphan.poll(cx, up.delivered).map(|()| End::Closed);
            }
            end
        }) => end,
        () = client_wire.broken() => End::ClientReset,
        () = upstream_wire.broken() => End::UpstreamReset,
        () = cut => End::Cut,
    };

    match end {
        End::Closed => {}
        End::ClientReset => up.drain(&mut client, &mut upstream).await,
        End::UpstreamReset => down.drain(&mut upstream, &mut client).await,
        End::Cut => {}
    }
    let ended = Ended { end, up: up.delivered, down: down.delivered };
    drop((client, upstream));
    match end {
        End::Closed => {}
        End::ClientReset => upstream_wire.reset().await,
        End::UpstreamReset => client_wire.reset().await,
        End::Cut => {}
    }
    ended
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

/// Which end of a way failed.
enum Broken {
    Source,
    Sink,
}

/// One direction.
struct Way {
    /// Read but not yet written, from `sent` on.
    left: Vec<u8>,
    sent: usize,
    state: State,
    delivered: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; the sink is still to be told.
    Ending,
    Done,
}

impl Way {
    fn new(first: Vec<u8>) -> Way {
        Way { left: first, sent: 0, state: State::Open, delivered: 0 }
    }

    /// Moves bytes until a side blocks; ready when the source's end has been passed on.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        ready!(self.move_data(cx, source, sink))?;
        if self.state == State::Ending {
            ready!(Pin::new(sink).poll_shutdown(cx)).map_err(|_| Broken::Sink)?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes until a side blocks; ready when all that the source sent has been written.
    fn move_data(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Stream,
        sink: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        loop {
            ready!(self.write_left(cx, sink)).map_err(|_| Broken::Sink)?;
            if self.state != State::Open {
                return Poll::Ready(Ok(()));
            }
            let read = SCRATCH.with_borrow_mut(|scratch| -> Poll<Result<usize, Broken>> {
                let mut buffer = ReadBuf::new(scratch);
                let polled = Pin::new(&mut *source).poll_read(cx, &mut buffer);
                ready!(polled).map_err(|_| Broken::Source)?;
                let read = buffer.filled();
                self.write(cx, sink, read).map_err(|_| Broken::Sink)?;
                Poll::Ready(Ok(read.len()))
            });
            match read {
                Poll::Ready(Ok(0)) => self.state = State::Ending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => {
                    // The source has nothing more for now: what TLS has gathered must leave.
                    if let Poll::Ready(Err(_)) = Pin::new(&mut *sink).poll_flush(cx) {
                        return Poll::Ready(Err(Broken::Sink));
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes straight from the scratch buffer; keeps what the sink does not take.
    fn write(&mut self, cx: &mut Context<'_>, sink: &mut Stream, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match Pin::new(&mut *sink).poll_write(cx, rest)? {
                Poll::Ready(count) => {
                    self.delivered += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Poll::Pending => break,
            }
        }
        self.left = rest.to_vec();
        self.sent = 0;
        Ok(())
    }

    fn write_left(&mut self, cx: &mut Context<'_>, sink: &mut Stream) -> Poll<io::Result<()>> {
        while let Some(rest) = self.left.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut *sink).poll_write(cx, rest))?;
            self.sent += count;
            self.delivered += count as u64;
        }
        self.left = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// The source was reset: what it sent before still goes through, but its end is not passed on as
    /// an orderly one.
    async fn drain(&mut self, source: &mut Stream, sink: &mut Stream) {
        if self.state == State::Done {
            return;
        }
        let moved = poll_fn(|cx| self.move_data(cx, source, sink));
        if let Ok(Ok(())) = timeout(DRAIN, moved).await {
            let _ = timeout(DRAIN, poll_fn(|cx| Pin::new(&mut *sink).poll_flush(cx))).await;
        }
    }
}
