//! The short commands: check, status, reload, client, cert. Each answers what to print, or why not;
//! nothing is printed here.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use postern_shared::invite::{HelloTrust, Invite};
use postern_shared::knock::Carrier;

use crate::boot::Refused;
use crate::certificate;
use crate::cli::ClientCommand;
use crate::complaint::Complaint;
use crate::gate::clients::parse_net;
use crate::gate::{Client, FirstUses, store};
use crate::identity;
use crate::ops::admin::{AskError, Request, Status, ask};
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
    #[error(
        "the key is revoked in the clients file, but {source}; see to it that posternd takes it"
    )]
    NotTaken { source: AskError },
    #[error("{0}")]
    Usage(String),
}

impl From<store::ChangeError> for CommandError {
    /// A file that cannot be read is the same fault for every command.
    fn from(error: store::ChangeError) -> CommandError {
        match error {
            store::ChangeError::File(complaint) => complaint.into(),
            store::ChangeError::Taken(_) | store::ChangeError::Unknown(_) => {
                CommandError::Change(error)
            }
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
    if policy.state.clients_file().exists() {
        let clients = store::read(&policy.state.clients_file())?;
        for client in clients.iter() {
            let lost =
                client.services.iter().filter(|g| policy.knock_service(&g.service).is_none());
            remarks.extend(lost.map(|grant| {
                let (client, service) = (&client.name, &grant.service);
                format!("warning: client {client:?} may ask for {service:?}, which no service with knock = true is")
            }));
        }
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
    let ended: Vec<_> = status
        .outcomes
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(outcome, count)| format!("{count} {outcome}"))
        .collect();
    line("ended", if ended.is_empty() { "none".to_owned() } else { ended.join(", ") });
    for tunnel in &status.tunnels {
        let (client, service) = (&tunnel.client, &tunnel.service);
        let (peer, carrier) = (&tunnel.peer, &tunnel.carrier);
        line(
            "tunnel",
            format!("{client} to {service} from {peer} by {carrier}, {}", span(tunnel.seconds)),
        );
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

pub fn client(command: &ClientCommand) -> Result<Answer> {
    match command {
        ClientCommand::Add { name, services, from, until, file } => {
            let policy = Policy::load(&file.config)?;
            let new = new_client(&policy, name, services, from, until.as_deref())?;
            add(&policy, new)
        }
        ClientCommand::List { file } => {
            let clients_file = State::of(&file.config)?.clients_file();
            let clients = store::read(&clients_file)?;
            let first_uses = FirstUses::beside(&clients_file);
            let mut all: Vec<_> = clients.iter().collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            let lines = all.into_iter().map(|client| describe_client(client, &first_uses));
            Ok(Answer::from(lines.collect::<String>()))
        }
        ClientCommand::Revoke { name, file } => {
            let state = State::of(&file.config)?;
            store::revoke(&state.clients_file(), name)?;
            let remark = tell(&state).map_err(|source| CommandError::NotTaken { source })?;
            Ok(Answer { text: format!("{name} is revoked\n"), remarks: vec![remark] })
        }
    }
}

/// Checks what the command line asks for before anything is written.
fn new_client(
    policy: &Policy,
    name: &str,
    services: &[String],
    from: &[String],
    until: Option<&str>,
) -> Result<store::NewClient> {
    let usage = |what: String| Err(CommandError::Usage(what));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if name.is_empty() || name.len() > 63 || name.starts_with('-') || !name.bytes().all(fits) {
        return usage(format!("{name:?}: a client's name is made of letters, digits and - _ . @"));
    }
    let open: Vec<_> = policy.services.values().filter(|service| service.knock).collect();
    for service in services {
        if policy.knock_service(service).is_none() {
            let known: Vec<_> = open.iter().map(|service| service.name.as_str()).collect();
            return usage(format!(
                "{service:?} is not a service with knock = true; there is: {}",
                known.join(", ")
            ));
        }
    }
    let mut seen = BTreeSet::new();
    let mut services = services.to_vec();
    services.retain(|service| seen.insert(service.clone()));
    if services.is_empty() {
        services.extend(open.into_iter().map(|service| service.name.clone()));
        // The first is what `connect` asks for, and ssh is what this is for.
        services.sort_by_key(|name| name != "ssh");
    }
    if services.is_empty() {
        return usage("no service in the configuration has knock = true".to_owned());
    }
    for net in from {
        if parse_net(net).is_none() {
            return usage(format!("{net:?} is not an address or a range like 10.0.0.0/8"));
        }
    }
    let until = match until.map(parse_until) {
        Some(None) => {
            return usage(
                "--until takes a day (2026-12-31) or a time (2026-12-31T18:00:00Z)".to_owned(),
            );
        }
        Some(Some(until)) if until <= Timestamp::now() => {
            return usage(format!("--until: {until:.0} has passed already"));
        }
        Some(Some(until)) => Some(until.to_string()),
        None => None,
    };
    let from = from.to_vec();
    Ok(store::NewClient { name: name.to_owned(), services, from, until })
}

/// A day counts to its end, where this machine is.
fn parse_until(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let day: Date = text.parse().ok()?;
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::system()).ok()?.timestamp())
}

fn add(policy: &Policy, new: store::NewClient) -> Result<Answer> {
    let Some(public) = &policy.public else {
        let what = "the configuration needs public = \"HOST\": it is what the invite tells the client to dial";
        return Err(CommandError::Usage(what.to_owned()));
    };
    let carriers: Vec<Carrier> = policy.carriers.clone();
    if carriers.is_empty() {
        return Err(CommandError::Usage("no carrier is enabled in [knock] carriers".to_owned()));
    }
    let clients_file = policy.state.clients_file();
    store::make_state(policy.state.directory())?;
    store::open(&clients_file)?;
    let added = store::add(&clients_file, new)?;
    let locator = added
        .clients
        .locators
        .first()
        .cloned()
        .ok_or_else(|| Complaint::file(&clients_file, "holds no locator"))?;
    let tls = policy.tls.as_ref().filter(|_| policy.speaks(Carrier::Tls));
    let hello = match &policy.sni {
        Some(sni) if policy.speaks(Carrier::Hello) => {
            let identity = identity::open(policy.state.directory(), Some(sni))?;
            Some(HelloTrust { sni: sni.clone(), pin: identity.pin() })
        }
        Some(_) | None => None,
    };
    let invite = Invite {
        host: public.host.clone(),
        port: public.port,
        server: added.clients.server,
        locator,
        kid: added.kid,
        key: added.key,
        services: added.services,
        carriers,
        tls_sni: tls.and_then(|tls| tls.names.first().cloned()),
        tls_pin: tls.and_then(|tls| tls.inward.pin_for_invites()),
        hello,
    };
    let remark = "this line is the key: hand it over in private, to be pasted into `postern join`"
        .to_owned();
    Ok(Answer { text: format!("{}\n", *invite.to_link()), remarks: vec![remark] })
}

fn describe_client(client: &Client, first_uses: &FirstUses) -> String {
    let services: Vec<_> = client.services.iter().map(|grant| grant.service.as_str()).collect();
    let first = match first_uses.of(client.kid) {
        Some(at) => format!("first used {at:.0}"),
        None => "never used".to_owned(),
    };
    let from: Vec<_> = client.from.iter().map(IpNet::to_string).collect();
    let from = if from.is_empty() { String::new() } else { format!(", from {}", from.join(" ")) };
    let until = client.until.map(|until| format!(", until {until:.0}")).unwrap_or_default();
    format!("{:<20} {} {:<16} {first}{from}{until}\n", client.name, client.kid, services.join(","))
}

/// Has a running posternd take the change at once.
fn tell(state: &State) -> std::result::Result<String, AskError> {
    match ask(&state.admin_socket(), Request::Clients) {
        Ok(_) => Ok("the running posternd took it: this key's tunnels are closed".to_owned()),
        Err(AskError::NotRunning(_)) => {
            Ok("no posternd is running with this configuration; the next one will know".to_owned())
        }
        Err(error) => Err(error),
    }
}
