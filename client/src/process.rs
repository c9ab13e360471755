//! What this process shows and keeps of the one that started it: no core dumps, no descriptors
//! beyond the standard three. Never touches standard input, output or error.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The first descriptor that is not one of the standard three.
pub const FIRST_INHERITED: RawFd = 3;

/// Keeps keys out of core dumps and away from other processes of the same user. Where the kernel
/// refuses, there is nothing better to do than to go on.
pub fn forbid_dumps() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Closes every inherited descriptor above standard error but `wanted`, which it returns. Whoever
/// waits for the end of a pipe that was leaked to us would else wait until we exit.
///
/// # Safety
///
/// Nothing in this process may own a descriptor beyond the standard three.
pub unsafe fn close_inherited(wanted: Option<RawFd>) -> io::Result<Option<OwnedFd>> {
    // SAFETY: the caller's promise is the same.
    let wanted = wanted.map(|fd| unsafe { claim(fd) }).transpose()?;
    let kept = wanted.as_ref().map(AsRawFd::as_raw_fd);
    for fd in inherited().into_iter().filter(|fd| kept != Some(*fd)) {
        // SAFETY: the caller's promise is the same.
        drop(unsafe { claim(fd) });
    }
    Ok(wanted)
}

/// Owns a descriptor from now on, if it is open.
///
/// # Safety
///
/// As for [`close_inherited`].
unsafe fn claim(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < FIRST_INHERITED {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: only looked at, and a number that is not open answers EBADF.
    rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) })?;
    // SAFETY: it is open, and by the caller's promise nobody in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Without a list (no /proc) nothing is closed, which is no reason not to connect.
fn inherited() -> Vec<RawFd> {
    let number = |entry: io::Result<fs::DirEntry>| -> Option<RawFd> {
        entry.ok()?.file_name().to_str()?.parse().ok()
    };
    // The list also names the descriptor that it was read from, which is closed by now.
    fs::read_dir("/dev/fd")
        .map(|list| list.filter_map(number).filter(|fd| *fd >= FIRST_INHERITED).collect())
        .unwrap_or_default()
}
