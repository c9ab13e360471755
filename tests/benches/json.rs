//! All values, for programs.

use serde_json::{Value, json};

use crate::figures::{BASELINES, Figure, Figures};
use crate::machine::Machine;
use crate::options::Options;

pub fn of(figures: &Figures, options: &Options, machine: &Machine) -> String {
    let all = json!({
        "machine": {
            "processors": machine.processors,
            "model": machine.model,
            "kernel": machine.kernel,
            "load-averages": machine.load_averages,
            "versions": machine.versions,
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
