//! The spine: a connection's life from its first byte to its one outcome. Each step is decided
//! elsewhere, purely; here they stand in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_shared::knock::{Carrier, Status, ack};
use postern_shared::sniff::{LETTERS, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::decide::{Decided, Patience, decide};
use crate::early::{Early, WebsiteFirst};
use crate::front::Front;
use crate::gate::{Admitted, Verdict};
use crate::house::House;
use crate::ops::outcome::{Outcome, Record, Way};
use crate::places::Undecided;
use crate::policy::{Policy, Terminated};
use crate::relay::{End, relay};
use crate::route::{self, Seen};
use crate::service::{Dialing, Failure, Service, connect};
use crate::stream::Stream;
use crate::tls;

/// What nginx gives a TLS handshake (`client_header_timeout`): our own names should not stand out.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// How long somebody who was admitted but cannot be served has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// An accepted connection.
#[derive(Debug)]
pub struct Arrival {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// Serves one connection to its end, and logs it.
pub async fn serve(house: Arc<House>, arrival: Arrival) {
    let started = Instant::now();
    let mut record = Record::new(arrival.peer, arrival.local);
    house.counts.accepted.fetch_add(1, Ordering::Relaxed);
    let outcome = tokio::select! {
        outcome = live(&house, arrival, &mut record) => outcome,
        () = house.stopping() => Outcome::Stopped,
    };
    house.counts.add(outcome);
    record.log(outcome, started.elapsed());
}

/// Accept, look, judge, route; and where posternd terminates TLS, once more inside.
async fn live(house: &House, arrival: Arrival, record: &mut Record) -> Outcome {
    let policy = house.policy();
    let from = arrival.peer.ip();
    let place = house.places.enter(from, &policy.limits);
    let mut stage = Stage::outer(&policy, &arrival);
    let mut front = Front::tcp(arrival.socket);
    loop {
        let mut early = Early::new(stage.fallback.clone(), stage.dialing.clone());
        let seen = match decide(&mut front, &mut early, &place, &stage.patience).await {
            Decided::Seen(seen) => seen,
            Decided::WebsiteFirst(first) => {
                drop(place);
                return left_by_website(house, &policy, stage, front, early, first, record).await;
            }
            Decided::ClientReset => {
                early.reset().await;
                return Outcome::ClientReset;
            }
        };
        record.seen = seen.name();

        if let Seen::Protocol(Protocol::Letters(letters)) = &seen
            && let Some((admitted, service)) = judge(house, &policy, &stage, letters, record)
        {
            drop((place, early));
            return admit(house, &policy, stage, front, admitted, service, record).await;
        }
        if let Some(name) = seen.sni() {
            stage.dialing.sni = Some(name.clone());
        }
        if let Some(terminated) = terminated_here(&policy, &seen) {
            drop(early);
            (front, stage) = match terminate(terminated, &policy, front, &place, stage).await {
                Some(inside) => inside,
                None => return Outcome::TlsFailed,
            };
            continue;
        }
        drop(place);
        if let Some(service) = route_of(&policy, &stage, &seen) {
            record.way = Way::Route;
            drop(early);
            let early = Early::new(service.clone(), stage.dialing);
            return visit(house, &policy, front, early, record).await;
        }
        record.way = stage.fallback_way;
        return visit(house, &policy, front, early, record).await;
    }
}

/// What is being looked at: the connection itself, or what comes inside our own TLS.
struct Stage {
    fallback: Arc<Service>,
    fallback_way: Way,
    patience: Patience,
    carrier: Carrier,
    /// Ties a token to its TLS session; empty on the connection itself. `None`: a token does not count.
    binding: Option<Vec<u8>>,
    dialing: Dialing,
}

impl Stage {
    fn outer(policy: &Policy, arrival: &Arrival) -> Stage {
        Stage {
            fallback: policy.fallback.clone(),
            fallback_way: Way::Fallback,
            patience: Patience {
                interest: policy.outer_interest(),
                silent_after: route::silent_after(&policy.routes, arrival.peer.ip()),
                decide: policy.decide,
            },
            carrier: Carrier::Plain,
            binding: Some(Vec::new()),
            dialing: Dialing { peer: arrival.peer, local: arrival.local, sni: None },
        }
    }

    fn inner(
        policy: &Policy,
        visitors: Arc<Service>,
        binding: Option<[u8; 32]>,
        outer: Stage,
    ) -> Stage {
        Stage {
            fallback: visitors,
            fallback_way: Way::Visitors,
            patience: Patience {
                interest: binding.map(|_| policy.inner_interest()).unwrap_or_default(),
                silent_after: None,
                decide: policy.decide,
            },
            carrier: Carrier::Tls,
            binding: binding.map(Vec::from),
            dialing: outer.dialing,
        }
    }
}

fn terminated_here<'a>(policy: &'a Policy, seen: &Seen) -> Option<&'a Terminated> {
    let terminated = policy.tls.as_ref()?;
    terminated.names.contains(seen.sni()?).then_some(terminated)
}

/// Routes are for what came on the connection itself; inside our own TLS everybody but the admitted
/// goes where `[tls] visitors` says.
fn route_of<'a>(policy: &'a Policy, stage: &Stage, seen: &Seen) -> Option<&'a Arc<Service>> {
    match stage.carrier {
        Carrier::Plain => route::choose(&policy.routes, seen, stage.dialing.peer.ip()),
        Carrier::Tls => None,
    }
}

/// Whether these letters are a knock, and the service that they open.
fn judge(
    house: &House,
    policy: &Policy,
    stage: &Stage,
    letters: &[u8; LETTERS],
    record: &mut Record,
) -> Option<(Admitted, Arc<Service>)> {
    let binding = stage.binding.as_deref()?;
    let from = stage.dialing.peer.ip();
    record.carrier = Some(stage.carrier.name());
    match house.gate.judge(stage.carrier, letters, binding, from, policy.window) {
        Verdict::Admitted(admitted) => {
            record.client = Some(admitted.client.name.clone());
            let Some(service) = policy.knock_service(&admitted.service) else {
                record.refused = Some("service");
                house.counts.knocks_refused.fetch_add(1, Ordering::Relaxed);
                return None;
            };
            house.counts.knocks_admitted.fetch_add(1, Ordering::Relaxed);
            Some((admitted, service.clone()))
        }
        Verdict::Refused { client, reason } => {
            record.client = Some(client);
            record.refused = Some(reason.name());
            house.counts.knocks_refused.fetch_add(1, Ordering::Relaxed);
            None
        }
        Verdict::Stranger => {
            record.carrier = None;
            None
        }
    }
}

/// Terminates TLS from byte 0; what comes inside is looked at anew.
async fn terminate(
    terminated: &Terminated,
    policy: &Policy,
    front: Front,
    place: &Undecided,
    outer: Stage,
) -> Option<(Front, Stage)> {
    let (stream, _) = front.into_stream().ok()?;
    let handshake = timeout(HANDSHAKE, terminated.inward.accept(stream.wire().clone()));
    let tls = tokio::select! {
        done = handshake => done.ok()?.ok()?,
        () = place.hurried() => return None,
    };
    let stage = Stage::inner(policy, terminated.visitors.clone(), tls::binding(&tls), outer);
    Some((Front::inside(tls.into()), stage))
}

/// Leads whoever knocked right to the service.
async fn admit(
    house: &House,
    policy: &Policy,
    stage: Stage,
    mut front: Front,
    admitted: Admitted,
    service: Arc<Service>,
    record: &mut Record,
) -> Outcome {
    record.way = Way::Knock;
    record.service = Some(service.name.clone());
    let Ok(()) = front.consume(LETTERS).await else { return Outcome::ClientReset };
    let Ok((client, first)) = front.into_stream() else { return Outcome::ClientReset };
    let Some(_seat) = house.places.admitted(&policy.limits) else {
        turn_away(client, admitted.acknowledgement(Status::Busy)).await;
        return Outcome::Shed;
    };
    client.wire().keep_alive();
    let upstream = match connect(&service, &stage.dialing).await {
        Ok(upstream) => upstream,
        Err(failure) => {
            turn_away(client, admitted.acknowledgement(Status::UpstreamDown)).await;
            return failed(&failure, record);
        }
    };
    let _listed = house.tunnels().enter(&admitted, record);
    let acknowledgement = admitted.acknowledgement(Status::Ok).map(Vec::from).unwrap_or_default();
    let cut = house.gate.revoked(&admitted.client);
    let ended = relay(client, upstream, first, acknowledgement, cut).await;
    (record.up, record.down) = (ended.up, ended.down);
    outcome(ended.end)
}

/// Tells somebody who was admitted why there is no service. Its bytes are read meanwhile: closing a
/// socket with unread ones sends a reset, which could overtake the message.
async fn turn_away(mut client: Stream, message: Option<[u8; ack::LENGTH]>) {
    let farewell = async {
        client.write_all(message.as_ref().map_or(&[], |message| &message[..])).await?;
        client.shutdown().await?;
        let mut rest = [0; 4096];
        while client.read(&mut rest).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(FAREWELL, farewell).await;
}

/// Leads a visitor to the service that `early` stands for.
async fn visit(
    house: &House,
    policy: &Policy,
    front: Front,
    early: Early,
    record: &mut Record,
) -> Outcome {
    record.service = Some(early.service().name.clone());
    let Ok((client, first_up)) = front.into_stream() else { return Outcome::ClientReset };
    let Some(_seat) = house.places.visitor(&policy.limits) else {
        client.wire().clone().reset().await;
        return Outcome::Shed;
    };
    match early.connect().await {
        Ok((upstream, first_down)) => {
            let ended = relay(client, upstream, first_up, first_down, std::future::pending()).await;
            (record.up, record.down) = (ended.up, ended.down);
            outcome(ended.end)
        }
        Err(failure) => {
            // A port where nothing listens answers with a reset; this is the nearest to it.
            client.wire().clone().reset().await;
            failed(&failure, record)
        }
    }
}

/// The website closed, reset or spoke while the connection was undecided: that decides it.
async fn left_by_website(
    house: &House,
    policy: &Policy,
    stage: Stage,
    mut front: Front,
    early: Early,
    first: WebsiteFirst,
    record: &mut Record,
) -> Outcome {
    record.way = stage.fallback_way;
    match first {
        WebsiteFirst::Spoke => {}
        // What is held was meant for a socket that is closed now: forwarded it would draw a reset,
        // unread it would send one. The website itself would have read it and closed.
        WebsiteFirst::Closed => {
            let held = front.seen().len();
            let Ok(()) = front.consume(held).await else { return Outcome::ClientReset };
        }
        WebsiteFirst::Reset => {
            if let Ok((client, _)) = front.into_stream() {
                client.wire().clone().reset().await;
            }
            return Outcome::UpstreamReset;
        }
    }
    visit(house, policy, front, early, record).await
}

fn outcome(end: End) -> Outcome {
    match end {
        End::Closed => Outcome::Done,
        End::ClientReset => Outcome::ClientReset,
        End::UpstreamReset => Outcome::UpstreamReset,
        End::Cut => Outcome::Revoked,
    }
}

fn failed(failure: &Failure, record: &mut Record) -> Outcome {
    record.failure = Some(failure.to_string());
    match failure {
        Failure::Timeout => Outcome::ConnectTimeout,
        Failure::Connect { .. }
        | Failure::Unix { .. }
        | Failure::Tls { .. }
        | Failure::Exec { .. } => Outcome::UpstreamDown,
    }
}
