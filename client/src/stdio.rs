//! Standard input and output as two pipe ends on the reactor, whatever they really are. Never sets a
//! flag on a descriptor that somebody else may be reading or writing.
//!
//! ssh gives its ProxyCommand two pipes, whose ends are ours alone. Anything else (a file, a
//! terminal, a socket) shares its O_NONBLOCK with others, so a thread copies between it and a pipe
//! of our own; as it is nobody's to join, a thread that hangs in a read or a write does not keep
//! the process.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::oneshot;

use crate::splice;
use crate::width::Width;

/// How much is read at once, and so held in memory for each direction.
pub const BUFFER: usize = 64 * 1024;

/// Both ends of the tunnel on this side.
pub struct Stdio {
    pub input: Input,
    pub output: Output,
}

impl Stdio {
    /// To be called within a runtime.
    pub fn open() -> io::Result<Stdio> {
        Ok(Stdio {
            input: Input::new(io::stdin().as_fd().try_clone_to_owned()?)?,
            output: Output::new(io::stdout().as_fd().try_clone_to_owned()?)?,
        })
    }
}

/// Where ssh's bytes come from.
pub struct Input {
    pipe: Receiver,
    width: Width,
    _flags: Option<Flags>,
}

impl Input {
    /// Of a pipe's end, or of anything else with a thread in between.
    pub fn new(fd: OwnedFd) -> io::Result<Input> {
        if is_pipe(&fd)? {
            let flags = Flags::of(&fd)?;
            return Ok(Input::of(Receiver::from_owned_fd(fd)?, Some(flags)));
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // An error ends the input as its end would: the writer is dropped.
        thread::spawn(move || io::copy(&mut File::from(fd), &mut File::from(writer)));
        Ok(Input::of(Receiver::from_owned_fd(reader)?, None))
    }

    /// An input that has ended.
    pub fn nothing() -> io::Result<Input> {
        let (reader, _) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Input::of(Receiver::from_owned_fd(reader)?, None))
    }

    fn of(pipe: Receiver, flags: Option<Flags>) -> Input {
        Input { pipe, width: Width::default(), _flags: flags }
    }

    /// What can be had at once, up to `max` bytes; may be nothing.
    pub fn ready(&self, max: usize) -> Vec<u8> {
        let mut bytes = vec![0; max];
        let had = self.pipe.try_read(&mut bytes).unwrap_or(0);
        bytes.truncate(had);
        bytes
    }

    /// Returns when there may be something to read, or the end.
    pub async fn readable(&self) -> io::Result<()> {
        self.pipe.readable().await
    }

    /// Replaces what is in `buffer` by what is there, up to its capacity; nothing at the end.
    pub fn try_read(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        self.pipe.try_read_buf(buffer).map(|count| self.carried(count))
    }

    /// The same of what comes next.
    pub async fn read(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            self.readable().await?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Takes note of so many bytes that have left the pipe.
    pub fn carried(&self, count: usize) {
        self.width.carried(&self.pipe, count);
    }
}

impl AsFd for Input {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Where ssh reads its bytes.
pub struct Output {
    pipe: Sender,
    width: Width,
    _flags: Option<Flags>,
    /// How it went for the thread, if there is one.
    written: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Output {
    /// Of a pipe's end, or of anything else with a thread in between.
    pub fn new(fd: OwnedFd) -> io::Result<Output> {
        if is_pipe(&fd)? {
            let flags = Flags::of(&fd)?;
            let pipe = Sender::from_owned_fd(fd)?;
            return Ok(Output::of(pipe, Some(flags), None));
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let (done, written) = oneshot::channel();
        thread::spawn(move || done.send(copy_while_read(reader, fd)));
        Ok(Output::of(Sender::from_owned_fd(writer)?, None, Some(written)))
    }

    fn of(
        pipe: Sender,
        flags: Option<Flags>,
        written: Option<oneshot::Receiver<io::Result<()>>>,
    ) -> Output {
        Output { pipe, width: Width::default(), _flags: flags, written }
    }

    /// Returns when something may be written, or nobody reads any more.
    pub async fn writable(&self) -> io::Result<()> {
        self.pipe.writable().await
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.pipe.try_write(bytes) {
                Ok(written) => {
                    self.carried(written);
                    bytes = bytes.get(written..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether there is no room; [`writable`](Self::writable) then waits for some.
    pub fn is_full(&self) -> bool {
        splice::is_blocked(&self.pipe.try_io(|| splice::expect_room(&self.pipe)))
    }

    /// Takes note of so many bytes that have entered the pipe.
    pub fn carried(&self, count: usize) {
        self.width.carried(&self.pipe, count);
    }

    /// Returns when the reader has gone, which is how an ssh killed with -9 looks.
    pub async fn gone(&self) {
        // An error of the reactor itself is no reason to end a tunnel that still works.
        if self.pipe.ready(Interest::ERROR).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns when everything is where the reader finds it, or cannot get there.
    pub async fn finish(self) -> io::Result<()> {
        drop(self.pipe);
        match self.written {
            Some(written) => written.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

impl AsFd for Output {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// A descriptor's status flags as they were, put back when dropped.
struct Flags {
    fd: OwnedFd,
    flags: OFlags,
}

impl Flags {
    fn of(fd: &OwnedFd) -> io::Result<Flags> {
        Ok(Flags { fd: fd.try_clone()?, flags: fcntl_getfl(fd)? })
    }
}

impl Drop for Flags {
    fn drop(&mut self) {
        let _ = fcntl_setfl(&self.fd, self.flags);
    }
}

fn is_pipe(fd: &OwnedFd) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Fifo)
}

/// Copies until the end, an error, or until nobody reads `to` any more, also while nothing comes.
fn copy_while_read(from: OwnedFd, to: OwnedFd) -> io::Result<()> {
    let mut to = File::from(to);
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let mut ends = [PollFd::new(&from, PollFlags::IN), PollFd::new(&to, PollFlags::empty())];
        retry_on_intr(|| poll(&mut ends, None))?;
        let [_, reader] = &ends;
        if reader.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            return Err(Errno::PIPE.into());
        }
        buffer.clear();
        if retry_on_intr(|| rustix::io::read(&from, rustix::buffer::spare_capacity(&mut buffer)))?
            == 0
        {
            return Ok(());
        }
        to.write_all(&buffer)?;
    }
}
