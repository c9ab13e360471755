//! Each value of the configuration file to its type, with a complaint that points at it. Decides what
//! a value may be; how values fit together is `policy.rs`'s.

mod bounds;
mod memory;
mod service;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;
use postern_shared::sniff::{Kind, Kinds};
use toml::Spanned;

use crate::complaint::Complaint;
use crate::config;
use crate::gate::terms::parse_net;
use crate::policy::Terminated;
use crate::route::{FirstBytes, NamePattern, Route};
use crate::service::{Endpoint, Service, Target};
use crate::tls::Inward;

/// How long a client must stay silent where a route does not say.
const DEFAULT_SILENCE: Duration = Duration::from_secs(2);

const NO_PROTOCOL: &str = "is not a protocol known here; there is: tls, ssh, http, http2, openvpn, tinc, \
                           xmpp, adb, socks4, socks5, syslog, rdp, postgres, mqtt";

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

    pub(crate) fn sni(&self, name: Option<&Spanned<String>>) -> Result<Option<HostName>> {
        name.map(|name| {
            HostName::parse(name.get_ref().as_bytes()).ok_or_else(|| {
                self.complain(name, format!("{:?} is not a host name", name.get_ref()))
            })
        })
        .transpose()
    }

    /// Without a list: all that can work, hello with a name to show, tls where TLS is terminated and
    /// plain always.
    pub(crate) fn carriers(
        &self,
        names: Option<&config::List>,
        shows: bool,
        terminates: bool,
    ) -> Result<Vec<Carrier>> {
        let lacks = |carrier| match carrier {
            Carrier::Hello if !shows => {
                Some("the hello carrier needs [knock] sni: the website's name, which it shows")
            }
            Carrier::Tls if !terminates => {
                Some("the tls carrier needs [tls] with certificate, key and names")
            }
            Carrier::Hello | Carrier::Tls | Carrier::Plain => None,
        };
        let Some(names) = names else {
            let can = |carrier: &Carrier| lacks(*carrier).is_none();
            return Ok(Carrier::ALL.into_iter().filter(can).collect());
        };
        let mut carriers = Vec::new();
        for name in names.get_ref() {
            let carrier = Carrier::from_name(name.get_ref()).ok_or_else(|| {
                let known = Carrier::ALL.map(Carrier::name).join(", ");
                self.complain(name, format!("no carrier {:?}; there is: {known}", name.get_ref()))
            })?;
            if carriers.contains(&carrier) {
                return Err(self.complain(name, format!("{carrier} stands twice in carriers")));
            }
            if let Some(what) = lacks(carrier) {
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
        let open = |name: &Spanned<String>| {
            let service = self.known(services, name)?;
            if service.knock {
                let what = format!("visitors cannot go to {:?}: it has knock = true", service.name);
                return Err(self.complain(name, what));
            }
            Ok(service)
        };
        let target = open(visitors)?;
        let visitors_h2 = tls.visitors_h2.as_ref().map(&open).transpose()?;
        if let (Some(name), Some(Target::Tls(..))) =
            (&tls.visitors_h2, visitors_h2.as_ref().map(|service| &service.target))
        {
            let what =
                "visitors-h2 is a service that takes HTTP/2 in clear; tls:// is spoken in HTTP/1.1";
            return Err(self.complain(name, what));
        }
        let (certificate, key) =
            (self.beside(tls.certificate.get_ref()), self.beside(tls.key.get_ref()));
        let inward = Inward::load(&certificate, &key, visitors_h2.is_some()).map_err(|error| {
            let at = if error.concerns(&key) { &tls.key } else { &tls.certificate };
            self.complain(at, error.to_string())
        })?;
        Ok(Terminated { names, inward, visitors: target, visitors_h2 })
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
            let kinds = self.all(names, |text| Kind::from_name(text).ok_or(NO_PROTOCOL))?;
            FirstBytes::Protocol(Kinds::of(kinds))
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
