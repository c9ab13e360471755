//! What posternd and postern bring two sides together by: sockets on the reactor, the relay between two
//! of them, and lanes, which carry one visitor after the other. Decides nothing about who is served.

pub mod lane;
pub mod leg;
pub mod pipes;
pub mod read_ahead;
mod relay;
pub mod sys;
mod way;
pub mod wire;

pub use lane::Lane;
pub use leg::Leg;
pub use read_ahead::ReadAhead;
pub use relay::{End, Guest, Moved, Relay, Side};
pub use wire::Wire;
