//! Measures posternd beside the relays that people use today, in one run and in turns, so that whatever
//! else the machine does falls on all alike. Prints figures; never judges them.

#![allow(
    unreachable_pub,
    reason = "a program has no surface: pub is what a module offers to the others"
)]

mod backend;
mod bulk;
mod connections;
mod expose;
mod figures;
mod growth;
mod idle;
mod in_process;
mod json;
mod knock;
mod machine;
mod options;
mod plot;
mod proc;
mod relays;
mod routes;
mod rtt;
mod ssh;
mod stock;
mod table;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use figures::Figures;
use machine::Machine;
use options::{Options, USAGE};
use postern_tests::process::raise_descriptor_limit;

type Run = fn(&mut Bench);

const SECTIONS: [(&str, Run); 9] = [
    ("bulk", bulk::run),
    ("connections", connections::run),
    ("rtt", rtt::run),
    ("idle", idle::run),
    ("ssh", ssh::run),
    ("expose", expose::run),
    ("growth", growth::run),
    ("knock", knock::run),
    ("routes", routes::run),
];

/// What a section needs, and where its figures go.
struct Bench {
    options: Options,
    figures: Figures,
}

impl Bench {
    /// Everything once in each round: A B C, A B C, and so on.
    fn rounds(&mut self, mut turn: impl FnMut(&mut Bench)) {
        for round in 1..=self.options.rounds {
            eprintln!("   round {round}");
            self.figures.round = round;
            turn(self);
        }
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--help") {
        let _ = writeln!(io::stdout(), "{USAGE}");
        return ExitCode::SUCCESS;
    }
    // cargo starts us in the package's directory; paths are meant from the workspace's.
    let _ = std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bench: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // Both ends of every connection are ours, and the relays inherit the limit.
    raise_descriptor_limit();
    let mut bench = Bench { options, figures: Figures::default() };
    let load_before = proc::load_average();
    for (section, run) in SECTIONS {
        if !bench.options.wants(section) {
            continue;
        }
        eprintln!("== {section}");
        run(&mut bench);
        // After each, so that what was measured is there if a later one is cut short.
        if let Err(error) = save(&bench, &load_before) {
            eprintln!("bench: {}: {error}", bench.options.out.display());
            return ExitCode::FAILURE;
        }
    }
    let table = table::of(&bench.figures, &Machine::look(&load_before));
    let _ = io::stdout().lock().write_all(table.as_bytes());
    eprintln!("== written: bench.json and bench.svg in {}", bench.options.out.display());
    ExitCode::SUCCESS
}

fn save(bench: &Bench, load_before: &str) -> io::Result<()> {
    let Bench { options, figures } = bench;
    let machine = Machine::look(load_before);
    fs::create_dir_all(&options.out)?;
    fs::write(options.out.join("bench.json"), json::of(figures, options, &machine))?;
    fs::write(options.out.join("bench.svg"), plot::of(figures, &machine))
}
