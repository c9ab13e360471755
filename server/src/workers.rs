//! The threads that serve connections: one for each core, each with a runtime of its own, and a
//! connection stays where it was accepted. Decides nothing about connections.
//!
//! The work-stealing runtime was measured beside this (`tests/bench connections`): it took up to a
//! fifth more processor time for each new connection, for queues and timers that all threads share and for the
//! waking of threads that then found nothing to steal. A relay has nothing to gain from it, as each of
//! its steps is short. What it would do better, evening out a load of few heavy connections, is done
//! where they are accepted: all workers share each listener, also one that was inherited, and whoever is
//! busy comes to accept less.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{interval, timeout};

/// Below the minute after which a relay lets half a connection go.
const TICK: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Workers {
    handles: Vec<Handle>,
    stops: Mutex<Vec<oneshot::Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Workers {
    /// One for each core that this process may use.
    pub fn start() -> io::Result<Workers> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let (mut handles, mut stops) = (Vec::new(), Vec::new());
        let (alive, ended) = mpsc::channel(1);
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (stop, stopped) = oneshot::channel();
            handles.push(runtime.handle().clone());
            stops.push(stop);
            let alive = alive.clone();
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        // A sender that is dropped means the end too.
                        _ = stopped => {}
                        () = tick() => {}
                    }
                });
                // Ends all its connections. A name that is still being resolved must not hold this.
                runtime.shutdown_background();
                drop(alive);
            })?;
        }
        Ok(Workers { handles, stops: Mutex::new(stops), ended: tokio::sync::Mutex::new(ended) })
    }

    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// Ends all connections; waits for that, for `patience` at the most.
    pub async fn stop(&self, patience: Duration) {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // Nobody sends: it completes when the last worker has let go of its sender.
        let _ = timeout(patience, async { self.ended.lock().await.recv().await }).await;
    }
}

/// Keeps a timer that is due before any that a relay sets. One that becomes the next to be due has the
/// reactor woken by a syscall, and a new one is set whenever a website ends its half of a connection.
async fn tick() {
    let mut ticks = interval(TICK);
    loop {
        ticks.tick().await;
    }
}
