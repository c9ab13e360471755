//! A tunnel whose bytes pass through TLS: read from ssh in large pieces, written to ssh from where
//! they were decrypted. Never holds more than one piece of each direction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::pipe::{End, Tunnel};
use crate::stdio::{BUFFER, Input, Output};

/// One TLS stream for two directions, which one task polls in turn.
pub struct Records(RefCell<TlsStream<TcpStream>>);

impl Records {
    pub fn new(stream: TlsStream<TcpStream>) -> Records {
        Records(RefCell::new(stream))
    }

    async fn poll<T>(
        &self,
        mut poll: impl FnMut(Pin<&mut TlsStream<TcpStream>>, &mut Context<'_>) -> Poll<T>,
    ) -> T {
        poll_fn(|cx| poll(Pin::new(&mut *self.0.borrow_mut()), cx)).await
    }

    async fn send(&self, piece: &[u8]) -> io::Result<()> {
        let mut rest = piece;
        self.poll(|mut stream, cx| {
            while !rest.is_empty() {
                let count = ready!(stream.as_mut().poll_write(cx, rest))?;
                rest = rest.get(count..).unwrap_or_default();
            }
            stream.poll_flush(cx)
        })
        .await
    }
}

impl Tunnel for Records {
    async fn upward(&self, input: &Input) -> io::Result<()> {
        let mut piece = Vec::with_capacity(BUFFER);
        loop {
            // An input that fails is one that has ended.
            if input.readable().await.is_err() {
                return Ok(());
            }
            match input.try_read(&mut piece) {
                Ok(()) if piece.is_empty() => return Ok(()),
                Ok(()) => self.send(&piece).await?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(()),
            }
        }
    }

    async fn close(&self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_shutdown(cx)).await
    }

    async fn heard(&self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_fill_buf(cx).map_ok(drop)).await
    }

    async fn downward(&self, output: &Output) -> ControlFlow<End> {
        if output.writable().await.is_err() {
            return ControlFlow::Break(End::Reader);
        }
        self.poll(|mut stream, cx| {
            let piece = match stream.as_mut().poll_fill_buf(cx) {
                Poll::Ready(Ok([])) => return Poll::Ready(ControlFlow::Break(End::Server)),
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(ControlFlow::Break(End::Lost(error)));
                }
                Poll::Pending => return Poll::Ready(ControlFlow::Continue(())),
            };
            match output.try_write(piece) {
                Ok(count) => stream.consume(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(ControlFlow::Break(End::Reader)),
            }
            Poll::Ready(ControlFlow::Continue(()))
        })
        .await
    }
}
