//! One direction of a relay: small exchanges go through a scratch buffer that all connections of a
//! thread share, bulk between two sockets through a pipe that the kernel fills and empties itself
//! (splice(2)). Never reads more while the sink is full.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::timeout;

use crate::leg::Leg;
use crate::pipes::Pipe;

/// One read, and so the most that waits for a slow reader in each direction. Larger than the bytes
/// held while a connection was undecided, so that they go on in one write.
const CHUNK: usize = 64 * 1024;

/// Reads, or fillings of a pipe, in one go; then others have their turn.
const TURN: usize = 16;

/// How often a source may fail while what it sent before is passed on. It is told once, but may be told
/// ahead of bytes: splice stops with it at an urgent one.
const FAILURES: usize = 3;

/// How long what a reset side sent before may take to reach the other one.
const DRAIN: Duration = Duration::from_secs(10);

thread_local! {
    /// Reads land here and are written from here; only what a full side leaves over is kept by the
    /// connection, so an idle one holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// Which end of a way failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broken {
    Source,
    Sink,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct Way {
    held: Held,
    state: State,
    /// Data came in bulk when last it came: it is likely to go on so.
    bulk: bool,
    awaits_source: bool,
    /// The source was reset: no orderly end follows the last bytes.
    draining: bool,
}

/// What was read and not yet written. Only a sink that is full leaves something here.
#[derive(Debug)]
enum Held {
    Nothing,
    Bytes { bytes: Box<[u8]>, sent: usize },
    Piped(Box<Filled>),
}

/// A pipe, and how much it holds.
#[derive(Debug)]
struct Filled {
    pipe: Pipe,
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The source has ended; the sink is still to be told.
    Ending,
    Done,
}

impl Way {
    pub(crate) fn new(first: Vec<u8>) -> Way {
        Way {
            held: Held::of(&first),
            state: State::Open,
            bulk: false,
            awaits_source: false,
            draining: false,
        }
    }

    /// Whether the source's end has been passed on.
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the source is being read, and so tells by itself when it fails.
    pub(crate) fn awaits_source(&self) -> bool {
        self.awaits_source
    }

    /// Moves bytes until a side blocks; ready when the source's end has been passed on. Where this is
    /// the `last` direction to end, closing the socket, which follows, tells its peer.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Leg,
        sink: &mut impl Leg,
        last: bool,
        delivered: &mut u64,
    ) -> Poll<Result<(), Broken>> {
        ready!(self.move_data(cx, source, sink, delivered))?;
        if self.state == State::Ending {
            if !last || sink.bare().is_none() {
                ready!(Pin::new(sink).poll_shutdown(cx)).map_err(|_| Broken::Sink)?;
            }
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves bytes until a side blocks; ready when all that the source sent has been written.
    fn move_data(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Leg,
        sink: &mut impl Leg,
        delivered: &mut u64,
    ) -> Poll<Result<(), Broken>> {
        self.awaits_source = false;
        let mut turns = 0;
        loop {
            ready!(self.write_held(cx, sink, delivered)).map_err(|_| Broken::Sink)?;
            if self.state != State::Open {
                return Poll::Ready(Ok(()));
            }
            if self.bulk {
                ready!(self.move_bulk(cx, source, sink, delivered))?;
                continue;
            }
            if turns == TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            turns += 1;
            let read = SCRATCH.with_borrow_mut(|scratch| -> Poll<Result<Read, Broken>> {
                let read = ready!(poll_fill(cx, source, scratch)).map_err(|_| Broken::Source)?;
                let bytes = scratch.get(..read.count).unwrap_or_default();
                self.write(cx, sink, bytes, read.ended, delivered).map_err(|_| Broken::Sink)?;
                Poll::Ready(Ok(read))
            });
            match read {
                Poll::Ready(Ok(read)) => {
                    if read.failed {
                        return Poll::Ready(Err(Broken::Source));
                    }
                    if read.ended {
                        self.state = State::Ending;
                    }
                    if read.count == CHUNK {
                        self.bulk = source.can_splice() && sink.can_splice();
                    }
                    if !matches!(self.held, Held::Nothing) {
                        return Poll::Pending;
                    }
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => {
                    // The source has nothing more for now: what TLS has gathered must leave.
                    if let Poll::Ready(Err(_)) = Pin::new(&mut *sink).poll_flush(cx) {
                        return Poll::Ready(Err(Broken::Sink));
                    }
                    self.awaits_source = true;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Moves bulk from socket to socket through a pipe, which is given back empty. Ready where a buffer
    /// is to go on: there is no pipe left, or splice cannot pass what comes.
    fn move_bulk(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Leg,
        sink: &mut impl Leg,
        delivered: &mut u64,
    ) -> Poll<Result<(), Broken>> {
        let Some(pipe) = Pipe::take() else {
            self.bulk = false;
            return Poll::Ready(Ok(()));
        };
        let mut all = 0;
        for _ in 0..TURN {
            let spliced = source.poll_splice_into(cx, &pipe.writing, pipe.size);
            let mut count = match spliced {
                Poll::Ready(Ok(Some(count))) => count.get(),
                Poll::Ready(Ok(None)) => {
                    self.bulk = false;
                    pipe.give_back();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
                Poll::Pending => {
                    // Less than a read could have taken is no bulk.
                    self.bulk = all >= CHUNK;
                    self.awaits_source = true;
                    pipe.give_back();
                    return Poll::Pending;
                }
            };
            all += count;
            while count > 0 {
                match sink.poll_splice_from(cx, &pipe.reading, count) {
                    Poll::Ready(Ok(moved)) => {
                        count -= moved;
                        *delivered += moved as u64;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Sink)),
                    Poll::Pending => {
                        self.held = Held::Piped(Box::new(Filled { pipe, count }));
                        return Poll::Pending;
                    }
                }
            }
        }
        pipe.give_back();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes straight from the scratch buffer; keeps what the sink does not take.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Leg,
        bytes: &[u8],
        last: bool,
        delivered: &mut u64,
    ) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = match sink.bare() {
                Some(wire) if last && !self.draining => wire.poll_write_last(cx, rest),
                Some(_) | None => Pin::new(&mut *sink).poll_write(cx, rest),
            };
            match written? {
                Poll::Ready(count) => {
                    *delivered += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Poll::Pending => break,
            }
        }
        self.held = Held::of(rest);
        Ok(())
    }

    fn write_held(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut impl Leg,
        delivered: &mut u64,
    ) -> Poll<io::Result<()>> {
        match &mut self.held {
            Held::Nothing => return Poll::Ready(Ok(())),
            Held::Bytes { bytes, sent } => {
                while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
                    let count = ready!(Pin::new(&mut *sink).poll_write(cx, rest))?;
                    *sent += count;
                    *delivered += count as u64;
                }
            }
            Held::Piped(filled) => {
                while filled.count > 0 {
                    let Filled { pipe, count } = &mut **filled;
                    let moved = sink.poll_splice_from(cx, &pipe.reading, *count);
                    let moved = ready!(moved)?;
                    *count -= moved;
                    *delivered += moved as u64;
                }
            }
        }
        if let Held::Piped(filled) = std::mem::replace(&mut self.held, Held::Nothing) {
            filled.pipe.give_back();
        }
        Poll::Ready(Ok(()))
    }

    /// The source was reset: what it sent before still goes through, but its end is not passed on as
    /// an orderly one.
    pub(crate) async fn drain(
        &mut self,
        source: &mut impl Leg,
        sink: &mut impl Leg,
        delivered: &mut u64,
    ) {
        if self.state == State::Done {
            return;
        }
        self.draining = true;
        let moved = async {
            for _ in 0..FAILURES {
                match poll_fn(|cx| self.move_data(cx, source, sink, delivered)).await {
                    Err(Broken::Source) => {}
                    Ok(()) | Err(Broken::Sink) => break,
                }
            }
        };
        if timeout(DRAIN, moved).await.is_ok() {
            let _ = timeout(DRAIN, poll_fn(|cx| Pin::new(&mut *sink).poll_flush(cx))).await;
        }
    }
}

impl Held {
    fn of(bytes: &[u8]) -> Held {
        if bytes.is_empty() { Held::Nothing } else { Held::Bytes { bytes: bytes.into(), sent: 0 } }
    }
}

/// What a read got.
struct Read {
    count: usize,
    /// The source has ended after these bytes.
    ended: bool,
    /// The source failed after these bytes; it would not say so twice.
    failed: bool,
}

/// Reads what there is, so that it goes on in one write: from a socket at once, from TLS record by
/// record, and with its end where that has come too.
fn poll_fill(
    cx: &mut Context<'_>,
    source: &mut impl Leg,
    scratch: &mut [u8],
) -> Poll<io::Result<Read>> {
    let mut buffer = ReadBuf::new(scratch);
    let (mut ended, mut failed) = (false, false);
    loop {
        let count = buffer.filled().len();
        match Pin::new(&mut *source).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {
                ended = buffer.filled().len() == count;
                let all = source.bare().is_some_and(|wire| !wire.is_walled());
                if ended || all || buffer.remaining() == 0 {
                    break;
                }
            }
            Poll::Ready(Err(error)) if count == 0 => return Poll::Ready(Err(error)),
            Poll::Pending if count == 0 => return Poll::Pending,
            Poll::Ready(Err(_)) => {
                failed = true;
                break;
            }
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(Read { count: buffer.filled().len(), ended, failed }))
}
