//! The syscalls that neither std, rustix nor socket2 wrap, and clocks and randomness. Everything unsafe
//! in posternd is here.

pub(crate) mod datagrams;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

/// Owns a descriptor from now on, if it is open; a child does not inherit it any more.
///
/// # Safety
///
/// Nobody in this process may own it.
pub(crate) unsafe fn claim(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only looked at, and a number that is not open answers EBADF.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(fd) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and by the caller's promise nobody owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Fresh randomness.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

/// Sets SO_RCVLOWAT (socket(7)): how many bytes must lie ready before the socket counts as readable.
pub(crate) fn set_receive_low_water(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is borrowed for the whole call, and the option value is a c_int whose
    // address and size are passed along.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether [`make_transparent`](postern_relay::sys::make_transparent) is allowed.
pub(crate) fn try_transparent() -> io::Result<()> {
    postern_relay::sys::make_transparent(Socket::new(Domain::IPV4, Type::STREAM, None)?, true)
}

/// Time since boot, suspended time included.
pub(crate) fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// What tells one boot of this machine from every other (random(4)); `None` where the system does not say.
pub(crate) fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    postern_shared::hex::decode(&text.trim().replace('-', ""))
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_time() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What a child process is settled with before its program begins.
#[derive(Clone, Debug)]
pub(crate) struct Settled {
    /// Its limit on open files; posternd's own otherwise.
    pub(crate) open_files: Option<Rlimit>,
    /// Whose rights it has; posternd's own otherwise.
    pub(crate) account: Option<Account>,
}

/// Has the child lead a session of its own, with no descriptor beyond the standard three, and no capability
/// but those of its account. Its signal mask is emptied by std.
pub(crate) fn settle(command: &mut Command, settled: Settled) {
    let settle = move || -> io::Result<()> {
        rustix::process::setsid()?;
        if let Some(limit) = settled.open_files {
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        if let Some(account) = &settled.account {
            become_user(account)?;
        }
        // What posternd may by AmbientCapabilities= of systemd is not for what it runs (capabilities(7)).
        rustix::thread::clear_ambient_capability_set()?;
        // Ours are closed on exec all; this is for what whoever started posternd left open. Kernels
        // before 5.11 do not know it.
        // SAFETY: flags are set on descriptors; none is closed here.
        unsafe {
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        Ok(())
    };
    // SAFETY: between fork and exec it makes syscalls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(settle) };
}

/// Groups go first: without root's rights they could not be set any more.
fn become_user(account: &Account) -> io::Result<()> {
    let checked = |done| if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: as many group ids are read as the list has.
    checked(unsafe { libc::setgroups(account.groups.len(), account.groups.as_ptr()) })?;
    // SAFETY: takes a number; the process that calls it has this thread only.
    checked(unsafe { libc::setgid(account.gid) })?;
    // SAFETY: as above.
    checked(unsafe { libc::setuid(account.uid) })
}

/// A user of this system (passwd(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    gid: u32,
    groups: Vec<libc::gid_t>,
    pub(crate) home: OsString,
    pub(crate) shell: OsString,
}

/// Room for a line of the user database, and most groups that Linux lets a process be in (credentials(7)).
const USER_LINE: usize = 16 * 1024;
const MOST_GROUPS: usize = 65_536;

/// The account of this name; `None` if there is none.
pub(crate) fn account(name: &str) -> io::Result<Option<Account>> {
    let c_name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut line = vec![0; USER_LINE];
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let mut found = ptr::null_mut();
    // SAFETY: the name ends with NUL, the line is as long as said, and all of them live through the call.
    let failed = unsafe {
        libc::getpwnam_r(
            c_name.as_ptr(),
            entry.as_mut_ptr(),
            line.as_mut_ptr(),
            line.len(),
            &raw mut found,
        )
    };
    if failed != 0 {
        return Err(io::Error::from_raw_os_error(failed));
    }
    if found.is_null() {
        return Ok(None);
    }
    // SAFETY: it was found, and so filled; its words lie in `line`, which is there still.
    let (entry, home, shell) = unsafe {
        let entry = entry.assume_init_ref();
        (entry, CStr::from_ptr(entry.pw_dir), CStr::from_ptr(entry.pw_shell))
    };
    let owned = |word: &CStr| OsStr::from_bytes(word.to_bytes()).to_owned();
    let mut groups = vec![0; MOST_GROUPS];
    let mut count = libc::c_int::try_from(groups.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the list has as many places as `count` says, which the call sets to those it filled.
    let listed = unsafe {
        libc::getgrouplist(c_name.as_ptr(), entry.pw_gid, groups.as_mut_ptr(), &raw mut count)
    };
    if listed < 0 {
        return Err(io::Error::other("it is in too many groups"));
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups.shrink_to_fit();
    Ok(Some(Account {
        name: name.to_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups,
        home: owned(home),
        shell: owned(shell),
    }))
}
