//! A visitor to his lane. What he says first goes along at once, but stays his until the client says that it has
//! him: a lane whose other end is gone without a word must not take it with it. A client takes a visitor once,
//! however many lanes he is offered on.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use postern_relay::{Leg, sys};
use postern_shared::expose::lane::{Frame, HEADER, Opening};
use rustix::net::{RecvFlags, recv};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until, timeout};

use super::exposure::Exposure;
use super::page::{Status, page_for};
use super::pool::{Leased, Pool};
use crate::service::{Dialing, Failure, Service, header};
use crate::stream::Stream;

/// The least that a client may take to say that it has a visitor, before another lane is tried.
const PATIENCE: Duration = Duration::from_millis(250);

/// What is offered of his first words: as much as a lane's socket takes at once.
const MOST_FIRST: usize = 16 * 1024;

/// What he said so far, still to be read from his socket.
fn peek(visitor: &Stream) -> Vec<u8> {
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
    /// With the beginning of what he said.
    Failure(Failure, Vec<u8>),
}

/// The same, while it is not asked what he said.
enum Lost {
    Left,
    Failure(Failure),
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Lost {
        Lost::Failure(failure)
    }
}

/// Finds the visitor a lane that was taken, and says how many bytes of his went along. `first` are bytes that
/// were read from him; they are taken too.
pub(crate) async fn lead(
    exposure: &Arc<Exposure>,
    service: &Service,
    dialing: &Dialing,
    visitor: &mut Stream,
    first: &[u8],
) -> Result<(Leased, u64), Unled> {
    let header = header(service, dialing);
    let before = header.len();
    let mut words = Words { bytes: [&*header, first].concat(), peeked: 0, is_all: false };
    words.look(visitor);
    let until = Instant::now() + service.connect;
    let offered = offer(exposure, dialing, visitor, &mut words, until).await;
    let own = words.bytes.get(before..).unwrap_or_default();
    let mut leased = offered.map_err(|lost| match lost {
        Lost::Left => Unled::Left,
        Lost::Failure(failure) => Unled::Failure(failure, own.to_vec()),
    })?;
    if let Some(wire) = visitor.bare() {
        wire.discard(words.peeked).map_err(|_| Unled::Left)?;
        if words.is_all {
            // The reactor may have told of what lies behind it, and was not listened to.
            wire.has_unread();
        }
    }
    leased.lane().apologise(own, |words| page_for(words, Status::BadGateway));
    exposure.count_visitor();
    Ok((leased, u64::try_from(own.len()).unwrap_or(u64::MAX)))
}

/// Offers him on one lane after the other until he is taken.
async fn offer(
    exposure: &Arc<Exposure>,
    dialing: &Dialing,
    visitor: &mut Stream,
    words: &mut Words,
    until: Instant,
) -> Result<Leased, Lost> {
    let mut asked = Asked::default();
    loop {
        // One that waits is there at once; else what comes first is heard.
        let found = tokio::select! {
            biased;
            lane = exposure.lane(until) => Some(lane.ok_or(Failure::Away)?),
            answer = asked.answer(), if !asked.lanes.is_empty() => match answer? {
                Some(leased) => return Ok(leased),
                None => None,
            },
            heard = words.more(visitor) => {
                let heard = heard?;
                asked.tell(words.last(heard)).await;
                None
            }
        };
        let Some((leased, offer)) = found else { continue };
        match asked.number(&leased.pool) {
            Some(number) => {
                let Dialing { peer, local, .. } = *dialing;
                let opening = Opening { visitor: number, offer, peer, local };
                asked.ask(leased, &opening, &words.bytes).await;
            }
            None if asked.lanes.is_empty() => return Err(Failure::Untaken.into()),
            // Only whoever has bytes of his may have him still, and may be slow.
            None => leased.give_back(),
        }
        let (began, mut patience) = (Instant::now(), PATIENCE);
        while !asked.lanes.is_empty() {
            tokio::select! {
                biased;
                answer = asked.answer() => if let Some(leased) = answer? {
                    return Ok(leased);
                },
                heard = words.more(visitor) => {
                    let heard = heard?;
                    asked.tell(words.last(heard)).await;
                }
                () = sleep_until(until.min(began + patience)) => match asked.round_trip() {
                    _ if Instant::now() >= until => return Err(Failure::Timeout.into()),
                    // Farther away than most: twice there and back is fair.
                    Some(trip) if trip * 2 > patience => {
                        patience = trip * 2;
                    }
                    Some(_) | None => break,
                },
            }
        }
    }
}

/// What a visitor has said.
struct Words {
    bytes: Vec<u8>,
    /// So much of it is still to be read from his socket.
    peeked: usize,
    /// There is no more, or it can wait.
    is_all: bool,
}

impl Words {
    /// Takes note of what lies there; answers how much of it is new.
    fn look(&mut self, visitor: &mut Stream) -> usize {
        if visitor.bare().is_none() {
            return 0;
        }
        let seen = peek(visitor);
        let new = seen.get(self.peeked..).unwrap_or_default();
        self.bytes.extend_from_slice(new);
        self.peeked += new.len();
        // Behind an end nothing comes, and it would be told of again and again.
        self.is_all = visitor.wire().is_walled() || self.bytes.len() >= MOST_FIRST;
        new.len()
    }

    /// Waits for more; answers how much it is.
    async fn more(&mut self, visitor: &mut Stream) -> Result<usize, Lost> {
        if self.is_all {
            // Only whether he is still there.
            poll_fn(|cx| visitor.wire().poll_broken(cx)).await;
            return Err(Lost::Left);
        }
        let Some(wire) = visitor.bare() else {
            let count = visitor.read_buf(&mut self.bytes).await.map_err(|_| Lost::Left)?;
            self.is_all = count == 0 || self.bytes.len() >= MOST_FIRST;
            return Ok(count);
        };
        tokio::select! {
            biased;
            () = poll_fn(|cx| wire.poll_broken(cx)) => return Err(Lost::Left),
            news = wire.news() => news.map_err(|_| Lost::Left)?,
        }
        Ok(self.look(visitor))
    }

    fn last(&self, count: usize) -> &[u8] {
        self.bytes.get(self.bytes.len() - count..).unwrap_or_default()
    }
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
    /// Bytes that its socket was given.
    count: usize,
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

    /// Offers him on one more.
    async fn ask(&mut self, leased: Leased, opening: &Opening, words: &[u8]) {
        let body = opening.encode();
        let mut frames = Vec::with_capacity(2 * HEADER + body.len() + words.len());
        frames.extend(Frame::Open(body.len()).header());
        frames.extend(body);
        add_data(&mut frames, words);
        self.lanes.push(Sent { leased, count: 0 });
        if let Some(last) = self.lanes.len().checked_sub(1) {
            self.send(last, &frames).await;
        }
    }

    /// Says what he said to all.
    async fn tell(&mut self, words: &[u8]) {
        if words.is_empty() {
            return;
        }
        let mut frames = Vec::with_capacity(HEADER + words.len());
        add_data(&mut frames, words);
        for at in (0..self.lanes.len()).rev() {
            self.send(at, &frames).await;
        }
    }

    /// One that takes nothing is of no use.
    async fn send(&mut self, at: usize, frames: &[u8]) {
        let Some(sent) = self.lanes.get_mut(at) else { return };
        sent.count += sent.leased.sealed(frames.len());
        if !matches!(timeout(PATIENCE, sent.leased.lane().send(frames)).await, Ok(Ok(()))) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) -> Leased {
        let sent = self.lanes.swap_remove(at);
        self.is_heard |= !sent.is_unheard();
        sent.leased
    }

    /// The lane on which he was taken; `None` where all have gone without an answer.
    async fn answer(&mut self) -> Result<Option<Leased>, Failure> {
        poll_fn(|cx| {
            let mut at = 0;
            while let Some(sent) = self.lanes.get_mut(at) {
                let Poll::Ready(answer) = sent.leased.lane().poll_frame(cx) else {
                    at += 1;
                    continue;
                };
                if let Ok(Some(Frame::Taken)) = answer {
                    return Poll::Ready(Ok(Some(self.lanes.swap_remove(at).leased)));
                }
                // It has gone, or says what it should not: another one may have him still.
                drop(self.remove(at));
                if self.lanes.is_empty() && matches!(answer, Ok(Some(Frame::Passed))) {
                    // The lane on which he was taken went before it could say so.
                    return Poll::Ready(Err(Failure::Untaken));
                }
            }
            if self.lanes.is_empty() { Poll::Ready(Ok(None)) } else { Poll::Pending }
        })
        .await
    }

    /// How far away the last one is, as the kernel has measured it.
    fn round_trip(&self) -> Option<Duration> {
        sys::round_trip(self.lanes.last()?.leased.wire().socket()).ok()
    }
}

fn add_data(frames: &mut Vec<u8>, words: &[u8]) {
    if !words.is_empty() {
        frames.extend(Frame::Data(words.len()).header());
        frames.extend(words);
    }
}

impl Sent {
    fn is_unheard(&self) -> bool {
        sys::unacknowledged(self.leased.wire().socket()).is_ok_and(|count| count >= self.count)
    }
}
