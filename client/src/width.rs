//! Decides when a pipe is made to hold more than it does by default. Never narrows one, and never
//! fails: a narrow pipe works too, only slower.

use std::cell::Cell;
use std::os::fd::AsFd;

/// Beyond this it is bulk. Wide pipes count against what a user may have in all, whose next pipes
/// would be tiny (`fs.pipe-user-pages-soft`, pipe(7)), and most sessions do not need any.
const BULK: usize = 1024 * 1024;

/// The most that an unprivileged process may ask for (`fs.pipe-max-size`), and what may still be had
/// where that is too much.
#[cfg(target_os = "linux")]
const SIZES: [usize; 2] = [1024 * 1024, 256 * 1024];

/// What a pipe has carried so far; `None` once it has been widened.
pub struct Width(Cell<Option<usize>>);

impl Default for Width {
    fn default() -> Width {
        Width(Cell::new(Some(0)))
    }
}

impl Width {
    /// Takes note of so many bytes, and widens the pipe where they make it a carrier of bulk.
    pub fn carried(&self, pipe: impl AsFd, count: usize) {
        let Some(before) = self.0.get() else { return };
        let carried = before.saturating_add(count);
        if carried < BULK {
            self.0.set(Some(carried));
        } else {
            self.0.set(None);
            widen(pipe);
        }
    }
}

#[cfg(target_os = "linux")]
fn widen(pipe: impl AsFd) {
    use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

    let now = fcntl_getpipe_size(&pipe).unwrap_or(usize::MAX);
    let _ = SIZES
        .iter()
        .filter(|size| **size > now)
        .any(|size| fcntl_setpipe_size(&pipe, *size).is_ok());
}

#[cfg(not(target_os = "linux"))]
fn widen(_pipe: impl AsFd) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

    use super::*;

    #[test]
    fn only_bulk_widens_a_pipe_and_only_once() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let size = || fcntl_getpipe_size(&reader).expect("a pipe");
        let (narrow, width) = (size(), Width::default());
        width.carried(&reader, BULK - 1);
        assert_eq!(size(), narrow);
        width.carried(&reader, 1);
        let wide = size();
        assert!(wide > narrow, "{wide}");
        fcntl_setpipe_size(&reader, narrow).expect("it is empty");
        width.carried(&reader, BULK);
        assert_eq!(size(), narrow);
    }

    #[test]
    fn a_wider_pipe_stays_as_wide() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        fcntl_setpipe_size(&reader, BULK).expect("anybody may have one");
        Width::default().carried(&reader, usize::MAX);
        assert_eq!(fcntl_getpipe_size(&reader).expect("a pipe"), BULK);
    }
}
