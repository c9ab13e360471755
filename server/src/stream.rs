//! One side of a connection as the relay sees it: bytes in, bytes out, with or without TLS around the
//! socket, which stays in sight. Decides nothing.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

use postern_relay::{Leg, ReadAhead, Wire};

/// A connection's side.
#[derive(Debug)]
pub enum Stream {
    Bare(Wire),
    Tls(Box<TlsStream<ReadAhead>>),
}

impl From<Wire> for Stream {
    fn from(wire: Wire) -> Stream {
        Stream::Bare(wire)
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
        }
    }

    fn bare(&mut self) -> Option<&mut Wire> {
        match self {
            Stream::Bare(wire) => Some(wire),
            Stream::Tls(_) => None,
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
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Stream::Bare(wire) => Pin::new(wire).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
