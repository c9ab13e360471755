//! Figures as they are gathered: for each load and relay one value a round. Medians and ratios are
//! taken here, and nowhere else.

use std::collections::BTreeMap;

use crate::expose::{BORE, RATHOLE, SSH, WSTUNNEL};
use crate::relays::{DIRECT, HAPROXY, HAPROXY_ALWAYS, HAPROXY_SPLICE, HAPROXY_TUNED};
use crate::ssh::{NC, SOCAT};

/// Those by which posternd is measured: relays, ways for the main job, ssh, and tunnels.
pub const BASELINES: [&str; 11] = [
    DIRECT,
    HAPROXY,
    HAPROXY_SPLICE,
    HAPROXY_TUNED,
    HAPROXY_ALWAYS,
    NC,
    SOCAT,
    RATHOLE,
    WSTUNNEL,
    BORE,
    SSH,
];

/// What is measured, as all outputs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub section: &'static str,
    pub load: &'static str,
    pub unit: &'static str,
}

/// The values of one relay under one load, by round: a load may fail in one.
#[derive(Debug)]
pub struct Series {
    pub relay: String,
    pub values: BTreeMap<usize, f64>,
}

#[derive(Debug)]
pub struct Figure {
    pub metric: Metric,
    pub series: Vec<Series>,
}

#[derive(Debug, Default)]
pub struct Figures {
    pub round: usize,
    pub all: Vec<Figure>,
    pub remarks: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted = Vec::from_iter(values);
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        Some(Spread { median, least, most })
    }
}

impl Figures {
    pub fn add(&mut self, metric: Metric, relay: &str, value: f64) {
        let at = self.all.iter().position(|figure| figure.metric == metric).unwrap_or_else(|| {
            self.all.push(Figure { metric, series: Vec::new() });
            self.all.len() - 1
        });
        let all = &mut self.all[at].series;
        let at = all.iter().position(|series| series.relay == relay).unwrap_or_else(|| {
            all.push(Series { relay: relay.to_owned(), values: BTreeMap::new() });
            all.len() - 1
        });
        all[at].values.insert(self.round, value);
    }

    /// Something that a reader of the figures must know. Said once.
    pub fn remark(&mut self, remark: String) {
        eprintln!("   {remark}");
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}

impl Figure {
    fn series(&self, relay: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.relay == relay)
    }

    pub fn spread(&self, relay: &str) -> Option<Spread> {
        self.series(relay)?.spread()
    }

    /// Round by round, and the median of that: what disturbs a round disturbs both. What is less than
    /// nothing, as a difference may be, has no ratio.
    pub fn ratio(&self, relay: &str, to: &str) -> Option<Spread> {
        let (these, those) = (&self.series(relay)?.values, &self.series(to)?.values);
        let ratio = |(round, this): (&usize, &f64)| {
            let that = those.get(round)?;
            (*this >= 0.0 && *that > 0.0).then(|| this / that)
        };
        Spread::of(these.iter().filter_map(ratio))
    }
}

impl Series {
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(self.values.values().copied())
    }

    pub fn is_ours(&self) -> bool {
        self.relay.starts_with("poster")
    }
}
