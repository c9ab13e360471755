//! One `[service.NAME]`: what it is called, where it leads and what it is verified by.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_shared::expose::Entrance;
use postern_shared::expose::entrance::is_name;
use postern_shared::hello::HostName;
use postern_shared::proxy;
use rustix::process::geteuid;
use toml::Spanned;

use super::{Reading, Result};
use crate::config::{self, OneOrMore};
use crate::expose::Tunnel;
use crate::program::Program;
use crate::service::{
    self, Address, Balance, Endpoint, Handing, Service, Target, Upstream, Upstreams,
};
use crate::sys::{self, Account};
use crate::tls::{self, Outward, Trust};

impl Reading<'_> {
    pub(crate) fn service(
        &self,
        name: &Spanned<String>,
        service: &config::Service,
        connect: Duration,
    ) -> Result<Service> {
        self.service_name(name)?;
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
        let transparent = service.transparent.as_ref().is_some_and(|wanted| *wanted.get_ref());
        let on_tcp = |address: &Address| matches!(address, Address::Tcp(_) | Address::Tls(..));
        if let (Some(at), true) = (&service.transparent, transparent)
            && (target.addresses().count() == 0 || !target.addresses().all(on_tcp))
        {
            return Err(self.complain(at, "transparent goes with tcp:// and tls:// only"));
        }
        let bearing = self.bearing(service, &target)?;
        let connect = self.duration(&service.connect, connect)?;
        let mut read = Service::new(name.get_ref(), target, connect);
        read.knock = service.knock;
        read.proxy = proxy;
        read.transparent = transparent;
        read.bearing = bearing;
        read.access = self.access(service)?;
        Ok(read)
    }

    pub(super) fn service_name(&self, name: &Spanned<String>) -> Result<()> {
        if is_name(name.get_ref()) {
            return Ok(());
        }
        let what = "a service's name is made of a-z, 0-9, - and _, and has at most 63 letters";
        Err(self.complain(name, what))
    }

    fn target(&self, service: &config::Service) -> Result<Target> {
        let texts: Vec<&str> = match service.to.get_ref() {
            OneOrMore::One(text) => vec![text],
            OneOrMore::More(texts) => texts.iter().map(|text| text.get_ref().as_str()).collect(),
        };
        let target = match self.taker(service, &texts)? {
            Some(target) => target,
            None => match self.tunnel(service, &texts)? {
                Some(tunnel) => Target::Tunnel(tunnel),
                None => Target::Upstreams(self.upstreams(service)?),
            },
        };
        let runs_a_program = match &target {
            Target::Exec(_) => true,
            Target::Pass(handing) => handing.otherwise.is_some(),
            Target::Upstreams(_) | Target::Tunnel(_) => false,
        };
        if let (Some(user), false) = (&service.user, runs_a_program) {
            return Err(self.complain(user, "user goes with exec: only"));
        }
        if !target.addresses().any(|address| matches!(address, Address::Tls(..))) {
            let for_tls = "name, pin and ca go with tls:// only";
            if let Some(text) = service.name.as_ref().or(service.pin.as_ref()) {
                return Err(self.complain(text, for_tls));
            }
            if let Some(path) = &service.ca {
                return Err(self.complain(path, for_tls));
            }
        }
        if target.addresses().count() == 0 {
            let alone = "goes with tcp://, tls:// and unix: only";
            if let Some(list) = &service.backup {
                return Err(self.complain(list, format!("backup {alone}")));
            }
            if let Some(text) = service.balance.as_ref().or(service.health.as_ref()) {
                return Err(self.complain(text, format!("this {alone}")));
            }
        }
        Ok(target)
    }

    /// Who gets the connection itself: a program, a process that waits for it, or the one where the other
    /// is not there.
    fn taker(&self, service: &config::Service, texts: &[&str]) -> Result<Option<Target>> {
        let program = |text: Option<&&str>| {
            let command = text.and_then(|text| text.strip_prefix("exec:"));
            command
                .map(|command| self.program(&service.to, command, service.user.as_ref()))
                .transpose()
        };
        if let [only] = texts
            && let Some(program) = program(Some(only))?
        {
            return Ok(Some(Target::Exec(program)));
        }
        let ([first] | [first, _]) = texts else { return Ok(None) };
        let Some(path) = first.strip_prefix("pass:") else { return Ok(None) };
        let otherwise = program(texts.get(1))?;
        if texts.len() > 1 && otherwise.is_none() {
            return Ok(None);
        }
        Ok(Some(Target::Pass(Handing { otherwise, ..self.handing(service, path)? })))
    }

    /// What a client exposes under a name.
    fn tunnel(&self, service: &config::Service, texts: &[&str]) -> Result<Option<Tunnel>> {
        let [only] = texts else { return Ok(None) };
        let Some(name) = only.strip_prefix("tunnel:") else { return Ok(None) };
        if !is_name(name) {
            let what = "tunnel: wants the name that a client exposes, made of a-z, 0-9, - and _";
            return Err(self.complain(&service.to, what));
        }
        Ok(Some(Tunnel::new(Entrance::Name(name.to_owned()))))
    }

    fn handing(&self, service: &config::Service, path: &str) -> Result<Handing> {
        if !path.starts_with('/') {
            let what = "pass: wants the absolute path of a unix socket";
            return Err(self.complain(&service.to, what));
        }
        Ok(Handing::to(path))
    }

    fn upstreams(&self, service: &config::Service) -> Result<Upstreams> {
        let mut all = Vec::new();
        match service.to.get_ref() {
            OneOrMore::One(text) => {
                let address = self.address(service, &service.to, text)?;
                all.push(Upstream::new(text, address, false));
            }
            OneOrMore::More(list) => self.add_targets(service, list, false, &mut all)?,
        }
        if all.is_empty() {
            return Err(self.complain(&service.to, "names no target"));
        }
        if let Some(list) = &service.backup {
            if list.get_ref().is_empty() {
                return Err(self.complain(list, "names nothing; leave the key out instead"));
            }
            self.add_targets(service, list.get_ref(), true, &mut all)?;
        }
        let balance = match &service.balance {
            None => Balance::default(),
            Some(text) => Balance::from_name(text.get_ref()).ok_or_else(|| {
                let known = Balance::ALL.map(Balance::name).join(", ");
                self.complain(text, format!("no balance {:?}; there is: {known}", text.get_ref()))
            })?,
        };
        let health = self.health(service.health.as_ref())?;
        Ok(Upstreams::new(all, balance, health))
    }

    fn add_targets(
        &self,
        service: &config::Service,
        list: &[Spanned<String>],
        is_backup: bool,
        all: &mut Vec<Upstream>,
    ) -> Result<()> {
        for text in list {
            let name = text.get_ref();
            if all.iter().any(|upstream| upstream.name == *name) {
                return Err(self.complain(text, format!("{name:?} stands twice in this service")));
            }
            all.push(Upstream::new(name, self.address(service, text, name)?, is_backup));
        }
        Ok(())
    }

    fn address<T>(
        &self,
        service: &config::Service,
        at: &Spanned<T>,
        text: &str,
    ) -> Result<Address> {
        let endpoint = |text: &str| {
            Endpoint::parse(text, None)
                .ok_or_else(|| self.complain(at, format!("{text:?} is not host:port")))
        };
        if let Some(text) = text.strip_prefix("tcp://") {
            Ok(Address::Tcp(endpoint(text)?))
        } else if let Some(text) = text.strip_prefix("tls://") {
            let endpoint = endpoint(text)?;
            let outward = self.outward(service, at, &endpoint)?;
            Ok(Address::Tls(endpoint, Arc::new(outward)))
        } else if let Some(path) = text.strip_prefix("unix:") {
            Ok(Address::Unix(self.beside(Path::new(path))))
        } else if ["exec:", "pass:", "tunnel:"].iter().any(|begin| text.starts_with(begin)) {
            let what = "exec:, pass: and tunnel: are no targets of a list; they stand alone";
            Err(self.complain(at, what))
        } else if text.starts_with("udp://") {
            Err(self.complain(at, "udp:// goes into a table of its own, [udp.service.NAME]"))
        } else {
            let what = "to must begin with tcp://, tls://, unix:, exec:, pass: or tunnel:";
            Err(self.complain(at, what))
        }
    }

    pub(super) fn program<T>(
        &self,
        at: &Spanned<T>,
        command: &str,
        user: Option<&Spanned<String>>,
    ) -> Result<Program> {
        let mut words = service::words(command).unwrap_or_default().into_iter();
        let path = words.next().filter(|path| path.starts_with('/')).ok_or_else(|| {
            self.complain(at, "exec: wants a program's absolute path and its arguments")
        })?;
        let account = user.map(|user| self.account(user)).transpose()?.flatten();
        Ok(Program { path, arguments: words.collect(), account })
    }

    /// `None` where posternd runs as that user.
    fn account(&self, user: &Spanned<String>) -> Result<Option<Account>> {
        let name = user.get_ref();
        let account = sys::account(name)
            .map_err(|error| self.complain(user, format!("user {name:?}: {error}")))?
            .ok_or_else(|| self.complain(user, format!("there is no user {name:?}")))?;
        let own = geteuid();
        if account.uid == own.as_raw() && !own.is_root() {
            return Ok(None);
        }
        if !own.is_root() {
            let what =
                format!("only root can run a program as {name:?}; posternd is not root here");
            return Err(self.complain(user, what));
        }
        Ok(Some(account))
    }

    fn outward<T>(
        &self,
        service: &config::Service,
        at: &Spanned<T>,
        to: &Endpoint,
    ) -> Result<Outward> {
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
        Outward::new(&trust, name).map_err(|error| self.complain(at, error.to_string()))
    }
}
