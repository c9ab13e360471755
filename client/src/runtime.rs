//! The runtime on which a command's work is done: one thread. Decides nothing about the work.

use std::process::ExitCode;

use tokio::runtime;

use crate::error::Error;

/// Does the work, and never waits for what it left behind.
pub fn on_runtime(work: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::local("cannot start", &error))?;
    let result = runtime.block_on(work);
    // A name that a thread is still resolving must not hold the exit.
    runtime.shutdown_background();
    result
}
