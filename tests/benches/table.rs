//! The figures for people: a table for each section, relays down and loads across, and how posternd
//! stands to the others.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;

use crate::SECTIONS;
use crate::figures::{BASELINES, Figure, Figures, Spread};
use crate::machine::Machine;

pub fn of(figures: &Figures, machine: &Machine) -> String {
    let mut out = format!("{}\n{}\n", machine.line(), machine.versions.join("\n"));
    out.push_str("median (least-most)\n");
    for (section, _) in SECTIONS {
        let mut of_section: Vec<_> =
            figures.all.iter().filter(|figure| figure.metric.section == section).collect();
        of_section.sort_by_key(|figure| figure.metric.unit);
        for chunk in of_section.chunks(4) {
            let mut rows = vec![heading(section, chunk)];
            rows.extend(relays(chunk).into_iter().map(|relay| row(&relay, chunk)));
            out.push('\n');
            align(&mut out, &rows);
        }
    }
    out.push('\n');
    align(&mut out, &ratios(figures));
    for remark in &figures.remarks {
        let _ = writeln!(out, "! {remark}");
    }
    out
}

/// How posternd stands to those that it is to be measured by, wherever both were measured.
fn ratios(figures: &Figures) -> Vec<Vec<String>> {
    let mut rows = vec![["ratio, round by round", ""].map(str::to_owned).to_vec()];
    rows[0].extend(BASELINES.map(|to| format!("to {to}")));
    for figure in &figures.all {
        let metric = figure.metric;
        let what = format!("{} {}, {}", metric.section, metric.load, metric.unit);
        for series in figure.series.iter().filter(|series| series.is_ours()) {
            let ratio = |to| figure.ratio(&series.relay, to).map_or("-".to_owned(), cell);
            let mut row = vec![what.clone(), series.relay.clone()];
            row.extend(BASELINES.map(ratio));
            // A row without a figure says nothing.
            if row.iter().skip(2).any(|cell| cell != "-") {
                rows.push(row);
            }
        }
    }
    // Nor does a column.
    let columns = rows[0].len();
    let told = (0..columns).map(|at| {
        at < 2 || rows.iter().skip(1).any(|row| row.get(at).is_some_and(|cell| cell != "-"))
    });
    let told: Vec<_> = told.collect();
    for row in &mut rows {
        let mut told = told.iter();
        row.retain(|_| told.next().is_some_and(|told| *told));
    }
    rows
}

fn heading(section: &str, figures: &[&Figure]) -> Vec<String> {
    let columns =
        figures.iter().map(|figure| format!("{}, {}", figure.metric.load, figure.metric.unit));
    [section.to_owned()].into_iter().chain(columns).collect()
}

/// In the order in which they were measured; not every load is for all.
fn relays(figures: &[&Figure]) -> Vec<String> {
    let mut longest_first = figures.to_vec();
    longest_first.sort_by_key(|figure| Reverse(figure.series.len()));
    let mut seen = BTreeSet::new();
    let all = longest_first.iter().flat_map(|figure| &figure.series).map(|series| &series.relay);
    all.filter(|relay| seen.insert(*relay)).cloned().collect()
}

fn row(relay: &str, figures: &[&Figure]) -> Vec<String> {
    let cells = figures.iter().map(|figure| figure.spread(relay).map_or("-".to_owned(), cell));
    [relay.to_owned()].into_iter().chain(cells).collect()
}

fn cell(spread: Spread) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(number);
    format!("{median} ({least}-{most})")
}

/// Three digits that matter.
pub fn number(value: f64) -> String {
    let decimals = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else if value.abs() >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

fn align(out: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or(0))
        .collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}
