//! A tunnel whose bytes the kernel itself moves between ssh's pipes and the socket (splice(2)), and
//! which is copied wherever splice does not say how it stands. Never reads what it cannot write.
//!
//! EAGAIN from splice may mean that the source is empty or that the sink is full, and for ever that
//! an urgent byte is next; zero may be the end, or an urgent byte with the end behind it. So whatever
//! is not a count of bytes is asked again: the sink by poll(2), then the source by a read.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use crate::pipe::{End, Tunnel};
use crate::stdio::{BUFFER, Input, Output};

/// As much as the widest pipe holds.
#[cfg(target_os = "linux")]
const MOST: usize = 1024 * 1024;

impl Tunnel for TcpStream {
    async fn upward(&self, input: &Input) -> io::Result<()> {
        loop {
            consume_budget().await;
            // An input that fails is one that has ended.
            if input.readable().await.is_err() {
                return Ok(());
            }
            match splice(input, self)? {
                Some(0) => return Ok(()),
                Some(count) => input.carried(count),
                None if is_full(self) => self.writable().await?,
                None => {
                    let mut copied = Vec::with_capacity(BUFFER);
                    match input.try_read(&mut copied) {
                        Ok(()) if copied.is_empty() => return Ok(()),
                        Ok(()) => write_all(self, &copied).await?,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return Ok(()),
                    }
                }
            }
        }
    }

    async fn close(&self) -> io::Result<()> {
        Ok(shutdown(self, Shutdown::Write)?)
    }

    async fn heard(&self) -> io::Result<()> {
        self.readable().await
    }

    async fn downward(&self, output: &Output) -> ControlFlow<End> {
        loop {
            consume_budget().await;
            let written = match splice(self, output) {
                Ok(Some(count)) if count > 0 => {
                    output.carried(count);
                    Ok(())
                }
                Ok(_) if output.is_full() => output.writable().await,
                Ok(_) => {
                    let mut copied = Vec::with_capacity(BUFFER);
                    match self.try_read_buf(&mut copied) {
                        Ok(0) => return ControlFlow::Break(End::Server),
                        Ok(_) => output.write_all(&copied).await,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return ControlFlow::Continue(());
                        }
                        Err(error) => return ControlFlow::Break(End::Lost(error)),
                    }
                }
                Err(Errno::PIPE) => Err(Errno::PIPE.into()),
                Err(error) => return ControlFlow::Break(End::Lost(error.into())),
            };
            if written.is_err() {
                return ControlFlow::Break(End::Reader);
            }
        }
    }
}

/// Whether the socket has no room; `writable` then waits for some.
fn is_full(socket: &TcpStream) -> bool {
    is_blocked(&socket.try_io(Interest::WRITABLE, || expect_room(socket)))
}

/// Whether this failed for want of data or room.
pub fn is_blocked<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Fails as a write would where there is no room for one.
pub fn expect_room(sink: impl AsFd) -> io::Result<()> {
    let mut sink = [PollFd::new(&sink, PollFlags::OUT)];
    match retry_on_intr(|| poll(&mut sink, Some(&Timespec::default())))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How many bytes were moved; `None` where that cannot be said.
#[cfg(target_os = "linux")]
fn splice(from: impl AsFd, to: impl AsFd) -> Result<Option<usize>, Errno> {
    use rustix::pipe::SpliceFlags;

    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    match rustix::pipe::splice(from, None, to, None, MOST, flags) {
        // EINVAL: one of the two cannot be spliced at all.
        Err(Errno::AGAIN | Errno::INTR | Errno::INVAL) => Ok(None),
        moved => moved.map(Some),
    }
}

#[cfg(not(target_os = "linux"))]
fn splice(_from: impl AsFd, _to: impl AsFd) -> Result<Option<usize>, Errno> {
    Ok(None)
}

#[cfg(test)]
mod tests;
