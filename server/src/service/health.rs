//! Tries the targets of services that have `health`, whether anybody comes or not, and notes which are
//! down. Decides nothing about a connection, and writes to the log when one changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::connect::probe;
use super::upstream::Upstream;
use super::{Service, Target};
use crate::house::House;
use crate::policy::Policy;

/// Probes what the policy in force names, for as long as it does.
pub async fn watch_health(house: Arc<House>) {
    let mut policy = house.follow_policy();
    loop {
        // Dropped with the policy that it is for, and its probes with it.
        let _probes = start(&policy.now());
        policy.changed().await;
    }
}

fn start(policy: &Arc<Policy>) -> JoinSet<()> {
    let mut probes = JoinSet::new();
    for service in policy.services.values() {
        let Target::Upstreams(upstreams) = &service.target else { continue };
        let Some(every) = upstreams.health else { continue };
        for at in 0..upstreams.iter().count() {
            let service = service.clone();
            probes.spawn(async move {
                if let Target::Upstreams(upstreams) = &service.target
                    && let Some(upstream) = upstreams.iter().nth(at)
                {
                    watch(&service, upstream, every).await;
                }
            });
        }
    }
    probes
}

async fn watch(service: &Service, upstream: &Upstream, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let patience = every.min(service.connect);
        let tried = timeout(patience, probe(upstream, patience)).await;
        let why = match &tried {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        let (service, target) = (&service.name, &upstream.name);
        match upstream.state().probed(why.is_none()) {
            Some(true) => warn!(service, target, why, "a target is down"),
            Some(false) => info!(service, target, "a target is up again"),
            None => {}
        }
    }
}
