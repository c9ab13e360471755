//! The way of somebody who is let in, from his knock to his service. What lets him in was decided before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_shared::hello::ClientHello;
use postern_shared::knock::{Intent, Status, ack};
use postern_shared::sniff::{LETTERS, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::front::Front;
use crate::gate::{Admitted, Entrant, Pass};
use crate::house::{Entering, House, Unlocked};
use crate::join::{Apart, Caller, join};
use crate::ops::outcome::{Outcome, Record, Way};
use crate::pair::Pair;
use crate::policy::Policy;
use crate::route::Seen;
use crate::stage::Stage;
use crate::stream::Stream;
use crate::sys;
use crate::tls::Identity;
use postern_relay::{Guest, Leg};

/// For the handshake of a hello that knocked: a key holder's own, so a slow network's time and no more.
const FINISH: Duration = Duration::from_secs(10);

/// How long somebody who was admitted but cannot be served has to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// The stream as it is when the knock has been taken away.
pub(crate) async fn behind_the_knock(
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
pub(crate) async fn admit(
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
        record.details().refused = Some("tunnels");
        part(client, entrant.acknowledgement(Status::Busy)).await;
        return Err(Outcome::Shed);
    };
    let ticket = match client.unless_reset(service.enter(peer, Some(&holder))).await {
        None => return Err(Outcome::ClientReset),
        Some(Ok(ticket)) => ticket,
        Some(Err(kept)) => {
            let (outcome, status) = record.note_kept(kept);
            part(client, entrant.acknowledgement(status)).await;
            return Err(outcome);
        }
    };
    // Its key may have been revoked before the tunnel was listed, or while it waited: a program would be
    // started for it still, and what is handed over is not cut any more.
    if !house.still_knows(&holder) {
        return Err(Outcome::Revoked);
    }
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
            Err(record.note_failure(&failure))
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
