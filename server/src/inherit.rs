//! Listeners that a service manager bound before posternd was started (sd_listen_fds(3)): ports below
//! 1024 then need no privilege, and no connection is refused while posternd restarts. Never takes a
//! descriptor that is not a listening TCP socket.

use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use rustix::net::{AddressFamily, getsockname};
use socket2::Socket;

use crate::sys;

/// The first descriptor that is passed.
const FIRST: RawFd = 3;

/// Why what was passed cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "descriptor {descriptor}, which LISTEN_FDS passes, is no listening TCP socket; in the .socket \
     unit use ListenStream= with a port"
)]
pub struct NotAListener {
    descriptor: RawFd,
}

/// Listeners that were passed and wait to be wanted.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, Socket)>);

impl Inherited {
    /// Takes what was passed to this process, if anything was.
    ///
    /// # Safety
    ///
    /// Nothing in this process may own a descriptor beyond the standard three.
    pub unsafe fn take() -> Result<Inherited, NotAListener> {
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Ok(Inherited::default());
        }
        let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok()).unwrap_or(0);
        let listener = |descriptor| {
            // SAFETY: the caller's promise is the same.
            let fd = unsafe { sys::claim(descriptor) }.map_err(|_| NotAListener { descriptor })?;
            let address = listening(&fd).ok_or(NotAListener { descriptor })?;
            Ok((address, Socket::from(fd)))
        };
        (FIRST..FIRST.saturating_add(count)).map(listener).collect::<Result<_, _>>().map(Inherited)
    }

    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        self.addresses().any(|own| own == address)
    }

    /// The listener with this address, if one was passed.
    pub(crate) fn claim(&mut self, address: SocketAddr) -> Option<Socket> {
        let at = self.0.iter().position(|(own, _)| *own == address)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Those that nobody has wanted.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}

fn listening(fd: &OwnedFd) -> Option<SocketAddr> {
    let internet = [AddressFamily::INET, AddressFamily::INET6];
    let listens = socket_domain(fd).is_ok_and(|family| internet.contains(&family))
        && socket_acceptconn(fd).unwrap_or(false);
    let address = listens.then(|| getsockname(fd).ok())?;
    SocketAddr::try_from(address?).ok()
}
