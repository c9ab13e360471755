//! The socket below TLS during a handshake that knocks: makes sure that the hello which leaves is the one
//! that was tagged, and hears in the ServerHello's random whether it was recognised, before TLS itself
//! reads on. Passes everything through as it is.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use postern_shared::knock::{CarrierKey, ack};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Record header, message header and legacy version lie before the random (RFC 8446, 5.1 and 4.1.3).
const BEFORE_RANDOM: usize = 5 + 4 + 2;
const RANDOM: usize = 32;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;

/// Whether the server knows us: nothing until it has said its first word.
#[derive(Clone, Debug, Default)]
pub(super) struct Recognition(Arc<OnceLock<bool>>);

impl Recognition {
    /// Whoever has not yet answered has not recognised anybody.
    pub(super) fn is_given(&self) -> bool {
        self.0.get().is_some_and(|recognised| *recognised)
    }
}

/// What is needed to tell whether a ServerHello answers to our knock.
pub(super) struct Ear {
    pub(super) ack: CarrierKey,
    pub(super) client_random: [u8; RANDOM],
    pub(super) recognition: Recognition,
}

/// A stream that is listened to.
pub struct Overhear<S> {
    stream: S,
    /// What is still to leave of the hello.
    hello: Vec<u8>,
    heard: Vec<u8>,
    ear: Option<Ear>,
}

impl<S> Overhear<S> {
    pub(super) fn new(stream: S, hello: Vec<u8>, ear: Ear) -> Overhear<S> {
        Overhear { stream, hello, heard: Vec::new(), ear: Some(ear) }
    }

    pub fn below(&self) -> &S {
        &self.stream
    }

    /// A server's first record is its hello, or else something that recognises nobody.
    fn hear(&mut self, bytes: &[u8]) {
        let Some(ear) = &self.ear else { return };
        let missing = BEFORE_RANDOM + RANDOM - self.heard.len();
        self.heard.extend(bytes.iter().take(missing));
        if bytes.len() < missing {
            return;
        }
        let is_hello =
            self.heard.first() == Some(&HANDSHAKE) && self.heard.get(5) == Some(&SERVER_HELLO);
        let random = self.heard.last_chunk().filter(|_| is_hello);
        let recognised =
            random.is_some_and(|random| ack::opens_random(random, &ear.ack, &ear.client_random));
        let _ = ear.recognition.0.set(recognised);
        self.ear = None;
        self.heard = Vec::new();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Overhear<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if self.ear.is_some() {
            self.hear(buf.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overhear<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.hello.is_empty() {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        if !buf.starts_with(&self.hello) && !self.hello.starts_with(buf) {
            return Poll::Ready(Err(io::Error::other(
                "another hello than the one that was tagged",
            )));
        }
        let most = buf.len().min(self.hello.len());
        let (hello, _) = buf.split_at(most);
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, hello))?;
        self.hello.drain(..sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.hello.is_empty() {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |first| &first[..]))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
