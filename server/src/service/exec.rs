//! A child process as a service: it gets one end of a socket pair as its stdin and stdout, and is
//! reaped when it ends. Never involves a shell.

use std::io;
use std::process::Stdio;

use tokio::process::Command;
use tracing::debug;

use crate::stream::Stream;
use crate::wire::Wire;

/// Starts `command` and returns our end. The child's end stays in blocking mode, which programs
/// expect of their stdin; when our end closes, the child reads EOF.
pub(super) fn spawn(command: &[String]) -> io::Result<Stream> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (ours, theirs) = Wire::pair()?;
    let stdin = theirs.try_clone()?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(stdin))
        .stdout(Stdio::from(theirs))
        .spawn()?;
    tokio::spawn(async move {
        let status = child.wait().await;
        debug!(?status, "child ended");
    });
    Ok(ours.into())
}
