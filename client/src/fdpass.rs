//! Hands the socket to ssh over standard output (ssh's ProxyUseFdpass), so that ssh reads and writes it
//! itself. Never reads standard input, which is the same socket, nor anything from the server.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::cmsg_space;
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, getsockname, sendmsg,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;

use crate::error::Error;

/// What ssh's `mm_receive_fd` wants beside the descriptor: one byte, whichever.
const BYTE: [u8; 1] = [0];

/// The ssh that waits for a descriptor at the other end of standard output.
pub struct Ssh(AsyncFd<OwnedFd>);

impl Ssh {
    /// To be called within a runtime.
    pub fn open() -> Result<Ssh, Error> {
        let stdout = io::stdout();
        // A pipe is no socket at all, and no other family can carry a descriptor.
        if !getsockname(&stdout).is_ok_and(|own| own.address_family() == AddressFamily::UNIX) {
            return Err(Error::Usage(
                "--fdpass: standard output is no socket that ssh could take the connection from; \
                 put `ProxyUseFdpass yes` beside the ProxyCommand in ssh's configuration, or leave \
                 --fdpass out"
                    .to_owned(),
            ));
        }
        watched(&stdout)
            .map_err(|error| Error::Local(format!("cannot use standard output: {error}")))
    }

    /// Returns when ssh is gone.
    pub async fn gone(&self) {
        loop {
            match self.0.readable().await {
                Ok(ready) if ready.ready().is_read_closed() => return,
                // Whatever ssh may say meanwhile is not for us.
                Ok(mut ready) => ready.clear_ready(),
                // An error of the reactor itself is no reason to give up a connection.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// Gives the connection away; none of it is left here.
    pub fn hand_over(self, stream: TcpStream) -> io::Result<()> {
        // Off the reactor, and with the flags of a socket that ssh had made itself.
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let sockets = [stream.as_fd()];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        message.push(SendAncillaryMessage::ScmRights(&sockets));
        retry_on_intr(|| {
            sendmsg(&self.0, &[IoSlice::new(&BYTE)], &mut message, SendFlags::empty())
        })?;
        Ok(())
    }
}

/// With O_NONBLOCK as it is: others may hold this end of the pair too.
fn watched(socket: impl AsFd) -> io::Result<Ssh> {
    let socket = socket.as_fd().try_clone_to_owned()?;
    // SAFETY: an OwnedFd is the same open descriptor for as long as it lives.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    Ok(Ssh(socket))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use socket2::SockRef;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    async fn tcp() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let ours = TcpStream::connect(listener.local_addr().expect("bound")).await;
        (ours.expect("a listener"), listener.accept().await.expect("a connection").0)
    }

    /// As ssh's mm_receive_fd does it.
    fn receive(ssh: &UnixStream) -> (usize, Vec<OwnedFd>) {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut messages = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [7; 4];
        let mut into = [std::io::IoSliceMut::new(&mut bytes)];
        let got = recvmsg(ssh, &mut into, &mut messages, RecvFlags::empty()).expect("a message");
        let mut sockets = Vec::new();
        for message in messages.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        (got.bytes, sockets)
    }

    #[tokio::test]
    async fn ssh_gets_one_byte_and_a_blocking_socket_that_nobody_else_holds() {
        let (ssh, ours) = UnixStream::pair().expect("a pair");
        let (mut stream, mut server) = tcp().await;
        stream.set_nodelay(true).expect("a socket");
        stream.write_all(b"knock").await.expect("room");
        watched(&ours).expect("a reactor").hand_over(stream).expect("room for a byte");
        drop(ours);

        let (bytes, mut sockets) = receive(&ssh);
        assert_eq!((bytes, sockets.len()), (1, 1));
        let socket = sockets.pop().expect("one");
        assert!(!fcntl_getfl(&socket).expect("open").contains(OFlags::NONBLOCK));
        assert!(SockRef::from(&socket).tcp_nodelay().expect("a TCP socket"));
        drop(socket);
        let mut seen = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut server, &mut seen).await.expect("the end");
        assert_eq!(seen, b"knock", "and the end: no copy is left");
    }

    #[tokio::test]
    async fn an_ssh_that_is_gone_is_noticed_and_one_that_speaks_is_not_gone() {
        let (mut ssh, ours) = UnixStream::pair().expect("a pair");
        let watched = watched(&ours).expect("a reactor");
        assert!(!fcntl_getfl(&ours).expect("open").contains(OFlags::NONBLOCK));
        std::io::Write::write_all(&mut ssh, b"x").expect("room");
        let gone = timeout(Duration::from_millis(50), watched.gone()).await;
        assert!(gone.is_err(), "it is still there");
        drop(ssh);
        watched.gone().await;
    }
}
