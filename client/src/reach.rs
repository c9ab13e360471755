//! Which way to a server a profile and the command line come to, and by what the server is known. Decides
//! all that can be decided on this machine alone; never connects.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args;
use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;

use crate::address::Address;
use crate::carrier::{Hello, Ready, Tls, Trust};
use crate::error::Error;
use crate::names::ProfileName;
use crate::out;
use crate::process;
use crate::profile::{Profile, Store};

/// What the command line may ask for beside a profile.
#[derive(Clone, Debug, Default, Args)]
pub struct Reach {
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

/// Loads a profile, with the descriptor that its key may be behind.
pub fn open(name: &ProfileName) -> Result<(Profile, Option<OwnedFd>), Error> {
    let profile = Store::open()?.load(name)?;
    // SAFETY: the profile's file is closed again, and nothing else has been opened.
    let inherited = unsafe { process::close_inherited(profile.key.descriptor()) }
        .map_err(|error| Error::local("cannot use the descriptor of the profile's key", &error))?;
    Ok((profile, inherited))
}

impl Reach {
    /// Where to connect.
    pub fn address(&self, profile: &Profile) -> Result<Address, Error> {
        match &self.address {
            None => Ok(profile.address()),
            Some(text) => Address::parse(text, profile.port)
                .map_err(|why| Error::Usage(format!("--address {text:?}: {why}"))),
        }
    }

    /// The carrier that was asked for, or the profile's first.
    pub fn carrier(&self, profile: &Profile) -> Carrier {
        self.carrier.unwrap_or_else(|| {
            *profile.carriers.first().expect("a profile has at least one carrier")
        })
    }

    pub fn ready(&self, profile: &Profile, carrier: Carrier) -> Result<Ready, Error> {
        Ok(match carrier {
            Carrier::Plain => Ready::Plain,
            Carrier::Tls => {
                let sni = self.sni.as_ref().or(profile.tls_sni.as_ref());
                Ready::Tls(Tls::new(&self.trust(profile)?, sni, &profile.host)?)
            }
            Carrier::Hello => Ready::Hello(self.hello(profile)?),
        })
    }

    fn hello(&self, profile: &Profile) -> Result<Hello, Error> {
        let lacks = |what: &str| {
            Error::Usage(format!(
                "the profile has no {what}: its server does not offer the hello carrier, or did not \
                 when the profile was made; ask for a new invite, or choose another carrier"
            ))
        };
        if self.ca.is_some() {
            let what = "the hello carrier's server is known by its pinned key; leave --ca out";
            return Err(Error::Usage(what.to_owned()));
        }
        let pin = profile.hello_pin.ok_or_else(|| lacks("hello-pin"))?;
        let sni = self.sni.as_ref().or(profile.hello_sni.as_ref());
        let sni = sni.cloned().ok_or_else(|| lacks("hello-sni"))?;
        let pin = if self.insecure { warn_of_insecure() } else { Some(pin) };
        Ok(Hello::new(pin, sni, &profile.alpn))
    }

    fn trust(&self, profile: &Profile) -> Result<Trust, Error> {
        if self.insecure {
            return Ok(warn_of_insecure().unwrap_or(Trust::Blind));
        }
        match (profile.tls_pin, &self.ca) {
            (Some(_), Some(_)) => Err(Error::Usage(
                "the profile pins the server's key, which leaves nothing for --ca to decide; drop one"
                    .to_owned(),
            )),
            (Some(pin), None) => Ok(Trust::Pin(pin)),
            (None, Some(file)) => Ok(Trust::Ca(file.clone())),
            (None, None) => Ok(profile.ca.clone().map_or(Trust::Platform, Trust::Ca)),
        }
    }
}

fn warn_of_insecure<T>() -> Option<T> {
    out::complain(
        "WARNING: --insecure: the server is not verified; whoever is in the middle can read \
         and change everything that ssh does not protect itself",
    );
    None
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
