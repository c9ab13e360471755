//! What the parsers of a connection's first bytes say of real, crafted and bent inputs. Samples and
//! properties only; it never tests what is done with an answer.

mod captured;
mod differential;
mod greetings;
mod hello;
mod protocols;
mod samples;
mod sniff;

#[path = "../../../contrib/fuzz/properties.rs"]
pub mod properties;
