//! One direction of a relay: small exchanges go through a scratch buffer that all connections of a
//! thread share, bulk between two sockets through a pipe that the kernel fills and empties itself
//! (splice(2)). Never reads more while the sink is full.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::pipes::Pipe;
use crate::stream::{Stream, Wire};

/// One read, and so the most that waits for a slow reader in each direction. Larger than the bytes
/// held while a connection was undecided, so that they go on in one write.
const CHUNK: usize = 64 * 1024;

/// Pipe fillings in one go; then others have their turn.
const TURN: usize = 16;

/// How long what a reset side sent before may take to reach the other one.
const DRAIN: Duration = Duration::from_secs(10);

thread_local! {
    /// Reads land here and are written from here; only what a full side leaves over is kept by the
    /// connection, so an idle one holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Which end of a way failed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Broken {
    Source,
    Sink,
}

/// One direction.
pub(super) struct Way {
    /// Read but not yet written, from `sent` on.
    left: Vec<u8>,
    sent: usize,
    bulk: Option<Bulk>,
    state: State,
    pub delivered: u64,
}

/// A pipe between the two sockets, and what it holds.
struct Bulk {
    pipe: Pipe,
    held: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; the sink is still to be told.
    Ending,
    Done,
}

impl Way {
    pub(super) fn new(first: Vec<u8>) -> Way {
        Way { left: first, sent: 0, bulk: None, state: State::Open, delivered: 0 }
    }

    /// Whether the source's end has been passed on.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Moves bytes until a side blocks; ready when the source's end has been passed on.
    pub(super) fn poll(
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
            if self.bulk.is_some()
                && let (Some(from), Some(to)) = (source.socket(), sink.socket())
            {
                ready!(self.move_bulk(cx, from, to))?;
            }
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
                Poll::Ready(Ok(CHUNK)) if source.socket().is_some() && sink.socket().is_some() => {
                    self.bulk = Pipe::take().map(|pipe| Bulk { pipe, held: 0 });
                }
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

    /// Moves bulk through the pipe while the source has some; ready, and the pipe given back, when it
    /// has none. What comes then is for the scratch buffer: that is also how an urgent byte is passed,
    /// ahead of which splice says EAGAIN for ever.
    fn move_bulk(
        &mut self,
        cx: &mut Context<'_>,
        source: &Wire,
        sink: &Wire,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            let Some(bulk) = &mut self.bulk else { return Poll::Ready(Ok(())) };
            while bulk.held > 0 {
                let moved = sink.poll_splice_from(cx, &bulk.pipe.reading, bulk.held);
                let moved = ready!(moved).map_err(|_| Broken::Sink)?;
                bulk.held -= moved;
                self.delivered += moved as u64;
            }
            match source.splice_into(&bulk.pipe.writing, bulk.pipe.size) {
                Ok(0) => {
                    self.state = State::Ending;
                    self.end_bulk();
                }
                Ok(moved) => bulk.held = moved,
                Err(Errno::INTR) => {}
                // EAGAIN, or a socket that cannot be spliced: copying is always right.
                Err(Errno::AGAIN | Errno::INVAL) => {
                    self.end_bulk();
                }
                Err(_) => return Poll::Ready(Err(Broken::Source)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn end_bulk(&mut self) {
        if let Some(bulk) = self.bulk.take() {
            bulk.pipe.give_back();
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
    pub(super) async fn drain(&mut self, source: &mut Stream, sink: &mut Stream) {
        if self.state == State::Done {
            return;
        }
        let moved = poll_fn(|cx| self.move_data(cx, source, sink));
        if let Ok(Ok(())) = timeout(DRAIN, moved).await {
            let _ = timeout(DRAIN, poll_fn(|cx| Pin::new(&mut *sink).poll_flush(cx))).await;
        }
    }
}
