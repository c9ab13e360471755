//! All values for programs, and the machine they come from.

use std::fs;
use std::thread;

use serde_json::{Value, json};

use crate::figures::{BASELINES, Figure, Figures};
use crate::options::Options;
use crate::proc::load_average;

/// Where the figures come from: they mean little elsewhere.
#[derive(Debug)]
pub struct Machine {
    pub processors: usize,
    pub model: String,
    pub kernel: String,
    /// At the start and at the end of the run.
    pub load_averages: [String; 2],
}

impl Machine {
    pub fn look(load_before: &str) -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Machine {
            processors: thread::available_parallelism().map_or(0, usize::from),
            model: model.map_or("", |model| model.trim_start_matches([' ', '\t', ':'])).to_owned(),
            kernel: kernel.trim().to_owned(),
            load_averages: [load_before.to_owned(), load_average()],
        }
    }

    pub fn line(&self) -> String {
        let [before, after] = &self.load_averages;
        format!(
            "{} x {}, Linux {}, load {before} before and {after} after",
            self.processors, self.model, self.kernel
        )
    }
}

pub fn of(figures: &Figures, options: &Options, machine: &Machine) -> String {
    let all = json!({
        "machine": {
            "processors": machine.processors,
            "model": machine.model,
            "kernel": machine.kernel,
            "load-averages": machine.load_averages,
        },
        "rounds": options.rounds,
        "quick": options.quick,
        "figures": figures.all.iter().map(figure).collect::<Vec<_>>(),
        "remarks": figures.remarks,
    });
    format!("{all:#}\n")
}

fn figure(figure: &Figure) -> Value {
    let relays = figure.series.iter().map(|series| {
        let spread = series.spread();
        let ratios = BASELINES
            .into_iter()
            .filter_map(|to| Some((to.to_owned(), json!(figure.ratio(&series.relay, to)?.median))));
        json!({
            "name": series.relay,
            "values": series.values.values().collect::<Vec<_>>(),
            "median": spread.map(|spread| spread.median),
            "least": spread.map(|spread| spread.least),
            "most": spread.map(|spread| spread.most),
            "median-ratio-to": ratios.collect::<serde_json::Map<_, _>>(),
        })
    });
    json!({
        "section": figure.metric.section,
        "load": figure.metric.load,
        "unit": figure.metric.unit,
        "relays": relays.collect::<Vec<_>>(),
    })
}
