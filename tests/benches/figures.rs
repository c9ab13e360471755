//! Figures as they are gathered: for each load and relay one value a round. Medians and ratios are
//! taken here, and nowhere else.

use crate::relays::{DIRECT, HAPROXY, HAPROXY_ALWAYS, HAPROXY_SPLICE, HAPROXY_TUNED};
use crate::ssh::{NC, SOCAT};

/// Those by which posternd is measured; the last two on the main job, ssh.
pub const BASELINES: [&str; 7] =
    [DIRECT, HAPROXY, HAPROXY_SPLICE, HAPROXY_TUNED, HAPROXY_ALWAYS, NC, SOCAT];

/// What is measured, as all outputs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    pub section: &'static str,
    pub load: &'static str,
    pub unit: &'static str,
}

/// The values of one relay under one load, in the order of the rounds.
#[derive(Debug)]
pub struct Series {
    pub relay: String,
    pub values: Vec<f64>,
}

#[derive(Debug)]
pub struct Figure {
    pub metric: Metric,
    pub series: Vec<Series>,
}

#[derive(Debug, Default)]
pub struct Figures {
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
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut sorted = values.to_vec();
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
        let series = &mut self.all[at].series;
        match series.iter_mut().find(|series| series.relay == relay) {
            Some(series) => series.values.push(value),
            None => series.push(Series { relay: relay.to_owned(), values: vec![value] }),
        }
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
    pub fn values(&self, relay: &str) -> Option<&[f64]> {
        self.series.iter().find(|series| series.relay == relay).map(|series| &series.values[..])
    }

    /// Round by round, and the median of that: what disturbs a round disturbs both.
    pub fn ratio(&self, relay: &str, to: &str) -> Option<Spread> {
        let (these, those) = (self.values(relay)?, self.values(to)?);
        let ratios: Vec<_> = these.iter().zip(those).map(|(this, that)| this / that).collect();
        Spread::of(&ratios).filter(|spread| spread.median.is_finite())
    }
}
