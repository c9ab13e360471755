//! One `[service.NAME]`: what it is called, where it leads and what it is verified by.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_shared::hello::HostName;
use postern_shared::proxy;
use toml::Spanned;

use super::{Reading, Result};
use crate::config;
use crate::service::{self, Endpoint, Service, Target};
use crate::tls::{self, Outward, Trust};

impl Reading<'_> {
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
}

/// Names go into invites, key files and logs.
fn is_service_name(name: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    (1..=63).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(fits)
}
