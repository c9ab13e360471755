//! The short commands: check, explain, status, reload, client, cert. Each answers what to print, or why not;
//! nothing is printed here.

mod clients;
mod explain;
mod probe;

use std::fmt::Write as _;
use std::path::Path;

pub use clients::client;
pub use explain::explain;

use crate::boot::Refused;
use crate::certificate;
use crate::complaint::Complaint;
use crate::expose;
use crate::gate::fleet::try_out;
use crate::gate::store;
use crate::ops::admin::{AskError, Closed, Entrance, Holder, Request, Status, ask};
use crate::policy::{Policy, State};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    File(#[from] Complaint),
    #[error(transparent)]
    Change(store::ChangeError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Certificate(#[from] certificate::CertificateError),
    #[error("the clients file is changed, but {source}; see to it that posternd takes it")]
    NotTaken { source: AskError },
    #[error("{0}")]
    Usage(String),
}

impl From<store::ChangeError> for CommandError {
    /// A file that cannot be read is the same fault for every command.
    fn from(error: store::ChangeError) -> CommandError {
        match error {
            store::ChangeError::File(complaint) => complaint.into(),
            store::ChangeError::Taken(_)
            | store::ChangeError::Unknown(_)
            | store::ChangeError::Nothing(_)
            | store::ChangeError::Locators(_) => CommandError::Change(error),
        }
    }
}

/// What to print: `text` on stdout, `remarks` on stderr.
#[derive(Debug, Default)]
pub struct Answer {
    pub text: String,
    pub remarks: Vec<String>,
}

impl From<String> for Answer {
    fn from(text: String) -> Answer {
        Answer { text, remarks: Vec::new() }
    }
}

type Result<T> = std::result::Result<T, CommandError>;

pub fn check(config: &Path) -> Result<Answer> {
    let policy = Policy::load(config)?;
    let mut remarks: Vec<_> =
        policy.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    remarks.extend(probe::website(&policy).into_iter().map(|doubt| format!("warning: {doubt}")));
    if policy.state.clients_file().exists() {
        let clients = store::read(&policy.state.clients_file())?;
        for client in clients.iter() {
            let lost =
                client.services.iter().filter(|g| policy.knock_service(&g.service).is_none());
            remarks.extend(lost.map(|grant| {
                let (client, service) = (&client.name, &grant.service);
                format!("warning: client {client:?} may ask for {service:?}, which no service with knock = true is")
            }));
            if let Err(CommandError::Usage(why)) = clients::can_be_exposed(&policy, &client.expose)
            {
                remarks.push(format!("warning: client {:?} may expose {why}", client.name));
            }
        }
        remarks.extend(
            expose::doubts(&policy, &clients).into_iter().map(|doubt| format!("warning: {doubt}")),
        );
    }
    if let Some(store) = &policy.store
        && let Err(error) = try_out(store)
    {
        remarks.push(format!(
            "warning: the store {store} does not answer: {error}; plain is closed until it does"
        ));
    }
    Ok(Answer { text: format!("{}: ok\n", config.display()), remarks })
}

pub fn status(config: &Path, json: bool) -> Result<Answer> {
    let socket = State::of(config)?.admin_socket();
    let Some(status) = ask(&socket, Request::Status)? else {
        return Err(AskError::NotUnderstood(socket.display().to_string()).into());
    };
    if json {
        let text = serde_json::to_string_pretty(&status)
            .map_err(|_| AskError::NotUnderstood(socket.display().to_string()))?;
        return Ok(Answer::from(text + "\n"));
    }
    Ok(Answer::from(describe(&status)))
}

fn describe(status: &Status) -> String {
    let mut text = String::new();
    let places = &status.places;
    let mut line = |what: &str, value: String| {
        writeln!(text, "{what:<12}{value}").expect("writing to a String cannot fail");
    };
    line(
        "posternd",
        format!("{}, pid {}, up {}", status.version, status.pid, span(status.uptime_seconds)),
    );
    line("listening", status.listeners.join(", "));
    line("clients", status.clients.to_string());
    line("accepted", status.accepted.to_string());
    line(
        "open now",
        format!(
            "{} undecided, {} visitors, {} admitted",
            places.undecided, places.visitors, places.admitted
        ),
    );
    line(
        "knocks",
        format!("{} admitted, {} refused", status.knocks.admitted, status.knocks.refused),
    );
    if let Some(Closed { carriers, why, until }) = &status.knocks.closed {
        let until = until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
        line("", format!("by {} closed{until} ({why})", carriers.join(" and ")));
    }
    let ended: Vec<_> = status
        .outcomes
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    line("ended", if ended.is_empty() { "none".to_owned() } else { ended.join(", ") });
    if let Some(udp) = &status.udp {
        let (begun, dropped) = (udp.begun, udp.dropped);
        let now = format!("{} flows now, {begun} in all, {dropped} datagrams dropped", udp.flows);
        line("udp", format!("{}: {now}", udp.listeners.join(", ")));
    }
    for tunnel in &status.tunnels {
        let (client, service) = (&tunnel.client, &tunnel.service);
        let (peer, carrier) = (&tunnel.peer, &tunnel.carrier);
        line(
            "tunnel",
            format!("{client} to {service} from {peer} by {carrier}, {}", span(tunnel.seconds)),
        );
    }
    for entrance in &status.entrances {
        let Entrance { entrance, at, visitors, holders } = entrance;
        let at = if at.is_empty() { String::new() } else { format!(" at {}", at.join(", ")) };
        let away = if holders.is_empty() { ", its client is away" } else { "" };
        line("entrance", format!("{entrance}{at}, {visitors} visitors{away}"));
        for holder in holders {
            let Holder { client, peer, idle, busy, seconds, health } = holder;
            let health = health.as_ref().map(|word| format!(", {word}")).unwrap_or_default();
            let lanes = format!("lanes {idle} idle, {busy} busy");
            line("", format!("{client} from {peer}, {lanes}{health}, {}", span(*seconds)));
        }
    }
    for target in &status.targets {
        let (service, name) = (&target.service, &target.target);
        let up = if target.up { "up" } else { "down" };
        let backup = if target.backup { ", backup" } else { "" };
        line("target", format!("{name} of {service}{backup}, {up}, {} open", target.connections));
    }
    text
}

fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

pub fn reload(config: &Path) -> Result<Answer> {
    match ask(&State::of(config)?.admin_socket(), Request::Reload) {
        Ok(_) => Ok(Answer::from("reloaded\n".to_owned())),
        Err(refused) => {
            // A bad file is told as `check` tells it, with the same exit status.
            Policy::load(config)?;
            Err(refused.into())
        }
    }
}
