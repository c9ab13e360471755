//! `[log]`: in which form, from which level on, and where to.

use std::path::Path;

use super::{Reading, Result};
use crate::config;
use crate::ops::log::Logging;
use crate::ops::sink::{Destination, Facility};

impl Reading<'_> {
    pub(crate) fn log(&self, log: &config::Log) -> Result<Logging> {
        let facility = match &log.facility {
            None => None,
            Some(name) => Some(Facility::from_name(name.get_ref()).ok_or_else(|| {
                let what = format!("{:?} is not one of: {}", name.get_ref(), Facility::names());
                self.complain(name, what)
            })?),
        };
        let to = match &log.to {
            None => Destination::Stderr,
            Some(text) => match (text.get_ref().as_str(), text.get_ref().strip_prefix("syslog:")) {
                ("stderr", _) => Destination::Stderr,
                ("journald", _) => Destination::Journal,
                ("syslog", _) => Destination::syslog(None, facility.unwrap_or(Facility::DAEMON)),
                (_, Some(path)) => {
                    let path = self.beside(Path::new(path));
                    Destination::syslog(Some(&path), facility.unwrap_or(Facility::DAEMON))
                }
                (_, None) => {
                    let what =
                        "to is \"stderr\", \"journald\", \"syslog\" or \"syslog:/its/socket\"";
                    return Err(self.complain(text, what));
                }
            },
        };
        match (&log.facility, &to) {
            (Some(name), Destination::Stderr | Destination::Journal) => {
                Err(self.complain(name, "facility goes with to = \"syslog\""))
            }
            (_, _) => Ok(Logging { format: log.format, level: log.level, to, empty: log.empty }),
        }
    }
}
