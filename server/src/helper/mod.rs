//! Programs of the operator's that posternd asks: what first bytes are, and who may go where. Decides how
//! many questions may wait, and for how long; takes silence for no, and never lets a helper that is slow,
//! dead or mad hold anybody up for longer than that.
//!
//! A helper runs for long and is asked many things at a time, each by a line with a number. It is a child
//! process, or listens on a unix socket; or it is a WebAssembly module that runs within posternd.

mod doubts;
mod keeper;
mod line;
mod peer;
mod running;
#[cfg(feature = "wasm")]
mod wasm;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

pub(crate) use doubts::doubts;
pub use running::Helpers;
#[cfg(feature = "wasm")]
pub use wasm::{MOST_MODULE, Module};

use crate::program::Program;

/// First bytes that a helper is shown, at the most: a browser's hello fits.
pub const SHOWN: usize = 4096;

/// What a helper is for, and so which words it may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `yes`, `no` or `more`.
    Identify,
    /// `allow` or `deny`.
    Access,
}

impl Role {
    /// Questions of strangers that a helper may have before it: with more it would answer too late, and
    /// those who knocked wait behind them.
    fn strangers(self) -> usize {
        match self {
            Role::Identify => 1024,
            Role::Access => 64,
        }
    }

    /// The same for those who knocked.
    fn admitted(self) -> usize {
        match self {
            Role::Identify => 0,
            Role::Access => 256,
        }
    }

    /// Who leaves a question for so long has lost it, or hangs: twice the longest that anybody waits.
    fn lost(self) -> Duration {
        match self {
            Role::Identify => Duration::from_secs(2),
            Role::Access => Duration::from_secs(20),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Identify => "identifier",
            Role::Access => "access program",
        })
    }
}

/// Where a helper is.
#[derive(Debug)]
pub enum Address {
    Exec(Program),
    Unix(PathBuf),
    /// In the file as it was when it was read.
    #[cfg(feature = "wasm")]
    Wasm(PathBuf, Arc<Module>),
}

impl PartialEq for Address {
    fn eq(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Exec(one), Address::Exec(other)) => one == other,
            (Address::Unix(one), Address::Unix(other)) => one == other,
            #[cfg(feature = "wasm")]
            (Address::Wasm(_, one), Address::Wasm(_, other)) => one == other,
            (_, _) => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Exec(program) => write!(f, "exec:{program}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "wasm")]
            Address::Wasm(path, _) => write!(f, "wasm:{}", path.display()),
        }
    }
}

impl Address {
    /// Why it will likely not answer, for `check`.
    pub fn doubt(&self) -> Option<String> {
        use rustix::fs::{Access, access};
        let path = match self {
            Address::Exec(program) => Path::new(&program.path),
            Address::Unix(path) => path,
            #[cfg(feature = "wasm")]
            Address::Wasm(..) => return None,
        };
        let need = match self {
            Address::Exec(_) => Access::EXEC_OK,
            Address::Unix(_) => Access::WRITE_OK,
            #[cfg(feature = "wasm")]
            Address::Wasm(..) => Access::EXISTS,
        };
        access(path, need)
            .err()
            .map(|error| format!("{}: {}", path.display(), std::io::Error::from(error)))
    }
}

#[derive(Debug)]
pub enum Question {
    /// Are these first bytes yours?
    Bytes(Vec<u8>),
    Words(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Yes,
    No,
    /// That is not known before more bytes have come: so many in all, if the helper says how many.
    More(Option<usize>),
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    Stranger,
    Admitted,
}

/// A helper as the configuration names it. It can be asked once that configuration is in force.
#[derive(Debug)]
pub struct Helper {
    pub role: Role,
    pub address: Arc<Address>,
    queue: OnceLock<Queue>,
}

impl Helper {
    pub fn new(role: Role, address: Address) -> Helper {
        Helper { role, address: Arc::new(address), queue: OnceLock::new() }
    }

    /// `None` where it does not answer in time, or has enough questions before it.
    pub async fn ask(&self, question: Question, asker: Asker, patience: Duration) -> Option<Reply> {
        let reply = self.queue.get()?.put(question, asker)?;
        timeout(patience, reply).await.ok()?.ok()
    }
}

/// Where questions wait for a helper that runs.
#[derive(Clone, Debug)]
struct Queue {
    asks: mpsc::Sender<Ask>,
    strangers: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
}

/// A question that is on its way. Dropped it is answered by nothing, at once.
#[derive(Debug)]
struct Ask {
    question: Question,
    reply: oneshot::Sender<Reply>,
    /// Kept until the helper has answered, or is gone: who stopped waiting has not taken the question back.
    place: OwnedSemaphorePermit,
}

impl Queue {
    fn new(role: Role) -> (Queue, mpsc::Receiver<Ask>) {
        let (strangers, admitted) = (role.strangers(), role.admitted());
        let (asks, asked) = mpsc::channel(strangers + admitted);
        let places = |count| Arc::new(Semaphore::new(count));
        (Queue { asks, strangers: places(strangers), admitted: places(admitted) }, asked)
    }

    fn put(&self, question: Question, asker: Asker) -> Option<oneshot::Receiver<Reply>> {
        let places = match asker {
            Asker::Stranger => &self.strangers,
            Asker::Admitted => &self.admitted,
        };
        let place = places.clone().try_acquire_owned().ok()?;
        let (reply, answered) = oneshot::channel();
        self.asks.try_send(Ask { question, reply, place }).ok()?;
        Some(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn strangers_have_places_of_their_own_and_no_more() {
        let (queue, mut asks) = Queue::new(Role::Access);
        let put = |asker| queue.put(Question::Words(String::new()), asker);
        let waiting: Vec<_> = std::iter::from_fn(|| put(Asker::Stranger)).collect();
        assert_eq!(waiting.len(), 64);
        let admitted: Vec<_> = std::iter::from_fn(|| put(Asker::Admitted)).collect();
        assert_eq!(admitted.len(), 256);
        // Who stops to wait has not taken his question back; the helper's end of it counts.
        drop(waiting);
        assert!(put(Asker::Stranger).is_none());
        drop(asks.recv().await);
        assert!(put(Asker::Stranger).is_some());
        assert!(put(Asker::Stranger).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_no() {
        let helper = Helper::new(Role::Identify, Address::Unix(PathBuf::new()));
        let ask = |bytes: &[u8]| {
            helper.ask(Question::Bytes(bytes.to_vec()), Asker::Stranger, Duration::from_secs(1))
        };
        assert_eq!(ask(b"x").await, None, "it does not run");
        let (queue, mut asks) = Queue::new(Role::Identify);
        helper.queue.set(queue).expect("unset");
        assert_eq!(ask(b"x").await, None, "it does not answer");
        drop(asks.recv().await);
        let drops = async { drop(asks.recv().await) };
        let (answer, ()) = tokio::join!(ask(b"y"), drops);
        assert_eq!(answer, None, "its question was dropped");
        drop(asks);
        assert_eq!(ask(b"z").await, None, "it is gone");
    }
}
