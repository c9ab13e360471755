//! Tokens spent anywhere in a fleet, by way of a Redis or Valkey that its servers share. Decides only who
//! was first; never holds a visitor, and says nothing of a token that its own server knows as spent.

mod address;
mod keeper;

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postern_shared::hex;
use postern_shared::knock::ServerId;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info};

pub use address::StoreAddress;

/// How long a knock may wait for the store.
const BUDGET: Duration = Duration::from_millis(50);

/// Tokens that may wait to be sent. They come from key holders only.
const WAITING: usize = 1024;

/// What the store says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Nobody in the fleet had it before.
    First,
    /// It was spent at another server.
    Elsewhere,
    /// The store did not say.
    Unknown,
}

/// One server's end. Its connection lives on a thread of its own, where neither connections nor a reload
/// keep it from its answers.
#[derive(Debug)]
pub struct Fleet {
    asks: mpsc::Sender<Ask>,
    state: Arc<State>,
}

#[derive(Debug)]
struct Ask {
    key: String,
    lifetime: Duration,
    until: Instant,
    answer: oneshot::Sender<Shared>,
}

/// Whether the store answers, for `status` and the log.
#[derive(Debug)]
struct State {
    address: StoreAddress,
    failure: Mutex<Option<String>>,
}

/// An answer to come. Whoever does not wait for it drops it.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Shared>,
    until: Instant,
}

impl Fleet {
    /// Begins to connect, and keeps at it. A store that does not answer holds nobody.
    pub fn join(address: StoreAddress) -> io::Result<Fleet> {
        let runtime = runtime()?;
        let (asks, asked) = mpsc::channel(WAITING);
        let state = Arc::new(State { address, failure: Mutex::default() });
        let keeper = keeper::keep(state.clone(), asked);
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || runtime.block_on(keeper))?;
        Ok(Fleet { asks, state })
    }

    /// Spends a token for the whole fleet, on its way when this returns.
    pub fn spend(&self, server: &ServerId, tag: &[u8; 16], lifetime: u32) -> Pending {
        let (answer, pending) = oneshot::channel();
        let until = Instant::now() + BUDGET;
        let mut key = "postern:v1:".to_owned();
        for part in [hex::encode(&server.0).as_str(), ":", &hex::encode(tag)] {
            let _ = key.write_str(part);
        }
        let lifetime = Duration::from_secs(lifetime.into());
        // Where there is no room the answer is dropped, which is one too.
        let _ = self.asks.try_send(Ask { key, lifetime, until, answer });
        Pending { answer: pending, until }
    }

    /// Why the store does not answer, if so.
    pub fn failure(&self) -> Option<String> {
        let failure = self.state.failure();
        failure
            .map(|failure| format!("the store {} does not answer: {failure}", self.state.address))
    }
}

impl Pending {
    pub async fn answer(self) -> Shared {
        match timeout_at(self.until, self.answer).await {
            Ok(Ok(shared)) => shared,
            Ok(Err(_)) | Err(_) => Shared::Unknown,
        }
    }
}

impl State {
    fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs each change once.
    fn set(&self, now: Option<String>) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        let address = &self.address;
        match (&*failure, &now) {
            (None, Some(error)) => {
                error!(
                    "the store {address} does not answer: {error}; plain is closed until it does"
                );
            }
            (_, None) => info!("the store {address} answers"),
            (Some(_), Some(_)) => {}
        }
        *failure = now;
    }
}

/// Why this store cannot be used, for `check`.
pub fn try_out(address: &StoreAddress) -> Result<(), String> {
    runtime().map_err(|error| error.to_string())?.block_on(keeper::connect(address)).map(drop)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
