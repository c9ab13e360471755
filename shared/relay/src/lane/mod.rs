//! A connection that carries one visitor after the other: his bytes and their end in frames
//! ([`postern_shared::expose::lane`]), so that the connection itself outlives him. What is not ended in order
//! on both ways makes it useless, and closing it is then a reset to the other end. Knows no visitor.

mod apology;
mod splice;

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use postern_shared::expose::lane::{Frame, HEADER, MOST_DATA, Opening};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use apology::Apology;

use crate::leg::Leg;

/// What is read ahead with a header: small exchanges take one syscall.
const AHEAD: usize = 16 * 1024;

/// After so long a body only the header is read ahead: what follows it is likely to go through a pipe.
const LONG: usize = 32 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; AHEAD].into_boxed_slice());
}

/// A lane over a stream.
#[derive(Debug)]
pub struct Lane<S> {
    stream: S,
    /// Was read behind a header and not yet given on.
    ahead: Vec<u8>,
    given: usize,
    reading: Reading,
    writing: Writing,
    /// The length of the last body of data.
    last: usize,
    /// Where the other end may say that the service cannot be reached.
    apology: Option<Box<Apology>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Between two frames.
    Header,
    /// So much of a body is still to come.
    Data(usize),
    /// The service cannot be reached.
    Failed,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    /// Between two frames.
    Header,
    /// So much of this header has left.
    Begun {
        header: [u8; HEADER],
        sent: usize,
        then: Then,
    },
    /// So much of a body is owed.
    Data(usize),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Data(usize),
    End,
}

impl<S: Leg> Lane<S> {
    pub fn new(stream: S) -> Lane<S> {
        Lane {
            stream,
            ahead: Vec::new(),
            given: 0,
            reading: Reading::Header,
            writing: Writing::Header,
            last: 0,
            apology: None,
        }
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether both ways ended in order: it can carry another one.
    pub fn is_spent(&self) -> bool {
        self.reading == Reading::Ended && self.writing == Writing::Ended
    }

    /// Makes a spent one ready for the next, who may have come right behind the end of the one before: to
    /// the other end both ways had ended then.
    pub fn renew(&mut self) {
        if self.rest().is_empty() {
            self.ahead = Vec::new();
            self.given = 0;
        }
        self.reading = Reading::Header;
        self.writing = Writing::Header;
        self.last = 0;
        self.apology = None;
    }

    /// Has an answer to the first words that are said read where the other end says that the service cannot be
    /// reached; without one that is a reset. `words` were said already.
    pub fn apologise(&mut self, words: &[u8], answer: fn(&[u8]) -> Option<Vec<u8>>) {
        self.apology = Some(Box::new(Apology::new(words, answer)));
    }

    /// Sends frames as they are, between others.
    pub async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        debug_assert_eq!(self.writing, Writing::Header);
        self.stream.write_all(frames).await?;
        self.stream.flush().await
    }

    /// What comes next; the body of data is then read as from any stream. `None` at the end of the
    /// connection.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        if !ready!(self.poll_ahead(cx, HEADER))? {
            return Poll::Ready(if self.rest().is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            });
        }
        let frame = self.rest().first_chunk().copied().and_then(Frame::parse);
        let Some(frame) = frame else { return Poll::Ready(Err(foreign())) };
        self.given += HEADER;
        match frame {
            Frame::Data(length) => {
                self.last = length;
                self.reading = Reading::Data(length);
            }
            Frame::Fin => self.reading = Reading::Ended,
            Frame::Open(_) | Frame::Taken | Frame::Passed | Frame::Failed => {}
        }
        Poll::Ready(Ok(Some(frame)))
    }

    /// The visitor whom the next frame brings. `None` at the end of the connection.
    pub fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Opening>>> {
        // Header and body come in one write, so mostly in one piece; the header stays until both are there.
        if !ready!(self.poll_ahead(cx, HEADER))? {
            return Poll::Ready(Ok(None));
        }
        let Some(Frame::Open(length)) = self.rest().first_chunk().copied().and_then(Frame::parse)
        else {
            return Poll::Ready(Err(foreign()));
        };
        if !ready!(self.poll_ahead(cx, HEADER + length))? {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let opening = self.rest().get(HEADER..HEADER + length).and_then(Opening::parse);
        self.given += HEADER + length;
        Poll::Ready(opening.map(Some).ok_or_else(foreign))
    }

    fn rest(&self) -> &[u8] {
        self.ahead.get(self.given..).unwrap_or_default()
    }

    /// Reads until so many bytes lie ahead; `false` where the connection ends before.
    fn poll_ahead(&mut self, cx: &mut Context<'_>, count: usize) -> Poll<io::Result<bool>> {
        while self.rest().len() < count {
            // What is left is part of a header: a peer whose reads always end in one must not have it pile up.
            self.ahead.drain(..self.given);
            self.given = 0;
            let most = if self.last >= LONG { count - self.rest().len() } else { AHEAD };
            let Lane { stream, ahead, .. } = self;
            let read = SCRATCH.with_borrow_mut(|scratch| {
                let scratch = scratch.get_mut(..most.min(AHEAD)).unwrap_or_default();
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                ahead.extend_from_slice(buffer.filled());
                Poll::Ready(Ok::<_, io::Error>(buffer.filled().len()))
            });
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Goes on to a body of data, or to the end.
    fn poll_to_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.reading == Reading::Header {
            match ready!(self.poll_frame(cx))? {
                // The service has been reached.
                Some(Frame::Data(_) | Frame::Fin) => self.apology = None,
                Some(Frame::Failed) => self.reading = Reading::Failed,
                Some(Frame::Open(_) | Frame::Taken | Frame::Passed) => {
                    return Poll::Ready(Err(foreign()));
                }
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads the answer to whoever spoke to a service that cannot be reached; behind it the other end says
    /// that there is no more.
    fn poll_apology(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let reset = || Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        let Some(apology) = &mut self.apology else { return reset() };
        let is_all = self.writing == Writing::Ended;
        let Some(answer) = ready!(apology.poll_answer(cx, is_all)) else { return reset() };
        self.ahead.splice(self.given..self.given, answer.iter().copied());
        self.apology = None;
        self.reading = Reading::Data(answer.len());
        Poll::Ready(Ok(()))
    }

    fn took(&mut self, left: usize, count: usize) {
        self.reading = match left.saturating_sub(count) {
            0 => Reading::Header,
            left => Reading::Data(left),
        };
    }

    fn wrote(&mut self, left: usize, count: usize) {
        self.writing = match left.saturating_sub(count) {
            0 => Writing::Header,
            left => Writing::Data(left),
        };
    }

    /// Counts what left of a header and, behind it, of its body; answers how much of the latter.
    fn begun(&mut self, header: [u8; HEADER], sent: usize, then: Then) -> usize {
        if sent < HEADER {
            self.writing = Writing::Begun { header, sent, then };
            return 0;
        }
        match then {
            Then::Data(length) => self.wrote(length, sent - HEADER),
            Then::End => self.writing = Writing::Ended,
        }
        sent - HEADER
    }

    fn begin(&mut self, length: usize) {
        let length = length.min(MOST_DATA);
        let header = Frame::Data(length).header();
        self.writing = Writing::Begun { header, sent: 0, then: Then::Data(length) };
    }
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what a lane says")
}

impl<S: Leg> AsyncRead for Lane<S> {
    /// An end of the connection that no frame announced is an error.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let lane = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        ready!(lane.poll_to_data(cx))?;
        if lane.reading == Reading::Failed {
            ready!(lane.poll_apology(cx))?;
        }
        match lane.reading {
            Reading::Header | Reading::Failed | Reading::Ended => {}
            Reading::Data(left) => {
                let count = if lane.rest().is_empty() {
                    let most = left.min(buf.remaining());
                    let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
                    ready!(Pin::new(&mut lane.stream).poll_read(cx, &mut part))?;
                    let count = part.filled().len();
                    if count == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    buf.advance(count);
                    count
                } else {
                    let count = lane.rest().len().min(left).min(buf.remaining());
                    buf.put_slice(lane.rest().get(..count).unwrap_or_default());
                    lane.given += count;
                    count
                };
                lane.took(left, count);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Leg> AsyncWrite for Lane<S> {
    /// What is not taken of `buf` must be offered again: its length has been announced.
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let lane = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if let Some(apology) = &mut lane.apology {
            apology.hear(buf);
        }
        loop {
            match lane.writing {
                Writing::Header => lane.begin(buf.len()),
                Writing::Begun { header, sent, then } => {
                    let length = match then {
                        Then::Data(length) => length.min(buf.len()),
                        Then::End => 0,
                    };
                    let parts = [
                        IoSlice::new(header.get(sent..).unwrap_or_default()),
                        IoSlice::new(buf.get(..length).unwrap_or_default()),
                    ];
                    let stream = Pin::new(&mut lane.stream);
                    let count = ready!(stream.poll_write_vectored(cx, &parts))?;
                    let written = lane.begun(header, sent + count, then);
                    if written > 0 {
                        return Poll::Ready(Ok(written));
                    }
                }
                Writing::Data(left) => {
                    let part = buf.get(..left.min(buf.len())).unwrap_or_default();
                    let count = ready!(Pin::new(&mut lane.stream).poll_write(cx, part))?;
                    lane.wrote(left, count);
                    return Poll::Ready(Ok(count));
                }
                Writing::Ended => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Says that there is no more to come; the connection stays.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lane = self.get_mut();
        loop {
            match lane.writing {
                Writing::Header => {
                    let header = Frame::Fin.header();
                    lane.writing = Writing::Begun { header, sent: 0, then: Then::End };
                }
                Writing::Begun { header, sent, then: Then::End } => {
                    let rest = header.get(sent..).unwrap_or_default();
                    let count = ready!(Pin::new(&mut lane.stream).poll_write(cx, rest))?;
                    lane.begun(header, sent + count, Then::End);
                }
                // A body that was announced cannot be completed any more.
                Writing::Begun { then: Then::Data(_), .. } | Writing::Data(_) => {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                Writing::Ended => return Pin::new(&mut lane.stream).poll_flush(cx),
            }
        }
    }
}

#[cfg(test)]
mod tests;
