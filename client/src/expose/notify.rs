//! Tells the service manager that started us how it goes (sd_notify(3)). Decides when we are ready: every
//! entrance is open, and those with a public address were tried. Without a manager nothing is said.

use std::convert::Infallible;
use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;

use super::book::Entry;
use super::exposure::Exposure;
use super::offering::Offering;

const VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells for as long as there is news.
pub(super) async fn follow(exposure: &Rc<Exposure>) -> Infallible {
    let Some(manager) = Manager::from_environment() else { return std::future::pending().await };
    let mut news = exposure.book.follow();
    let (mut was_ready, mut said) = (false, String::new());
    loop {
        let entries = exposure.book.entries();
        let status = summary(&exposure.said(), &exposure.offerings, &entries);
        if !was_ready && is_ready(&entries) {
            manager.tell(&format!("READY=1\nSTATUS={status}"));
            was_ready = true;
        } else if status != said {
            manager.tell(&format!("STATUS={status}"));
        }
        said = status;
        if news.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn is_ready(entries: &[Entry]) -> bool {
    entries.iter().all(|entry| entry.is_open() && entry.was_probed)
}

/// One line.
fn summary(said: &str, offerings: &[Offering], entries: &[Entry]) -> String {
    let open = entries.iter().filter(|entry| entry.is_open()).count();
    let mut text = said.lines().next().unwrap_or("connecting").to_owned();
    text.push_str(&format!("; {open} of {} entrances open", entries.len()));
    for (offering, entry) in offerings.iter().zip(entries) {
        if entry.reached == Some(false) {
            text.push_str(&format!("; {} is not reached", offering.entrance));
        }
        if entry.local_up == Some(false) {
            text.push_str(&format!("; {} is down", offering.to));
        }
    }
    text
}

struct Manager {
    socket: UnixDatagram,
    at: SocketAddr,
}

impl Manager {
    fn from_environment() -> Option<Manager> {
        let name = env::var_os(VARIABLE)?;
        let at = match name.as_bytes().split_first()? {
            (b'@', abstracted) => SocketAddr::from_abstract_name(abstracted),
            (b'/', _) => SocketAddr::from_pathname(&name),
            _ => return None,
        };
        let socket = UnixDatagram::unbound().ok()?;
        // A manager that does not listen must not hold us up.
        socket.set_nonblocking(true).ok()?;
        Some(Manager { socket, at: at.ok()? })
    }

    fn tell(&self, message: &str) {
        let _ = self.socket.send_to_addr(message.as_bytes(), &self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::book::{Book, State};
    use crate::expose::offering::Told;

    #[test]
    fn ready_is_open_and_tried_whatever_came_of_it() {
        let offering = Offering {
            entrance: "tcp:80".parse().expect("an entrance"),
            to: "3000".parse().expect("a target"),
            terminate: false,
            told: Told::Nothing,
        };
        let book = Book::new(1);
        assert!(!is_ready(&book.entries()));
        book.turn(0, State::Open("192.0.2.1:80".to_owned()));
        assert!(!is_ready(&book.entries()));
        book.local(0, false);
        book.probed(0, Some(false));
        assert!(is_ready(&book.entries()));
        assert_eq!(
            summary("connected\nand more", &[offering], &book.entries()),
            "connected; 1 of 1 entrances open; tcp:80 is not reached; localhost:3000 is down"
        );
    }
}
