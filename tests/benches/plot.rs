//! The figures as one picture: a panel for each load, a bar for each relay, and a line from the least
//! to the most of the rounds.

use std::fmt::Write;

use crate::figures::{Figure, Figures};
use crate::machine::Machine;
use crate::table::number;

const COLUMNS: usize = 3;
const PANEL: usize = 430;
const GAP: usize = 30;
const ROW: usize = 18;
const TITLE: usize = 34;
const NAMES: usize = 190;
const BARS: usize = 170;
const TOP: usize = 50;

pub fn of(figures: &Figures, machine: &Machine) -> String {
    let width = GAP + COLUMNS * (PANEL + GAP);
    // What should not grow is dull to look at, and of knocks there are no others to be beside.
    let is_drawn =
        |figure: &&Figure| !matches!(figure.metric.section, "growth" | "knock" | "routes");
    let drawn: Vec<_> = figures.all.iter().filter(is_drawn).collect();
    let mut panels = String::new();
    let mut top = TOP;
    for line in drawn.chunks(COLUMNS) {
        for (at, figure) in line.iter().enumerate() {
            let left = GAP + at * (PANEL + GAP);
            panel(&mut panels, figure, left, top);
        }
        let rows = line.iter().map(|figure| figure.series.len()).max().unwrap_or(0);
        top += TITLE + rows * ROW + GAP;
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}" viewBox="0 0 {width} {top}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="{GAP}" y="20" font-size="14" font-weight="bold">posternd beside other relays</text>
<text x="{GAP}" y="37" fill="gray">{machine}</text>
{panels}</svg>
"#,
        machine = escape(&machine.line())
    )
}

fn panel(out: &mut String, figure: &Figure, left: usize, top: usize) {
    let metric = figure.metric;
    let title = format!("{}, {}: {}", metric.section, metric.load, metric.unit);
    let better = if matches!(metric.unit, "GB/s" | "per s") { "more" } else { "less" };
    let _ = writeln!(
        out,
        r#"<text x="{left}" y="{}" font-weight="bold">{}<tspan dx="5" font-weight="normal" fill="gray">({better} is better)</tspan></text>"#,
        top + 20,
        escape(&title)
    );
    let spreads: Vec<_> =
        figure.series.iter().filter_map(|series| Some((series, series.spread()?))).collect();
    // One outlier may not make all bars dots: the scale is of medians, and lines are cut at its end.
    let longest = spreads.iter().map(|(_, spread)| spread.median).fold(0.0, f64::max) * 1.15;
    let scale = |value: f64| {
        let part = if longest > 0.0 { (value / longest).clamp(0.0, 1.0) } else { 0.0 };
        part * BARS as f64
    };
    for (at, (series, spread)) in spreads.into_iter().enumerate() {
        let y = top + TITLE + at * ROW;
        let (middle, text) = (y + 7, y + 11);
        let bar = left + NAMES;
        let fill = if series.is_ours() { "#c2410c" } else { "#94a3b8" };
        let x = |value: f64| bar as f64 + scale(value);
        let _ = writeln!(
            out,
            r#"<text x="{name}" y="{text}" text-anchor="end">{relay}</text><rect x="{bar}" y="{y}" width="{width:.1}" height="13" fill="{fill}"/><path d="M{least:.1} {middle}H{most:.1}" stroke="black"/><text x="{value}" y="{text}">{median}</text>"#,
            name = bar - 6,
            relay = escape(&series.relay),
            width = scale(spread.median),
            least = x(spread.least),
            most = x(spread.most),
            value = bar + BARS + 8,
            median = number(spread.median),
        );
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
