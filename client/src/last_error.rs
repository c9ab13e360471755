//! Keeps the last error of a command that others start: ssh hides standard error under ControlPersist. Never fails
//! itself: there is nobody left to tell.

use std::path::PathBuf;

use jiff::{Timestamp, Unit};

use crate::error::Error;
use crate::files;
use crate::names::ProfileName;

/// The file that holds it, if this user has a home.
pub fn file() -> Option<PathBuf> {
    Some(files::state_dir().ok()?.join("last-error.log"))
}

/// One record, in place of the one before.
pub fn keep(command: &str, name: &ProfileName, error: &Error) {
    let Some(file) = file() else { return };
    let now = Timestamp::now();
    let now = now.round(Unit::Second).unwrap_or(now);
    let record = format!("{now} {command} {name}: {error}\n");
    if let Some(dir) = file.parent() {
        let _ = files::make_dir(dir);
    }
    let _ = files::replace(&file, record.as_bytes(), files::PRIVATE);
}
