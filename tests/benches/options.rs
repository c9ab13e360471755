//! What is asked of the bench: which sections, how often, against whom.

use std::path::PathBuf;

use crate::SECTIONS;

pub const USAGE: &str = "\
usage: tests/bench [--rounds N] [--quick] [--only NAME]... [--out DIR] [SECTION]...
  SECTION      bulk, connections, rtt, idle, ssh, expose, growth, knock, routes; all by default
  --rounds N   how often each load is repeated, in turns (5)
  --quick      one round of small loads: whether it works, not how fast it is
  --only NAME  only relays whose name contains this, and direct
  --out DIR    where bench.json and bench.svg go (target/bench)";

#[derive(Debug)]
pub struct Options {
    pub rounds: usize,
    pub quick: bool,
    pub out: PathBuf,
    only: Vec<String>,
    sections: Vec<String>,
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut rounds = None;
        let mut options = Options {
            rounds: 5,
            quick: false,
            out: PathBuf::from("target/bench"),
            only: Vec::new(),
            sections: Vec::new(),
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                // What `cargo bench` adds.
                "--bench" => {}
                "--quick" => options.quick = true,
                "--out" => options.out = value()?.into(),
                "--only" => options.only.push(value()?),
                "--rounds" => {
                    let number = value()?.parse().ok().filter(|rounds| *rounds > 0);
                    rounds = Some(number.ok_or("--rounds needs a number above 0")?);
                }
                section if SECTIONS.iter().any(|(name, _)| *name == section) => {
                    options.sections.push(arg);
                }
                _ => return Err(format!("what is {arg:?}?")),
            }
        }
        options.rounds = rounds.unwrap_or(if options.quick { 1 } else { 5 });
        Ok(options)
    }

    pub fn wants(&self, section: &str) -> bool {
        self.sections.is_empty() || self.sections.iter().any(|wanted| wanted == section)
    }

    /// Direct is always there: what the others add is told against it.
    pub fn wants_relay(&self, name: &str) -> bool {
        self.only.is_empty() || name == "direct" || self.only.iter().any(|o| name.contains(o))
    }

    /// A size of a load.
    pub fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}
