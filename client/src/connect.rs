//! The ProxyCommand: profile, key, connection, knock, tunnel. Never writes to standard output but
//! what the server sends once it has admitted us.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use postern_shared::hello::HostName;
use postern_shared::knock::{Carrier, Intent};
use tokio::net::TcpStream;
use tokio::runtime;

use crate::address::Address;
use crate::carrier::{Admitted, Hello, Ready, Tls, Trust};
use crate::deadline::{CONNECT, Deadline, Step};
use crate::dial::dial;
use crate::error::Error;
use crate::fdpass::Ssh;
use crate::knock::Knock;
use crate::names::ProfileName;
use crate::out;
use crate::pipe::{End, pipe};
use crate::process;
use crate::profile::{Profile, Service, Store};
use crate::signals::Signals;
use crate::stdio::{Input, Stdio};

/// What the command line may ask for beside a profile.
#[derive(Clone, Debug, Default, Args)]
pub struct Reach {
    /// Service to reach, if not the profile's first
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,

    /// How to travel: hello, tls or plain, if not the profile's first
    #[arg(long, value_name = "CARRIER", value_parser = carrier)]
    pub carrier: Option<Carrier>,

    /// Name to show in TLS
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub sni: Option<HostName>,

    /// Where to connect, if not where the profile says: HOST, HOST:PORT or [V6]:PORT
    #[arg(long)]
    pub address: Option<String>,

    /// Authorities (PEM) to verify the server by, for a profile without a pin
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,

    /// Do not verify the server: whoever is in the middle can read along
    #[arg(long)]
    pub insecure: bool,
}

/// Arms this machine's address, as the server sees it: for a while it may come without a knock.
pub fn arm(name: &ProfileName, reach: &Reach) -> Result<ExitCode, Error> {
    let (profile, inherited) = open(name)?;
    let plan = Plan::new(&profile, reach, Intent::Arm)?;
    on_runtime(async {
        let mut signals =
            Signals::listen().map_err(|error| local("cannot take signals", &error))?;
        let nothing = Input::nothing().map_err(|error| local("cannot use /dev/null", &error))?;
        tokio::select! {
            armed = admission(&profile, plan, inherited, &nothing) => {
                armed.map(|_stream| ExitCode::SUCCESS)
            }
            signal = signals.next() => Ok(signal.exit_code()),
        }
    })
}

/// Runs the tunnel to its end.
pub fn connect(name: &ProfileName, reach: &Reach, fdpass: bool) -> Result<ExitCode, Error> {
    let (profile, inherited) = open(name)?;
    let plan = Plan::new(&profile, reach, Intent::Pipe)?;
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

fn open(name: &ProfileName) -> Result<(Profile, Option<OwnedFd>), Error> {
    let profile = Store::open()?.load(name)?;
    // SAFETY: the profile's file is closed again, and nothing else has been opened.
    let inherited = unsafe { process::close_inherited(profile.key.descriptor()) }
        .map_err(|error| local("cannot use the descriptor of the profile's key", &error))?;
    Ok((profile, inherited))
}

fn on_runtime(work: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| local("cannot start", &error))?;
    let result = runtime.block_on(work);
    // A name that a thread is still resolving must not hold the exit.
    runtime.shutdown_background();
    result
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
    fn new(profile: &Profile, reach: &Reach, intent: Intent) -> Result<Plan, Error> {
        let at = match &reach.address {
            None => profile.address(),
            Some(text) => Address::parse(text, profile.port)
                .map_err(|why| Error::Usage(format!("--address {text:?}: {why}")))?,
        };
        let carrier = reach.carrier.unwrap_or_else(|| {
            *profile.carriers.first().expect("a profile has at least one carrier")
        });
        let ready = match carrier {
            Carrier::Plain => Ready::Plain,
            Carrier::Tls => {
                let sni = reach.sni.as_ref().or(profile.tls_sni.as_ref());
                Ready::Tls(Tls::new(&trust(profile, reach)?, sni, &profile.host)?)
            }
            Carrier::Hello => Ready::Hello(hello(profile, reach)?),
        };
        let service = profile.service(reach.service.as_deref())?;
        Ok(Plan { at, carrier, ready, service, intent })
    }
}

fn hello(profile: &Profile, reach: &Reach) -> Result<Hello, Error> {
    let lacks = |what: &str| {
        Error::Usage(format!(
            "the profile has no {what}: its server does not offer the hello carrier, or did not when \
             the profile was made; ask for a new invite, or choose another carrier"
        ))
    };
    if reach.ca.is_some() {
        let what = "the hello carrier's server is known by its pinned key; leave --ca out";
        return Err(Error::Usage(what.to_owned()));
    }
    let pin = profile.hello_pin.ok_or_else(|| lacks("hello-pin"))?;
    let sni = reach.sni.as_ref().or(profile.hello_sni.as_ref());
    let sni = sni.cloned().ok_or_else(|| lacks("hello-sni"))?;
    let pin = if reach.insecure { warn_of_insecure() } else { Some(pin) };
    Ok(Hello::new(pin, sni, &profile.alpn))
}

fn warn_of_insecure<T>() -> Option<T> {
    out::complain(
        "WARNING: --insecure: the server is not verified; whoever is in the middle can read \
         and change everything that ssh does not protect itself",
    );
    None
}

fn trust(profile: &Profile, reach: &Reach) -> Result<Trust, Error> {
    if reach.insecure {
        return Ok(warn_of_insecure().unwrap_or(Trust::Blind));
    }
    match (profile.tls_pin, &reach.ca) {
        (Some(_), Some(_)) => Err(Error::Usage(
            "the profile pins the server's key, which leaves nothing for --ca to decide; drop one"
                .to_owned(),
        )),
        (Some(pin), None) => Ok(Trust::Pin(pin)),
        (None, Some(file)) => Ok(Trust::Ca(file.clone())),
        (None, None) => Ok(profile.ca.clone().map_or(Trust::Platform, Trust::Ca)),
    }
}

async fn run(profile: &Profile, plan: Plan, inherited: Option<OwnedFd>) -> Result<ExitCode, Error> {
    let mut signals = Signals::listen().map_err(|error| local("cannot take signals", &error))?;
    let stdio =
        Stdio::open().map_err(|error| local("cannot use standard input and output", &error))?;
    let at = plan.at.clone();
    let admitted = tokio::select! {
        admitted = admission(profile, plan, inherited, &stdio.input) => admitted?,
        signal = signals.next() => return Ok(signal.exit_code()),
        () = stdio.output.gone() => return Ok(ExitCode::SUCCESS),
    };
    let end = match admitted {
        Admitted::Plain(stream) => pipe(&stream, stdio, &mut signals).await,
        Admitted::Tls(records) => pipe(&*records, stdio, &mut signals).await,
        Admitted::Hello(records) => pipe(&*records, stdio, &mut signals).await,
    };
    match end {
        End::Server | End::Silence | End::Reader => Ok(ExitCode::SUCCESS),
        End::Signal(signal) => Ok(signal.exit_code()),
        End::Output(error) => Err(local("cannot write to standard output", &error)),
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
    let mut signals = Signals::listen().map_err(|error| local("cannot take signals", &error))?;
    let ssh = Ssh::open()?;
    let stream = tokio::select! {
        knocked = knocked(profile, plan, inherited) => knocked?,
        signal = signals.next() => return Ok(signal.exit_code()),
        () = ssh.gone() => return Ok(ExitCode::SUCCESS),
    };
    ssh.hand_over(stream).map_err(|error| local("cannot hand the connection to ssh", &error))?;
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
) -> Result<Admitted, Error> {
    let Plan { at, carrier, ready, service, intent } = plan;
    let key = profile.key.get(inherited).await?;
    let knock = Knock::new(profile, &key, at, carrier, service, intent);
    let deadline = Deadline::after(CONNECT);
    let opened = async {
        let tcp = dial(&knock.at, deadline).await?;
        ready.open(tcp, &knock, input, deadline).await
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

fn local(what: &str, error: &io::Error) -> Error {
    Error::Local(format!("{what}: {error}"))
}

fn carrier(name: &str) -> Result<Carrier, String> {
    Carrier::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Carrier::ALL.iter().map(|carrier| carrier.name()).collect();
        format!("it is none of: {}", known.join(", "))
    })
}

fn host_name(name: &str) -> Result<HostName, &'static str> {
    HostName::parse(name.as_bytes()).ok_or("it is not a host name")
}
