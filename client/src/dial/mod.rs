//! Gets a TCP connection to an address. Knows of names, addresses and socket options, never of what
//! will be said over the connection.

mod eyeballs;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use crate::address::Address;
use crate::deadline::{Deadline, Step};
use crate::error::Error;

/// Connects to `at`, with all of its addresses tried.
pub async fn dial(at: &Address, deadline: Deadline) -> Result<TcpStream, Error> {
    let addresses = resolve(at, deadline).await?;
    reach(at, addresses, deadline).await
}

/// The addresses of `at`.
pub async fn resolve(at: &Address, deadline: Deadline) -> Result<Vec<SocketAddr>, Error> {
    let looking = lookup_host((at.host.as_str(), at.port.get()));
    let found = deadline
        .hold(Step::Resolve, at, looking)
        .await?
        .map_err(|cause| Error::Resolve { host: at.host.clone(), cause })?;
    Ok(found.collect())
}

/// A connection to one of them.
pub async fn reach(
    at: &Address,
    addresses: Vec<SocketAddr>,
    deadline: Deadline,
) -> Result<TcpStream, Error> {
    let connecting = async {
        let stream = eyeballs::connect(addresses).await?;
        set_options(&stream)?;
        Ok(stream)
    };
    deadline
        .hold(Step::Connect, at, connecting)
        .await?
        .map_err(|cause| Error::Connect { at: at.clone(), cause })
}

/// ssh sets these itself on a socket, but cannot on our pipes.
fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    keep_alive(stream)
}

/// Has the kernel ask after a peer that is silent.
pub fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    // Some NATs forget a connection after 60 s of silence.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}
