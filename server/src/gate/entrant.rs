//! Whoever was let in, by whatever showed it: his own knock, or that his address was armed.

use std::sync::Arc;

use postern_shared::knock::{Status, ack};

use super::clients::Client;
use super::judge::Admitted;
use super::secrets::Secret;
use super::terms::Terms;

/// Who holds what lets him in.
#[derive(Clone, Debug)]
pub enum Holder {
    /// Of a key.
    Client(Arc<Client>),
    /// Of a static secret, as anybody who heard it is.
    Secret(Arc<Secret>),
}

impl Holder {
    pub fn name(&self) -> &str {
        match self {
            Holder::Client(client) => &client.name,
            Holder::Secret(secret) => &secret.name,
        }
    }

    /// Of one name, and both of a key or both of a secret; a client may have two keys.
    pub fn is_same_as(&self, other: &Holder) -> bool {
        match (self, other) {
            (Holder::Client(one), Holder::Client(other)) => one.name == other.name,
            (Holder::Secret(one), Holder::Secret(other)) => one.name == other.name,
            (Holder::Client(_), Holder::Secret(_)) | (Holder::Secret(_), Holder::Client(_)) => {
                false
            }
        }
    }

    pub fn terms(&self) -> &Terms {
        match self {
            Holder::Client(client) => &client.terms,
            Holder::Secret(secret) => &secret.terms,
        }
    }
}

/// What an address was armed for.
#[derive(Clone, Debug)]
pub struct Pass {
    pub holder: Holder,
    pub service: String,
}

/// One who is let in.
#[derive(Debug)]
pub enum Entrant {
    Knock(Admitted),
    /// He comes from an armed address.
    Memory(Holder),
}

impl Entrant {
    pub fn holder(&self) -> Holder {
        match self {
            Entrant::Knock(admitted) => Holder::Client(admitted.client.clone()),
            Entrant::Memory(holder) => holder.clone(),
        }
    }

    /// By what he was let in: the name of a carrier, or `memory`.
    pub fn by(&self) -> &'static str {
        match self {
            Entrant::Knock(admitted) => admitted.carrier.name(),
            Entrant::Memory(_) => "memory",
        }
    }

    /// The bytes that tell him his status; none if he asked for none.
    pub fn acknowledgement(&self, status: Status) -> Option<[u8; ack::LENGTH]> {
        match self {
            Entrant::Knock(admitted) => admitted.acknowledgement(status),
            Entrant::Memory(_) => None,
        }
    }
}
