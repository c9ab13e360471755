//! `[udp]`: where datagrams are received, where they may go, and which goes where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postern_shared::sniff::datagram::DatagramKind;
use toml::Spanned;

use super::{Reading, Result};
use crate::config::{self, List};
use crate::udp::{DatagramService, FlowLimits, Protocols, Route, Udp};

/// Longer than WireGuard's keepalive (25 s) and most QUIC servers' idle time (30 s).
const DEFAULT_IDLE: Duration = Duration::from_secs(60);

const ANY: &str = "any";

type Services = BTreeMap<String, Arc<DatagramService>>;

impl Reading<'_> {
    pub(crate) fn udp(&self, udp: &config::Udp) -> Result<Udp> {
        if udp.listen.get_ref().is_empty() {
            return Err(
                self.complain(&udp.listen, "listen names no address; leave [udp] out instead")
            );
        }
        let listen = self.listen(udp.listen.get_ref())?;
        let mut services = BTreeMap::new();
        for (name, service) in &udp.service {
            let read = self.datagram_service(name, service, &listen)?;
            services.insert(name.get_ref().clone(), Arc::new(read));
        }
        let routes = (1..)
            .zip(&udp.route)
            .filter(|(_, route)| route.get_ref().enabled)
            .map(|(number, route)| self.datagram_route(number, route, &services, &listen));
        Ok(Udp {
            limits: self.flow_limits(udp)?,
            idle: self.duration(&udp.idle, DEFAULT_IDLE)?,
            routes: routes.collect::<Result<_>>()?,
            listen,
        })
    }

    fn flow_limits(&self, udp: &config::Udp) -> Result<FlowLimits> {
        let read = |value: &Option<Spanned<usize>>, default| match value {
            Some(value) if *value.get_ref() == 0 => {
                Err(self.complain(value, "0 leaves no flow; leave [udp] out instead"))
            }
            Some(value) => Ok(*value.get_ref()),
            None => Ok(default),
        };
        let flows = read(&udp.flows, FlowLimits::DEFAULT.flows)?;
        let per_address = read(&udp.flows_per_address, FlowLimits::DEFAULT.per_address.min(flows))?;
        match &udp.flows_per_address {
            Some(text) if per_address > flows => {
                Err(self.complain(text, format!("one address may not have more than all, {flows}")))
            }
            Some(_) | None => Ok(FlowLimits { flows, per_address }),
        }
    }

    fn datagram_service(
        &self,
        name: &Spanned<String>,
        service: &config::DatagramService,
        listen: &[SocketAddr],
    ) -> Result<DatagramService> {
        self.service_name(name)?;
        let text = &service.to;
        let to = text.get_ref().strip_prefix("udp://").and_then(|to| to.parse().ok());
        let to: SocketAddr = to.filter(|to: &SocketAddr| to.port() != 0).ok_or_else(|| {
            let what = "is not udp:// with an address and port; write \"udp://127.0.0.1:8443\"";
            self.complain(text, format!("{:?} {what}", text.get_ref()))
        })?;
        let own = |address: &SocketAddr| {
            let here = address.ip().is_unspecified()
                && (to.ip().is_loopback() || to.ip().is_unspecified());
            to.port() == address.port() && (to.ip() == address.ip() || here)
        };
        // It would go round without end.
        if listen.iter().any(own) {
            return Err(self.complain(text, format!("{to} is posternd's own: [udp] listen has it")));
        }
        Ok(DatagramService { name: name.get_ref().clone(), to })
    }

    fn datagram_route(
        &self,
        number: usize,
        route: &Spanned<config::DatagramRoute>,
        services: &Services,
        listen: &[SocketAddr],
    ) -> Result<Route> {
        let asked = route.get_ref();
        let name = &asked.service;
        let service = services.get(name.get_ref()).cloned().ok_or_else(|| {
            let known: Vec<_> = services.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let name_there = name.get_ref();
            self.complain(
                name,
                format!("no [udp.service.{name_there}] in this file; there is: {known}"),
            )
        })?;
        let listener = |text: &str| {
            let address = text.parse().ok().filter(|address| listen.contains(address));
            address.ok_or("does not stand in [udp] listen")
        };
        let nets = |list: &Option<List>| list.as_ref().map(|list| self.nets(list)).transpose();
        Ok(Route {
            number,
            line: self.line(route),
            service,
            protocols: asked.protocol.as_ref().map(|list| self.datagram_kinds(list)).transpose()?,
            from: nets(&asked.from)?,
            not_from: nets(&asked.not_from)?,
            listen: asked.listen.as_ref().map(|list| self.all(list, listener)).transpose()?,
        })
    }

    fn datagram_kinds(&self, list: &List) -> Result<Protocols> {
        let named = self.all(list, |text| match DatagramKind::from_name(text) {
            Some(kind) => Ok(Some(kind)),
            None if text == ANY => Ok(None),
            None => {
                let known = DatagramKind::ALL.map(DatagramKind::name).join(", ");
                Err(format!("is not a protocol known here; there is: {known}, {ANY}"))
            }
        })?;
        Ok(Protocols {
            kinds: named.iter().flatten().copied().collect(),
            any: named.contains(&None),
        })
    }
}
