//! The spine: a connection's life from its first byte to its one outcome. Each step is decided
//! elsewhere, purely; here they stand in order.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use postern_shared::hello::ClientHello;
use postern_shared::knock::{Intent, Status, ack};
use postern_shared::sniff::{LETTERS, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::decide::{Decided, Rest, decide};
use crate::early::{Early, WebsiteFirst};
use crate::front::Front;
use crate::gate::{Admitted, Entrant, Pass};
use crate::house::{Entering, Entry, House, Unlocked};
use crate::inquire::{self, Inquired, inquire};
use crate::introduce::introduce;
use crate::join::{Apart, Caller, Link, join};
use crate::ops::outcome::{Life, Outcome, Record, Way};
use crate::places::{Seat, Undecided};
use crate::policy::{Policy, Terminated};
use crate::relay::{Guest, Moved};
use crate::route::{Action, Rejection, Seen, Still};
use crate::service::{Dialing, Failure};
use crate::stage::{Judged, Stage};
use crate::stream::Stream;
use crate::sys;
use crate::tls::{self, Identity};
use crate::wire::Wire;

/// What nginx gives a TLS handshake (`client_header_timeout`): our own names should not stand out.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// For the handshake of a hello that knocked: a key holder's own, so a slow network's time and no more.
const FINISH: Duration = Duration::from_secs(10);

/// How long somebody who was admitted but cannot be served has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// An accepted connection, and the policy that it came under.
#[derive(Debug)]
pub struct Arrival {
    pub wire: Wire,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// The listener that accepted it, as the configuration calls it.
    pub listener: SocketAddr,
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
            Ok(mut pair) => pair.last(&mut life.record.moved).await,
            Err(outcome) => outcome,
        };
        life.end(outcome);
    }
}

async fn lead(mut life: Life, arrival: Arrival) -> (Life, Result<Box<Pair>, Outcome>) {
    let led = way_in(&life.house, arrival, &mut life.record).await.map(Box::new);
    (life, led)
}

/// Two sides that were brought together, and the places that they hold.
struct Pair {
    link: Link,
    /// A visitor has none.
    entry: Option<Entry>,
    _seat: Seat,
}

impl Pair {
    async fn last(&mut self, moved: &mut Moved) -> Outcome {
        let Pair { link, entry, .. } = self;
        let mut cut = poll_fn(|cx| match entry {
            Some(entry) => entry.tunnel.poll_cut(cx),
            None => Poll::Pending,
        });
        let outcome = match link.relay() {
            None => Outcome::Done,
            Some(relay) => relay.run(moved, &mut cut).await.into(),
        };
        match link.see_off(outcome, cut) {
            None => outcome,
            Some(seen_off) => seen_off.await,
        }
    }
}

/// Accept, look, judge, route; and where posternd terminates TLS, once more inside.
async fn way_in(house: &House, arrival: Arrival, record: &mut Record) -> Result<Pair, Outcome> {
    let Arrival { wire, mut peer, mut local, listener, policy } = arrival;
    let mut front = Front::tcp(wire);
    if policy.is_proxy(&listener, peer.ip()) {
        let told = introduce(&mut front, (peer, local), policy.decide).await;
        let Some(told) = told else {
            if let Ok((client, _)) = front.into_stream() {
                client.reset().await;
            }
            return Err(Outcome::NoProxyHeader);
        };
        record.introduced = Some(told.0);
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
            Judged::Enters(entrant, service) => {
                let seat = house.places.admitted(&policy.limits);
                let entering = Entering { entrant, service, seat };
                if let Some(unlocked) = house.unlock(&entering, &seen, &policy.limits) {
                    drop((place, early));
                    let front = behind_the_knock(house, &entering, unlocked, &seen, front).await?;
                    return admit(house, &policy, stage, front, entering, record).await;
                }
                record.refused = Some("busy");
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
        if let Some(terminated) = terminated_here(&policy, &seen) {
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
            record.route = Some(route.number);
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

/// Terminates TLS from byte 0; what comes inside is looked at anew.
async fn terminate(
    terminated: &Terminated,
    policy: &Policy,
    front: Front,
    place: &mut Undecided,
    outer: Stage,
) -> Option<(Front, Stage)> {
    let wire = front.into_wire()?;
    let handshake = pin!(timeout(HANDSHAKE, terminated.inward.accept(wire)));
    let tls = tokio::select! {
        done = handshake => done.ok()?.ok()?,
        () = place.hurried() => return None,
    };
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

/// The stream as it is when the knock has been taken away.
async fn behind_the_knock(
    house: &House,
    entering: &Entering,
    _unlocked: Unlocked,
    seen: &Seen,
    mut front: Front,
) -> Result<Front, Outcome> {
    match (&entering.entrant, seen) {
        (Entrant::Memory(_), _) => {}
        (Entrant::Knock(admitted), Seen::Protocol(Protocol::Tls(hello))) => {
            front = answer(&house.identity, hello, admitted, front).await?;
        }
        (Entrant::Knock(_), _) => {
            front.consume(LETTERS).await.map_err(|_| Outcome::ClientReset)?;
        }
    }
    Ok(front)
}

/// Terminates TLS for a hello that knocked. Whoever only captured it cannot finish the handshake: until
/// its end nobody is admitted.
async fn answer(
    identity: &Identity,
    hello: &ClientHello,
    admitted: &Admitted,
    front: Front,
) -> Result<Front, Outcome> {
    let wire = front.into_wire().ok_or(Outcome::TlsFailed)?;
    let random = admitted.server_random(hello, sys::random());
    match timeout(FINISH, identity.accept(wire, random)).await {
        Ok(Ok(tls)) => Ok(Front::inside(tls.into())),
        Ok(Err(_)) | Err(_) => Err(Outcome::TlsFailed),
    }
}

/// Leads whoever knocked right to the service.
async fn admit(
    house: &House,
    policy: &Policy,
    mut stage: Stage,
    front: Front,
    entering: Entering,
    record: &mut Record,
) -> Result<Pair, Outcome> {
    let Entering { entrant, service, seat } = entering;
    record.service = Some(service.clone());
    let holder = entrant.holder();
    let intent = match &entrant {
        Entrant::Knock(admitted) => {
            record.way = Way::Knock;
            house.counts.knocks_admitted.fetch_add(1, Ordering::Relaxed);
            house.gate.note_use(&holder);
            admitted.intent
        }
        Entrant::Memory(_) => {
            record.way = Way::Memory;
            Intent::Pipe
        }
    };
    stage.dialing.bytes_follow = front.has_bytes();
    let (client, first_up) = front.into_stream().map_err(|_| Outcome::ClientReset)?;
    if let (Intent::Arm, Some(memory)) = (intent, policy.memory) {
        let pass = Pass { holder, service: service.name.clone() };
        house.gate.arm(stage.dialing.peer.ip(), pass, memory.keep);
        part(client, entrant.acknowledgement(Status::Ok)).await;
        return Err(Outcome::Done);
    }
    let Some(seat) = seat else {
        part(client, entrant.acknowledgement(Status::Busy)).await;
        return Err(Outcome::Shed);
    };
    let peer = stage.dialing.peer;
    let Some(entry) = house.tunnels().enter(&entrant, service.clone(), peer) else {
        record.refused = Some("tunnels");
        part(client, entrant.acknowledgement(Status::Busy)).await;
        return Err(Outcome::Shed);
    };
    // Its key may have been revoked before the tunnel was listed.
    if !house.still_knows(&holder) {
        return Err(Outcome::Revoked);
    }
    if !service.lets_in(peer, Some(&holder)).await {
        record.refused = Some("access");
        part(client, entrant.acknowledgement(Status::Denied)).await;
        return Err(Outcome::Rejected);
    }
    let ticket = match service.enter(peer.ip()).await {
        Ok(ticket) => ticket,
        Err(over) => {
            record.failure = Some(over.name().into());
            part(client, entrant.acknowledgement(Status::Busy)).await;
            return Err(Outcome::Shed);
        }
    };
    policy.liveness.watch(client.wire());
    let first_down = entrant.acknowledgement(Status::Ok).map(Vec::from).unwrap_or_default();
    let liveness = Some(&policy.liveness);
    let caller =
        Caller { guest: Guest::Admitted, stream: client, first_up, first_down, liveness, ticket };
    match join(&service, &stage.dialing, None, caller).await {
        Ok(link) => Ok(Pair { link, entry: Some(entry), _seat: seat }),
        Err(Apart::Failed(client, failure)) => {
            if let Some(client) = client {
                part(client, entrant.acknowledgement(Status::UpstreamDown)).await;
            }
            Err(failed(&failure, record))
        }
        Err(Apart::ClientReset) => Err(Outcome::ClientReset),
        Err(Apart::HandedOver) => Err(Outcome::HandedOver),
    }
}

/// Tells somebody who was admitted how it stands, and parts. His bytes are read meanwhile: closing a
/// socket with unread ones sends a reset, which could overtake the message.
async fn part(mut client: Stream, message: Option<[u8; ack::LENGTH]>) {
    let farewell = async {
        client.write_all(message.as_ref().map_or(&[], |message| &message[..])).await?;
        client.shutdown().await?;
        let mut rest = [0; 512];
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
) -> Result<Pair, Outcome> {
    record.service = Some(early.service().clone());
    let bytes_follow = front.has_bytes();
    let (client, first_up) = front.into_stream().map_err(|_| Outcome::ClientReset)?;
    let Some(seat) = house.places.visitor(&policy.limits) else {
        client.reset().await;
        return Err(Outcome::Shed);
    };
    let service = early.service().clone();
    let peer = early.dialing().peer;
    if !service.lets_in(peer, None).await {
        record.refused = Some("access");
        client.reset().await;
        return Err(Outcome::Rejected);
    }
    let ticket = match service.enter(peer.ip()).await {
        Ok(ticket) => ticket,
        Err(over) => {
            record.failure = Some(over.name().into());
            client.reset().await;
            return Err(Outcome::Shed);
        }
    };
    let dialing = Dialing { bytes_follow, ..early.dialing().clone() };
    let caller = Caller {
        guest: Guest::Visitor,
        stream: client,
        first_up,
        first_down: Vec::new(),
        liveness: None,
        ticket,
    };
    match join(&service, &dialing, Some(early), caller).await {
        Ok(link) => Ok(Pair { link, entry: None, _seat: seat }),
        Err(Apart::Failed(client, failure)) => {
            // A port where nothing listens answers with a reset; this is the nearest to it.
            if let Some(client) = client {
                client.reset().await;
            }
            Err(failed(&failure, record))
        }
        Err(Apart::ClientReset) => Err(Outcome::ClientReset),
        Err(Apart::HandedOver) => Err(Outcome::HandedOver),
    }
}

/// Ends the connection of somebody whom a route rejects.
async fn turn_away(rejection: Rejection, mut front: Front) -> Outcome {
    if rejection == Rejection::Close {
        // Unread it would make the close a reset.
        front.discard();
    }
    if let Ok((mut client, _)) = front.into_stream() {
        match rejection {
            Rejection::Reset => client.reset().await,
            Rejection::Close => {
                let _ = timeout(FAREWELL, client.shutdown()).await;
            }
        }
    }
    Outcome::Rejected
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
) -> Result<Pair, Outcome> {
    record.way = stage.fallback_way();
    record.spoke |= front.has_bytes();
    match first {
        WebsiteFirst::Spoke => {}
        // What is held was meant for a socket that is closed now: forwarded it would draw a reset,
        // unread it would send one. The website itself would have read it and closed.
        WebsiteFirst::Closed => front.discard(),
        WebsiteFirst::Reset => {
            if let Ok((client, _)) = front.into_stream() {
                client.reset().await;
            }
            return Err(Outcome::UpstreamReset);
        }
    }
    visit(house, policy, front, early, record).await
}

fn failed(failure: &Failure, record: &mut Record) -> Outcome {
    record.failure = Some(failure.to_string().into());
    match failure {
        Failure::Timeout => Outcome::ConnectTimeout,
        Failure::Connect { .. }
        | Failure::Unix { .. }
        | Failure::Tls { .. }
        | Failure::Exec { .. } => Outcome::UpstreamDown,
    }
}
