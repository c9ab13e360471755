//! The socket below TLS, read in large pieces: rustls asks for 4 KiB at a time, which would cost a
//! syscall for each. Holds nothing while nothing comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::Wire;

/// Four records of TLS (RFC 8446 §5.1).
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
pub struct ReadAhead {
    wire: Wire,
    held: Vec<u8>,
    given: usize,
}

impl ReadAhead {
    pub fn new(wire: Wire) -> ReadAhead {
        ReadAhead { wire, held: Vec::new(), given: 0 }
    }

    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    pub fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn rest(&self) -> &[u8] {
        self.held.get(self.given..).unwrap_or_default()
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.given = 0;
        self.held.resize(PIECE, 0);
        let mut piece = ReadBuf::new(&mut self.held);
        let polled = Pin::new(&mut self.wire).poll_read(cx, &mut piece);
        let count = piece.filled().len();
        self.held.truncate(count);
        if count == 0 {
            self.held = Vec::new();
        }
        polled
    }
}

impl AsyncRead for ReadAhead {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest().is_empty() {
            ready!(self.poll_piece(cx))?;
        }
        let rest = self.rest();
        let count = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..count).unwrap_or_default());
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReadAhead {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
