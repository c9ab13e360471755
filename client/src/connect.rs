//! The ProxyCommand: profile, key, connection, knock, tunnel. Never writes to standard output but
//! what the server sends once it has admitted us.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use clap::Args;
use postern_shared::knock::{Carrier, Intent};
use tokio::net::TcpStream;

use crate::address::Address;
use crate::carrier::{Admitted, Ready};
use crate::deadline::{CONNECT, Deadline, Step};
use crate::dial::dial;
use crate::error::Error;
use crate::fdpass::Ssh;
use crate::knock::Knock;
use crate::names::ProfileName;
use crate::pipe::{End, pipe};
use crate::profile::{Profile, Service};
use crate::reach::{self, Reach};
use crate::records::Records;
use crate::runtime::on_runtime;
use crate::signals::Signals;
use crate::stdio::{Input, Stdio};

/// What the command line may ask for: a service, and a way to it.
#[derive(Clone, Debug, Default, Args)]
pub struct Wish {
    /// Service to reach, if not the profile's first
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    #[command(flatten)]
    pub reach: Reach,
}

/// Arms this machine's address, as the server sees it: for a while it may come without a knock.
pub fn arm(name: &ProfileName, wish: &Wish) -> Result<ExitCode, Error> {
    let (profile, inherited) = reach::open(name)?;
    let plan = Plan::new(&profile, wish, Intent::Arm)?;
    on_runtime(async {
        let mut signals =
            Signals::listen().map_err(|error| Error::local("cannot take signals", &error))?;
        let nothing =
            Input::nothing().map_err(|error| Error::local("cannot use /dev/null", &error))?;
        tokio::select! {
            armed = admission(&profile, plan, inherited, &nothing) => {
                armed.map(|_stream| ExitCode::SUCCESS)
            }
            signal = signals.next() => Ok(signal.exit_code()),
        }
    })
}

/// Runs the tunnel to its end.
pub fn connect(name: &ProfileName, wish: &Wish, fdpass: bool) -> Result<ExitCode, Error> {
    let (profile, inherited) = reach::open(name)?;
    let plan = Plan::new(&profile, wish, Intent::Pipe)?;
    if fdpass && plan.carrier != Carrier::Plain {
        return Err(Error::Usage(
            "--fdpass: what ssh is handed is the bare connection, and TLS would stay behind; \
             add --carrier plain, or leave --fdpass out"
                .to_owned(),
        ));
    }
    on_runtime(async {
        if fdpass {
            hand_over(&profile, plan, inherited).await
        } else {
            run(&profile, plan, inherited).await
        }
    })
}

/// What profile and command line come to.
struct Plan {
    at: Address,
    carrier: Carrier,
    ready: Ready,
    service: Service,
    intent: Intent,
}

impl Plan {
    fn new(profile: &Profile, wish: &Wish, intent: Intent) -> Result<Plan, Error> {
        let at = wish.reach.address(profile)?;
        let carrier = wish.reach.carrier(profile);
        let ready = wish.reach.ready(profile, carrier)?;
        let service = profile.service(wish.service.as_deref())?;
        Ok(Plan { at, carrier, ready, service, intent })
    }
}

async fn run(profile: &Profile, plan: Plan, inherited: Option<OwnedFd>) -> Result<ExitCode, Error> {
    let mut signals =
        Signals::listen().map_err(|error| Error::local("cannot take signals", &error))?;
    let stdio = Stdio::open()
        .map_err(|error| Error::local("cannot use standard input and output", &error))?;
    let at = plan.at.clone();
    let admitted = tokio::select! {
        admitted = admission(profile, plan, inherited, &stdio.input) => admitted?,
        signal = signals.next() => return Ok(signal.exit_code()),
        () = stdio.output.gone() => return Ok(ExitCode::SUCCESS),
    };
    let end = match admitted {
        Admitted::Plain(stream) => pipe(&stream, stdio, &mut signals).await,
        Admitted::Tls(stream) => pipe(&Records::new(*stream), stdio, &mut signals).await,
        Admitted::Hello(stream) => pipe(&Records::new(*stream), stdio, &mut signals).await,
    };
    match end {
        End::Server | End::Silence | End::Reader => Ok(ExitCode::SUCCESS),
        End::Signal(signal) => Ok(signal.exit_code()),
        End::Output(error) => Err(Error::local("cannot write to standard output", &error)),
        End::Lost(cause) if is_tls(&cause) => Err(Error::Protocol { at, cause }),
        End::Lost(cause) => Err(Error::Lost { at, cause }),
    }
}

/// Knocks, and leaves the connection to ssh.
async fn hand_over(
    profile: &Profile,
    plan: Plan,
    inherited: Option<OwnedFd>,
) -> Result<ExitCode, Error> {
    let mut signals =
        Signals::listen().map_err(|error| Error::local("cannot take signals", &error))?;
    let ssh = Ssh::open()?;
    let stream = tokio::select! {
        knocked = knocked(profile, plan, inherited) => knocked?,
        signal = signals.next() => return Ok(signal.exit_code()),
        () = ssh.gone() => return Ok(ExitCode::SUCCESS),
    };
    ssh.hand_over(stream)
        .map_err(|error| Error::local("cannot hand the connection to ssh", &error))?;
    Ok(ExitCode::SUCCESS)
}

/// A connection on which the token is on its way, and nothing else.
async fn knocked(
    profile: &Profile,
    plan: Plan,
    inherited: Option<OwnedFd>,
) -> Result<TcpStream, Error> {
    let Plan { at, carrier, service, intent, .. } = plan;
    let key = profile.key.get(inherited).await?;
    let knock = Knock::new(profile, &key, at, carrier, service, intent);
    let deadline = Deadline::after(CONNECT);
    let mut stream = dial(&knock.at, deadline).await?;
    deadline.hold(Step::Knock, &knock.at, knock.drop_off(&mut stream)).await??;
    Ok(stream)
}

async fn admission(
    profile: &Profile,
    plan: Plan,
    inherited: Option<OwnedFd>,
    input: &Input,
) -> Result<Admitted<TcpStream>, Error> {
    let Plan { at, carrier, ready, service, intent } = plan;
    let key = profile.key.get(inherited).await?;
    let knock = Knock::new(profile, &key, at, carrier, service, intent);
    let deadline = Deadline::after(CONNECT);
    let opened = async {
        let tcp = dial(&knock.at, deadline).await?;
        ready.open(tcp, |tcp| tcp, &knock, input, deadline).await
    };
    let other = profile.carriers.iter().find(|other| **other != carrier);
    opened.await.map_err(|error| match other {
        Some(other) if error.may_be_the_carrier() => {
            Error::OrTry { error: Box::new(error), other: *other }
        }
        _ => error,
    })
}

fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
