//! What a key becomes on each carrier: derived once, since a knock is judged by it each time. Judges nothing.

use postern_shared::knock::{Carrier, CarrierKey, ClientKey, ServerId};

/// What a key becomes on each carrier.
#[derive(Debug)]
pub(crate) struct Keys {
    plain: CarrierKey,
    tls: CarrierKey,
    hello: CarrierKey,
    ack: CarrierKey,
}

impl Keys {
    pub(crate) fn of(key: &ClientKey, server: &ServerId) -> Keys {
        Keys {
            plain: key.on(Carrier::Plain, server),
            tls: key.on(Carrier::Tls, server),
            hello: key.on(Carrier::Hello, server),
            ack: key.ack(server),
        }
    }

    pub(super) fn on(&self, carrier: Carrier) -> &CarrierKey {
        match carrier {
            Carrier::Plain => &self.plain,
            Carrier::Tls => &self.tls,
            Carrier::Hello => &self.hello,
        }
    }

    pub(super) fn ack(&self) -> &CarrierKey {
        &self.ack
    }
}
