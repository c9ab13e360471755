//! A probe is data: a name, and what a stranger does on one connection, in order.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) name: String,
    pub(crate) acts: Vec<Act>,
}

#[derive(Clone, Debug)]
pub(crate) enum Act {
    Send(Vec<u8>),
    /// Looks on for so long before it goes on.
    Pause(Duration),
    HalfClose,
    /// Ends the connection with RST.
    Reset,
}

impl Probe {
    /// Sends these bytes at once and waits for what comes.
    pub(crate) fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Probe {
        Probe { name: name.into(), acts: vec![Act::Send(bytes.into())] }
    }

    /// Sends the bytes in pieces of this size with a pause between them.
    pub(crate) fn slowly(
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        size: usize,
        pause: Duration,
    ) -> Probe {
        let mut probe = Probe { name: name.into(), acts: Vec::new() };
        for piece in bytes.into().chunks(size) {
            if !probe.acts.is_empty() {
                probe = probe.pausing(pause);
            }
            probe.acts.push(Act::Send(piece.to_vec()));
        }
        probe
    }

    pub(crate) fn pausing(mut self, pause: Duration) -> Probe {
        self.acts.push(Act::Pause(pause));
        self
    }

    pub(crate) fn sending(mut self, bytes: impl Into<Vec<u8>>) -> Probe {
        self.acts.push(Act::Send(bytes.into()));
        self
    }

    pub(crate) fn half_closing(mut self) -> Probe {
        self.name.push_str(", then FIN");
        self.acts.push(Act::HalfClose);
        self
    }

    /// Waits long enough for the website to have been dialled.
    pub(crate) fn resetting(self) -> Probe {
        let mut probe = self.pausing(Duration::from_millis(150));
        probe.name.push_str(", then RST");
        probe.acts.push(Act::Reset);
        probe
    }
}
