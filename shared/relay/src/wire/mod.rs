//! A connected socket on the reactor, TCP or unix: reads, writes, splices, and how it ends. Knows when
//! a syscall is worth making; decides nothing about the bytes.
//!
//! Readiness is edge-triggered (epoll(7)). A read waits for it; a write is tried first, since most
//! sockets take what they are given, so [`poll_broken`](Wire::poll_broken) may use the write readiness
//! as its alarm.

mod connect;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, recv, send, sendmsg,
};
use rustix::pipe::{SpliceFlags, splice};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::time::{Instant, sleep};

pub use connect::Then;

use crate::sys;

/// How long data that was sent before a reset may take to be acknowledged. A peer that reads nothing
/// for so long gets the reset ahead of what it did not read.
const RESET_GRACE: Duration = Duration::from_secs(10);

const NO_WAIT: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// A connected socket.
#[derive(Debug)]
pub struct Wire {
    fd: AsyncFd<OwnedFd>,
    kind: Kind,
    /// Bytes may lie unread of which the reactor will not tell again: somebody peeked at them.
    unread: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
}

impl Wire {
    /// A connected TCP socket in non-blocking mode. To be called within a runtime.
    pub fn tcp(socket: OwnedFd) -> io::Result<Wire> {
        Wire::new(socket, Kind::Tcp)
    }

    /// A connected unix stream socket in non-blocking mode. To be called within a runtime.
    pub fn unix(socket: OwnedFd) -> io::Result<Wire> {
        Wire::new(socket, Kind::Unix)
    }

    fn new(socket: OwnedFd, kind: Kind) -> io::Result<Wire> {
        // Priority: an urgent byte must be known of, see `short_is_all`.
        let interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
        Ok(Wire { fd: sys::on_reactor(socket, interest)?, kind, unread: false })
    }

    /// Two connected unix sockets: ours on the reactor, and one in blocking mode for a child.
    pub fn pair() -> io::Result<(Wire, OwnedFd)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Wire::unix(ours.into())?, theirs.into()))
    }

    pub fn socket(&self) -> &OwnedFd {
        self.fd.get_ref()
    }

    /// The socket for another owner: off the reactor, in blocking mode, and nothing of it left here.
    pub fn into_socket(self) -> io::Result<OwnedFd> {
        let socket = self.fd.into_inner();
        rustix::io::ioctl_fionbio(&socket, false)?;
        Ok(socket)
    }

    /// Says that bytes lie unread: somebody has peeked at them.
    pub fn has_unread(&mut self) {
        self.unread = true;
    }

    /// Moves it to the reactor of this thread.
    pub fn come_here(&mut self) -> io::Result<()> {
        // A socket of the same connection: the old one goes with its place at the other reactor.
        let socket = rustix::io::fcntl_dupfd_cloexec(self.socket(), 0)?;
        let unread = self.unread;
        *self = Wire { unread, ..Wire::new(socket, self.kind)? };
        Ok(())
    }

    /// Takes away bytes that are known to lie ready.
    pub fn discard(&self, mut count: usize) -> io::Result<()> {
        let mut scratch = [0; 4096];
        while count > 0 {
            let part = scratch.get_mut(..count.min(4096)).unwrap_or_default();
            match recv(self.socket(), part, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, taken)) => count -= taken,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until there is something new to read, by the socket's low-water mark, or an end.
    pub async fn news(&self) -> io::Result<()> {
        let mut ready = poll_fn(|cx| self.fd.poll_read_ready(cx)).await?;
        ready.clear_ready();
        Ok(())
    }

    /// Whether a FIN or an urgent byte has come (tcp(7)): nothing comes after the one, and the other is a
    /// wall to whoever only looks. By what the reactor has heard; if more has happened,
    /// [`news`](Wire::news) does not wait.
    pub fn is_walled(&self) -> bool {
        self.has_urgent_byte()
    }

    /// Also true once the peer has ended: the priority event is told from that no further.
    fn has_urgent_byte(&self) -> bool {
        self.fd.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
    }

    /// Whether a read that filled less than it could took all there was, so that the next one need not
    /// be tried before the reactor says so. A read ends short of that at an urgent byte (tcp(7)), and on
    /// a unix socket at a passed descriptor (unix(7)). What comes after the read is a new edge.
    fn short_is_all(&self) -> bool {
        self.kind == Kind::Tcp && !self.has_urgent_byte()
    }

    /// Completes when the socket has failed: a reset, or a peer that no longer answers. For a side that
    /// nobody reads at the moment; whoever reads or writes finds the error himself, and it is not taken
    /// away from him.
    pub fn poll_broken(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.fd.try_io(Interest::ERROR, |_| Ok(())).is_ok() {
                return Poll::Ready(());
            }
            // An error is an event for writers too.
            match self.fd.poll_write_ready(cx) {
                Poll::Ready(Ok(ready)) if ready.ready().is_write_closed() => return Poll::Pending,
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Prepares the end of the connection to be a reset, after the peer acknowledged what was written
    /// before; closing then sends it. Closed at once with linger 0, it would discard what is still
    /// queued.
    pub async fn reset(&self) {
        let deadline = Instant::now() + RESET_GRACE;
        let mut pause = Duration::from_millis(1);
        while Instant::now() < deadline {
            match sys::unacknowledged(self.socket()) {
                Ok(0) | Err(_) => break,
                Ok(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        // A unix socket has no reset of its own; it is simply closed.
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut(&OwnedFd) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        let mut refused = false;
        loop {
            let ready = self.fd.poll_write_ready(cx)?;
            if refused && ready.is_pending() {
                return Poll::Pending;
            }
            match send(self.socket()) {
                Err(Errno::AGAIN) => match ready {
                    Poll::Ready(mut ready) => {
                        ready.clear_ready();
                        refused = true;
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Err(Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
    }
}

impl Wire {
    /// Writes bytes after which the end is to be said at once: the two then travel in one segment.
    pub(crate) fn poll_write_last(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::MORE))
    }
}

impl Wire {
    /// Sends bytes over a unix socket, and with the first of them a descriptor (SCM_RIGHTS, unix(7)).
    pub async fn send_descriptor(&self, bytes: &[u8], fd: &OwnedFd) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = poll_fn(|cx| {
                self.poll_send(cx, |socket| {
                    let fds = [fd.as_fd()];
                    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
                    let mut message = SendAncillaryBuffer::new(&mut space);
                    if rest.len() == bytes.len() {
                        message.push(SendAncillaryMessage::ScmRights(&fds));
                    }
                    sendmsg(socket, &[IoSlice::new(rest)], &mut message, SendFlags::NOSIGNAL)
                })
            });
            rest = rest.get(sent.await?..).unwrap_or_default();
        }
        Ok(())
    }
}

/// Zero-copy between a socket and a pipe (splice(2)).
impl Wire {
    /// Moves what the socket has into an empty pipe. `None` where only a read can tell how to go on: at
    /// the end, and at an urgent byte, ahead of which splice says EAGAIN for ever, or nothing when the
    /// end has come too.
    pub(crate) fn poll_splice_into(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<Option<NonZeroUsize>>> {
        loop {
            let ready = self.fd.poll_read_ready(cx)?;
            if ready.is_pending() && !self.unread {
                return Poll::Pending;
            }
            match splice(self.socket(), None, pipe, None, most, NO_WAIT) {
                Ok(count) => return Poll::Ready(Ok(NonZeroUsize::new(count))),
                Err(Errno::INVAL) => return Poll::Ready(Ok(None)),
                Err(Errno::AGAIN) if self.has_urgent_byte() => return Poll::Ready(Ok(None)),
                Err(Errno::AGAIN) => {
                    self.unread = false;
                    ready!(ready).clear_ready();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Moves up to `most` bytes, which the pipe holds, into the socket.
    pub(crate) fn poll_splice_from(
        &self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| splice(pipe, None, socket, None, most, NO_WAIT))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = self.get_mut();
        loop {
            let ready = wire.fd.poll_read_ready(cx)?;
            if ready.is_pending() && !wire.unread {
                return Poll::Pending;
            }
            let room = buf.remaining();
            match recv(wire.socket(), buf.initialize_unfilled(), RecvFlags::empty()) {
                Ok((_, count)) => {
                    buf.advance(count);
                    if (1..room).contains(&count) && wire.short_is_all() {
                        if let Poll::Ready(mut ready) = ready {
                            ready.clear_ready();
                        }
                        wire.unread = false;
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => {
                    wire.unread = false;
                    ready!(ready).clear_ready();
                }
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| send(socket, buf, SendFlags::NOSIGNAL))
    }

    /// TLS hands over its records one by one; together they take one call.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| rustix::io::writev(socket, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(rustix::net::shutdown(self.socket(), Shutdown::Write)?))
    }
}
