//! What judging costs, and whether a stranger can tell from outside that he was judged, and how.

mod judging;
mod likeness;
mod outside;

use crate::Bench;

pub fn run(bench: &mut Bench) {
    judging::run(bench);
    outside::run(bench);
}
