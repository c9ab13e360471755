//! What is likely not meant about helpers, for `check` and the log. Refuses nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;

use super::Helper;
use crate::config;
use crate::inquire::Identifier;
use crate::service::Service;

/// Of those who are not enabled nothing is known any more in routes: these are as the file has them.
pub(crate) fn doubts(
    routes: &[Spanned<config::Route>],
    identifiers: &[Identifier],
    services: &BTreeMap<String, Arc<Service>>,
) -> Vec<String> {
    let mut doubts = Vec::new();
    let silent = |who: String, helper: &Helper| {
        helper.address.doubt().map(|why| format!("{who} will not answer: {why}"))
    };
    for identifier in identifiers {
        let name = &identifier.name;
        let asks = |route: &Spanned<config::Route>| {
            let mut named = route.get_ref().external.iter().flat_map(Spanned::get_ref);
            route.get_ref().enabled && named.any(|one| one.get_ref() == name)
        };
        let is_asked = routes.iter().any(asks);
        if identifier.enabled {
            doubts.extend(silent(format!("identifier {name:?}"), &identifier.helper));
            if !is_asked {
                doubts.push(format!("identifier {name:?} is asked by no route"));
            }
        } else if is_asked {
            doubts.push(format!("identifier {name:?} is not enabled: for its routes it says no"));
        }
    }
    for service in services.values() {
        if let Some(access) = &service.access {
            let who = format!("the access program of service {:?}", service.name);
            doubts.extend(silent(who, &access.helper));
        }
    }
    doubts
}
