//! What posternd does, validated: the one reading of the configuration file that `run`, `check` and
//! every reload share. Refuses what cannot hold, warns of what is likely not meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;
use postern_shared::sniff::Interest;

use crate::complaint::Complaint;
use crate::config::{File, Log};
use crate::reading::Reading;
use crate::route::{self, FirstBytes, Route};
use crate::service::{Endpoint, Service};
use crate::tls::Inward;

const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const DEFAULT_DECIDE: Duration = Duration::from_secs(3);
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
const HTTPS: u16 = 443;

/// A configuration that can be run.
#[derive(Debug)]
pub struct Policy {
    pub listen: Vec<SocketAddr>,
    /// What invites tell clients to dial.
    pub public: Option<Endpoint>,
    /// Where strangers go.
    pub fallback: Arc<Service>,
    pub state: PathBuf,
    /// In the order in which invites offer them.
    pub carriers: Vec<Carrier>,
    pub window: Duration,
    pub tls: Option<Terminated>,
    pub services: BTreeMap<String, Arc<Service>>,
    pub routes: Vec<Route>,
    /// How long a connection may stay undecided.
    pub decide: Duration,
    pub limits: Limits,
    pub log: Log,
    pub warnings: Vec<String>,
}

/// The names whose TLS posternd itself terminates.
#[derive(Debug)]
pub struct Terminated {
    pub names: Vec<HostName>,
    pub inward: Inward,
    /// Where whoever does not knock inside goes, decrypted.
    pub visitors: Arc<Service>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    pub undecided: usize,
    pub undecided_per_address: usize,
}

impl Policy {
    /// Reads and validates a configuration file.
    pub fn load(path: &Path) -> Result<Policy, Complaint> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Complaint::file(path, format!("cannot be read: {error}")))?;
        Policy::parse(path, &text)
    }

    /// Validates a configuration's text; the files it names are read.
    pub fn parse(path: &Path, text: &str) -> Result<Policy, Complaint> {
        let file: File =
            toml::from_str(text).map_err(|error| Complaint::toml(path, text, &error))?;
        let read = Reading::new(path, text);
        let mut warnings = Vec::new();

        let decide = read.duration(&file.timeouts.decide, DEFAULT_DECIDE)?;
        let connect = read.duration(&file.timeouts.connect, DEFAULT_CONNECT)?;
        let mut services = BTreeMap::new();
        for (name, service) in &file.service {
            services
                .insert(name.get_ref().clone(), Arc::new(read.service(name, service, connect)?));
        }

        let tls = match &file.tls {
            Some(tls) => read.terminated(tls, &services)?,
            None => None,
        };
        let carriers = read.carriers(file.knock.carriers.as_ref(), tls.is_some())?;
        let fallback = read.known(&services, &file.fallback)?;
        if fallback.knock {
            let what = format!("strangers cannot go to {:?}: it has knock = true", fallback.name);
            return Err(read.complain(&file.fallback, what));
        }
        let routes = file
            .route
            .iter()
            .filter(|route| route.get_ref().enabled)
            .map(|route| read.route(route, &services, decide))
            .collect::<Result<Vec<_>, _>>()?;

        warn_of_opened(&routes, &mut warnings);
        if carriers.is_empty() {
            warnings.push("no carrier is enabled: nobody can knock".to_owned());
        } else if !services.values().any(|service| service.knock) {
            warnings.push("no service has knock = true: a knock leads nowhere".to_owned());
        }
        Ok(Policy {
            listen: read.listen(&file.listen)?,
            public: read.public(file.public.as_ref(), HTTPS)?,
            fallback,
            state: read.beside(&file.state),
            window: read.window(&file.knock.window, DEFAULT_WINDOW)?,
            limits: read.limits(&file.limits)?,
            log: file.log,
            carriers,
            tls,
            services,
            routes,
            decide,
            warnings,
        })
    }

    pub fn clients_file(&self) -> PathBuf {
        self.state.join("clients.toml")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.state.join("admin.sock")
    }

    /// The service a knock may name.
    pub fn knock_service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name).filter(|service| service.knock)
    }

    pub fn speaks(&self, carrier: Carrier) -> bool {
        self.carriers.contains(&carrier)
    }

    /// The classes of first bytes on the TCP connection that are worth waiting for.
    pub fn outer_interest(&self) -> Interest {
        let mut interest = route::interest(&self.routes);
        interest.tls |= self.tls.is_some();
        interest.letters = self.speaks(Carrier::Plain);
        interest
    }

    /// The same for what comes inside TLS that posternd terminates.
    pub fn inner_interest(&self) -> Interest {
        Interest { letters: self.speaks(Carrier::Tls), ..Interest::default() }
    }
}

fn warn_of_opened(routes: &[Route], warnings: &mut Vec<String>) {
    for route in routes.iter().filter(|route| route.service.knock) {
        let name = &route.service.name;
        warnings.push(format!("a route opens {name:?} to visitors, though it has knock = true"));
    }
    let open = |route: &Route| {
        matches!(route.first_bytes, FirstBytes::Any)
            && route.from.is_empty()
            && route.not_from.is_empty()
    };
    if let Some(at) = routes.iter().position(open)
        && at + 1 < routes.len()
    {
        let name = &routes.get(at).map_or("", |route| route.service.name.as_str());
        warnings.push(format!(
            "the route to {name:?} has no condition: the {} after it can never match",
            routes.len() - at - 1
        ));
    }
}

impl Limits {
    pub const DEFAULT: Limits =
        Limits { connections: 10_000, undecided: 1024, undecided_per_address: 256 };

    /// How many places visitors may hold: a tenth, and at least 64, are kept for the admitted.
    pub fn visitors(&self) -> usize {
        self.connections.saturating_sub((self.connections / 10).max(64))
    }
}
