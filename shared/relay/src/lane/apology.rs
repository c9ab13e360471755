//! What is read in the place of a service that cannot be reached. Decides when to answer; what is answered is
//! for others to say.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Enough to tell in which protocol somebody speaks.
const WORDS: usize = 64;

/// How long somebody whose service cannot be reached has to say in which protocol he wants to be told.
const SPEAKS: Duration = Duration::from_millis(250);

/// An answer to the first words that were said to the service.
pub(super) struct Apology {
    words: Vec<u8>,
    /// What to answer to them; nothing makes it a reset.
    answer: fn(&[u8]) -> Option<Vec<u8>>,
    /// Who has said nothing by then is reset.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Apology {
    pub(super) fn new(words: &[u8], answer: fn(&[u8]) -> Option<Vec<u8>>) -> Apology {
        let mut apology = Apology { words: Vec::new(), answer, patience: None };
        apology.hear(words);
        apology
    }

    /// Only the first words count.
    pub(super) fn hear(&mut self, words: &[u8]) {
        if self.words.is_empty() {
            self.words.extend(words.iter().take(WORDS));
        }
    }

    /// Waits for words while there are none and some may come: what is said wakes whoever reads here, too.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        is_all: bool,
    ) -> Poll<Option<Vec<u8>>> {
        if self.words.is_empty() && !is_all {
            let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(SPEAKS)));
            ready!(patience.as_mut().poll(cx));
        }
        Poll::Ready((self.answer)(&self.words))
    }
}

impl fmt::Debug for Apology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apology").finish_non_exhaustive()
    }
}
