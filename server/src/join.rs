//! Brings a client and its service together: by a relay between the two, or by giving the client's own
//! socket to the service, where nothing between them is posternd's. Never decides who gets where.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use postern_relay::{Guest, Leg, Moved, Relay, Wire};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::early::Early;
use crate::expose::{Cut, Status, Unled, lead, page_for};
use crate::liveness::Liveness;
use crate::ops::outcome::Outcome;
use crate::program::Program;
use crate::service::{
    Child, Dialing, Failure, Load, Reached, Service, Taker, Target, Ticket, connect, header, spawn,
};
use crate::stream::Stream;

/// A client that is to be served.
#[derive(Debug)]
pub struct Caller<'a> {
    pub guest: Guest,
    pub stream: Stream,
    /// What was read from it already.
    pub first_up: Vec<u8>,
    /// What it is told before anything else.
    pub first_down: Vec<u8>,
    /// How it is noticed that a service on another machine has vanished.
    pub liveness: Option<&'a Liveness>,
    /// Its place at the service.
    pub ticket: Option<Ticket>,
    /// Counts what is moved before there is a relay.
    pub moved: &'a mut Moved,
}

/// What there is to see to until a connection ends.
#[derive(Debug)]
pub struct Link {
    /// `None` where the service has the client's own socket.
    relay: Option<Relay<Stream, Stream>>,
    /// Most connections have nothing of it.
    held: Option<Box<Held>>,
}

/// What is held besides for as long as the connection lasts.
#[derive(Debug, Default)]
struct Held {
    child: Option<Child>,
    load: Option<Load>,
    ticket: Option<Ticket>,
    /// Ends it when the key of whoever exposes the service is revoked.
    cut: Option<Cut>,
}

impl Held {
    fn if_any(self) -> Option<Box<Held>> {
        let Held { child, load, ticket, cut } = &self;
        let any = child.is_some() || load.is_some() || ticket.is_some() || cut.is_some();
        any.then(|| Box::new(self))
    }
}

/// Why there is nothing to see to.
#[derive(Debug)]
pub enum Apart {
    /// The service could not be reached. The client is there to be told, unless it had been given away.
    Failed(Option<Stream>, Failure),
    ClientReset,
    /// The same, and it is to be told so in its own protocol.
    Apologised(Stream, Vec<u8>, Failure),
    /// Another process has the client's socket.
    HandedOver,
}

/// Joins the two; `early` may have connected to the service already.
pub async fn join(
    service: &Service,
    dialing: &Dialing,
    early: Option<Early>,
    caller: Caller<'_>,
) -> Result<Link, Apart> {
    let Caller { guest, stream, first_up, mut first_down, liveness, ticket, moved } = caller;
    let untouched = first_up.is_empty();
    let stream = match (&service.target, stream) {
        (Target::Exec(program), Stream::Bare(wire)) if untouched => {
            let child = run_on(program, service, dialing, wire, &first_down).await?;
            return Ok(Link::to_child(child, ticket));
        }
        (Target::Pass(handing), Stream::Bare(wire)) if untouched => {
            let apart = hand_over(&handing.socket, service, dialing, wire, &first_down).await;
            // It was not given away: whoever takes connections is not there.
            let child = match (apart, &handing.otherwise) {
                (Apart::Failed(Some(Stream::Bare(wire)), _), Some(program)) => {
                    run_on(program, service, dialing, wire, &first_down).await?
                }
                (apart, _) => return Err(apart),
            };
            return Ok(Link::to_child(child, ticket));
        }
        (Target::Tunnel(tunnel), mut stream) => {
            let Some(exposure) = tunnel.exposure() else {
                return Err(Apart::Failed(Some(stream), Failure::Away));
            };
            return match lead(exposure, service, dialing, &mut stream, &first_up).await {
                Ok((leased, said)) => {
                    moved.up += said;
                    let cut = Some(leased.until_cut());
                    let relay = Relay::new(guest, stream, leased.into(), Vec::new(), first_down);
                    let held = Held { ticket, cut, ..Held::default() };
                    Ok(Link::relayed(relay, service, held))
                }
                Err(Unled::Left) => Err(Apart::ClientReset),
                Err(Unled::Failure(failure, words)) => {
                    Err(match page_for(&words, Status::Unavailable) {
                        Some(page) => Apart::Apologised(stream, page, failure),
                        None => Apart::Failed(Some(stream), failure),
                    })
                }
            };
        }
        (Target::Upstreams(_) | Target::Exec(_) | Target::Pass(_), stream) => stream,
    };
    let connected = match early {
        Some(early) => early.connect(dialing.bytes_follow).await,
        None => connect(service, dialing).await.map(|reached| (reached, Vec::new())),
    };
    let (reached, words) = match connected {
        Ok(connected) => connected,
        Err(failure) => return Err(Apart::Failed(Some(stream), failure)),
    };
    let Reached { stream: upstream, load, child, is_far } = reached;
    if let (Some(liveness), true) = (liveness, is_far) {
        liveness.watch(upstream.wire());
    }
    first_down.extend(words);
    let relay = Relay::new(guest, stream, upstream, first_up, first_down);
    Ok(Link::relayed(relay, service, Held { child, load, ticket, cut: None }))
}

/// Runs the program on the client's own socket: it sees the peer's address there.
async fn run_on(
    program: &Program,
    service: &Service,
    dialing: &Dialing,
    mut wire: Wire,
    greeting: &[u8],
) -> Result<Child, Apart> {
    let failed = |source| Failure::Exec { program: program.path.clone(), source };
    if let Err(error) = program.is_there() {
        return Err(Apart::Failed(Some(wire.into()), failed(error)));
    }
    // Before the program can say anything.
    greet(&mut wire, greeting, service.connect).await?;
    let child = async { spawn(program, wire.into_socket()?, dialing).await };
    child.await.map_err(|error| Apart::Failed(None, failed(error)))
}

/// Gives the client's own socket to the process that waits for it.
async fn hand_over(
    path: &Path,
    service: &Service,
    dialing: &Dialing,
    mut wire: Wire,
    greeting: &[u8],
) -> Apart {
    let failed = |source| Failure::Unix { to: path.to_owned(), source };
    let taker = match timeout(service.connect, Taker::connect(path)).await {
        Ok(Ok(taker)) => taker,
        Ok(Err(error)) => return Apart::Failed(Some(wire.into()), failed(error)),
        Err(_) => return Apart::Failed(Some(wire.into()), Failure::Timeout),
    };
    if let Err(apart) = greet(&mut wire, greeting, service.connect).await {
        return apart;
    }
    let header = header(service, dialing);
    let handed = async { taker.hand_over(wire.into_socket()?, &header).await };
    match timeout(service.connect, handed).await {
        Ok(Ok(())) => Apart::HandedOver,
        Ok(Err(error)) => Apart::Failed(None, failed(error)),
        Err(_) => Apart::Failed(None, Failure::Timeout),
    }
}

async fn greet(wire: &mut Wire, greeting: &[u8], patience: Duration) -> Result<(), Apart> {
    match timeout(patience, wire.write_all(greeting)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Apart::ClientReset),
    }
}

impl Link {
    fn relayed(mut relay: Relay<Stream, Stream>, service: &Service, held: Held) -> Link {
        if let Some(most) = service.bearing.idle {
            relay = relay.ending_when_idle_for(most);
        }
        Link { relay: Some(relay), held: held.if_any() }
    }

    /// With a child that has the client's own socket.
    fn to_child(child: Child, ticket: Option<Ticket>) -> Link {
        let held = Held { child: Some(child), ticket, ..Held::default() };
        Link { relay: None, held: held.if_any() }
    }

    /// What else may end it.
    pub(crate) fn take_cut(&mut self) -> Option<Cut> {
        self.held.as_mut()?.cut.take()
    }

    /// The relay, if it takes one.
    pub fn relay(&mut self) -> Option<&mut Relay<Stream, Stream>> {
        self.relay.as_mut()
    }

    /// Completes when the child, too, has ended after its connection ended so, or was ended because `cut`
    /// completed. `None` where there is no child.
    pub fn see_off(
        &mut self,
        outcome: Outcome,
        cut: impl Future<Output = ()> + Unpin,
    ) -> Option<impl Future<Output = Outcome>> {
        let child = self.held.as_deref_mut()?.child.as_mut()?;
        // So that a child which reads still reads the end.
        self.relay = None;
        // Seldom needed, and larger than all that is needed often.
        Some(Box::pin(async move {
            if outcome != Outcome::Revoked {
                tokio::select! {
                    biased;
                    () = child.ended() => return outcome,
                    () = cut => {}
                }
            }
            child.end().await;
            Outcome::Revoked
        }))
    }
}
