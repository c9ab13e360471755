//! The way of a visitor, from where he was routed to his service: reset and end reach him as they would
//! without posternd.

use postern_relay::Guest;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::early::{Early, WebsiteFirst};
use crate::front::Front;
use crate::house::House;
use crate::join::{Apart, Caller, join};
use crate::ops::outcome::{Outcome, Record};
use crate::pair::Pair;
use crate::policy::Policy;
use crate::route::Rejection;
use crate::service::Dialing;
use crate::stage::Stage;

/// How long somebody who is turned away has to take the end of his connection.
const FAREWELL: Duration = Duration::from_secs(2);

/// Leads a visitor to the service that `early` stands for.
pub(crate) async fn visit(
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
    let ticket = match client.unless_reset(service.enter(peer, None)).await {
        None => {
            early.reset().await;
            return Err(Outcome::ClientReset);
        }
        Some(Ok(ticket)) => ticket,
        Some(Err(kept)) => {
            let (outcome, _) = record.note_kept(kept);
            client.reset().await;
            return Err(outcome);
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
        moved: &mut record.moved,
    };
    match join(&service, &dialing, Some(early), caller).await {
        Ok(link) => Ok(Pair { link, entry: None, _seat: seat }),
        Err(Apart::Failed(client, failure)) => {
            // A port where nothing listens answers with a reset; this is the nearest to it.
            if let Some(client) = client {
                client.reset().await;
            }
            Err(record.note_failure(&failure))
        }
        Err(Apart::Apologised(client, page, failure)) => {
            client.part(&page).await;
            Err(record.note_failure(&failure))
        }
        Err(Apart::ClientReset) => Err(Outcome::ClientReset),
        Err(Apart::HandedOver) => Err(Outcome::HandedOver),
    }
}

/// Ends the connection of somebody whom a route rejects.
pub(crate) async fn turn_away(rejection: Rejection, mut front: Front) -> Outcome {
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
pub(crate) async fn left_by_website(
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
