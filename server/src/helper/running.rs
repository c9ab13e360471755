//! The helpers that run: those that the policy in force names, each once. Decides which go on over a
//! reload; they live on a thread of their own, where neither connections nor a reload keep them waiting.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::error;

use super::{Address, Helper, Queue, Role, keeper};

#[derive(Debug, Default)]
pub struct Helpers(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    running: Vec<Running>,
    /// Begun when the first helper is.
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Running {
    role: Role,
    address: Arc<Address>,
    queue: Queue,
    /// Dropped it tells the keeper to stop: whoever still has the queue asks in vain.
    _stop: oneshot::Sender<()>,
}

type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug)]
struct Thread {
    lives: mpsc::UnboundedSender<Life>,
    ended: oneshot::Receiver<()>,
}

impl Helpers {
    /// Lets these be asked. Those that run already go on, and those that are not among them end.
    pub fn set<'a>(&self, wanted: impl Iterator<Item = &'a Helper>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut old = std::mem::take(&mut table.running);
        for helper in wanted {
            let same = |one: &Running| one.role == helper.role && one.address == helper.address;
            if !table.running.iter().any(same) {
                let kept = old.iter().position(same).map(|place| old.swap_remove(place));
                let started = kept.map_or_else(|| table.start(helper), Ok);
                match started {
                    Ok(running) => table.running.push(running),
                    Err(error) => {
                        error!(%error, "the {} {} cannot be asked", helper.role, helper.address)
                    }
                }
            }
            if let Some(running) = table.running.iter().find(|one| same(one)) {
                let _ = helper.queue.set(running.queue.clone());
            }
        }
    }

    /// Ends all of them; waits for that, for `patience` at the most.
    pub async fn close(&self, patience: Duration) {
        let table = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(table.running);
        if let Some(Thread { lives, ended }) = table.thread {
            drop(lives);
            let _ = timeout(patience, ended).await;
        }
    }
}

impl Table {
    fn start(&mut self, helper: &Helper) -> io::Result<Running> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => begin()?,
        };
        let (stop, stopped) = oneshot::channel();
        let (queue, asks) = Queue::new(helper.role);
        let (role, address) = (helper.role, helper.address.clone());
        let life: Life = match &*address {
            #[cfg(feature = "wasm")]
            Address::Wasm(path, module) => {
                Box::pin(super::wasm::keep(path.clone(), module.clone(), asks, stopped))
            }
            Address::Exec(_) | Address::Unix(_) => {
                Box::pin(keeper::keep(role, address.clone(), asks, stopped))
            }
        };
        let sent = thread.lives.send(life);
        self.thread = Some(thread);
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(Running { role, address, queue, _stop: stop })
    }
}

fn begin() -> io::Result<Thread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (lives, mut begun) = mpsc::unbounded_channel();
    let (over, ended) = oneshot::channel();
    thread::Builder::new().name("helpers".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut all = JoinSet::new();
            loop {
                tokio::select! {
                    life = begun.recv() => match life {
                        Some(life) => drop(all.spawn(life)),
                        None => break,
                    },
                    // So that those that have ended are forgotten.
                    Some(_) = all.join_next() => {}
                }
            }
            while all.join_next().await.is_some() {}
        });
        let _ = over.send(());
    })?;
    Ok(Thread { lives, ended })
}
