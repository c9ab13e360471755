//! Where lines of the log go: stderr, the journal by way of stderr, or a syslog daemon. Formats nothing
//! but what stands ahead of a line.

use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use jiff::Zoned;
use tracing::Level;

/// Where the system's own syslog listens (syslog(3)).
const DEV_LOG: &str = "/dev/log";

/// Longer ones are cut: daemons take 8 KiB in one message.
const LONGEST: usize = 8000;

/// Facilities by their names in syslog.conf(5), RFC 5424 section 6.2.1.
const FACILITIES: [(&str, u8); 11] = [
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    pub const DAEMON: Facility = Facility(3);

    pub fn from_name(name: &str) -> Option<Facility> {
        FACILITIES.into_iter().find(|(known, _)| *known == name).map(|(_, code)| Facility(code))
    }

    pub fn names() -> String {
        FACILITIES.map(|(name, _)| name).join(", ")
    }
}

/// What the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    #[default]
    Stderr,
    /// stderr, with the priority ahead of each line (sd-daemon(3)); the journal has the time itself.
    Journal,
    Syslog {
        socket: PathBuf,
        facility: Facility,
    },
}

impl Destination {
    pub fn syslog(socket: Option<&Path>, facility: Facility) -> Destination {
        Destination::Syslog { socket: socket.unwrap_or(Path::new(DEV_LOG)).to_owned(), facility }
    }

    /// Whether lines get their time and level there.
    pub fn tells_the_time(&self) -> bool {
        match self {
            Destination::Stderr => false,
            Destination::Journal | Destination::Syslog { .. } => true,
        }
    }
}

/// The open end of a destination.
#[derive(Debug)]
pub(super) enum Sink {
    Stderr,
    Journal,
    Syslog(Syslog),
}

impl Sink {
    pub(super) fn open(destination: &Destination) -> Sink {
        match destination {
            Destination::Stderr => Sink::Stderr,
            Destination::Journal => Sink::Journal,
            Destination::Syslog { socket, facility } => {
                Sink::Syslog(Syslog { path: socket.clone(), facility: *facility, socket: None })
            }
        }
    }

    pub(super) fn write(&mut self, level: Level, line: &[u8]) {
        // Nobody is left to be told of a stderr that fails.
        match self {
            Sink::Stderr => drop(io::stderr().write_all(line)),
            Sink::Journal => {
                let prefixed = [format!("<{}>", severity(level)).as_bytes(), line].concat();
                drop(io::stderr().write_all(&prefixed));
            }
            Sink::Syslog(syslog) => {
                // What syslog cannot be told is told here.
                if syslog.send(level, line).is_err() {
                    drop(io::stderr().write_all(line));
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    facility: Facility,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    fn send(&mut self, level: Level, line: &[u8]) -> io::Result<()> {
        let priority = self.facility.0 * 8 + severity(level);
        // As syslog(3) writes them: RFC 3164, without a host.
        let time = Zoned::now().strftime("%b %e %H:%M:%S");
        let mut message = format!("<{priority}>{time} posternd[{}]: ", std::process::id());
        message.push_str(String::from_utf8_lossy(line).trim_end());
        let message = message.as_bytes().get(..LONGEST).unwrap_or(message.as_bytes());
        if let Some(socket) = &self.socket
            && socket.send(message).is_ok()
        {
            return Ok(());
        }
        // The daemon may have been restarted since.
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.send(message)?;
        self.socket = Some(socket);
        Ok(())
    }
}

/// RFC 5424, section 6.2.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}
