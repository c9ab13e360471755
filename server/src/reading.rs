//! Each value of the configuration file to its type, with a complaint that points at it. Decides what
//! a value may be; how values fit together is `policy.rs`'s.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::SignedDuration;
use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;
use postern_shared::proxy;
use toml::Spanned;

use crate::complaint::Complaint;
use crate::config;
use crate::gate::clients::parse_net;
use crate::liveness::Liveness;
use crate::policy::{Limits, Terminated};
use crate::route::{FirstBytes, NamePattern, Route, Wanted};
use crate::service::{self, Endpoint, Service, Target};
use crate::tls::{self, Inward, Outward, Trust};

/// Longer than any website lets a visitor keep silent.
const MOST_DECIDE: Duration = Duration::from_secs(60);

const WINDOW: std::ops::RangeInclusive<u64> = 5..=300;

/// How long a client must stay silent where a route does not say.
const DEFAULT_SILENCE: Duration = Duration::from_secs(2);

/// Connections that may wait to be accepted, where the file does not say.
const BACKLOG: i32 = 4096;

const SECOND: Duration = Duration::from_secs(1);

type Services = BTreeMap<String, Arc<Service>>;
type Result<T> = std::result::Result<T, Complaint>;

/// The file being read, for complaints.
pub(crate) struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Reading<'a> {
        Reading { path, text }
    }

    pub(crate) fn complain<T>(&self, at: &Spanned<T>, what: impl Into<String>) -> Complaint {
        Complaint::at(self.path, self.text, at.span(), what)
    }

    /// A path of the file, relative to the file's directory.
    pub(crate) fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(crate) fn known(
        &self,
        services: &Services,
        name: &Spanned<String>,
    ) -> Result<Arc<Service>> {
        services.get(name.get_ref()).cloned().ok_or_else(|| {
            let known: Vec<_> = services.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            self.complain(
                name,
                format!("no [service.{}] in this file; there is: {known}", name.get_ref()),
            )
        })
    }

    pub(crate) fn duration(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
    ) -> Result<Duration> {
        let Some(text) = text else { return Ok(default) };
        self.span(text, "write \"500ms\", \"3s\" or \"2m\"")
    }

    fn span(&self, text: &Spanned<String>, fix: &str) -> Result<Duration> {
        text.get_ref()
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok())
            .filter(|duration| !duration.is_zero())
            .ok_or_else(|| {
                self.complain(text, format!("{:?} is not a time span; {fix}", text.get_ref()))
            })
    }

    pub(crate) fn decide(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
    ) -> Result<Duration> {
        let fits = |decide| decide <= MOST_DECIDE;
        self.duration_if(text, default, fits, "decide must not be longer than 60s")
    }

    pub(crate) fn window(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
    ) -> Result<Duration> {
        let fits = |window: Duration| WINDOW.contains(&window.as_secs());
        self.duration_if(text, default, fits, "window must lie between 5s and 300s")
    }

    fn duration_if(
        &self,
        text: &Option<Spanned<String>>,
        default: Duration,
        fits: impl Fn(Duration) -> bool,
        otherwise: &str,
    ) -> Result<Duration> {
        let duration = self.duration(text, default)?;
        match text {
            Some(text) if !fits(duration) => Err(self.complain(text, otherwise)),
            Some(_) | None => Ok(duration),
        }
    }

    pub(crate) fn listen(&self, addresses: &[Spanned<String>]) -> Result<Vec<SocketAddr>> {
        let mut listen = Vec::with_capacity(addresses.len());
        for text in addresses {
            let address: SocketAddr = text.get_ref().parse().map_err(|_| {
                let what = format!(
                    "{:?} is not an address and port; write \"0.0.0.0:443\" or \"[::]:443\"",
                    text.get_ref()
                );
                self.complain(text, what)
            })?;
            if listen.contains(&address) {
                return Err(self.complain(text, format!("{address} stands twice in listen")));
            }
            listen.push(address);
        }
        if listen.is_empty() {
            return Err(Complaint::file(self.path, "listen names no address"));
        }
        Ok(listen)
    }

    pub(crate) fn public(
        &self,
        text: Option<&Spanned<String>>,
        default: u16,
    ) -> Result<Option<Endpoint>> {
        text.map(|text| {
            Endpoint::parse(text.get_ref(), Some(default)).ok_or_else(|| {
                self.complain(text, format!("{:?} is not host or host:port", text.get_ref()))
            })
        })
        .transpose()
    }

    pub(crate) fn limits(&self, limits: &config::Limits) -> Result<Limits> {
        let read = |value: &Option<Spanned<usize>>, default: usize, least: usize| match value {
            Some(value) if *value.get_ref() < least => {
                let what = format!("{} is too few: it must be at least {least}", value.get_ref());
                Err(self.complain(value, what))
            }
            Some(value) => Ok(*value.get_ref()),
            None => Ok(default),
        };
        Ok(Limits {
            // Below this the reserve for the admitted would leave visitors nothing.
            connections: read(&limits.connections, Limits::DEFAULT.connections, 128)?,
            undecided: read(&limits.undecided, Limits::DEFAULT.undecided, 1)?,
            undecided_per_address: read(
                &limits.undecided_per_address,
                Limits::DEFAULT.undecided_per_address,
                1,
            )?,
        })
    }

    pub(crate) fn liveness(&self, timeouts: &config::Timeouts) -> Result<Liveness> {
        let span = |text: &Option<Spanned<String>>, default| match text {
            None => Ok(default),
            Some(text) if text.get_ref() == "off" => Ok(None),
            Some(text) => {
                let span = self.span(text, "write \"500ms\", \"3s\" or \"2m\", or \"off\"")?;
                // The kernel counts keepalive in seconds.
                Ok(Some(span.max(SECOND)))
            }
        };
        Ok(Liveness {
            keepalive: span(&timeouts.keepalive, Some(Liveness::DEFAULT_KEEPALIVE))?,
            user_timeout: span(&timeouts.user_timeout, None)?,
        })
    }

    pub(crate) fn backlog(&self, backlog: Option<&Spanned<usize>>) -> Result<i32> {
        let Some(backlog) = backlog else { return Ok(BACKLOG) };
        i32::try_from(*backlog.get_ref()).ok().filter(|backlog| *backlog > 0).ok_or_else(|| {
            let what =
                format!("{} cannot be a backlog; leave it out for {BACKLOG}", backlog.get_ref());
            self.complain(backlog, what)
        })
    }

    /// Without a list: all that can work, tls where TLS is terminated and plain always.
    pub(crate) fn carriers(
        &self,
        names: Option<&config::List>,
        terminates: bool,
    ) -> Result<Vec<Carrier>> {
        let Some(names) = names else {
            let can = |carrier: &Carrier| *carrier != Carrier::Tls || terminates;
            return Ok(Carrier::ALL.into_iter().filter(can).collect());
        };
        let mut carriers = Vec::new();
        for name in names.get_ref() {
            let carrier = Carrier::from_name(name.get_ref()).ok_or_else(|| {
                let what = format!(
                    "no carrier {:?} in this version; there is: tls, plain",
                    name.get_ref()
                );
                self.complain(name, what)
            })?;
            if carriers.contains(&carrier) {
                return Err(self.complain(name, format!("{carrier} stands twice in carriers")));
            }
            if carrier == Carrier::Tls && !terminates {
                let what = "the tls carrier needs [tls] with certificate, key and names";
                return Err(self.complain(name, what));
            }
            carriers.push(carrier);
        }
        Ok(carriers)
    }

    pub(crate) fn terminated(&self, tls: &config::Tls, services: &Services) -> Result<Terminated> {
        let names = self.all(&tls.names, |name| {
            HostName::parse(name.as_bytes())
                .ok_or("is not a host name (patterns are not possible here)")
        })?;
        let Some(visitors) = &tls.visitors else {
            let what = "visitors is missing: say which service gets what comes for these names without a knock";
            return Err(self.complain(&tls.names, what));
        };
        let target = self.known(services, visitors)?;
        if target.knock {
            let what = format!("visitors cannot go to {:?}: it has knock = true", target.name);
            return Err(self.complain(visitors, what));
        }
        let (certificate, key) =
            (self.beside(tls.certificate.get_ref()), self.beside(tls.key.get_ref()));
        let inward = Inward::load(&certificate, &key).map_err(|error| {
            let at = if error.concerns(&key) { &tls.key } else { &tls.certificate };
            self.complain(at, error.to_string())
        })?;
        Ok(Terminated { names, inward, visitors: target })
    }

    pub(crate) fn service(
        &self,
        name: &Spanned<String>,
        service: &config::Service,
        connect: Duration,
    ) -> Result<Service> {
        if !is_service_name(name.get_ref()) {
            let what = "a service's name is made of a-z, 0-9, - and _, and has at most 63 letters";
            return Err(self.complain(name, what));
        }
        let proxy = match &service.proxy_protocol {
            None => None,
            Some(text) => match text.get_ref().as_str() {
                "v1" => Some(proxy::Version::V1),
                "v2" => Some(proxy::Version::V2),
                _ => return Err(self.complain(text, "proxy-protocol is \"v1\" or \"v2\"")),
            },
        };
        let target = self.target(service)?;
        if let (Target::Exec(_), Some(text)) = (&target, &service.proxy_protocol) {
            return Err(self.complain(text, "a program that exec: runs is sent no PROXY header"));
        }
        Ok(Service {
            name: name.get_ref().clone(),
            target,
            knock: service.knock,
            proxy,
            connect: self.duration(&service.connect, connect)?,
        })
    }

    fn target(&self, service: &config::Service) -> Result<Target> {
        let to = &service.to;
        let endpoint = |text: &str| {
            Endpoint::parse(text, None)
                .ok_or_else(|| self.complain(to, format!("{text:?} is not host:port")))
        };
        let target = if let Some(text) = to.get_ref().strip_prefix("tcp://") {
            Target::Tcp(endpoint(text)?)
        } else if let Some(text) = to.get_ref().strip_prefix("tls://") {
            let endpoint = endpoint(text)?;
            let outward = self.outward(service, &endpoint)?;
            return Ok(Target::Tls(endpoint, Arc::new(outward)));
        } else if let Some(path) = to.get_ref().strip_prefix("unix:") {
            Target::Unix(self.beside(Path::new(path)))
        } else if let Some(command) = to.get_ref().strip_prefix("exec:") {
            let words = service::words(command)
                .filter(|words| words.first().is_some_and(|program| program.starts_with('/')))
                .ok_or_else(|| {
                    self.complain(to, "exec: wants a program's absolute path and its arguments")
                })?;
            Target::Exec(words)
        } else {
            let what = "to must begin with tcp://, tls://, unix: or exec:";
            return Err(self.complain(to, what));
        };
        let for_tls = "name, pin and ca go with tls:// only";
        if let Some(text) = service.name.as_ref().or(service.pin.as_ref()) {
            return Err(self.complain(text, for_tls));
        }
        if let Some(path) = &service.ca {
            return Err(self.complain(path, for_tls));
        }
        Ok(target)
    }

    fn outward(&self, service: &config::Service, to: &Endpoint) -> Result<Outward> {
        let name = match &service.name {
            Some(text) => Some(HostName::parse(text.get_ref().as_bytes()).ok_or_else(|| {
                self.complain(text, format!("{:?} is not a host name", text.get_ref()))
            })?),
            None => None,
        };
        let trust = match (&service.pin, &service.ca) {
            (Some(pin), Some(_)) => return Err(self.complain(pin, "pin and ca exclude each other")),
            (Some(pin), None) => Trust::Pin(
                pin.get_ref().parse().map_err(|error| self.complain(pin, format!("{error}")))?,
            ),
            (None, Some(ca)) => Trust::Authorities(self.beside(ca.get_ref())),
            (None, None) if tls::is_loopback(&to.host) => Trust::Anything,
            (None, None) => Trust::Platform,
        };
        Outward::new(&trust, name).map_err(|error| self.complain(&service.to, error.to_string()))
    }

    pub(crate) fn route(
        &self,
        route: &Spanned<config::Route>,
        services: &Services,
        decide: Duration,
    ) -> Result<Route> {
        let conditions = route.get_ref();
        let asked = [
            conditions.sni.is_some(),
            conditions.no_sni,
            conditions.protocol.is_some(),
            conditions.silent,
        ];
        if asked.into_iter().filter(|asked| *asked).count() > 1 {
            let what = "sni, no-sni, protocol and silent exclude each other in one route";
            return Err(self.complain(route, what));
        }
        if let (Some(after), false) = (&conditions.after, conditions.silent) {
            return Err(self.complain(after, "after goes with silent = true"));
        }
        let first_bytes = if let Some(names) = &conditions.sni {
            FirstBytes::Sni(self.all(names, |text| {
                NamePattern::parse(text).ok_or("is not a host name, *.suffix or *")
            })?)
        } else if conditions.no_sni {
            FirstBytes::NoSni
        } else if let Some(names) = &conditions.protocol {
            FirstBytes::Protocol(self.all(names, |text| {
                let wanted = Wanted::ALL.into_iter().find(|wanted| wanted.name() == text);
                wanted.ok_or("is not a protocol known here; there is: tls, ssh, http")
            })?)
        } else if conditions.silent {
            let after = self.duration(&conditions.after, DEFAULT_SILENCE.min(decide))?;
            if let (Some(text), true) = (&conditions.after, after > decide) {
                return Err(self.complain(text, "after must not be longer than [timeouts] decide"));
            }
            FirstBytes::Silent { after }
        } else {
            FirstBytes::Any
        };
        Ok(Route {
            service: self.known(services, &conditions.service)?,
            first_bytes,
            from: self.nets(conditions.from.as_ref())?,
            not_from: self.nets(conditions.not_from.as_ref())?,
        })
    }

    fn nets(&self, list: Option<&config::List>) -> Result<Vec<IpNet>> {
        let parse =
            |text: &str| parse_net(text).ok_or("is not an address or a range like 10.0.0.0/8");
        list.map_or(Ok(Vec::new()), |list| self.all(list, parse))
    }

    /// A list that is there but empty is refused: it could be read as "any" or as "none".
    fn all<T>(
        &self,
        list: &config::List,
        parse: impl Fn(&str) -> std::result::Result<T, &'static str>,
    ) -> Result<Vec<T>> {
        if list.get_ref().is_empty() {
            return Err(self.complain(list, "names nothing; leave the key out instead"));
        }
        list.get_ref()
            .iter()
            .map(|text| {
                parse(text.get_ref())
                    .map_err(|what| self.complain(text, format!("{:?} {what}", text.get_ref())))
            })
            .collect()
    }
}

/// Names go into invites, key files and logs.
fn is_service_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=63).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}
