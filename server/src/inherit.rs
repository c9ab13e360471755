//! Sockets that a service manager bound before posternd was started (sd_listen_fds(3)): ports below
//! 1024 then need no privilege, and no connection is refused while posternd restarts. Never takes a
//! descriptor that is neither a listening TCP socket nor a UDP one.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getsockname};
use socket2::Socket;

use crate::sys;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// Why what was passed cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "descriptor {descriptor}, which LISTEN_FDS passes, is no listening TCP socket and no UDP socket; in \
     the .socket unit use ListenStream= or ListenDatagram= with a port"
)]
pub struct NotAListener {
    descriptor: RawFd,
}

/// What was passed and waits to be wanted.
#[derive(Debug, Default)]
pub struct Inherited {
    pub(crate) listeners: Passed,
    pub(crate) datagrams: Passed,
}

impl Inherited {
    /// Takes what was passed to this process, if anything was.
    ///
    /// # Safety
    ///
    /// Nothing in this process may own a descriptor beyond the standard three.
    pub unsafe fn take() -> Result<Inherited, NotAListener> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        let mut inherited = Inherited::default();
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Ok(inherited);
        }
        let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
        for descriptor in FIRST..FIRST.saturating_add(count) {
            // SAFETY: the caller's promise is the same.
            let fd = unsafe { sys::claim(descriptor) }.map_err(|_| NotAListener { descriptor })?;
            let (passed, address) = inherited.place_of(&fd).ok_or(NotAListener { descriptor })?;
            passed.0.push((address, Socket::from(fd)));
        }
        Ok(inherited)
    }

    fn place_of(&mut self, fd: &OwnedFd) -> Option<(&mut Passed, SocketAddr)> {
        let internet = [AddressFamily::INET, AddressFamily::INET6];
        socket_domain(fd).ok().filter(|family| internet.contains(family))?;
        let address = SocketAddr::try_from(getsockname(fd).ok()?).ok()?;
        if socket_acceptconn(fd).unwrap_or(false) {
            Some((&mut self.listeners, address))
        } else if socket_type(fd).ok()? == SocketType::DGRAM && address.port() != 0 {
            Some((&mut self.datagrams, address))
        } else {
            None
        }
    }
}

/// Sockets of one kind.
#[derive(Debug, Default)]
pub(crate) struct Passed(Vec<(SocketAddr, Socket)>);

impl Passed {
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        self.get(address).is_some()
    }

    pub(crate) fn get(&self, address: SocketAddr) -> Option<&Socket> {
        self.0.iter().find(|(own, _)| *own == address).map(|(_, socket)| socket)
    }

    /// The socket with this address, if one was passed.
    pub(crate) fn claim(&mut self, address: SocketAddr) -> Option<Socket> {
        let at = self.0.iter().position(|(own, _)| *own == address)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Those that nobody has wanted.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}
