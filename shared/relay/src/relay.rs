//! Bytes both ways between two decided sides, exactly: half-close passes as half-close, a reset as a
//! reset after the data that came before it, and a full side stops its source. Never looks at the
//! bytes, and sets no timer on a tunnel.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep, sleep, timeout};

use crate::leg::Leg;
use crate::way::{Broken, Way};

/// How the relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides finished.
    Closed,
    ClientReset,
    UpstreamReset,
    /// No byte was moved for as long as is allowed.
    Idle,
    /// The caller's `cut` came first.
    Cut,
}

/// Bytes delivered each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// From the client to the upstream.
    pub up: u64,
    /// From the upstream to the client.
    pub down: u64,
}

/// One of the two who are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Service,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Service => "service",
        }
    }
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

/// How long the sides have to take the end of a connection that was idle.
const FAREWELL: Duration = Duration::from_secs(1);

const ORPHAN: Duration = Duration::from_secs(60);

/// A relay between two sides. There are as many as connections, and most are idle most of the time:
/// what is seldom needed is made when it is needed.
#[derive(Debug)]
pub struct Relay<C, U> {
    client: C,
    upstream: U,
    up: Way,
    down: Way,
    timers: Option<Box<Timers>>,
    guest: Guest,
    ended_by: Option<Side>,
}

/// What most relays never need.
#[derive(Debug, Default)]
struct Timers {
    orphan: Option<Orphan>,
    idle: Option<Idle>,
}

impl<C: Leg, U: Leg> Relay<C, U> {
    /// `first_up` and `first_down` are bytes already read from a side: they go ahead of what it sends
    /// next.
    pub fn new(
        guest: Guest,
        client: C,
        upstream: U,
        first_up: Vec<u8>,
        first_down: Vec<u8>,
    ) -> Relay<C, U> {
        let (up, down) = (Way::new(first_up), Way::new(first_down));
        Relay { client, upstream, up, down, timers: None, guest, ended_by: None }
    }

    /// Ends it where no byte is moved for so long.
    pub fn ending_when_idle_for(self, most: Duration) -> Relay<C, U> {
        let timers = Timers { orphan: None, idle: Some(Idle::new(most)) };
        Relay { timers: Some(Box::new(timers)), ..self }
    }

    /// Both, for whoever has more to do with them.
    pub fn into_sides(self) -> (C, U) {
        (self.client, self.upstream)
    }

    /// Whose end of data was passed on first.
    pub fn ended_by(&self) -> Option<Side> {
        self.ended_by
    }

    /// Relays until both sides have finished, one is reset, or `cut` completes; counts as it goes.
    /// The sides are closed when the relay is dropped.
    pub async fn run(
        &mut self,
        moved: &mut Moved,
        mut cut: impl Future<Output = ()> + Unpin,
    ) -> End {
        let end = poll_fn(|cx| match self.poll(cx, moved) {
            Poll::Pending => Pin::new(&mut cut).poll(cx).map(|()| End::Cut),
            ended => ended,
        });
        let end = end.await;
        if end != End::Cut {
            // Seldom needed, and larger than all the rest of the relay.
            let mut passing = Box::pin(self.pass_on(end, moved));
            poll_fn(|cx| match passing.as_mut().poll(cx) {
                Poll::Pending => Pin::new(&mut cut).poll(cx),
                done => done,
            })
            .await;
        }
        end
    }

    /// A reset goes on as a reset, after the data that came before it.
    async fn pass_on(&mut self, end: End, moved: &mut Moved) {
        let Relay { client, upstream, up, down, .. } = self;
        match end {
            End::Closed | End::Cut => {}
            End::Idle => {
                // TLS has an end of its own to say. Whoever takes nothing hears no end either.
                let ends = async { tokio::join!(client.shutdown(), upstream.shutdown()) };
                let _ = timeout(FAREWELL, ends).await;
            }
            End::ClientReset => {
                up.drain(client, upstream, &mut moved.up).await;
                upstream.wire().reset().await;
            }
            End::UpstreamReset => {
                down.drain(upstream, client, &mut moved.down).await;
                client.wire().reset().await;
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: &mut Moved) -> Poll<End> {
        let Relay { client, upstream, up, down, .. } = self;
        let done = |polled| match polled {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(broken)) => Err(broken),
            Poll::Pending => Ok(false),
        };
        let up_done = match done(up.poll(cx, client, upstream, down.is_done(), &mut moved.up)) {
            Ok(done) => done,
            Err(Broken::Source) => return Poll::Ready(End::ClientReset),
            Err(Broken::Sink) => return Poll::Ready(End::UpstreamReset),
        };
        let down_done = match done(down.poll(cx, upstream, client, up_done, &mut moved.down)) {
            Ok(done) => done,
            Err(Broken::Source) => return Poll::Ready(End::UpstreamReset),
            Err(Broken::Sink) => return Poll::Ready(End::ClientReset),
        };
        if up_done || down_done {
            let first = if up_done { Side::Client } else { Side::Service };
            self.ended_by.get_or_insert(first);
        }
        if up_done && down_done {
            return Poll::Ready(End::Closed);
        }
        // Data that arrived together with a reset was moved above, before the reset is seen here. A
        // side that is being read tells of one by itself.
        if !up.awaits_source() && client.wire().poll_broken(cx).is_ready() {
            return Poll::Ready(End::ClientReset);
        }
        if !down.awaits_source() && upstream.wire().poll_broken(cx).is_ready() {
            return Poll::Ready(End::UpstreamReset);
        }
        if self.guest == Guest::Visitor && down_done {
            let orphan = self.timers.get_or_insert_default().orphan.get_or_insert_default();
            if orphan.poll(cx, moved.up).is_ready() {
                return Poll::Ready(End::Closed);
            }
        }
        match self.timers.as_mut().and_then(|timers| timers.idle.as_mut()) {
            Some(idle) => idle.poll(cx, moved.up + moved.down).map(|()| End::Idle),
            None => Poll::Pending,
        }
    }
}

/// The time since a half-closed connection last moved a byte.
#[derive(Debug)]
struct Orphan {
    timer: Pin<Box<Sleep>>,
    delivered: u64,
}

impl Default for Orphan {
    fn default() -> Orphan {
        Orphan { timer: Box::pin(sleep(ORPHAN)), delivered: 0 }
    }
}

impl Orphan {
    fn poll(&mut self, cx: &mut Context<'_>, delivered: u64) -> Poll<()> {
        if self.delivered != delivered {
            self.delivered = delivered;
            self.timer.as_mut().reset(Instant::now() + ORPHAN);
        }
        self.timer.as_mut().poll(cx)
    }
}

/// The time since a relay last moved a byte. Moving one only notes when; the timer is set on when it
/// fires, not at each of them.
#[derive(Debug)]
struct Idle {
    most: Duration,
    moved: u64,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Idle {
    fn new(most: Duration) -> Idle {
        Idle { most, moved: 0, since: Instant::now(), timer: Box::pin(sleep(most)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        if self.moved != moved {
            self.moved = moved;
            self.since = Instant::now();
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let end = self.since + self.most;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
        Poll::Pending
    }
}
