//! Who may go to a service, by the word of a program of the operator's. Decides that whoever is not
//! allowed in so many words, and in time, is denied.

use std::net::SocketAddr;
use std::time::Duration;

use crate::gate::Holder;
use crate::helper::{Asker, Helper, Question, Reply};
use crate::sys;

/// What stands for the client where nobody has knocked; no client can be called so.
const NOBODY: &str = "-";

/// `access` of a service.
#[derive(Debug)]
pub struct Access {
    pub helper: Helper,
    pub timeout: Duration,
}

impl Access {
    /// Asks whether somebody may go to this service: the holder of a key or a secret, or a visitor.
    pub async fn allows(&self, peer: SocketAddr, service: &str, holder: Option<&Holder>) -> bool {
        let (address, port, now) = (peer.ip(), peer.port(), sys::unix_time());
        let (client, asker) = match holder {
            Some(holder) => (holder.name(), Asker::Admitted),
            None => (NOBODY, Asker::Stranger),
        };
        let words = format!("{address} {port} {now} {service} {client}");
        let reply = self.helper.ask(Question::Words(words), asker, self.timeout).await;
        reply == Some(Reply::Yes)
    }
}
