//! The way of somebody who is let in, from his knock to his service. What lets him in was decided before.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use postern_relay::{Guest, Lane, Leg};
use postern_shared::hello::ClientHello;
use postern_shared::knock::Status;
use postern_shared::sniff::{LETTERS, Protocol};
use tokio::time::timeout;

use crate::expose;
use crate::front::Front;
use crate::gate::{Admitted, Entrant, Pass};
use crate::house::{Entering, House, Unlocked};
use crate::join::{Apart, Caller, join};
use crate::ops::outcome::{Outcome, Record, Way};
use crate::pair::Pair;
use crate::policy::Policy;
use crate::route::Seen;
use crate::service::Dialing;
use crate::stage::{Errand, Stage};
use crate::stream::Stream;
use crate::sys;
use crate::tls::Identity;

/// For the handshake of a hello that knocked: a key holder's own, so a slow network's time and no more.
const FINISH: Duration = Duration::from_secs(10);

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

/// Gives whoever knocked right what he came for: a pair that is to be relayed, or nothing more.
pub(crate) async fn admit(
    house: &Arc<House>,
    policy: &Policy,
    stage: Stage,
    front: Front,
    entering: Entering,
    record: &mut Record,
) -> Result<Pair, Outcome> {
    let Entering { entrant, errand, seat } = entering;
    let holder = entrant.holder();
    record.way = match &entrant {
        Entrant::Knock(_) => {
            house.counts.knocks_admitted.fetch_add(1, Ordering::Relaxed);
            house.gate.note_use(&holder);
            Way::Knock
        }
        Entrant::Memory(_) => Way::Memory,
    };
    record.service = errand.service().cloned();
    let bytes_follow = front.has_bytes();
    let (mut client, first_up) = front.into_stream().map_err(|_| Outcome::ClientReset)?;
    let peer = stage.dialing.peer;
    if let Errand::Arm(service, keep) = errand {
        let pass = Pass { holder, service: service.name.clone() };
        house.gate.arm(peer.ip(), pass, keep);
        entrant.part(client, Status::Ok).await;
        return Err(Outcome::Done);
    }
    let Some(seat) = seat else {
        entrant.part(client, Status::Busy).await;
        return Err(Outcome::Shed);
    };
    policy.liveness.watch(client.wire());
    let acknowledgement = entrant.acknowledgement(Status::Ok).map(Vec::from).unwrap_or_default();
    if let Errand::Wait(pool) = errand {
        // Counted before it is asked how many there are: others are coming, too.
        let berth = pool.berth(seat);
        if house.gate.pools.lanes_of(&pool.client) > policy.limits.lanes_per_key() {
            drop(berth);
            entrant.part(client, Status::Busy).await;
            return Err(Outcome::Shed);
        }
        record.quiet = true;
        client.say(&acknowledgement, FINISH).await.map_err(|_| Outcome::ClientReset)?;
        pool.park(Lane::new(client), berth);
        return Err(Outcome::Pooled);
    }
    let Some(entry) = house.tunnels().enter(&entrant, record.service.clone(), peer) else {
        record.details().refused = Some("tunnels");
        entrant.part(client, Status::Busy).await;
        return Err(Outcome::Shed);
    };
    let Errand::Reach(service) = errand else {
        // Its key may have been revoked before it was listed.
        if !house.still_knows(&holder) {
            return Err(Outcome::Revoked);
        }
        client.say(&acknowledgement, FINISH).await.map_err(|_| Outcome::ClientReset)?;
        let exposing = expose::serve(house, &holder, peer, client, first_up, &entry);
        // It lasts for days, and is larger than what leads there.
        return Err(Box::pin(exposing).await);
    };
    let ticket = match client.unless_reset(service.enter(peer, Some(&holder))).await {
        None => return Err(Outcome::ClientReset),
        Some(Ok(ticket)) => ticket,
        Some(Err(kept)) => {
            let (outcome, status) = record.note_kept(kept);
            entrant.part(client, status).await;
            return Err(outcome);
        }
    };
    // Its key may have been revoked before the tunnel was listed, or while it waited: a program would be
    // started for it still, and what is handed over is not cut any more.
    if !house.still_knows(&holder) {
        return Err(Outcome::Revoked);
    }
    let dialing = Dialing { bytes_follow, ..stage.dialing };
    let liveness = Some(&policy.liveness);
    let first_down = acknowledgement;
    let caller = Caller {
        guest: Guest::Admitted,
        stream: client,
        first_up,
        first_down,
        liveness,
        ticket,
        moved: &mut record.moved,
    };
    match join(&service, &dialing, None, caller).await {
        Ok(link) => Ok(Pair { link, entry: Some(entry), _seat: seat }),
        Err(Apart::Failed(client, failure)) => {
            if let Some(client) = client {
                entrant.part(client, Status::UpstreamDown).await;
            }
            Err(record.note_failure(&failure))
        }
        Err(Apart::Apologised(client, _, failure)) => {
            entrant.part(client, Status::UpstreamDown).await;
            Err(record.note_failure(&failure))
        }
        Err(Apart::ClientReset) => Err(Outcome::ClientReset),
        Err(Apart::HandedOver) => Err(Outcome::HandedOver),
    }
}

impl Entrant {
    /// Tells him how it stands, and parts.
    async fn part(&self, client: Stream, status: Status) {
        let acknowledgement = self.acknowledgement(status);
        client.part(acknowledgement.as_ref().map_or(&[], |bytes| &bytes[..])).await;
    }
}
