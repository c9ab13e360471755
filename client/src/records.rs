//! A tunnel whose bytes pass through TLS, in pieces of several records. Never holds more than one
//! piece of each direction.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use crate::pipe::{End, Tunnel};
use crate::stdio::{BUFFER, Input, Output};

/// One TLS stream for two directions, which one task polls in turn.
pub struct Records<S>(RefCell<TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> Records<S> {
    pub fn new(stream: TlsStream<S>) -> Records<S> {
        Records(RefCell::new(stream))
    }

    async fn poll<T>(
        &self,
        mut poll: impl FnMut(Pin<&mut TlsStream<S>>, &mut Context<'_>) -> Poll<T>,
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

impl<S: AsyncRead + AsyncWrite + Unpin> Tunnel for Records<S> {
    async fn upward(&self, input: &Input) -> io::Result<()> {
        let mut piece = Vec::with_capacity(BUFFER);
        loop {
            // An input that fails is one that has ended.
            if input.read(&mut piece).await.is_err() || piece.is_empty() {
                return Ok(());
            }
            self.send(&piece).await?;
        }
    }

    async fn close(&self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_shutdown(cx)).await
    }

    async fn heard(&self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_fill_buf(cx).map_ok(drop)).await
    }

    async fn downward(&self, output: &Output) -> ControlFlow<End> {
        // Several records at once. To write each from where it lies would spare a copy and cost more:
        // ssh is woken for each, and takes the processor (measured: a third of our time).
        let mut piece = Vec::with_capacity(BUFFER);
        let end = self.poll(|mut stream, cx| {
            while piece.len() < BUFFER {
                let record = match stream.as_mut().poll_fill_buf(cx) {
                    Poll::Ready(Ok([])) => return Poll::Ready(Some(End::Server)),
                    Poll::Ready(Ok(record)) => record,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(End::Lost(error))),
                    Poll::Pending => break,
                };
                let (taken, _) = record.split_at(record.len().min(BUFFER - piece.len()));
                piece.extend_from_slice(taken);
                let count = taken.len();
                stream.as_mut().consume(count);
            }
            Poll::Ready(None)
        });
        // What came before the end is ssh's.
        let end = end.await;
        if output.write_all(&piece).await.is_err() {
            return ControlFlow::Break(End::Reader);
        }
        end.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }
}
