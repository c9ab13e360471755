//! Runs one command and turns how it ended into an exit code and, on failure, into lines on standard
//! error. Never writes to standard output itself.

use std::process::ExitCode;

use clap::Parser;
use postern::cli::Cli;
use postern::{out, process};

fn main() -> ExitCode {
    process::forbid_dumps();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to be done about a closed standard error.
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    cli.run().unwrap_or_else(|error| {
        out::complain(&error.to_string());
        error.exit_code()
    })
}
