//! One lane's life: it is opened, waits for a visitor, carries him to the local service, and waits again
//! where he went in order. Says that it has him before a byte of his goes anywhere, and takes none twice.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use postern_relay::wire::Then;
use postern_relay::{End, Guest, Lane, Moved, Relay, Wire};
use postern_shared::expose::lane::{Frame, Opening};
use postern_shared::proxy;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use super::forwarded::{self, Visitor};
use super::line::Line;
use super::offering::Told;
use super::pool::{Doing, Place, Pool};
use crate::deadline::{Deadline, Step};
use crate::dial::keep_alive;
use crate::error::Error;
use crate::knock::Knock;

/// For a TCP connection; a network that swallows packets must not hold a lane for long.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// Where visitors of the server's own port come from, TLS has been ended.
const HTTPS: u16 = 443;

/// For the rest of a visitor who is not carried.
const REST: Duration = Duration::from_secs(10);

/// Serves visitors until the lane ends.
pub(super) async fn serve(mut place: Place, knock: Knock) {
    let pool = place.pool().clone();
    let began = Instant::now();
    let opened = tokio::select! {
        () = pool.closed() => return,
        // Much larger than all that follows, and soon over.
        opened = Box::pin(open(&pool, &knock)) => opened,
    };
    let mut lane = match opened {
        Ok(line) => Lane::new(line),
        Err(error) => return pool.not_opened(began, &error),
    };
    drop(knock);
    pool.opened();
    let (opened, mut served) = (Instant::now(), false);
    loop {
        place.turns_to(Doing::Waiting);
        let opening = tokio::select! {
            biased;
            opening = poll_fn(|cx| lane.poll_opening(cx)) => opening,
            () = pool.dismissed() => return,
            () = pool.closed() => return,
        };
        let Ok(Some(opening)) = opening else {
            if !served {
                pool.failed(opened);
            }
            return;
        };
        served = true;
        place.turns_to(Doing::Serving);
        match Box::pin(visit(&pool, lane, opening)).await {
            Some(spent) if !pool.is_closed() => lane = spent,
            Some(_) | None => return,
        }
    }
}

async fn open(pool: &Pool, knock: &Knock) -> Result<Line, Error> {
    let at = &knock.at;
    let failed = |cause| Error::Connect { at: at.clone(), cause };
    let connecting = Wire::connect(pool.peer, Then::Write);
    let connected = Deadline::after(CONNECT).hold(Step::Connect, at, connecting).await?;
    let wire = connected.map_err(failed)?;
    keep_alive(wire.socket()).map_err(failed)?;
    pool.exposure.enter(pool.exposure.lane_way(), wire, knock).await
}

/// Carries one visitor; the lane is given back where it can carry another.
async fn visit(pool: &Pool, mut lane: Lane<Line>, opening: Opening) -> Option<Lane<Line>> {
    let exposure = &pool.exposure;
    if !exposure.admit(opening.visitor) {
        return turn_away(lane, Frame::Passed).await;
    }
    let id = opening.offer;
    let Some((offering, local)) =
        exposure.offerings.get(usize::from(id)).zip(exposure.locals.get(usize::from(id)))
    else {
        lane.send(&Frame::Taken.header()).await.ok()?;
        return turn_away(lane, Frame::Failed).await;
    };
    // Before the server is told, which takes a processor: a connection without a byte is nobody's yet.
    let then = match offering.told {
        Told::Proxy(_) => Then::Write,
        Told::Nothing | Told::Forwarded => Then::Wait,
    };
    let mut dialling = pin!(local.dial(then));
    let dialled = match exposure.probes.are_expected(id) {
        true => Poll::Pending,
        false => poll_fn(|cx| Poll::Ready(dialling.as_mut().poll(cx))).await,
    };
    lane.send(&Frame::Taken.header()).await.ok()?;
    let (first, is_probe) = exposure.probes.first_words(id, &mut lane).await.ok()?;
    if is_probe {
        lane.write_all(&first).await.ok()?;
        lane.shutdown().await.ok()?;
        return rest(lane).await;
    }
    exposure.book.visited(id);
    let mut first_up = match offering.told {
        Told::Proxy(version) => proxy::header(version, opening.peer, opening.local),
        Told::Nothing | Told::Forwarded => Vec::new(),
    };
    first_up.extend(first);
    let dialled = match dialled {
        Poll::Ready(dialled) => dialled,
        Poll::Pending => dialling.await,
    };
    exposure.book.local(id, dialled.is_ok());
    let between = |service| match offering.told {
        Told::Nothing | Told::Proxy(_) => Ok(service),
        Told::Forwarded => {
            let https = offering.terminate || opening.local.port() == HTTPS;
            let visitor = Visitor { ip: opening.peer.ip(), https };
            forwarded::stand_between(exposure, id, visitor, service)
        }
    };
    let Ok(service) = dialled.and_then(between) else {
        return turn_away(lane, Frame::Failed).await;
    };
    let mut relay = Relay::new(Guest::Admitted, lane, service, first_up, Vec::new());
    let end = relay.run(&mut Moved::default(), pending()).await;
    // The service hears its end where its socket is closed.
    let (mut lane, _) = relay.into_sides();
    (end == End::Closed && lane.is_spent()).then(|| {
        lane.renew();
        lane
    })
}

/// Says why a visitor is not carried.
async fn turn_away(mut lane: Lane<Line>, why: Frame) -> Option<Lane<Line>> {
    lane.send(&why.header()).await.ok()?;
    lane.shutdown().await.ok()?;
    rest(lane).await
}

/// Reads what is left of a visitor who gets no more.
async fn rest(mut lane: Lane<Line>) -> Option<Lane<Line>> {
    let reading = async {
        let mut piece = vec![0; 4096];
        while lane.read(&mut piece).await? > 0 {}
        std::io::Result::Ok(())
    };
    timeout(REST, reading).await.ok()?.ok()?;
    lane.is_spent().then(|| {
        lane.renew();
        lane
    })
}
