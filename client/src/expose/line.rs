//! A connection to the server as lanes and the relay see it: the bare socket, or TLS by one carrier or the
//! other over it. Decides nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use postern_relay::{Leg, ReadAhead, Wire};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::carrier::Admitted;

/// A connection on which the server has admitted us.
pub(super) type Line = Admitted<Wire, ReadAhead>;

impl Leg for Line {
    fn wire(&self) -> &Wire {
        match self {
            Admitted::Plain(wire) => wire,
            Admitted::Tls(tls) => tls.get_ref().0.wire(),
            Admitted::Hello(tls) => tls.get_ref().0.below().wire(),
        }
    }

    fn bare(&mut self) -> Option<&mut Wire> {
        match self {
            Admitted::Plain(wire) => Some(wire),
            Admitted::Tls(_) | Admitted::Hello(_) => None,
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Admitted::Plain(wire) => Pin::new(wire).poll_read(cx, buf),
            Admitted::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Admitted::Hello(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Admitted::Plain(wire) => Pin::new(wire).poll_write(cx, buf),
            Admitted::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            Admitted::Hello(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Admitted::Plain(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Admitted::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            Admitted::Hello(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Admitted::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Admitted::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Admitted::Hello(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Admitted::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Admitted::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Admitted::Hello(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
