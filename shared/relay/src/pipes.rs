//! Pipes for splice(2), taken while data flows in bulk and given back empty. Bounded in number: who
//! gets none copies instead, and nobody waits.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// What a pipe should hold. 64 KiB ones cost a quarter more time; this is what an unprivileged process
/// may have (`fs.pipe-max-size`, pipe(7)).
const WANTED: usize = 1024 * 1024;

/// Pipes in all. A reader that stalls in the middle of bulk keeps one, with up to its size of data.
/// posternd sets two descriptors aside for each.
pub const MOST: usize = 128;

/// Idle ones that a thread keeps for the next: a connection has one only while it moves bulk, or has
/// filled it for a slow reader.
const KEPT: usize = 2;

static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much it takes at once.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub reading: OwnedFd,
    pub writing: OwnedFd,
    pub size: usize,
}

impl Pipe {
    /// An idle pipe or a new one; `None` where all are in use, or the process has no descriptors left.
    pub(crate) fn take() -> Option<Pipe> {
        if let Some(pipe) = IDLE.with_borrow_mut(Vec::pop) {
            return Some(pipe);
        }
        OPEN.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < MOST).then_some(open + 1)
        })
        .ok()?;
        let pipe = Pipe::open();
        if pipe.is_err() {
            OPEN.fetch_sub(1, Ordering::Relaxed);
        }
        pipe.ok()
    }

    /// Keeps an empty pipe for the next taker.
    pub(crate) fn give_back(self) {
        // A thread that is ending has no place to keep it any more: it is closed.
        let _ = IDLE.try_with(|idle| {
            if let Ok(mut idle) = idle.try_borrow_mut()
                && idle.len() < KEPT
            {
                idle.push(self);
            }
        });
    }

    fn open() -> io::Result<Pipe> {
        let (reading, writing) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Beyond `fs.pipe-user-pages-soft` the kernel refuses: a smaller pipe works, only slower.
        for size in [WANTED, WANTED / 4] {
            if fcntl_setpipe_size(&writing, size).is_ok() {
                break;
            }
        }
        let size = fcntl_getpipe_size(&writing)?;
        Ok(Pipe { reading, writing, size })
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_bounded_and_used_again() {
        let mut all: Vec<_> = std::iter::from_fn(Pipe::take).collect();
        assert_eq!(all.len(), MOST);
        all.pop().expect("one").give_back();
        assert!(Pipe::take().is_some(), "the one given back");
        drop(all);
        assert!(Pipe::take().is_some_and(|pipe| pipe.size >= 4096));
    }
}
