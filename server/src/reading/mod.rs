//! Each value of the configuration file to its type, with a complaint that points at it. Decides what
//! a value may be; how values fit together is `policy.rs`'s.

mod bearing;
mod bounds;
mod helper;
mod log;
mod memory;
mod route;
mod service;
mod store;
mod udp;

pub(crate) use route::Surroundings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_shared::hello::HostName;
use postern_shared::knock::Carrier;
use toml::Spanned;

use crate::complaint::Complaint;
use crate::config;
use crate::nets::Nets;
use crate::policy::{Listener, Terminated};
use crate::service::{Address, Endpoint, Service};
use crate::tls::Inward;

type Services = BTreeMap<String, Arc<Service>>;
type Result<T> = std::result::Result<T, Complaint>;

/// The file being read, for complaints.
pub(crate) struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    /// Where lines end.
    ends: Vec<usize>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Reading<'a> {
        let ends = text.match_indices('\n').map(|(end, _)| end).collect();
        Reading { path, text, ends }
    }

    pub(crate) fn complain<T>(&self, at: &Spanned<T>, what: impl Into<String>) -> Complaint {
        Complaint::at(self.path, self.text, at.span(), what)
    }

    /// The line in which it begins.
    pub(crate) fn line<T>(&self, at: &Spanned<T>) -> usize {
        self.ends.partition_point(|end| *end < at.span().start) + 1
    }

    /// As it stands in the file.
    pub(crate) fn source<T>(&self, at: &Spanned<T>) -> &str {
        self.text.get(at.span()).unwrap_or_default()
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

    /// Where ports are bound for what clients expose.
    pub(crate) fn expose(
        &self,
        tables: &[config::Expose],
        listen: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>> {
        let mut all = Vec::with_capacity(tables.len());
        for config::Expose { listen: text } in tables {
            let address = self.one_address(text)?;
            if address.port() == 0 {
                return Err(self.complain(text, "name the port that is exposed; 0 is none"));
            }
            if all.contains(&address) || listen.contains(&address) {
                return Err(self.complain(text, format!("{address} is listened on already")));
            }
            all.push(address);
        }
        Ok(all)
    }

    fn one_address(&self, text: &Spanned<String>) -> Result<SocketAddr> {
        text.get_ref().parse().map_err(|_| {
            let what = format!(
                "{:?} is not an address and port; write \"0.0.0.0:443\" or \"[::]:443\"",
                text.get_ref()
            );
            self.complain(text, what)
        })
    }

    pub(crate) fn listen(&self, addresses: &[Spanned<String>]) -> Result<Vec<SocketAddr>> {
        let mut listen = Vec::with_capacity(addresses.len());
        for text in addresses {
            let address = self.one_address(text)?;
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

    /// Where strangers may go.
    pub(crate) fn website(
        &self,
        services: &Services,
        name: &Spanned<String>,
    ) -> Result<Arc<Service>> {
        let service = self.known(services, name)?;
        if service.knock {
            let what = format!("strangers cannot go to {:?}: it has knock = true", service.name);
            return Err(self.complain(name, what));
        }
        Ok(service)
    }

    pub(crate) fn listeners(
        &self,
        listeners: &BTreeMap<Spanned<String>, config::Listener>,
        listen: &[SocketAddr],
        services: &Services,
        fallback: &Arc<Service>,
    ) -> Result<BTreeMap<SocketAddr, Listener>> {
        let mut read = BTreeMap::new();
        for (text, listener) in listeners {
            let address = self.listener_address(text, listen)?;
            let fallback = match &listener.fallback {
                Some(name) => self.website(services, name)?,
                None => fallback.clone(),
            };
            let proxy_from = match &listener.proxy_from {
                Some(list) => self.nets(list)?,
                None => Nets::default(),
            };
            if read.insert(address, Listener { fallback, proxy_from }).is_some() {
                return Err(self.complain(text, format!("{address} has two [listener] tables")));
            }
        }
        Ok(read)
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
        let is_tls = |service: &Arc<Service>| {
            service.target.addresses().any(|address| matches!(address, Address::Tls(..)))
        };
        if let (Some(name), true) = (&tls.visitors_h2, visitors_h2.as_ref().is_some_and(is_tls)) {
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
        let inward_http_1 = inward.offering_http_1();
        Ok(Terminated { names, inward, inward_http_1, visitors: target, visitors_h2 })
    }

    /// A list that is there but empty is refused: it could be read as "any" or as "none".
    pub(super) fn all<T, E: std::fmt::Display>(
        &self,
        list: &config::List,
        parse: impl Fn(&str) -> std::result::Result<T, E>,
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
