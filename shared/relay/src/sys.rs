//! The syscalls that neither std, rustix nor socket2 wrap. Everything unsafe of the relay is here.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor in non-blocking mode with the reactor of this thread's runtime.
pub fn on_reactor(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is an open descriptor, the same one until it is dropped, and nobody else may
    // close it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, interest) };
    registered.map_err(io::Error::from)
}

/// Lets the socket have an address that is not this machine's (IP_TRANSPARENT, ip(7)), and leaves its
/// port to be chosen when it connects (IP_BIND_ADDRESS_NO_PORT): bound to port 0 alone it would take one
/// that no other connection from that address can have.
pub fn make_transparent(socket: impl AsFd, v4: bool) -> io::Result<()> {
    let own = SockRef::from(&socket);
    if v4 { own.set_ip_transparent_v4(true) } else { own.set_ip_transparent_v6(true) }?;
    let value: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the whole call, and the option value is a c_int whose
    // address and size are passed along.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes written to the socket that its peer has not yet acknowledged (SIOCOUTQ, tcp(7)).
pub fn unacknowledged(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed for the whole call, and TIOCOUTQ (SIOCOUTQ's other name)
    // writes one c_int to the address given.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if done == 0 {
        Ok(usize::try_from(count).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The smoothed round trip time that the kernel has measured (TCP_INFO, tcp(7)).
pub fn round_trip(socket: impl AsFd) -> io::Result<Duration> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the whole call, which writes no more than `length` bytes to
    // the address given.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is made of numbers, for which zeros, where the kernel wrote less, will do.
    let info = unsafe { info.assume_init() };
    Ok(Duration::from_micros(u64::from(info.tcpi_rtt)))
}
