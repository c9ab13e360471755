//! The connection to a fleet's store: made in the background, asked every second whether it still lives,
//! and made anew when not. Decides when the store counts as failed.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout, timeout_at};

use super::{Ask, Shared, State, StoreAddress};

/// How long connecting, or an answer that nobody waits for, may take.
const PATIENCE: Duration = Duration::from_secs(1);

const PING: Duration = Duration::from_secs(1);

/// Between two tries to connect: at first, and at the most.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Keeps the connection until nobody can ask any more.
pub(super) async fn keep(state: Arc<State>, mut asks: mpsc::Receiver<Ask>) {
    let mut pause = PAUSE;
    loop {
        match connect(&state.address).await {
            Ok(connection) => {
                state.set(None);
                pause = PAUSE;
                match serve(connection, &mut asks).await {
                    Some(failure) => state.set(Some(failure)),
                    None => return,
                }
            }
            Err(failure) => state.set(Some(failure)),
        }
        // Whoever asks in the meantime is answered at once, by his question being dropped.
        let ended = async { while asks.recv().await.is_some() {} };
        tokio::select! {
            () = sleep(pause) => {}
            () = ended => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection on which tokens can be spent: one to a replica, or without the right to write, is none.
pub(super) async fn connect(address: &StoreAddress) -> Result<MultiplexedConnection, String> {
    let client = Client::open(address.info()).map_err(|error| words(&error))?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let connect = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut probe = redis::cmd("SET");
        let probe = probe.arg("postern:v1:probe").arg(1).arg("PX").arg(1);
        probe.query_async::<()>(&mut connection).await?;
        Ok(connection)
    };
    match timeout(PATIENCE, connect).await {
        Ok(connected) => connected.map_err(|error| words(&error)),
        Err(_) => Err(format!("nothing came within {PATIENCE:?}")),
    }
}

/// Asks the store until it fails, and says why; `None` when nobody can ask any more.
async fn serve(
    connection: MultiplexedConnection,
    asks: &mut mpsc::Receiver<Ask>,
) -> Option<String> {
    let (failed, mut failures) = mpsc::channel(1);
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ask = asks.recv() => {
                tokio::spawn(answer(connection.clone(), ask?, failed.clone()));
            }
            failure = failures.recv() => return failure,
            _ = pings.tick() => {
                tokio::spawn(ping(connection.clone(), failed.clone()));
            }
        }
    }
}

async fn ping(mut connection: MultiplexedConnection, failed: mpsc::Sender<String>) {
    if let Err(error) = redis::cmd("PING").query_async::<()>(&mut connection).await {
        let _ = failed.try_send(words(&error));
    }
}

async fn answer(mut connection: MultiplexedConnection, ask: Ask, failed: mpsc::Sender<String>) {
    let Ask { key, lifetime, until, answer } = ask;
    let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    let mut set = redis::cmd("SET");
    let set = set.arg(key).arg(1).arg("NX").arg("PX").arg(lifetime);
    let shared = match timeout_at(until, set.query_async::<Option<String>>(&mut connection)).await {
        Ok(Ok(Some(_))) => Shared::First,
        Ok(Ok(None)) => Shared::Elsewhere,
        Ok(Err(error)) => {
            let _ = failed.try_send(words(&error));
            Shared::Unknown
        }
        // A ping tells whether the store is slow or dead.
        Err(_) => Shared::Unknown,
    };
    let _ = answer.send(shared);
}

/// A server's own words, which quote no password.
fn words(error: &RedisError) -> String {
    error.to_string()
}
