//! One side of a connection, with or without TLS around it, such that the socket below stays in sight:
//! whoever relays can wait for its reset and end it with one. Decides nothing.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::Shutdown;
use rustix::pipe::{SpliceFlags, splice};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsStream;

use crate::sys;

/// How long data that was sent before a reset may take to be acknowledged. A peer that reads nothing
/// for so long gets the reset ahead of what it did not read.
const RESET_GRACE: Duration = Duration::from_secs(10);

const NO_WAIT: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// A connected socket, shared between the TLS session that uses it and the relay that watches it.
#[derive(Clone, Debug)]
pub struct Wire(Arc<Socket>);

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! on_socket {
    ($wire:expr, $socket:ident => $call:expr) => {
        match &*$wire.0 {
            Socket::Tcp($socket) => $call,
            Socket::Unix($socket) => $call,
        }
    };
}

impl From<TcpStream> for Wire {
    fn from(socket: TcpStream) -> Wire {
        Wire(Arc::new(Socket::Tcp(socket)))
    }
}

impl From<UnixStream> for Wire {
    fn from(socket: UnixStream) -> Wire {
        Wire(Arc::new(Socket::Unix(socket)))
    }
}

impl Wire {
    /// Waits until the socket has failed: a reset, or a peer that no longer answers. Does not take the
    /// error away from whoever reads or writes.
    pub async fn broken(&self) {
        loop {
            let ready = on_socket!(self, socket => socket.ready(Interest::ERROR).await);
            match ready {
                Ok(ready) if !ready.is_error() => continue,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Probes an admitted peer that has gone quiet, so that a tunnel whose client vanished ends, and an
    /// idle one stays in the tables of address translators (many forget after 60 s). Never for
    /// strangers: the website's own listener would show no such probes.
    pub fn keep_alive(&self) {
        let probes = TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(6);
        match &*self.0 {
            // Best effort: a socket that refuses the option is served without.
            Socket::Tcp(socket) => drop(SockRef::from(socket).set_tcp_keepalive(&probes)),
            Socket::Unix(_) => {}
        }
    }

    /// Ends the connection with a reset, after the peer acknowledged what was written before. An
    /// immediate close with linger 0 would discard what is still queued.
    pub async fn reset(self) {
        let deadline = Instant::now() + RESET_GRACE;
        let mut pause = Duration::from_millis(1);
        while Instant::now() < deadline {
            match on_socket!(self, socket => sys::unacknowledged(socket)) {
                Ok(0) | Err(_) => break,
                Ok(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        // A unix socket has no reset of its own; it is simply closed.
        let _ = on_socket!(self, socket => SockRef::from(socket).set_linger(Some(Duration::ZERO)));
    }
}

/// Zero-copy between a socket and a pipe (splice(2)).
impl Wire {
    /// Moves what the socket has into an empty pipe. Leaves the reactor's readiness alone: EAGAIN can
    /// also mean that splice cannot go on where a read can.
    pub(crate) fn splice_into(&self, pipe: &OwnedFd, most: usize) -> Result<usize, Errno> {
        on_socket!(self, socket => splice(socket, None, pipe, None, most, NO_WAIT))
    }

    /// Moves up to `most` bytes, which the pipe holds, into the socket.
    pub(crate) fn poll_splice_from(
        &self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        on_socket!(self, socket => loop {
            ready!(socket.poll_write_ready(cx))?;
            let moved = socket.try_io(Interest::WRITABLE, || {
                Ok(splice(pipe, None, socket, None, most, NO_WAIT)?)
            });
            match moved {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_socket!(self, socket => loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_socket!(self, socket => loop {
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = on_socket!(self, socket => rustix::net::shutdown(socket, Shutdown::Write));
        Poll::Ready(done.map_err(io::Error::from))
    }
}

/// A connection's side as the relay sees it: bytes in, bytes out, and the wire below.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    tls: Option<Box<TlsStream<Wire>>>,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Stream {
        Stream { wire: socket.into(), tls: None }
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Stream {
        Stream { wire: socket.into(), tls: None }
    }
}

impl From<TlsStream<Wire>> for Stream {
    fn from(tls: TlsStream<Wire>) -> Stream {
        Stream { wire: tls.get_ref().0.clone(), tls: Some(Box::new(tls)) }
    }
}

impl Stream {
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Ends the connection with a reset, as [`Wire::reset`] does; TLS gets no close of its own.
    pub async fn reset(self) {
        let Stream { wire, tls } = self;
        drop(tls);
        wire.reset().await;
    }

    /// The bare socket, where nothing stands between it and the bytes.
    pub(crate) fn socket(&self) -> Option<&Wire> {
        self.tls.is_none().then_some(&self.wire)
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
        let Some(tls) = &mut self.tls else {
            return Pin::new(&mut self.wire).poll_read(cx, buf);
        };
        match ready!(Pin::new(tls).poll_read(cx, buf)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.tls {
            Some(tls) => Pin::new(tls).poll_write(cx, buf),
            None => Pin::new(&mut self.wire).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(tls) => Pin::new(tls).poll_flush(cx),
            None => Pin::new(&mut self.wire).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.tls {
            Some(tls) => Pin::new(tls).poll_shutdown(cx),
            None => Pin::new(&mut self.wire).poll_shutdown(cx),
        }
    }
}
