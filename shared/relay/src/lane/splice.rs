//! Bodies of frames between a lane and a pipe (splice(2)). Decides where a body begins and ends; never sees its
//! bytes.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use super::{Lane, Reading, Writing};
use crate::leg::Leg;
use crate::wire::Wire;

impl<S: Leg> Leg for Lane<S> {
    fn wire(&self) -> &Wire {
        self.stream.wire()
    }

    fn bare(&mut self) -> Option<&mut Wire> {
        None
    }

    fn can_splice(&mut self) -> bool {
        self.stream.can_splice()
    }

    fn poll_splice_into(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<Option<NonZeroUsize>>> {
        ready!(self.poll_to_data(cx))?;
        match self.reading {
            Reading::Data(left) if self.rest().is_empty() => {
                let spliced = ready!(self.stream.poll_splice_into(cx, pipe, most.min(left)))?;
                if let Some(count) = spliced {
                    self.took(left, count.get());
                }
                Poll::Ready(Ok(spliced))
            }
            Reading::Data(_) | Reading::Header | Reading::Failed | Reading::Ended => {
                Poll::Ready(Ok(None))
            }
        }
    }

    /// All of a pipe's bytes are one body, however many calls they take.
    fn poll_splice_from(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &OwnedFd,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.writing {
                Writing::Header => self.begin(most),
                Writing::Begun { header, sent, then } => {
                    let rest = header.get(sent..).unwrap_or_default();
                    let count = ready!(self.stream.wire().poll_write_last(cx, rest))?;
                    self.begun(header, sent + count, then);
                }
                Writing::Data(left) => {
                    let spliced = self.stream.poll_splice_from(cx, pipe, most.min(left));
                    let count = ready!(spliced)?;
                    self.wrote(left, count);
                    return Poll::Ready(Ok(count));
                }
                Writing::Ended => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
    }
}
