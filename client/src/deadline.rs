//! One deadline over everything between the start and the acknowledgement, so that our message comes
//! before ssh's own. Never covers the tunnel itself.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::address::Address;
use crate::error::Error;

/// DNS, TCP, TLS, knock and acknowledgement together.
pub const CONNECT: Duration = Duration::from_secs(15);

/// A point in time that several steps share.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Instant,
    within: Duration,
}

/// What was under way when the time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Resolve,
    Connect,
    Handshake,
    Knock,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Resolve => "resolving the name",
            Step::Connect => "connecting",
            Step::Handshake => "the TLS handshake",
            Step::Knock => "waiting for the acknowledgement",
        })
    }
}

impl Deadline {
    pub fn after(time: Duration) -> Deadline {
        Deadline { at: Instant::now() + time, within: time }
    }

    /// Awaits one step, for as long as the deadline leaves.
    pub async fn hold<T>(
        self,
        step: Step,
        at: &Address,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let Deadline { at: end, within } = self;
        timeout_at(end, work).await.map_err(|_| Error::Timeout { at: at.clone(), step, within })
    }
}
