//! The website, dialled while a connection is still undecided: its own timers run from then on, so
//! posternd needs none for the slow and the silent. Forwards nothing to it, and only reads from it to
//! learn that it closed or spoke first.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep_until};

use crate::service::{Dialing, Failure, Reached, Service, connect};

/// How long a connection may be undecided before the website is dialled. Whoever sends its first bytes
/// at once costs the website no second connection; the close of a slow one comes this much later.
const PATIENCE: Duration = Duration::from_millis(50);

/// One read is enough to learn that the website speaks.
const FIRST_WORDS: usize = 4096;

type Connecting = Pin<Box<dyn Future<Output = Result<Reached, Failure>> + Send>>;

/// What the website did before the connection was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebsiteFirst {
    Closed,
    Reset,
    Spoke,
}

/// A service that is connected to ahead of time.
pub struct Early {
    service: Arc<Service>,
    dialing: Dialing,
    state: State,
    words: Vec<u8>,
}

enum State {
    NotYet(Instant),
    Connecting(Connecting),
    Open(Reached),
    /// It cannot be dialled early, or could not be reached: left for when it is needed.
    No,
}

impl Early {
    pub fn new(service: Arc<Service>, dialing: Dialing) -> Early {
        let state = if service.can_be_dialled_early() {
            State::NotYet(Instant::now() + PATIENCE)
        } else {
            State::No
        };
        Early { service, dialing, state, words: Vec::new() }
    }

    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    pub fn dialing(&self) -> &Dialing {
        &self.dialing
    }

    /// Dials when the time has come, and completes when the website closed or spoke first. May be
    /// cancelled and called again.
    pub async fn website_first(&mut self) -> WebsiteFirst {
        loop {
            self.state = match &mut self.state {
                State::NotYet(at) => {
                    sleep_until(*at).await;
                    let (service, dialing) = (self.service.clone(), self.dialing.clone());
                    State::Connecting(Box::pin(async move { connect(&service, &dialing).await }))
                }
                State::Connecting(connecting) => connecting.await.map_or(State::No, State::Open),
                State::Open(Reached { stream, .. }) => {
                    self.words.reserve(FIRST_WORDS);
                    return match stream.read_buf(&mut self.words).await {
                        Ok(0) => WebsiteFirst::Closed,
                        Ok(_) => WebsiteFirst::Spoke,
                        Err(_) => WebsiteFirst::Reset,
                    };
                }
                State::No => pending().await,
            }
        }
    }

    /// The connection, made now if it is not there yet, and what was read from it. `bytes_follow` says
    /// whether the peer's first bytes are there to be sent on.
    pub async fn connect(mut self, bytes_follow: bool) -> Result<(Reached, Vec<u8>), Failure> {
        self.dialing.bytes_follow = bytes_follow;
        let reached = match self.state {
            State::Open(reached) => reached,
            State::Connecting(connecting) => connecting.await?,
            State::NotYet(_) | State::No => connect(&self.service, &self.dialing).await?,
        };
        Ok((reached, self.words))
    }

    /// The website's connection if there is one: a client that resets resets it too.
    pub async fn reset(self) {
        if let State::Open(reached) = self.state {
            reached.stream.reset().await;
        }
    }
}
