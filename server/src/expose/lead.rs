//! A visitor to his lane. His first bytes go along, but stay his until the client says that it has him: a lane
//! whose other end is gone without a word must not take them with it. A client takes a visitor once, however
//! many lanes he is offered on.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use postern_relay::{Leg, sys};
use postern_shared::expose::lane::{Frame, HEADER, Opening};
use rustix::net::{RecvFlags, recv};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::exposure::Exposure;
use super::page::{Status, page_for};
use super::pool::{Leased, Pool};
use crate::service::{Dialing, Failure, Service, header};
use crate::stream::Stream;

/// The least that a client may take to say that it has a visitor, before another lane is tried.
const PATIENCE: Duration = Duration::from_millis(250);

/// First bytes that go along: as much as a lane's socket takes at once.
const MOST_FIRST: usize = 16 * 1024;

/// What he said so far, still to be read from his socket.
pub(crate) fn peek(visitor: &Stream) -> Vec<u8> {
    let mut first = Vec::with_capacity(MOST_FIRST);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    // Whoever is gone is found out by the relay.
    let _ = recv(visitor.wire().socket(), rustix::buffer::spare_capacity(&mut first), flags);
    first
}

/// Why a visitor has no lane.
pub(crate) enum Unled {
    /// He is gone.
    Left,
    Failure(Failure),
}

/// Finds the visitor a lane that was taken. `first` are bytes that were read from him; they are taken too.
pub(crate) async fn lead(
    exposure: &Arc<Exposure>,
    service: &Service,
    dialing: &Dialing,
    visitor: &mut Stream,
    first: &[u8],
) -> Result<Leased, Unled> {
    let until = Instant::now() + service.connect;
    let peeked = if visitor.bare().is_some() { peek(visitor) } else { Vec::new() };
    let said = [&header(service, dialing), first, &peeked].concat();
    let offered = visitor.unless_reset(offer(exposure, dialing, &said, until)).await;
    let mut leased = offered.ok_or(Unled::Left)?.map_err(Unled::Failure)?;
    if let Some(wire) = visitor.bare() {
        wire.discard(peeked.len()).map_err(|_| Unled::Left)?;
        wire.has_unread();
    }
    let words = if first.is_empty() { &peeked } else { first };
    leased.lane().apologise(words, |words| page_for(words, Status::BadGateway));
    exposure.count_visitor();
    Ok(leased)
}

/// Offers him on one lane after the other until he is taken.
async fn offer(
    exposure: &Arc<Exposure>,
    dialing: &Dialing,
    said: &[u8],
    until: Instant,
) -> Result<Leased, Failure> {
    let mut asked = Asked::default();
    loop {
        let (mut leased, offer) = if asked.lanes.is_empty() {
            exposure.lane(until).await.ok_or(Failure::Away)?
        } else {
            tokio::select! {
                biased;
                answer = asked.answer() => match answer {
                    Answer::Taken(leased) => return Ok(leased),
                    // The lane on which he was taken went before it could say so.
                    Answer::Passed => return Err(Failure::Untaken),
                    Answer::Nobody => continue,
                },
                () = sleep_until(until) => return Err(Failure::Away),
                lane = exposure.lane(until) => {
                    lane.ok_or(Failure::Away)?
                }
            }
        };
        let visitor = asked.number(&leased.pool).ok_or(Failure::Untaken)?;
        let Dialing { peer, local, .. } = *dialing;
        let frames = frames(&Opening { visitor, offer, peer, local }, said);
        let patience = patience(&leased);
        let sent = timeout(patience, leased.lane().send(&frames)).await;
        asked.lanes.push(Sent { leased, count: frames.len() });
        if !matches!(sent, Ok(Ok(()))) {
            asked.forget_last();
            continue;
        }
        match timeout_at(until.min(Instant::now() + patience), asked.answer()).await {
            Ok(Answer::Taken(leased)) => return Ok(leased),
            Ok(Answer::Passed) => return Err(Failure::Untaken),
            Ok(Answer::Nobody) | Err(_) => {}
        }
    }
}

/// Twice the round trip, as the kernel has measured it.
fn patience(leased: &Leased) -> Duration {
    sys::round_trip(leased.wire().socket()).map_or(PATIENCE, |trip| PATIENCE.max(trip * 2))
}

fn frames(opening: &Opening, said: &[u8]) -> Vec<u8> {
    let body = opening.encode();
    let mut frames = Vec::with_capacity(2 * HEADER + body.len() + said.len());
    frames.extend(Frame::Open(body.len()).header());
    frames.extend(body);
    if !said.is_empty() {
        frames.extend(Frame::Data(said.len()).header());
        frames.extend(said);
    }
    frames
}

/// The lanes on which a visitor was offered.
#[derive(Default)]
struct Asked {
    lanes: Vec<Sent>,
    /// His number, and in whose count.
    visitor: Option<(Arc<Pool>, u64)>,
    /// Whether a lane that is gone may have delivered him.
    is_heard: bool,
}

struct Sent {
    leased: Leased,
    count: usize,
}

enum Answer {
    Taken(Leased),
    Passed,
    /// All lanes have gone without an answer.
    Nobody,
}

impl Asked {
    /// His number for this pool's client. To another client he may go only if no byte of his has reached the
    /// one before: it would be there twice.
    fn number(&mut self, pool: &Arc<Pool>) -> Option<u64> {
        match &self.visitor {
            Some((first, number)) if first.counts_with(pool) => Some(*number),
            Some(_) if self.is_heard || !self.lanes.iter().all(Sent::is_unheard) => None,
            Some(_) | None => {
                let number = pool.next_visitor();
                self.visitor = Some((pool.clone(), number));
                Some(number)
            }
        }
    }

    /// The last could not be sent all that was to be said.
    fn forget_last(&mut self) {
        self.is_heard |= self.lanes.pop().is_some_and(|sent| !sent.is_unheard());
    }

    async fn answer(&mut self) -> Answer {
        poll_fn(|cx| {
            let mut at = 0;
            while let Some(sent) = self.lanes.get_mut(at) {
                match sent.leased.lane().poll_frame(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(answer) => {
                        let sent = self.lanes.swap_remove(at);
                        self.is_heard |= !sent.is_unheard();
                        match answer {
                            Ok(Some(Frame::Taken)) => {
                                return Poll::Ready(Answer::Taken(sent.leased));
                            }
                            Ok(Some(Frame::Passed)) if self.lanes.is_empty() => {
                                return Poll::Ready(Answer::Passed);
                            }
                            // It has gone, or says what it should not: another one may have him still.
                            Ok(_) | Err(_) => {}
                        }
                    }
                }
            }
            if self.lanes.is_empty() { Poll::Ready(Answer::Nobody) } else { Poll::Pending }
        })
        .await
    }
}

impl Sent {
    fn is_unheard(&self) -> bool {
        sys::unacknowledged(self.leased.wire().socket()).is_ok_and(|count| count >= self.count)
    }
}
