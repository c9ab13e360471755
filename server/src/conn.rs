//! The spine: a connection's life from its first byte to its one outcome. Each step is decided
//! elsewhere, purely; here they stand in order.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use postern_relay::{ReadAhead, Wire};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::admit::{admit, behind_the_knock};
use crate::decide::{Decided, Rest, decide};
use crate::early::Early;
use crate::front::Front;
use crate::house::{Entering, House};
use crate::inquire::{self, Inquired, inquire};
use crate::introduce::introduce;
use crate::ops::outcome::{Life, Outcome, Record, Way};
use crate::pair::Pair;
use crate::places::Undecided;
use crate::policy::{Policy, Terminated};
use crate::route::{Action, Seen, Still};
use crate::service::{Dialing, Failure, Service};
use crate::stage::{Judged, Stage};
use crate::tls::{self, Inward};
use crate::visit::{left_by_website, turn_away, visit};

/// What nginx gives a TLS handshake (`client_header_timeout`): our own names should not stand out.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// An accepted connection, and the policy that it came under.
#[derive(Debug)]
pub struct Arrival {
    pub wire: Wire,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The listener that accepted it, as the configuration calls it.
    pub listener: SocketAddr,
    /// The service that all who come by it are for.
    pub exposed: Option<Arc<Service>>,
    pub policy: Arc<Policy>,
}

/// Serves one connection to its end.
pub fn serve(house: Arc<House>, arrival: Arrival) -> impl Future<Output = ()> + Send {
    let life = Life::begin(house, &arrival);
    // What leads to a relay lives in a future of its own that is given back then: a relay lasts for
    // days and needs a tenth of it.
    let led = Box::pin(lead(life, arrival));
    async {
        let (mut life, led) = led.await;
        let outcome = match led {
            Ok(mut pair) => pair.last(&mut life.record).await,
            Err(outcome) => outcome,
        };
        life.end(outcome);
    }
}

async fn lead(mut life: Life, arrival: Arrival) -> (Life, Result<Box<Pair>, Outcome>) {
    let led = way_in(&life.house, arrival, &mut life.record).await.map(Box::new);
    (life, led)
}

/// Accept, look, judge, route; and where posternd terminates TLS, once more inside.
async fn way_in(
    house: &Arc<House>,
    arrival: Arrival,
    record: &mut Record,
) -> Result<Pair, Outcome> {
    let Arrival { wire, mut peer, mut local, listener, exposed, policy } = arrival;
    let mut front = Front::tcp(wire);
    if let Some(service) = exposed {
        record.way = Way::Exposed;
        let dialing = Dialing { peer, local, sni: None, bytes_follow: false };
        return visit(house, &policy, front, Early::new(service, dialing), record).await;
    }
    if policy.is_proxy(&listener, peer.ip()) {
        let told = introduce(&mut front, (peer, local), policy.decide).await;
        let Some(told) = told else {
            if let Ok((client, _)) = front.into_stream() {
                client.reset().await;
            }
            return Err(Outcome::NoProxyHeader);
        };
        record.details().introduced = Some(told.0);
        (peer, local) = told;
    }
    let mut stage = Stage::outside(house, &policy, listener, peer, local);
    let mut place = house.places.undecided(peer.ip(), &policy.limits);
    loop {
        let mut early = Early::new(stage.fallback.clone(), stage.dialing.clone());
        let decided = decide(&mut front, &mut early, &mut place, &stage.patience).await;
        let (seen, mut rest) = match decided {
            Decided::Seen(seen, rest) => (seen, rest),
            Decided::WebsiteFirst(first) => {
                drop(place);
                return left_by_website(house, &policy, stage, front, early, first, record).await;
            }
            Decided::ClientReset => {
                early.reset().await;
                return Err(Outcome::ClientReset);
            }
        };
        record.seen = seen.name();
        record.spoke |= front.has_bytes();

        match stage.judge(house, &policy, &seen, front.seen(), record).await {
            Judged::Enters(entrant, errand) => {
                let seat = house.places.admitted(&policy.limits);
                let entering = Entering { entrant, errand, seat };
                if let Some(unlocked) = house.unlock(&entering, &seen, &policy.limits) {
                    drop((place, early));
                    let front = behind_the_knock(house, &entering, unlocked, &seen, front).await?;
                    return admit(house, &policy, stage, front, entering, record).await;
                }
                record.details().refused = Some("busy");
            }
            Judged::Said { count, decoy } => {
                front.replace(count, decoy).await.map_err(|_| Outcome::ClientReset)?;
                // What is left of his bytes says nothing.
                rest = Rest { still: Still::Nothing, ..rest };
            }
            Judged::Visitor => {}
        }
        if let Some(name) = seen.sni() {
            stage.dialing.sni = Some(name.clone());
        }
        let terminated = terminated_here(&policy, &seen);
        if let (None, Some(service)) = (terminated, exposed_here(house, &stage, &seen)) {
            drop(early);
            record.way = Way::Exposed;
            let is_terminated = tokio::select! {
                biased;
                known = service.is_terminated() => known,
                () = place.hurried() => None,
            };
            let Some(is_terminated) = is_terminated else {
                if let Ok((client, _)) = front.into_stream() {
                    client.reset().await;
                }
                return Err(record.note_failure(&Failure::Away));
            };
            if let (true, Some(terminated)) = (is_terminated, &policy.tls) {
                front = match handshake(&terminated.inward_http_1, front, &mut place).await {
                    Some(tls) => Front::inside(tls.into()),
                    None => return Err(Outcome::TlsFailed),
                };
            }
            drop(place);
            return visit(house, &policy, front, Early::new(service, stage.dialing), record).await;
        }
        if let Some(terminated) = terminated {
            drop(early);
            (front, stage) = match terminate(terminated, &policy, front, &mut place, stage).await {
                Some(inside) => inside,
                None => return Err(Outcome::TlsFailed),
            };
            continue;
        }
        let visitor = inquire::Visitor { stage: &stage, seen: &seen, rest };
        let inquired = inquire(&policy, visitor, &mut front, &mut early, &mut place).await;
        drop(place);
        let route = match inquired {
            Inquired::Route(route) => route,
            Inquired::WebsiteFirst(first) => {
                return left_by_website(house, &policy, stage, front, early, first, record).await;
            }
            Inquired::ClientReset => {
                early.reset().await;
                return Err(Outcome::ClientReset);
            }
        };
        record.way = stage.fallback_way();
        if let Some(route) = route {
            record.way = Way::Route;
            record.quiet = !route.log;
            record.route = u32::try_from(route.number).ok().and_then(NonZeroU32::new);
            match &route.action {
                // Where it leads to the website all the same, its timers are running already.
                Action::Service(service) if Arc::ptr_eq(service, early.service()) => {}
                Action::Service(service) => early = Early::new(service.clone(), stage.dialing),
                Action::Reject(rejection) => return Err(turn_away(*rejection, front).await),
            }
        }
        return visit(house, &policy, front, early, record).await;
    }
}

fn terminated_here<'a>(policy: &'a Policy, seen: &Seen) -> Option<&'a Terminated> {
    let terminated = policy.tls.as_ref()?;
    terminated.names.contains(seen.sni()?).then_some(terminated)
}

/// The service that a client exposes under this name, for whoever has not come through TLS of ours.
fn exposed_here(house: &House, stage: &Stage, seen: &Seen) -> Option<Arc<Service>> {
    seen.sni().filter(|_| stage.is_outside()).and_then(|name| house.exposures.by_name(name))
}

async fn handshake(
    inward: &Inward,
    front: Front,
    place: &mut Undecided,
) -> Option<TlsStream<ReadAhead>> {
    let wire = front.into_wire()?;
    let handshake = pin!(timeout(HANDSHAKE, inward.accept(wire)));
    tokio::select! {
        done = handshake => done.ok()?.ok(),
        () = place.hurried() => None,
    }
}

/// Terminates TLS from byte 0; what comes inside is looked at anew.
async fn terminate(
    terminated: &Terminated,
    policy: &Policy,
    front: Front,
    place: &mut Undecided,
    outer: Stage,
) -> Option<(Front, Stage)> {
    let tls = handshake(&terminated.inward, front, place).await?;
    let stage = match &terminated.visitors_h2 {
        // Whoever speaks HTTP/2 does not knock.
        Some(service) if tls::speaks_http_2(&tls) => {
            outer.inside(policy, service.clone(), None, tls::alpn(&tls))
        }
        Some(_) | None => {
            let visitors = terminated.visitors.clone();
            outer.inside(policy, visitors, tls::binding(&tls), tls::alpn(&tls))
        }
    };
    Some((Front::inside(tls.into()), stage))
}
