//! What posternd does, validated: the one reading of the configuration file that `run`, `check` and
//! every reload share. Refuses what cannot hold, warns of what is likely not meant.

mod doubts;
mod limits;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;
use postern_shared::sniff::{Interest, Kind};

pub use limits::Limits;

use crate::complaint::Complaint;
use crate::config::File;
use crate::expose::Tunnel;
use crate::gate::StoreAddress;
use crate::gate::memory::Keep;
use crate::gate::secrets::{Place, Secrets};
use crate::helper::Helper;
use crate::inquire::Identifier;
use crate::liveness::Liveness;
use crate::nets::Nets;
use crate::ops::log::Logging;
use crate::reading::Reading;
use crate::reading::Surroundings;
use crate::route::{Asked, NamePattern, Route, Routes};
use crate::service::{Endpoint, Service, Target};
use crate::tls::Inward;
use crate::udp::Udp;

const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const DEFAULT_DECIDE: Duration = Duration::from_secs(3);
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
const DEFAULT_EXPOSE: Duration = Duration::from_secs(10);
const HTTPS: u16 = 443;

/// A configuration that can be run.
#[derive(Debug)]
pub struct Policy {
    pub listen: Vec<SocketAddr>,
    /// What invites tell clients to dial.
    pub public: Option<Endpoint>,
    /// Where strangers go.
    pub fallback: Arc<Service>,
    /// What differs for some of the addresses in `listen`.
    pub listeners: BTreeMap<SocketAddr, Listener>,
    pub state: State,
    /// In the order in which invites offer them.
    pub carriers: Vec<Carrier>,
    /// The name that the hello carrier shows.
    pub sni: Option<HostName>,
    pub window: Duration,
    pub secrets: Option<Arc<Secrets>>,
    /// `None` where addresses are not remembered.
    pub memory: Option<Remembering>,
    /// Where a fleet's servers spend tokens together.
    pub store: Option<StoreAddress>,
    pub tls: Option<Terminated>,
    pub services: BTreeMap<String, Arc<Service>>,
    pub routes: Routes,
    /// By their numbers in routes.
    pub identifiers: Vec<Identifier>,
    /// Where ports for what clients expose are bound, whoever may expose it.
    pub expose: Vec<SocketAddr>,
    /// How long a visitor waits for the client that exposes what he came for.
    pub expose_wait: Duration,
    /// How long a connection may stay undecided.
    pub decide: Duration,
    pub limits: Limits,
    pub liveness: Liveness,
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    pub log: Logging,
    /// `None` where no datagrams are received.
    pub udp: Option<Udp>,
    pub warnings: Vec<String>,
}

/// The state directory, and what lies in it.
#[derive(Debug, PartialEq, Eq)]
pub struct State(PathBuf);

impl State {
    /// Where a configuration file keeps its state, whatever else may be wrong in it: a key must be
    /// revocable also while a file is being edited.
    pub fn of(path: &Path) -> Result<State, Complaint> {
        #[derive(serde::Deserialize)]
        struct Only {
            state: PathBuf,
        }
        let text = read(path)?;
        let Only { state } =
            toml::from_str(&text).map_err(|error| Complaint::toml(path, &text, &error))?;
        Ok(State(Reading::new(path, &text).beside(&state)))
    }

    pub fn directory(&self) -> &Path {
        &self.0
    }

    pub fn clients_file(&self) -> PathBuf {
        self.0.join("clients.toml")
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }
}

fn read(path: &Path) -> Result<String, Complaint> {
    std::fs::read_to_string(path)
        .map_err(|error| Complaint::file(path, format!("cannot be read: {error}")))
}

/// The names whose TLS posternd itself terminates.
#[derive(Debug)]
pub struct Terminated {
    pub names: Vec<HostName>,
    pub inward: Inward,
    /// The same for what clients expose, whose services speak HTTP/1.1.
    pub inward_http_1: Inward,
    /// Where whoever does not knock inside goes, decrypted.
    pub visitors: Arc<Service>,
    /// Where those go who speak HTTP/2, if that is offered.
    pub visitors_h2: Option<Arc<Service>>,
}

/// What differs for one address that is listened on.
#[derive(Debug)]
pub struct Listener {
    pub fallback: Arc<Service>,
    /// Whose connections begin with a PROXY header that says for whom they are.
    pub proxy_from: Nets,
}

/// How armed addresses are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembering {
    pub keep: Keep,
    /// For how long silence must last to open the service, where it does.
    pub silent: Option<Duration>,
}

impl Policy {
    /// Reads and validates a configuration file.
    pub fn load(path: &Path) -> Result<Policy, Complaint> {
        Policy::parse(path, &read(path)?)
    }

    /// Validates a configuration's text; the files it names are read.
    pub fn parse(path: &Path, text: &str) -> Result<Policy, Complaint> {
        let file: File =
            toml::from_str(text).map_err(|error| Complaint::toml(path, text, &error))?;
        let read = Reading::new(path, text);

        let decide = read.decide(&file.timeouts.decide, DEFAULT_DECIDE)?;
        let connect = read.duration(&file.timeouts.connect, DEFAULT_CONNECT)?;
        let mut services = BTreeMap::new();
        for (name, service) in &file.service {
            services
                .insert(name.get_ref().clone(), Arc::new(read.service(name, service, connect)?));
        }

        let tls = match &file.tls {
            Some(tls) => Some(read.terminated(tls, &services)?),
            None => None,
        };
        let sni = read.sni(file.knock.sni.as_ref())?;
        let secrets = read.secrets(&file.knock, &services)?;
        let memory = read.memory(&file.knock, decide)?;
        let carriers = read.carriers(file.knock.carriers.as_ref(), sni.is_some(), tls.is_some())?;
        let fallback = read.website(&services, &file.fallback)?;
        let listen = read.listen(&file.listen)?;
        let listeners = read.listeners(&file.listener, &listen, &services, &fallback)?;
        let identifiers = read.identifiers(&file.identifier)?;
        let around = Surroundings {
            services: &services,
            listen: &listen,
            identifiers: &identifiers,
            decide,
            terminates: tls.is_some(),
        };
        let routes = (1..)
            .zip(&file.route)
            .filter(|(_, route)| route.get_ref().enabled)
            .map(|(number, route)| read.route(number, route, &around))
            .collect::<Result<Vec<_>, _>>()?;
        let routes = Routes::new(routes);

        let expose = read.expose(&file.expose, &listen)?;
        let expose_wait = read.duration(&file.timeouts.expose, DEFAULT_EXPOSE)?;
        let udp = file.udp.as_ref().map(|udp| read.udp(udp)).transpose()?;
        let mut policy = Policy {
            listen,
            public: read.public(file.public.as_ref(), HTTPS)?,
            fallback,
            listeners,
            state: State(read.beside(&file.state)),
            window: read.window(&file.knock.window, DEFAULT_WINDOW)?,
            store: read.store(&file.knock)?,
            limits: read.limits(&file.limits)?,
            liveness: read.liveness(&file.timeouts)?,
            backlog: read.backlog(file.limits.backlog.as_ref())?,
            log: read.log(&file.log)?,
            udp,
            carriers,
            sni,
            secrets: secrets.map(Arc::new),
            memory,
            tls,
            services,
            routes,
            identifiers,
            expose,
            expose_wait,
            decide,
            warnings: Vec::new(),
        };
        policy.warnings = doubts::of(&policy, &file.route);
        Ok(policy)
    }

    /// Goes on with what the services of the same names had borne under `old`.
    pub fn take_over(&self, old: &Policy) {
        for (name, service) in &self.services {
            if let Some(old) = old.services.get(name) {
                service.take_over(old);
            }
        }
    }

    /// Services that are wherever a client exposes them.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.services.values().filter_map(|service| match &service.target {
            Target::Tunnel(tunnel) => Some(tunnel),
            Target::Upstreams(_) | Target::Exec(_) | Target::Pass(_) => None,
        })
    }

    /// Whether a name leads somewhere by this file already, so that no client may expose it.
    pub fn is_ours(&self, name: &HostName) -> bool {
        let in_tls = self.tls.as_ref().is_some_and(|tls| tls.names.contains(name));
        let in_routes = || {
            let outside = self.routes.iter().filter(|route| !route.terminated);
            let mut patterns = outside.flat_map(Route::asks).filter_map(Asked::names).flatten();
            patterns.any(|pattern| matches!(pattern, NamePattern::Exact(exact) if exact == name))
        };
        in_tls || self.sni.as_ref() == Some(name) || in_routes()
    }

    /// All who are to be asked.
    pub fn helpers(&self) -> impl Iterator<Item = &Helper> {
        let identifiers = self.identifiers.iter().filter(|identifier| identifier.enabled);
        let access = self.services.values().filter_map(|service| service.access.as_ref());
        identifiers.map(|one| &one.helper).chain(access.map(|access| &access.helper))
    }

    /// The service a knock may name.
    pub fn knock_service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name).filter(|service| service.knock)
    }

    pub fn speaks(&self, carrier: Carrier) -> bool {
        self.carriers.contains(&carrier)
    }

    /// Where strangers go who come by this listener.
    pub fn fallback_at(&self, listener: &SocketAddr) -> &Arc<Service> {
        self.listeners.get(listener).map_or(&self.fallback, |listener| &listener.fallback)
    }

    /// Whether whoever connects from there to this listener tells by a PROXY header for whom.
    pub fn is_proxy(&self, listener: &SocketAddr, from: IpAddr) -> bool {
        self.listeners.get(listener).is_some_and(|listener| listener.proxy_from.contains(from))
    }

    /// The classes of first bytes on the TCP connection that are worth waiting for.
    pub fn outer_interest(&self) -> Interest {
        let mut interest = self.routes.outside();
        let said_in =
            |place| self.secrets.as_ref().is_some_and(|secrets| secrets.are_said_in(place));
        interest.letters = self.speaks(Carrier::Plain);
        interest.line = said_in(Place::Line);
        interest.path = said_in(Place::Path);
        if self.tls.is_some() || self.speaks(Carrier::Hello) || said_in(Place::Sni) {
            interest.kinds = interest.kinds.with(Kind::Tls);
        }
        if self.memory.is_some() {
            interest.kinds = interest.kinds.with(Kind::Ssh);
        }
        interest
    }

    /// The same for what comes inside TLS that posternd terminates.
    pub fn inner_interest(&self) -> Interest {
        Interest { letters: self.speaks(Carrier::Tls), ..self.routes.inside() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &str) -> Result<Policy, Complaint> {
        let text = format!(
            "listen = [\"127.0.0.1:443\"]\nfallback = \"web\"\nstate = \"state\"\n\
             service.web.to = \"tcp://127.0.0.1:8443\"\n\
             service.ssh = {{ to = \"tcp://127.0.0.1:22\", knock = true }}\n{more}"
        );
        Policy::parse(Path::new("p.toml"), &text)
    }

    fn warnings(more: &str) -> String {
        parse(more).expect("accepted").warnings.join("; ")
    }

    #[test]
    fn an_empty_list_opens_nothing() {
        for list in ["sni", "protocol", "from", "not-from"] {
            let refused = parse(&format!("[[route]]\n{list} = []\nservice = \"ssh\"\n"));
            let refused = refused.expect_err("refused").to_string();
            assert!(refused.contains("names nothing"), "{list}: {refused}");
        }
    }

    #[test]
    fn doubtful_things_are_named() {
        assert_eq!(warnings(""), "");
        let opened = "[[route]]\nprotocol = [\"ssh\"]\nservice = \"ssh\"\n";
        assert!(warnings(opened).contains("opens \"ssh\" to visitors"));
        let all = "[[route]]\nservice = \"web\"\n[[route]]\nno-sni = true\nservice = \"web\"\n";
        assert!(warnings(all).contains("can never match"));
        let looped = "[service.loop]\nto = \"tcp://127.0.0.1:443\"\n";
        assert!(warnings(looped).contains("leads back"));
        let missing = "[service.gone]\nto = \"exec:/no/such/program\"\n";
        assert!(warnings(missing).contains("there is no program"));
        assert!(warnings("[knock]\ncarriers = []\n").contains("nobody can knock"));
    }

    #[test]
    fn the_state_is_found_in_a_faulty_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("p.toml");
        std::fs::write(&path, "state = \"here\"\nunknown = true\n").expect("written");
        assert!(Policy::load(&path).is_err());
        let state = State::of(&path).expect("found");
        assert_eq!(state.clients_file(), dir.path().join("here/clients.toml"));
    }
}
