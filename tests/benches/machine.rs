//! Where the figures come from: they mean little without.

use std::fs;
use std::process::Command;
use std::thread;

use postern_tests::process::text;

use crate::proc::load_average;
use crate::stock::find;

/// How each program says its version.
const VERSIONS: [(&str, &str); 14] = [
    ("haproxy", "-v"),
    ("nginx", "-v"),
    ("sslh-ev", "-V"),
    ("sslh-select", "-V"),
    ("sslh", "-V"),
    ("socat", "-V"),
    ("openssl", "version"),
    ("stunnel", "-version"),
    ("ssh", "-V"),
    ("rathole", "--help"),
    ("wstunnel", "--version"),
    ("chisel", "--version"),
    ("frps", "--version"),
    ("bore", "--version"),
];

#[derive(Debug)]
pub struct Machine {
    pub processors: usize,
    pub model: String,
    pub kernel: String,
    /// At the start and at the end of the run.
    pub load_averages: [String; 2],
    /// Of the programs that were found.
    pub versions: Vec<String>,
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
            versions: VERSIONS.into_iter().filter_map(|(name, flag)| version(name, flag)).collect(),
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

/// The first line with a digit in it; socat begins with its author.
fn version(program: &str, flag: &str) -> Option<String> {
    let output = Command::new(find(program)?).arg(flag).output().ok()?;
    let said = text(&[output.stdout, output.stderr].concat());
    let line = said.lines().find(|line| line.contains(|c: char| c.is_ascii_digit()))?;
    Some(line.trim().to_owned())
}
