//! What one service bears: idle time, connections, rate, and how often its targets are tried.

use std::time::Duration;

use toml::Spanned;

use super::{Reading, Result};
use crate::config;
use crate::service::{Bearing, MOST_CHILDREN, Rate, Target};

/// More often would be load by itself.
const LEAST_HEALTH: Duration = Duration::from_millis(100);

impl Reading<'_> {
    pub(super) fn bearing(&self, service: &config::Service, target: &Target) -> Result<Bearing> {
        let config::Service { idle, max_connections, queue, rate, .. } = service;
        if let (Some(idle), Target::Exec(_) | Target::Pass(_)) = (idle, target) {
            let what = "idle goes with services that are relayed: not with exec: or pass:";
            return Err(self.complain(idle, what));
        }
        let runs_a_program = match target {
            Target::Exec(_) => true,
            Target::Pass(handing) => handing.otherwise.is_some(),
            Target::Upstreams(_) | Target::Tunnel(_) => false,
        };
        if let (Some(most), Target::Pass(_), false) = (max_connections, target, runs_a_program) {
            let what = "max-connections cannot be kept with pass:, which lets connections go";
            return Err(self.complain(most, what));
        }
        if let Some(most) = max_connections.as_ref().filter(|most| *most.get_ref() == 0) {
            return Err(self.complain(most, "0 would keep everybody out; it must be at least 1"));
        }
        let max_connections = match max_connections {
            Some(most) => Some(*most.get_ref()),
            None => runs_a_program.then_some(MOST_CHILDREN),
        };
        if let (Some(queue), None) = (queue, max_connections) {
            return Err(self.complain(queue, "queue goes with max-connections"));
        }
        Ok(Bearing {
            idle: idle.as_ref().map(|_| self.duration(idle, Duration::ZERO)).transpose()?,
            max_connections,
            queue: queue.as_ref().map_or(0, |queue| *queue.get_ref()),
            rate: rate.as_ref().map(|rate| self.rate(rate)).transpose()?,
        })
    }

    fn rate(&self, text: &Spanned<String>) -> Result<Rate> {
        let parse = || {
            let (count, per) = text.get_ref().split_once('/')?;
            let count = count.trim().parse::<u32>().ok().filter(|count| *count > 0)?;
            let per = per.trim().parse::<jiff::SignedDuration>().ok()?;
            let per = Duration::try_from(per).ok().filter(|per| !(*per / count).is_zero())?;
            Some(Rate { count, per })
        };
        parse().ok_or_else(|| {
            let what = "is not a rate; write \"10/1m\": so many connections in such a time";
            self.complain(text, format!("{:?} {what}", text.get_ref()))
        })
    }

    pub(super) fn health(&self, text: Option<&Spanned<String>>) -> Result<Option<Duration>> {
        let Some(text) = text else { return Ok(None) };
        let least = |every| every >= LEAST_HEALTH;
        let text = Some(text.clone());
        self.duration_if(&text, LEAST_HEALTH, least, "health must not be shorter than 100ms")
            .map(Some)
    }
}
