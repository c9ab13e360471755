//! What external identifiers have said of a connection so far. Pure; asking them is `inquire.rs`'s.

/// What one said last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Yes,
    No,
    /// That it is to be asked again when so many bytes have come.
    Wants(usize),
}

/// By the identifiers' numbers. Few are asked about any one connection.
#[derive(Debug, Default)]
pub struct Answers(Vec<(usize, Answered)>);

impl Answers {
    /// Nobody was asked yet.
    pub const NONE: &'static Answers = &Answers(Vec::new());

    /// Takes the place of what it said before.
    pub fn note(&mut self, identifier: usize, answered: Answered) {
        match self.0.iter_mut().find(|(other, _)| *other == identifier) {
            Some((_, last)) => *last = answered,
            None => self.0.push((identifier, answered)),
        }
    }

    pub fn of(&self, identifier: usize) -> Option<Answered> {
        let mut all = self.0.iter();
        all.find(|(other, _)| *other == identifier).map(|(_, answered)| *answered)
    }
}
