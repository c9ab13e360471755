//! The only printer: arguments in, one command, its answer or its error out.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use posternd::boot::{self, Refused};
use posternd::cli::{Cli, Command};
use posternd::commands::{self, Answer, CommandError};
use posternd::inherit::Inherited;
use posternd::{certificate, demo};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// What the reactor keeps for a socket is aligned to 128 bytes, and the system's allocator loses half as
/// much again on each such piece.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const BAD_CONFIG: u8 = 3;

fn main() -> ExitCode {
    // Keys are in memory: no core dumps, no ptrace by other processes of the same user (prctl(2)).
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let cli = Cli::parse();
    match act(cli.command) {
        Ok(answer) => print(&answer),
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "posternd: {}", words(&error));
            ExitCode::from(status(&error))
        }
    }
}

fn act(command: Command) -> anyhow::Result<Answer> {
    match command {
        Command::Demo { listen, once } => {
            runtime()?.block_on(demo::run(listen, once)).map(|()| Answer::default())
        }
        Command::Run { file, listen } => {
            // SAFETY: this process has opened nothing yet.
            let inherited = unsafe { Inherited::take() }?;
            runtime()?.block_on(boot::run(&file.config, listen, inherited))?;
            Ok(Answer::default())
        }
        Command::Check { file } => Ok(commands::check(&file.config)?),
        Command::Explain(question) => Ok(commands::explain(&question)?),
        Command::Status { file, json } => Ok(commands::status(&file.config, json)?),
        Command::Reload { file } => Ok(commands::reload(&file.config)?),
        Command::Client { command } => Ok(commands::client(&command)?),
        Command::Cert { names, out, reuse_key } => {
            let pin = certificate::make(&names, &out, reuse_key).map_err(CommandError::from)?;
            Ok(Answer::from(format!("{pin}\n")))
        }
    }
}

/// For what is not a connection; these have threads of their own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot start")
}

fn print(answer: &Answer) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    for remark in &answer.remarks {
        let _ = writeln!(stderr, "posternd: {remark}");
    }
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(answer.text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // What is printed may be an invite: that nobody saw it must show.
        Err(_) => ExitCode::from(FAILED),
    }
}

/// Our own errors hold their causes in their words; what others say is told with all its causes.
fn words(error: &anyhow::Error) -> String {
    if error.is::<Refused>() || error.is::<CommandError>() {
        error.to_string()
    } else {
        format!("{error:#}")
    }
}

fn status(error: &anyhow::Error) -> u8 {
    let refused = |refused: &Refused| match refused {
        Refused::File(_) => BAD_CONFIG,
        Refused::Bind(_)
        | Refused::BindDatagrams(_)
        | Refused::Restart { .. }
        | Refused::Admin { .. }
        | Refused::InUse(_)
        | Refused::System(_) => FAILED,
    };
    if let Some(error) = error.downcast_ref::<Refused>() {
        return refused(error);
    }
    match error.downcast_ref::<CommandError>() {
        Some(CommandError::File(_)) => BAD_CONFIG,
        Some(CommandError::Refused(error)) => refused(error),
        Some(CommandError::Usage(_)) => USAGE,
        Some(
            CommandError::Ask(_)
            | CommandError::Change(_)
            | CommandError::NotTaken { .. }
            | CommandError::Certificate(_),
        )
        | None => FAILED,
    }
}
