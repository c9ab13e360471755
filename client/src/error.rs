//! Every way in which a command can fail, what it says to the user, and its exit code. Holds names,
//! addresses and causes; never a key, a token or an invite.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use postern_shared::expose::Entrance;
use postern_shared::expose::control::Refusal;
use postern_shared::knock::Carrier;
use postern_shared::pin::Pin;

use crate::address::Address;
use crate::answer::Answer;
use crate::deadline::Step;
use crate::names::Host;

/// The end of `connect --help`.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  the tunnel ended well; expose --status: all is well
  1  a file or program on this machine
  2  usage
  3  the host's name does not resolve
  4  no connection, a connection that broke, or admitted but the service is down or the server full;
     expose --status: something is not well
  6  TLS: the certificate, its pin, or the handshake
  7  not admitted
  8  the server broke the protocol
  9  timeout
  10 another expose with the same key has taken over
  11 an entrance cannot be had (expose --strict)
  128+n  ended by signal n
The last error is kept in last-error.log under ~/.local/state/postern.";

/// Why a command failed: what, where, and what to do next, in two lines at most.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),

    /// A file, a directory or a program on this machine.
    #[error("{0}")]
    Local(String),

    #[error("cannot resolve {host}: {cause}; check the name, or give an address with --address")]
    Resolve { host: Host, cause: io::Error },

    #[error(
        "cannot connect to {at}: {}; check that posternd runs there and that this network lets you",
        plain(.cause)
    )]
    Connect { at: Address, cause: io::Error },

    #[error("admitted at {at}, but the service '{service}' is down behind it; tell its operator")]
    ServiceDown { at: Address, service: String },

    #[error(
        "admitted at {at}, but there is no place left: the server or the service is full, or this key has as many \
         tunnels open as it may; close one, or try again later"
    )]
    Busy { at: Address },

    #[error(
        "known at {at}, but its access program does not let you to '{service}' from here and now; \
         ask its operator"
    )]
    Denied { at: Address, service: String },

    #[error("the connection to {at} was lost: {}", plain(.cause))]
    Lost { at: Address, cause: io::Error },

    #[error("TLS with {at} failed: {cause}; {fix}")]
    Tls { at: Address, cause: String, fix: &'static str },

    #[error(
        "{at} shows the key {shown}, not the pinned one: \
         someone is in the middle, or the server's key was changed\n\
         nothing of yours was sent to it; ask the server's operator, and if its key was changed, \
         join with a new invite"
    )]
    WrongPin { at: Address, shown: Pin },

    #[error(
        "not admitted at {at} ({carrier} carrier): {answer}\n{}",
        causes(.answer, .carrier, .service)
    )]
    NotAdmitted { at: Address, carrier: Carrier, service: String, answer: Answer },

    #[error("{at} broke the protocol: {cause}")]
    Protocol { at: Address, cause: io::Error },

    #[error(
        "no answer from {at} within {} s ({step}); \
         check the address, and that this network lets you reach it",
        .within.as_secs()
    )]
    Timeout { at: Address, step: Step, within: Duration },

    #[error("admitted at {at}, but so late that the connection was given up; try again")]
    Late { at: Address },

    #[error(
        "another `postern expose` with this profile's key has taken over at {at}; let one of the two run, \
         or have a key for each"
    )]
    Superseded { at: Address },

    #[error(
        "the key of this profile was revoked at {at}; ask the server's operator for a new invite"
    )]
    Revoked { at: Address },

    #[error("{entrance} cannot be had: {why}")]
    NoEntrance { entrance: Entrance, why: Refusal },

    /// Where the carrier may be at fault and the invite has another.
    #[error("{error}; or try --carrier {other}")]
    OrTry { error: Box<Error>, other: Carrier },
}

impl Error {
    /// What of this machine failed, and how.
    pub fn local(what: &str, error: &io::Error) -> Error {
        Error::Local(format!("{what}: {error}"))
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(&self) -> u8 {
        match self {
            Error::Local(_) => 1,
            Error::Usage(_) => 2,
            Error::Resolve { .. } => 3,
            Error::Connect { .. }
            | Error::ServiceDown { .. }
            | Error::Busy { .. }
            | Error::Lost { .. } => 4,
            Error::Tls { .. } | Error::WrongPin { .. } => 6,
            Error::NotAdmitted { .. } | Error::Denied { .. } | Error::Revoked { .. } => 7,
            Error::Protocol { .. } => 8,
            Error::Timeout { .. } | Error::Late { .. } => 9,
            Error::Superseded { .. } => 10,
            Error::NoEntrance { .. } => 11,
            Error::OrTry { error, .. } => error.code(),
        }
    }

    /// Whether another carrier could fare better. Not after a wrong pin: where someone sits in the
    /// middle, the advice cannot be to leave TLS.
    pub fn may_be_the_carrier(&self) -> bool {
        match self {
            Error::Tls { .. } | Error::NotAdmitted { .. } => true,
            Error::Timeout { step, .. } => match step {
                Step::Resolve | Step::Connect => false,
                Step::Handshake | Step::Knock => true,
            },
            Error::Usage(_)
            | Error::Local(_)
            | Error::Resolve { .. }
            | Error::Connect { .. }
            | Error::ServiceDown { .. }
            | Error::Busy { .. }
            | Error::Denied { .. }
            | Error::Lost { .. }
            | Error::WrongPin { .. }
            | Error::Protocol { .. }
            | Error::Late { .. }
            | Error::Superseded { .. }
            | Error::Revoked { .. }
            | Error::NoEntrance { .. }
            | Error::OrTry { .. } => false,
        }
    }
}

fn causes(answer: &Answer, carrier: &Carrier, service: &str) -> String {
    if let (Carrier::Plain | Carrier::Hello, Some(skew)) = (carrier, answer.skew()) {
        let side = if skew > 0 { "behind" } else { "ahead of" };
        let seconds = skew.unsigned_abs();
        return format!("your clock is {seconds} s {side} the server's: set it and try again");
    }
    let clock = match carrier {
        Carrier::Plain | Carrier::Hello => "your clock is off, ",
        Carrier::Tls => "",
    };
    format!(
        "likely: the key is wrong, revoked or out of its terms, {clock}'{service}' is not granted to it, \
         or this is no posternd"
    )
}

/// Without the errno's number, and without what rustls advises programmers on a missing close_notify.
pub fn plain(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "closed without warning".to_owned();
    }
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((plain, _)) => plain.to_owned(),
        None => text,
    }
}
