//! `postern expose`: services of this machine, reached by a public address of the server. Decides when the
//! server is dialled, and which ends are final; a connection that was there once is restored for ever.

mod backoff;
mod book;
mod control;
mod exposure;
mod forwarded;
mod lane;
mod limit;
mod line;
mod local;
mod network;
mod notify;
mod offering;
mod pool;
mod probe;
mod pulse;
mod size;
mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use postern_relay::Wire;
use postern_shared::knock::Carrier;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

pub use offering::Arguments;

use crate::deadline::{self, Deadline};
use crate::dial;
use crate::error::Error;
use crate::out;
use crate::profile::Profile;
use crate::reach::{self, Reach};
use crate::runtime::on_runtime;
use crate::signals::Signals;
use backoff::Backoff;
use control::End;
use exposure::{Exposure, Way};
use line::Line;
use network::Network;
use status::Desk;

/// A connection that held for so long was a good one: the next failure is the first again.
const HELD: Duration = Duration::from_secs(10);

/// An attempt that a change of the network overtakes is begun anew, but not before it had a fair chance:
/// twice as long each time, so that a network which never rests does not keep us from ever arriving.
const FAIR: Duration = Duration::from_millis(100);

/// Exposes until it is ended, or cannot go on.
pub fn expose(arguments: &Arguments) -> Result<ExitCode, Error> {
    if arguments.status {
        return status::ask(&arguments.profile);
    }
    let (profile, inherited) = reach::open(&arguments.profile)?;
    let offerings = offering::offerings(arguments, &profile)?;
    let at = arguments.reach.address(&profile)?;
    let (control, lanes) = ways(&arguments.reach, &profile)?;
    if lanes.is_some() {
        if let Some(one) = offerings.iter().find(|one| one.terminate) {
            return Err(Error::Usage(format!(
                "--carrier plain: visitors of {} come inside TLS that the server ends, and would go on \
                 in the clear; use another carrier, or leave terminate out",
                one.entrance
            )));
        }
        out::complain(
            "WARNING: --carrier plain: what visitors and services say passes between the server and \
             here as it is; whoever is in the middle can read and change what they do not encrypt",
        );
    }
    let desk = Desk::open(&arguments.profile)?;
    let most_lanes = limit::raise(&offerings);
    let strict = arguments.strict;
    let work = async move {
        let key = profile.key.get(inherited).await?;
        let mut signals =
            Signals::listen().map_err(|error| Error::local("cannot take signals", &error))?;
        let ways = (control, lanes);
        let exposure = Exposure::new(profile, key, at, ways, offerings, most_lanes)?;
        let exposure = Rc::new(exposure);
        tokio::select! {
            error = keep(&exposure, strict) => Err(error),
            never = attend(desk.as_ref(), &exposure) => match never {},
            never = notify::follow(&exposure) => match never {},
            signal = signals.next() => Ok(signal.exit_code()),
        }
    };
    // As a task of its own: what is awaited here is polled whenever any lane has something to do.
    on_runtime(LocalSet::new().run_until(async {
        let ended = spawn_local(work).await;
        ended.unwrap_or_else(|error| Err(Error::Local(format!("a defect in postern: {error}"))))
    }))
}

/// Answers `--status` for as long as that works.
async fn attend(desk: Option<&Desk>, exposure: &Rc<Exposure>) -> Infallible {
    if let Some(desk) = desk
        && let Err(error) = desk.answer(exposure).await
    {
        out::complain(&format!("--status will not work any more: {error}"));
    }
    std::future::pending().await
}

/// By what the control connection goes, and the lanes where that is something else: nothing after a plain
/// knock is authenticated, so that only these can go plain.
fn ways(reach: &Reach, profile: &Profile) -> Result<(Way, Option<Way>), Error> {
    let plain = reach.carrier == Some(Carrier::Plain);
    let carrier = match reach.carrier {
        Some(carrier) if carrier != Carrier::Plain => carrier,
        Some(_) | None => {
            let others = profile.carriers.iter().find(|carrier| **carrier != Carrier::Plain);
            *others.ok_or_else(|| {
                Error::Usage(
                    "this profile has the plain carrier alone, on which nothing after the knock is \
                     authenticated: whoever is in the middle could expose a service of his own; have \
                     hello or tls enabled on the server, and join with a new invite"
                        .to_owned(),
                )
            })?
        }
    };
    let way = |carrier| Ok(Way { carrier, ready: reach.ready(profile, carrier)? });
    Ok((way(carrier)?, plain.then(|| way(Carrier::Plain)).transpose()?))
}

/// Restores the connection for ever; answers why that has an end.
async fn keep(exposure: &Rc<Exposure>, strict: bool) -> Error {
    let mut network = Network::watch();
    let mut backoff = Backoff::default();
    let mut was_welcome = false;
    loop {
        let began = Instant::now();
        match connect(exposure, &mut network).await {
            Err(error) if !was_welcome && is_final(&error) => return error,
            Err(error) => exposure.say(&format!("{error}; trying again")),
            Ok((line, peer)) => {
                let at = exposure.at.clone();
                let (end, since) =
                    control::converse(exposure, line, peer, &mut network, strict).await;
                was_welcome |= since.is_some();
                if since.is_some_and(|since| since.elapsed() >= HELD) {
                    backoff.reset();
                }
                match end {
                    End::Superseded => return Error::Superseded { at },
                    End::Revoked => return Error::Revoked { at },
                    End::NoEntrance(entrance, why) => return Error::NoEntrance { entrance, why },
                    End::Lost(why) => exposure
                        .say(&format!("the connection to {at} is lost: {why}; trying again")),
                }
            }
        }
        let next = began + backoff.next(random());
        tokio::select! {
            () = sleep_until(next) => {}
            () = network.changed() => {}
        }
    }
}

/// A connection that is admitted, and where it leads.
async fn connect(exposure: &Exposure, network: &mut Network) -> Result<(Line, SocketAddr), Error> {
    let mut fair = FAIR;
    loop {
        let overtaken = async {
            sleep(fair).await;
            network.changed().await;
        };
        tokio::select! {
            connected = Box::pin(attempt(exposure)) => return connected,
            () = overtaken => fair = fair.saturating_mul(2),
        }
    }
}

async fn attempt(exposure: &Exposure) -> Result<(Line, SocketAddr), Error> {
    let at = &exposure.at;
    let failed = |cause| Error::Connect { at: at.clone(), cause };
    // A resolver that goes on to its second server takes longer than a dial may.
    let addresses = dial::resolve(at, Deadline::after(deadline::CONNECT)).await?;
    let stream = dial::reach(at, addresses, Deadline::after(lane::CONNECT)).await?;
    let peer = stream.peer_addr().map_err(failed)?;
    let socket = OwnedFd::from(stream.into_std().map_err(failed)?);
    let wire = Wire::tcp(socket).map_err(failed)?;
    let line = exposure.enter(&exposure.control, wire, &exposure.control_knock()).await?;
    Ok((line, peer))
}

/// What another attempt would not mend, while it never worked. A laptop starts before its network is there.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Usage(_)
        | Error::Local(_)
        | Error::Tls { .. }
        | Error::WrongPin { .. }
        | Error::NotAdmitted { .. }
        | Error::Denied { .. }
        | Error::Superseded { .. }
        | Error::Revoked { .. }
        | Error::NoEntrance { .. } => true,
        Error::Resolve { .. }
        | Error::Connect { .. }
        | Error::ServiceDown { .. }
        | Error::Busy { .. }
        | Error::Lost { .. }
        | Error::Protocol { .. }
        | Error::Timeout { .. }
        | Error::Late { .. } => false,
        Error::OrTry { error, .. } => is_final(error),
    }
}

/// For waiting times: where there is no randomness they are as long as they can be.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => u64::MAX,
    }
}
