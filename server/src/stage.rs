//! What is being looked at: the connection itself, or what comes inside our own TLS. Decides what is
//! worth waiting for there, which knock counts, and where a visitor goes; opens nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use postern_shared::sniff::Protocol;

use crate::conn::Arrival;
use crate::decide::Patience;
use crate::gate::{Admitted, Shown, Verdict};
use crate::house::House;
use crate::ops::outcome::{Record, Way};
use crate::policy::Policy;
use crate::route::{self, Seen};
use crate::service::{Dialing, Service};

/// One look at a connection.
#[derive(Debug)]
pub struct Stage {
    /// Where whoever is nothing else goes.
    pub fallback: Arc<Service>,
    pub patience: Patience,
    pub dialing: Dialing,
    depth: Depth,
}

#[derive(Debug)]
enum Depth {
    /// The TCP connection.
    Outside,
    /// Inside TLS. `binding` ties a token to its session; without one a token does not count.
    Inside { binding: Option<[u8; 32]> },
}

impl Stage {
    pub fn outside(arrival: &Arrival) -> Stage {
        let policy = &*arrival.policy;
        Stage {
            fallback: policy.fallback.clone(),
            patience: Patience {
                interest: policy.outer_interest(),
                silent_after: route::silent_after(&policy.routes, arrival.peer.ip()),
                decide: policy.decide,
            },
            dialing: Dialing {
                peer: arrival.peer,
                local: arrival.local,
                sni: None,
                bytes_follow: false,
            },
            depth: Depth::Outside,
        }
    }

    pub fn inside(
        self,
        policy: &Policy,
        visitors: Arc<Service>,
        binding: Option<[u8; 32]>,
    ) -> Stage {
        Stage {
            fallback: visitors,
            patience: Patience {
                interest: binding.map(|_| policy.inner_interest()).unwrap_or_default(),
                silent_after: None,
                decide: policy.decide,
            },
            dialing: self.dialing,
            depth: Depth::Inside { binding },
        }
    }

    pub fn fallback_way(&self) -> Way {
        match self.depth {
            Depth::Outside => Way::Fallback,
            Depth::Inside { .. } => Way::Visitors,
        }
    }

    /// Routes are for what came on the connection itself; inside our own TLS everybody but the
    /// admitted goes where `[tls] visitors` says.
    pub fn route<'a>(&self, policy: &'a Policy, seen: &Seen) -> Option<&'a Arc<Service>> {
        match self.depth {
            Depth::Outside => route::choose(&policy.routes, seen, self.dialing.peer.ip()),
            Depth::Inside { .. } => None,
        }
    }

    /// Whether what was seen is a knock, and the service that it opens.
    pub fn judge(
        &self,
        house: &House,
        policy: &Policy,
        seen: &Seen,
        record: &mut Record,
    ) -> Option<(Admitted, Arc<Service>)> {
        let shown = self.shown(policy, seen)?;
        let carrier = shown.carrier();
        let from = self.dialing.peer.ip();
        let (client, refused) = match house.gate.judge(shown, from, policy.window) {
            Verdict::Stranger => return None,
            Verdict::Refused { client, reason } => (client, reason.name()),
            Verdict::Admitted(admitted) => {
                let client = admitted.client.clone();
                if let Some(service) = policy.knock_service(&admitted.service) {
                    record.client = Some(client);
                    record.carrier = Some(carrier);
                    return Some((admitted, service.clone()));
                }
                (client, "service")
            }
        };
        house.counts.knocks_refused.fetch_add(1, Ordering::Relaxed);
        record.client = Some(client);
        record.carrier = Some(carrier);
        record.refused = Some(refused);
        None
    }

    /// Whether a fleet, where there is one, lets in whom we admitted.
    pub async fn confirm(house: &House, admitted: &mut Admitted, record: &mut Record) -> bool {
        match house.gate.confirm(admitted).await {
            Ok(()) => true,
            Err(reason) => {
                house.counts.knocks_refused.fetch_add(1, Ordering::Relaxed);
                record.refused = Some(reason.name());
                false
            }
        }
    }

    /// What could be a knock here.
    fn shown<'a>(&'a self, policy: &Policy, seen: &'a Seen) -> Option<Shown<'a>> {
        let Seen::Protocol(protocol) = seen else { return None };
        let shown = match (&self.depth, protocol) {
            (Depth::Outside, Protocol::Letters(letters)) => Shown::Plain(letters),
            (Depth::Outside, Protocol::Tls(hello)) => Shown::Hello(hello),
            (Depth::Inside { binding }, Protocol::Letters(letters)) => {
                Shown::Tls { letters, binding: binding.as_ref()? }
            }
            (Depth::Inside { .. }, Protocol::Tls(_)) | (_, Protocol::Ssh | Protocol::Http) => {
                return None;
            }
        };
        policy.speaks(shown.carrier()).then_some(shown)
    }
}
