//! One control connection, from the hello to its end. Decides what is said when, and what the server's
//! answers mean for the entrances and the pool; whether and when there is a next one is decided elsewhere.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use postern_shared::expose::Entrance;
use postern_shared::expose::control::{
    FromClient, FromServer, Gone, HEARTBEAT, Parsed, Refusal, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};
use zeroize::Zeroizing;

use super::book::State;
use super::exposure::Exposure;
use super::line::Line;
use super::network::Network;
use super::pool::Pool;
use super::probe;
use super::pulse::{DOUBT, PATIENCE, Pulse};
use crate::error::plain;
use crate::out;

/// How often refused entrances are offered again.
const AGAIN: Duration = Duration::from_secs(10);

/// Read at once. What is not yet a whole message is shorter.
const PIECE: usize = 4096;

/// How a control connection ended.
#[derive(Debug)]
pub(super) enum End {
    Superseded,
    Revoked,
    /// An entrance cannot be had, where that is to end everything.
    NoEntrance(Entrance, Refusal),
    /// Why it cannot go on.
    Lost(String),
}

/// Speaks until the end; `strict` is whether a refusal is one.
pub(super) async fn converse(
    exposure: &Rc<Exposure>,
    line: Line,
    peer: SocketAddr,
    network: &mut Network,
    strict: bool,
) -> (End, Option<Instant>) {
    let mut conversation = Conversation {
        exposure,
        line,
        peer,
        strict,
        heard: Zeroizing::new(Vec::with_capacity(2 * PIECE)),
        pulse: Pulse::default(),
        welcomed: None,
    };
    let end = match conversation.run(network).await {
        Ok(end) => end,
        Err(error) => End::Lost(plain(&error)),
    };
    if let Some(pool) = exposure.pool.take() {
        pool.close();
    }
    exposure.book.disconnected();
    (end, conversation.welcomed)
}

struct Conversation<'a> {
    exposure: &'a Rc<Exposure>,
    line: Line,
    peer: SocketAddr,
    strict: bool,
    /// Not yet understood. It may hold a pool's key.
    heard: Zeroizing<Vec<u8>>,
    pulse: Pulse,
    welcomed: Option<Instant>,
}

impl Conversation<'_> {
    async fn run(&mut self, network: &mut Network) -> io::Result<End> {
        let mut said = FromClient::Hello(self.exposure.hello()).encode();
        for (id, offering) in (0..).zip(&self.exposure.offerings) {
            said.extend(FromClient::Offer(offering.offer(id)).encode());
        }
        self.say(&said).await?;
        let welcome_due = Instant::now() + PATIENCE;
        let (mut beats, mut again, mut probes) =
            (every(HEARTBEAT), every(AGAIN), every(probe::PERIOD));
        let mut news = self.exposure.book.follow();
        news.mark_changed();
        let mut piece = Zeroizing::new(vec![0; PIECE]);
        loop {
            let due = match self.welcomed {
                None => Some(welcome_due),
                Some(_) => self.pulse.due(),
            };
            tokio::select! {
                read = self.line.read(&mut piece) => {
                    let count = read?;
                    if count == 0 {
                        return Ok(End::Lost("the server closed it".to_owned()));
                    }
                    self.heard.extend_from_slice(piece.get(..count).unwrap_or_default());
                    if let Some(end) = self.understand() {
                        return Ok(end);
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    return Ok(End::Lost("the server does not answer".to_owned()));
                }
                _ = beats.tick() => self.ask(PATIENCE).await?,
                () = network.changed() => self.ask(DOUBT).await?,
                _ = news.changed() => self.tell().await?,
                _ = again.tick() => self.offer_again().await?,
                _ = probes.tick() => self.probe_all(),
            }
        }
    }

    /// Takes in all whole messages.
    fn understand(&mut self) -> Option<End> {
        loop {
            match FromServer::parse(&self.heard) {
                Parsed::NeedMore => return None,
                Parsed::Malformed => {
                    return Some(End::Lost("the server said what it may not".to_owned()));
                }
                Parsed::Message(message, length) => {
                    self.heard.drain(..length);
                    if let Some(end) = self.take(message) {
                        return Some(end);
                    }
                }
            }
        }
    }

    fn take(&mut self, message: FromServer) -> Option<End> {
        match message {
            FromServer::Welcome(welcome) => self.welcome(&welcome),
            FromServer::Opened { id, at } => self.opened(id, at),
            FromServer::Refused { id, why } => return self.refused(id, why),
            FromServer::Want(count) => {
                if let Some(pool) = &*self.exposure.pool.borrow() {
                    pool.want(count);
                }
            }
            FromServer::Pong(number) => self.pulse.answered(number),
            FromServer::Gone(Gone::Superseded) => return Some(End::Superseded),
            FromServer::Gone(Gone::Revoked) => return Some(End::Revoked),
            FromServer::Unknown => {}
        }
        None
    }

    /// A second one would be a new pool, too.
    fn welcome(&mut self, welcome: &Welcome) {
        let exposure = self.exposure;
        self.welcomed.get_or_insert_with(Instant::now);
        if welcome.epoch < exposure.epoch.replace(welcome.epoch) {
            // Another run of the server, with a clock that is behind, and so are its visitors' numbers.
            exposure.forget_visitors();
        }
        exposure.connected(self.peer);
        let pool = Pool::open(exposure, welcome, self.peer);
        if let Some(before) = exposure.pool.replace(Some(pool)) {
            before.close();
        }
    }

    fn opened(&self, id: u16, at: String) {
        let exposure = self.exposure;
        let Some(offering) = exposure.offerings.get(usize::from(id)) else { return };
        let place = if at.is_empty() { String::new() } else { format!(" at {at}") };
        if exposure.book.turn(id, State::Open(at)) == Some(true) {
            let (entrance, to) = (&offering.entrance, &offering.to);
            out::complain(&format!("{entrance} is open{place} and leads to {to}"));
        }
        probe::begin(exposure, id);
    }

    fn refused(&self, id: u16, why: Refusal) -> Option<End> {
        let exposure = self.exposure;
        let entrance = &exposure.offerings.get(usize::from(id))?.entrance;
        let is_news = exposure.book.turn(id, State::Refused(why)) == Some(true);
        if self.strict {
            return Some(End::NoEntrance(entrance.clone(), why));
        }
        if is_news {
            out::complain(&format!("{entrance} is not open: {why}"));
        }
        None
    }

    async fn ask(&mut self, patience: Duration) -> io::Result<()> {
        match self.pulse.ask(Instant::now(), patience) {
            Some(number) => self.say(&FromClient::Ping(number).encode()).await,
            None => Ok(()),
        }
    }

    async fn tell(&mut self) -> io::Result<()> {
        let told = self.exposure.book.tell();
        let said = told.into_iter().map(|(id, health)| FromClient::Health { id, health }.encode());
        self.say(&said.collect::<Vec<_>>().concat()).await
    }

    async fn offer_again(&mut self) -> io::Result<()> {
        let exposure = self.exposure;
        let mut said = Vec::new();
        for id in exposure.book.refused() {
            if let Some(offering) = exposure.offerings.get(usize::from(id)) {
                said.extend(FromClient::Offer(offering.offer(id)).encode());
            }
        }
        self.say(&said).await
    }

    fn probe_all(&self) {
        for (id, entry) in (0..).zip(self.exposure.book.entries()) {
            if entry.is_open() {
                probe::begin(self.exposure, id);
            }
        }
    }

    /// A server that takes nothing for so long answers nothing either.
    async fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let saying = async {
            self.line.write_all(bytes).await?;
            self.line.flush().await
        };
        timeout(PATIENCE, saying).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
