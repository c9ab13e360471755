//! The two doors for text: [`out`] for what a command prints, [`complain`] for what went wrong.
//! Never used for a tunnel's bytes.

use std::io::{self, Write};

use crate::error::Error;

/// Prints a command's result. A reader that has seen enough (`| head`) is not an error.
pub fn out(text: &str) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Local(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes to standard error, which belongs to ssh's terminal: each line says who speaks. In one
/// write, so that ssh's own lines do not come between.
pub fn complain(text: &str) {
    let lines: String = text.lines().map(|line| format!("postern: {line}\n")).collect();
    // Without a standard error there is nobody to tell.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}
