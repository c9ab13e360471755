//! One side of a connection as the relay sees it. Decides nothing.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::Wire;

/// Bytes in, bytes out, with or without something around the socket, which stays in sight.
pub trait Leg: AsyncRead + AsyncWrite + Unpin {
    /// The socket at the bottom.
    fn wire(&self) -> &Wire;

    /// The socket, where nothing stands between it and the bytes.
    fn bare(&mut self) -> Option<&mut Wire>;

    /// Whether its bytes can go through a pipe that the kernel fills and empties (splice(2)).
    fn can_splice(&mut self) -> bool {
        self.bare().is_some()
    }

    /// Moves bytes into an empty pipe; `None` where only a read can tell how to go on.
    fn poll_splice_into(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<Option<NonZeroUsize>>> {
        match self.bare() {
            Some(wire) => wire.poll_splice_into(cx, pipe, most),
            None => Poll::Ready(Ok(None)),
        }
    }

    /// Moves up to `most` bytes, which the pipe holds, out of it. Only where
    /// [`can_splice`](Leg::can_splice) said so.
    fn poll_splice_from(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.wire().poll_splice_from(cx, pipe, most)
    }
}

impl Leg for Wire {
    fn wire(&self) -> &Wire {
        self
    }

    fn bare(&mut self) -> Option<&mut Wire> {
        Some(self)
    }
}
