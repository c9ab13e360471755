//! One helper's life: started, asked, and started again when it fails, each time later. Decides when a
//! helper counts as failed; never keeps a question that it cannot answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::line::{self, Lines};
use super::peer::{Peer, Process, Remarks};
use super::{Address, Ask, Reply, Role};

/// Between two starts: at first, and at the most. Who has run for the longest begins anew with the first.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const MOMENT: Duration = Duration::from_millis(50);

/// Questions are written together up to about so many bytes.
const BATCH: usize = 64 * 1024;

/// Keeps a helper until it is told to stop.
pub(super) async fn keep(
    role: Role,
    address: Arc<Address>,
    mut asks: mpsc::Receiver<Ask>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut health = Health { name: format!("{role} {address}"), failed: false };
    let mut pause = PAUSE;
    loop {
        let started = Instant::now();
        let failure = match Peer::open(&address).await {
            Ok(mut peer) => {
                let failure = tokio::select! {
                    biased;
                    _ = &mut stop => None,
                    failure = converse(&mut peer, &mut asks, role, &mut health) => Some(failure),
                };
                let ended = peer.end();
                match failure {
                    Some(failure) => {
                        refuse(&mut asks, ended).await;
                        failure
                    }
                    None => return ended.await,
                }
            }
            Err(error) => error.to_string(),
        };
        if started.elapsed() >= LONGEST_PAUSE {
            pause = PAUSE;
        }
        health.fails(&failure, pause);
        tokio::select! {
            () = refuse(&mut asks, sleep(pause)) => {}
            _ = &mut stop => return,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whoever asks in the meantime is answered at once, by his question being dropped.
async fn refuse(asks: &mut mpsc::Receiver<Ask>, meanwhile: impl Future<Output = ()>) {
    let refuse = async {
        while asks.recv().await.is_some() {}
        // Nobody can ask any more, and it is told to stop.
        std::future::pending().await
    };
    tokio::select! {
        () = meanwhile => {}
        () = refuse => {}
    }
}

/// Whether it answers, told once for each change.
struct Health {
    name: String,
    failed: bool,
}

impl Health {
    fn fails(&mut self, why: &str, pause: Duration) {
        let name = &self.name;
        if self.failed {
            debug!("the {name} failed again: {why}; the next try is in {pause:?}");
        } else {
            warn!("the {name} failed: {why}; until it answers again its answer is taken for no");
        }
        self.failed = true;
    }

    fn answers(&mut self) {
        if self.failed {
            info!("the {} answers again", self.name);
        }
        self.failed = false;
    }
}

/// A question that was asked.
struct Waiting {
    since: Instant,
    reply: oneshot::Sender<Reply>,
    _place: OwnedSemaphorePermit,
}

/// What there is to say of a helper that fails: a child that ends hangs up first, and may have said why.
async fn last_words(process: &Process, remarks: &mut Remarks, name: &str) -> String {
    let mut how = "it hung up".to_owned();
    let listen = async {
        how = process.ended().await;
        loop {
            remarks.pass_on(name).await;
        }
    };
    let _ = timeout(MOMENT, listen).await;
    how
}

/// Asks and listens until the helper fails, and says why.
async fn converse(
    peer: &mut Peer,
    asks: &mut mpsc::Receiver<Ask>,
    role: Role,
    health: &mut Health,
) -> String {
    let Peer { answers, questions, process, remarks } = peer;
    let name = health.name.clone();
    let mut waiting = BTreeMap::<u64, Waiting>::new();
    let mut next = 0;
    let (mut out, mut written) = (Vec::new(), 0);
    let mut lines = Lines::default();
    let mut heard = [0; 4096];
    loop {
        let oldest = waiting.first_key_value().map(|(_, asked)| asked.since + role.lost());
        tokio::select! {
            biased;
            read = answers.read(&mut heard) => {
                let count = match read {
                    Ok(0) => return last_words(process, remarks, &name).await,
                    Ok(count) => count,
                    Err(error) => return error.to_string(),
                };
                let taken = lines.take(heard.get(..count).unwrap_or_default(), role, |number, reply| {
                    let asked = waiting.remove(&number);
                    // Who does not wait any more has dropped his end.
                    asked.map(|asked| asked.reply.send(reply)).is_some()
                });
                if let Err(garbage) = taken {
                    return garbage.to_string();
                }
                health.answers();
            }
            _ = process.ended() => return last_words(process, remarks, &name).await,
            wrote = questions.write(out.get(written..).unwrap_or_default()), if written < out.len() => {
                match wrote {
                    Ok(count) => written += count,
                    Err(error) => return error.to_string(),
                }
                if written == out.len() {
                    (out, written) = (Vec::new(), 0);
                }
            }
            // While it does not read, questions wait where those whose asker has gone are dropped.
            Some(ask) = asks.recv(), if out.is_empty() => {
                let mut ask = Some(ask);
                while let Some(Ask { question, reply, place }) = ask {
                    if !reply.is_closed() {
                        line::write(&mut out, next, &question);
                        waiting.insert(next, Waiting { since: Instant::now(), reply, _place: place });
                        next += 1;
                    }
                    ask = if out.len() < BATCH { asks.try_recv().ok() } else { None };
                }
            }
            () = sleep_until(oldest.unwrap_or_else(Instant::now)), if oldest.is_some() => {
                return format!("it has not answered a question for {:?}", role.lost());
            }
            // Last: who talks without end there must not be asked less for it.
            () = remarks.pass_on(&name) => {}
        }
    }
}
