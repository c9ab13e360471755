//! From an address to a connected socket. Decides nothing of what is said on it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{set_tcp_nodelay, set_tcp_quickack, socket_error};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::time::sleep;

use super::Wire;
use crate::sys;

/// A unix listener whose backlog is full refuses at once (unix(7)); how soon to try again.
const FULL_BACKLOG: Duration = Duration::from_millis(10);

/// What happens once a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Bytes that are at hand are written at once.
    Write,
    /// The other side may have to speak first: it should hear of the connection now.
    Wait,
}

impl Wire {
    /// Connects over TCP, with small writes sent at once.
    pub async fn connect(to: SocketAddr, then: Then) -> io::Result<Wire> {
        Wire::connect_as(None, to, then).await
    }

    /// The same from the address `source`, where that is of the other's family.
    pub async fn connect_as(
        source: Option<IpAddr>,
        to: SocketAddr,
        then: Then,
    ) -> io::Result<Wire> {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        set_tcp_nodelay(&socket, true)?;
        if let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            sys::make_transparent(&socket, source.is_ipv4())?;
            rustix::net::bind(&socket, &SocketAddr::new(source, 0))?;
        }
        if then == Then::Write {
            // Its last acknowledgement travels with what is written, which saves a packet (tcp(7)).
            let _ = set_tcp_quickack(&socket, false);
        }
        match rustix::net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let wire = Wire::tcp(socket)?;
        // The handshake with a service on this machine has ended by now: asking is cheaper than
        // waiting to be told.
        while !wire.is_connected() {
            wire.fd.writable().await?.clear_ready();
            socket_error(wire.socket())??;
        }
        Ok(wire)
    }

    fn is_connected(&self) -> bool {
        rustix::net::getpeername(self.socket()).is_ok()
    }

    /// Connects to a unix socket.
    pub async fn connect_unix(path: &Path) -> io::Result<Wire> {
        let to = SocketAddrUnix::new(path)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        loop {
            match rustix::net::connect(&socket, &to) {
                Ok(()) => return Wire::unix(socket),
                Err(Errno::AGAIN) => sleep(FULL_BACKLOG).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
