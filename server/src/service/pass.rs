//! Another process as a service, which takes the connection itself. Never says what becomes of one that
//! was handed over: revoking a key no longer ends it.
//!
//! For each connection posternd connects to the unix stream socket and sends one message (sendmsg(2))
//! with one descriptor in it (SCM_RIGHTS, unix(7)): the connection, in blocking mode, of which no byte
//! has been read but a knock. The message's data is one byte of 0, or, where `proxy-protocol` is set, the
//! PROXY header of that version, at most 107 bytes, instead. Then posternd closes its end; it reads
//! nothing. A connection that came in TLS which posternd terminates is handed over as one end of a socket
//! pair, behind which posternd goes on with the TLS.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use postern_relay::Wire;

use crate::program::Program;

/// Where connections are handed to.
#[derive(Debug)]
pub struct Handing {
    pub socket: PathBuf,
    /// What is run where nobody takes them.
    pub otherwise: Option<Program>,
}

impl Handing {
    pub fn to(socket: impl Into<PathBuf>) -> Handing {
        Handing { socket: socket.into(), otherwise: None }
    }
}

const NO_HEADER: &[u8] = &[0];

/// A process that waits for one connection.
#[derive(Debug)]
pub(crate) struct Taker(Wire);

impl Taker {
    pub(crate) async fn connect(path: &Path) -> io::Result<Taker> {
        Wire::connect_unix(path).await.map(Taker)
    }

    /// Gives the socket away, and says of whom it is by the PROXY header, where that is not empty.
    pub(crate) async fn hand_over(self, socket: OwnedFd, header: &[u8]) -> io::Result<()> {
        let data = if header.is_empty() { NO_HEADER } else { header };
        self.0.send_descriptor(data, &socket).await
    }
}
