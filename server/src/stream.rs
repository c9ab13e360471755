//! One side of a connection as the relay sees it: bytes in, bytes out, with or without TLS around the
//! socket, which stays in sight. Decides nothing.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use postern_relay::{Leg, ReadAhead, Wire};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::expose::Leased;

/// How long whoever is parted from has to take the last words.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection's side.
#[derive(Debug)]
pub enum Stream {
    Bare(Wire),
    Tls(Box<TlsStream<ReadAhead>>),
    /// To a service that a client exposes.
    Lane(Box<Leased>),
}

impl From<Wire> for Stream {
    fn from(wire: Wire) -> Stream {
        Stream::Bare(wire)
    }
}

impl From<Leased> for Stream {
    fn from(leased: Leased) -> Stream {
        Stream::Lane(Box::new(leased))
    }
}

impl From<TlsStream<ReadAhead>> for Stream {
    fn from(tls: TlsStream<ReadAhead>) -> Stream {
        Stream::Tls(Box::new(tls))
    }
}

impl Stream {
    /// Waits for that; `None` if the peer resets meanwhile: nothing is kept for somebody who is gone.
    pub async fn unless_reset<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = wait => Some(done),
            () = poll_fn(|cx| self.wire().poll_broken(cx)) => None,
        }
    }

    /// Moves it to the reactor of this thread.
    pub(crate) fn come_here(&mut self) -> io::Result<()> {
        match self {
            Stream::Bare(wire) => wire.come_here(),
            Stream::Tls(tls) => tls.get_mut().0.wire_mut().come_here(),
            Stream::Lane(leased) => leased.lane().stream_mut().come_here(),
        }
    }

    /// Says this; whoever does not take it in time is as good as gone.
    pub(crate) async fn say(&mut self, words: &[u8], patience: Duration) -> io::Result<()> {
        let said = async {
            self.write_all(words).await?;
            self.flush().await
        };
        timeout(patience, said).await?
    }

    /// Says some last words, and parts. His bytes are read meanwhile: closing a socket with unread ones sends
    /// a reset, which could overtake them.
    pub(crate) async fn part(mut self, words: &[u8]) {
        let farewell = async {
            self.write_all(words).await?;
            self.shutdown().await?;
            let mut rest = [0; 512];
            while self.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = timeout(FAREWELL, farewell).await;
    }

    /// Ends the connection with a reset, as [`Wire::reset`] prepares it; TLS gets no close of its own.
    pub async fn reset(self) {
        self.wire().reset().await;
    }
}

impl Leg for Stream {
    fn wire(&self) -> &Wire {
        match self {
            Stream::Bare(wire) => wire,
            Stream::Tls(tls) => tls.get_ref().0.wire(),
            Stream::Lane(leased) => leased.wire(),
        }
    }

    fn bare(&mut self) -> Option<&mut Wire> {
        match self {
            Stream::Bare(wire) => Some(wire),
            Stream::Tls(_) | Stream::Lane(_) => None,
        }
    }

    fn can_splice(&mut self) -> bool {
        match self {
            Stream::Bare(_) => true,
            Stream::Tls(_) => false,
            Stream::Lane(leased) => leased.lane().can_splice(),
        }
    }

    fn poll_splice_into(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<Option<NonZeroUsize>>> {
        match self {
            Stream::Bare(wire) => wire.poll_splice_into(cx, pipe, most),
            Stream::Tls(_) => Poll::Ready(Ok(None)),
            Stream::Lane(leased) => leased.lane().poll_splice_into(cx, pipe, most),
        }
    }

    fn poll_splice_from(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Lane(leased) => leased.lane().poll_splice_from(cx, pipe, most),
            Stream::Bare(wire) => wire.poll_splice_from(cx, pipe, most),
            Stream::Tls(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }
}

impl AsyncRead for Stream {
    /// The end without a close_notify (RFC 8446 §6.1) is an end all the same: ssh and HTTP know
    /// themselves whether they are complete, and many peers just close.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_read(cx, buf),
            Stream::Tls(tls) => match ready!(Pin::new(tls).poll_read(cx, buf)) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
                done => Poll::Ready(done),
            },
            Stream::Lane(leased) => Pin::new(leased.lane()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Stream::Lane(leased) => Pin::new(leased.lane()).poll_write(cx, buf),
        }
    }

    /// A lane says a header and what follows it at once.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Stream::Lane(leased) => Pin::new(leased.lane()).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Bare(_) | Stream::Tls(_) => true,
            Stream::Lane(_) => false,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Stream::Lane(leased) => Pin::new(leased.lane()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Stream::Lane(leased) => Pin::new(leased.lane()).poll_shutdown(cx),
        }
    }
}
