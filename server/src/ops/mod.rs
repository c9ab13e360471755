//! What an operator sees and does: one line per connection, counts, the admin socket, the log. Never
//! takes part in a decision.

pub mod admin;
pub mod log;
pub mod outcome;
pub mod sink;
