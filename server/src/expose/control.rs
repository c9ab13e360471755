//! The control connection of a client that exposes services: what it asks for, and what it is told. Decides
//! what each request comes to; never reads a byte of a visitor's.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use postern_shared::expose::Entrance;
use postern_shared::expose::control::{
    FromClient, FromServer, Gone, Health, Hello, MOST_OFFERS, Offer, Parsed, Refusal, SILENCE,
    Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, interval, sleep_until, timeout};
use tracing::{info, warn};

use super::doors::Shut;
use super::exposure::{Claim, Denied, Exposure};
use super::pool::Pool;
use crate::gate::{Client, Clients, Holder};
use crate::house::{Entry, House};
use crate::ops::outcome::Outcome;
use crate::stream::Stream;

/// Between two looks at lanes that wait, and at what the client may still open.
const LOOK: Duration = Duration::from_secs(1);

/// Visitors who come together are told of together.
const TOGETHER: Duration = Duration::from_millis(5);

/// How long the client has to take what it is told.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than any message has; what is read at a time.
const ROOM: usize = 4096;

/// What the client has open.
struct Open {
    id: u16,
    exposure: Arc<Exposure>,
}

struct Control<'a> {
    house: &'a Arc<House>,
    client: Arc<Client>,
    peer: SocketAddr,
    stream: Stream,
    entry: &'a Entry,
    /// Once it has said who it is.
    run: Option<Run>,
    open: Vec<Open>,
    /// The last word on offers that were refused.
    refused: Vec<(u16, Refusal)>,
    /// Until the next look it may make so many offers more: each costs more than saying it.
    offers: u16,
    /// By these its permits were looked at.
    clients: Arc<Clients>,
}

#[derive(Clone)]
struct Run {
    pool: Arc<Pool>,
    hello: Hello,
    epoch: u64,
}

/// Serves a control connection to its end; `heard` was read from it already.
pub(crate) async fn serve(
    house: &Arc<House>,
    holder: &Holder,
    peer: SocketAddr,
    stream: Stream,
    heard: Vec<u8>,
    entry: &Entry,
) -> Outcome {
    let Holder::Client(client) = holder else { return Outcome::Done };
    let mut control = Control {
        house,
        client: client.clone(),
        peer,
        stream,
        entry,
        run: None,
        open: Vec::new(),
        refused: Vec::new(),
        offers: MOST_OFFERS,
        clients: house.gate.clients(),
    };
    let outcome = control.run(heard).await;
    control.let_go(outcome);
    outcome
}

impl Control<'_> {
    async fn run(&mut self, mut heard: Vec<u8>) -> Outcome {
        let entry = self.entry;
        let mut looks = interval(LOOK);
        let mut silent = Instant::now() + SILENCE;
        heard.reserve(ROOM);
        loop {
            if let Err(outcome) = self.obey(&mut heard).await {
                return outcome;
            }
            let pool = self.run.as_ref().map(|run| run.pool.clone());
            let news = async {
                match &pool {
                    Some(pool) => pool.news.notified().await,
                    None => std::future::pending().await,
                }
            };
            let done = tokio::select! {
                read = self.stream.read_buf(&mut heard) => match read {
                    Ok(0) => Err(Outcome::Done),
                    Ok(_) => {
                        silent = Instant::now() + SILENCE;
                        Ok(())
                    }
                    Err(_) => Err(Outcome::ClientReset),
                },
                () = poll_fn(|cx| entry.tunnel.poll_cut(cx)) => self.part(Gone::Revoked).await,
                () = news => self.heed_news().await,
                _ = looks.tick() => self.look().await,
                () = sleep_until(silent) => Err(Outcome::IdleTimeout),
            };
            if let Err(outcome) = done {
                return outcome;
            }
        }
    }

    /// Does what the messages ask for that have come whole.
    async fn obey(&mut self, heard: &mut Vec<u8>) -> Result<(), Outcome> {
        let mut said = 0;
        let mut answers = Vec::new();
        let obeyed = loop {
            let (message, length) = match FromClient::parse(heard.get(said..).unwrap_or_default()) {
                Parsed::NeedMore => break Ok(()),
                Parsed::Malformed => break Err(Outcome::ClientReset),
                Parsed::Message(message, length) => (message, length),
            };
            said += length;
            match self.answer(message) {
                Ok(answer) => answers.extend(answer),
                Err(gone) => {
                    self.say(&answers).await?;
                    return self.part(gone).await;
                }
            }
        };
        heard.drain(..said);
        self.say(&answers).await?;
        obeyed
    }

    fn answer(&mut self, message: FromClient) -> Result<Option<FromServer>, Gone> {
        let (offer, run) = match (message, &self.run) {
            (FromClient::Hello(hello), None) => return Ok(Some(self.welcome(hello))),
            (FromClient::Ping(number), _) => return Ok(Some(FromServer::Pong(number))),
            (FromClient::Offer(offer), Some(run)) => (offer, run.clone()),
            (FromClient::Health { id, health }, Some(_)) => {
                self.note(id, health);
                return Ok(None);
            }
            (FromClient::OfferOfUnknown(id), _) => {
                let why = Refusal::UnknownKind;
                return Ok(Some(FromServer::Refused { id, why }));
            }
            // Out of turn, or of a version to come.
            (FromClient::Hello(_) | FromClient::Unknown, _)
            | (FromClient::Offer(_) | FromClient::Health { .. }, None) => return Ok(None),
        };
        let id = offer.id;
        Ok(Some(match self.open(&offer, &run) {
            Ok(at) => {
                let at = at.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
                info!(client = self.client.name, entrance = %offer.entrance, at, "exposed");
                self.refused.retain(|(other, _)| *other != id);
                FromServer::Opened { id, at }
            }
            Err(Denied::Refused(why)) => {
                if self.is_news(id, why) {
                    warn!(client = self.client.name, entrance = %offer.entrance, %why, "not exposed");
                }
                let number = id.min(MOST_OFFERS);
                self.refused.retain(|(other, _)| *other != number);
                self.refused.push((number, why));
                FromServer::Refused { id, why }
            }
            Err(Denied::Superseded) => return Err(Gone::Superseded),
        }))
    }

    /// Clients offer again and again what they were refused.
    fn is_news(&self, id: u16, why: Refusal) -> bool {
        !self.refused.contains(&(id.min(MOST_OFFERS), why))
    }

    fn welcome(&mut self, hello: Hello) -> FromServer {
        let exposures = &self.house.exposures;
        let (client, server) = (self.client.clone(), self.clients.server);
        let (pool, key) = self.house.gate.pools.open(client, self.peer, &server);
        pool.count_visitors_by(exposures.visitors_of(&hello.instance));
        self.house.gate.pools.replace_by(&pool);
        let epoch = exposures.next_epoch();
        let number = pool.number;
        self.run = Some(Run { pool, hello, epoch });
        let most_lanes = self.house.policy().limits.lanes_per_key();
        let most_lanes = u16::try_from(most_lanes).unwrap_or(u16::MAX);
        FromServer::Welcome(Welcome { epoch, pool: number, key, most_lanes })
    }

    /// Opens an entrance; answers where it is.
    fn open(&mut self, offer: &Offer, run: &Run) -> Result<Vec<SocketAddr>, Denied> {
        let refuse = |why| Err(Denied::Refused(why));
        let Some(left) = self.offers.checked_sub(1).filter(|_| offer.id < MOST_OFFERS) else {
            return refuse(Refusal::TooMany);
        };
        self.offers = left;
        let client = self.house.gate.clients().current(&self.client);
        let permit = client.as_ref().and_then(|client| client.permit(&offer.entrance));
        let Some(permit) = permit else { return refuse(Refusal::NotGranted) };
        let policy = self.house.policy();
        match &offer.entrance {
            Entrance::Sni(name) if policy.is_ours(name) => return refuse(Refusal::NotGranted),
            Entrance::Sni(name) if offer.terminate => {
                if !policy.tls.as_ref().is_some_and(|tls| tls.inward.is_for(name)) {
                    return refuse(Refusal::NoCertificate);
                }
            }
            Entrance::Tcp(_) | Entrance::Name(_) if offer.terminate => {
                return refuse(Refusal::NotTerminated);
            }
            Entrance::Tcp(_) | Entrance::Sni(_) | Entrance::Name(_) => {}
        }
        // Its number means this entrance from now on: another one would be held for ever.
        for open in self.open.extract_if(.., |open| open.id == offer.id) {
            if open.exposure.entrance != offer.entrance {
                open.exposure.release(&run.pool);
            }
        }
        let exposure = self.house.exposures.of(&offer.entrance);
        let claim = Claim {
            pool: &run.pool,
            offer: offer.id,
            terminate: offer.terminate,
            shared: permit.shared,
            hello: run.hello,
            epoch: run.epoch,
        };
        exposure.claim(&claim)?;
        let opened = match self.house.doors() {
            Some(doors) => doors.open(self.house, &offer.entrance),
            None => Err(Refusal::CannotListen.into()),
        };
        let at = match opened {
            Ok(at) => at,
            Err(Shut { why, error }) => {
                exposure.release(&run.pool);
                if let (Some(error), true) = (error, self.is_news(offer.id, why)) {
                    warn!(%error, "an entrance cannot be opened");
                }
                return refuse(why);
            }
        };
        self.open.push(Open { id: offer.id, exposure });
        Ok(at)
    }

    fn note(&self, id: u16, health: Health) {
        let Some(run) = &self.run else { return };
        for open in self.open.iter().filter(|open| open.id == id) {
            open.exposure.note_health(&run.pool, health);
        }
    }

    /// Somebody waits, or somebody else took over.
    async fn heed_news(&mut self) -> Result<(), Outcome> {
        let Some(Run { pool, .. }) = self.run.clone() else { return Ok(()) };
        if pool.is_superseded() {
            return self.part(Gone::Superseded).await;
        }
        match u16::try_from(pool.waiting()).unwrap_or(u16::MAX) {
            0 => Ok(()),
            waiting => {
                self.say(&[FromServer::Want(waiting)]).await?;
                tokio::time::sleep(TOGETHER).await;
                Ok(())
            }
        }
    }

    /// What was taken from its key is closed; lanes that went are forgotten.
    async fn look(&mut self) -> Result<(), Outcome> {
        self.offers = MOST_OFFERS;
        let Some(Run { pool, .. }) = self.run.clone() else { return Ok(()) };
        pool.sweep();
        let clients = self.house.gate.clients();
        // Of a key that is gone it is told elsewhere.
        let current = clients.current(&self.client);
        let (now, from) = (Timestamp::now(), self.peer.ip());
        let refused = current.as_ref().and_then(|client| client.terms.refuse(now, from, None));
        if let Some(why) = refused {
            info!(client = self.client.name, why = why.name(), "its terms do not hold any more");
            return Err(Outcome::Rejected);
        }
        if Arc::ptr_eq(&clients, &self.clients) {
            return Ok(());
        }
        self.clients = clients;
        let may = |open: &Open| {
            current.as_ref().is_some_and(|client| client.permit(&open.exposure.entrance).is_some())
        };
        let (open, lost): (Vec<_>, Vec<_>) = self.open.drain(..).partition(may);
        self.open = open;
        let refused: Vec<_> = lost
            .iter()
            .map(|open| {
                open.exposure.release(&pool);
                FromServer::Refused { id: open.id, why: Refusal::NotGranted }
            })
            .collect();
        self.say(&refused).await
    }

    /// Whoever does not take it can be revoked all the same.
    async fn say(&mut self, all: &[FromServer]) -> Result<(), Outcome> {
        let entry = self.entry;
        tokio::select! {
            biased;
            told = self.tell(all) => told,
            () = poll_fn(|cx| entry.tunnel.poll_cut(cx)) => Err(Outcome::Revoked),
        }
    }

    async fn tell(&mut self, all: &[FromServer]) -> Result<(), Outcome> {
        if all.is_empty() {
            return Ok(());
        }
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(256));
        for message in all {
            bytes.extend_from_slice(&message.encode());
        }
        self.stream.say(&bytes, PATIENCE).await.map_err(|_| Outcome::ClientReset)
    }

    /// Says why it ends, for good.
    async fn part(&mut self, gone: Gone) -> Result<(), Outcome> {
        let outcome = match gone {
            Gone::Superseded => Outcome::Superseded,
            Gone::Revoked => Outcome::Revoked,
        };
        // No visitor is led there any more while it is told.
        self.let_go(outcome);
        let _ = self.tell(&[FromServer::Gone(gone)]).await;
        let _ = timeout(PATIENCE, self.stream.shutdown()).await;
        Err(outcome)
    }

    fn let_go(&mut self, outcome: Outcome) {
        let Some(Run { pool, .. }) = self.run.take() else { return };
        for open in self.open.drain(..) {
            open.exposure.release(&pool);
            info!(client = self.client.name, entrance = %open.exposure.entrance, why = outcome.name(), "no longer exposed");
        }
        self.house.gate.pools.close(&pool);
        if outcome == Outcome::Revoked {
            pool.cut();
        }
    }
}
