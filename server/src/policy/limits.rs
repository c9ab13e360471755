//! How many connections there may be, and for whom places are kept.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    pub undecided: usize,
    pub undecided_per_address: usize,
}

impl Limits {
    pub const DEFAULT: Limits =
        Limits { connections: 10_000, undecided: 1024, undecided_per_address: 256 };

    /// What fits into so many descriptors: a connection takes two, and an undecided one may hold its
    /// website's besides its own.
    pub fn fit(self, descriptors: usize) -> Limits {
        // Listeners, files, the admin socket, a clients file being written, and the relay's pipes.
        const OTHERS: usize = 64 + 2 * postern_relay::pipes::MOST;
        let undecided = self.undecided.min(descriptors / 8);
        let left = descriptors.saturating_sub(OTHERS + undecided * 2) / 2;
        Limits { connections: self.connections.min(left), undecided, ..self }
    }

    /// How many places visitors may hold: a tenth, and at least 64, are kept for the admitted.
    pub fn visitors(&self) -> usize {
        self.connections.saturating_sub(self.kept())
    }

    /// How many handshakes of one key may be unfinished. Who has many of its hellos, but not the key,
    /// must not take all that is kept for the admitted.
    pub fn handshakes_per_key(&self) -> usize {
        self.kept() / 2
    }

    /// How many lanes one client's visitors may have.
    pub fn lanes_per_key(&self) -> usize {
        self.connections / 2
    }

    fn kept(&self) -> usize {
        (self.connections / 10).max(64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_fit_the_descriptors() {
        assert_eq!(Limits::DEFAULT.fit(1_000_000), Limits::DEFAULT);
        for descriptors in [1024, 4096, 20_000] {
            let fit = Limits::DEFAULT.fit(descriptors);
            assert!(fit.connections * 2 + fit.undecided * 2 < descriptors, "{fit:?}");
            assert!(fit.connections > 0 && fit.undecided > 0, "{fit:?}");
        }
    }
}
