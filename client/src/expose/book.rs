//! How each entrance fares: open or refused, reached or not, its service up or down, how many visitors came.
//! Decides what of that is news; finds nothing out itself.

use std::cell::{RefCell, RefMut};

use postern_shared::expose::control::{Health, Refusal};
use tokio::sync::watch;

/// What is known of all entrances, each by its number.
pub(super) struct Book {
    entries: RefCell<Vec<Entry>>,
    /// Something changed that others may have to be told.
    news: watch::Sender<()>,
}

/// What is known of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) state: State,
    /// Whether a probe came in by the public address; none ended yet, or there is no such address.
    pub(super) reached: Option<bool>,
    pub(super) local_up: Option<bool>,
    pub(super) visitors: u64,
    /// A probe has ended since the program began.
    pub(super) was_probed: bool,
    /// What the server was told on this connection.
    told: Option<Health>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There is no answer yet, or no connection.
    #[default]
    Unknown,
    Open(String),
    Refused(Refusal),
}

impl Book {
    pub(super) fn new(count: usize) -> Book {
        Book { entries: RefCell::new(vec![Entry::default(); count]), news: watch::Sender::new(()) }
    }

    /// Whether this entrance had another state before; `None` where there is no such entrance.
    pub(super) fn turn(&self, id: u16, state: State) -> Option<bool> {
        let mut entry = self.entry(id)?;
        let differs = entry.state != state;
        entry.state = state;
        drop(entry);
        self.changed();
        Some(differs)
    }

    /// The connection is gone, and with it what the server knew and said.
    pub(super) fn disconnected(&self) {
        for entry in self.entries.borrow_mut().iter_mut() {
            entry.told = None;
        }
        self.changed();
    }

    pub(super) fn visited(&self, id: u16) {
        if let Some(mut entry) = self.entry(id) {
            entry.visitors += 1;
        }
    }

    /// Whether the local service took a connection.
    pub(super) fn local(&self, id: u16, up: bool) {
        if let Some(mut entry) = self.entry(id)
            && entry.local_up.replace(up) != Some(up)
        {
            self.changed();
        }
    }

    /// A probe has ended; `None` where there is no public address to try.
    pub(super) fn probed(&self, id: u16, reached: Option<bool>) {
        if let Some(mut entry) = self.entry(id) {
            entry.reached = reached;
            entry.was_probed = true;
        }
        self.changed();
    }

    /// What the server has not been told yet; it has now.
    pub(super) fn tell(&self) -> Vec<(u16, Health)> {
        let mut entries = self.entries.borrow_mut();
        let numbered = (0..).zip(entries.iter_mut());
        numbered
            .filter_map(|(id, entry)| {
                let health = entry.health()?;
                (entry.told.replace(health) != Some(health)).then_some((id, health))
            })
            .collect()
    }

    /// Those that the server refused.
    pub(super) fn refused(&self) -> Vec<u16> {
        let entries = self.entries.borrow();
        let numbered = (0..).zip(entries.iter());
        numbered
            .filter(|(_, entry)| matches!(entry.state, State::Refused(_)))
            .map(|(id, _)| id)
            .collect()
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.borrow().clone()
    }

    /// Tells whenever there may be news.
    pub(super) fn follow(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// There may be news.
    pub(super) fn changed(&self) {
        self.news.send_replace(());
    }

    fn entry(&self, id: u16) -> Option<RefMut<'_, Entry>> {
        RefMut::filter_map(self.entries.borrow_mut(), |all| all.get_mut(usize::from(id))).ok()
    }
}

impl Entry {
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    pub(super) fn is_well(&self) -> bool {
        self.is_open() && self.reached != Some(false) && self.local_up != Some(false)
    }

    /// What is worse comes first: whoever gets in finds nobody while the service is down.
    fn health(&self) -> Option<Health> {
        if !self.is_open() || !self.was_probed {
            return None;
        }
        Some(match (self.local_up, self.reached) {
            (Some(false), _) => Health::LocalDown,
            (_, Some(false)) => Health::NotReached,
            (_, Some(true) | None) => Health::Reached,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_told_what_is_new() {
        let book = Book::new(2);
        book.turn(0, State::Open("192.0.2.1:80".to_owned()));
        assert_eq!(book.tell(), [], "nothing was tried");
        book.local(0, true);
        book.probed(0, Some(true));
        assert_eq!(book.tell(), [(0, Health::Reached)]);
        assert_eq!(book.tell(), []);
        book.local(0, false);
        assert_eq!(book.tell(), [(0, Health::LocalDown)]);
        book.local(0, true);
        book.probed(0, Some(false));
        assert_eq!(book.tell(), [(0, Health::NotReached)]);
        book.disconnected();
        assert_eq!(book.tell(), [(0, Health::NotReached)], "another server may not know");
    }

    #[test]
    fn states_turn_and_foreign_numbers_do_nothing() {
        let book = Book::new(2);
        let refused = State::Refused(Refusal::PortTaken);
        assert_eq!(book.turn(1, refused.clone()), Some(true));
        assert_eq!(book.turn(1, refused.clone()), Some(false));
        assert_eq!(book.turn(2, refused), None);
        assert_eq!(book.refused(), [1]);
        book.visited(7);
        book.local(7, true);
        book.probed(7, None);
        assert_eq!(book.entries().len(), 2);
    }
}
