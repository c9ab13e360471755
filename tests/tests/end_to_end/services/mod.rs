//! Where connections go: what a service of each kind gets, and what it bears.

mod exec;
mod limits;
mod pass;
mod targets;
mod transparent;

use postern_tests::posternd::config;
use postern_tests::{Posternd, Scratch, TcpService};

/// A posternd whose visitors from this machine all get the service `it`, of which these are the lines.
fn serving(scratch: &Scratch, lines: &str) -> Posternd {
    Posternd::start(scratch, &text(lines))
}

fn text(lines: &str) -> String {
    let more =
        format!("[[route]]\nfrom = [\"127.0.0.0/8\"]\nservice = \"it\"\n[service.it]\n{lines}");
    config(TcpService::named("web").address(), &more)
}
