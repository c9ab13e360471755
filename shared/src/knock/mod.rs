//! The knock: what a client shows so that it is let in, and how a server judges it. This module
//! never decides on services, addresses or sockets; that is the gate's work.
//!
//! Version 1, key schedule and layout: a token is `nonce 16 | masked header 16 | tag 16`, written
//! as 96 letters A-P. While such letters come, a TLS web server waits for the rest of what could be
//! a request line, so holding them betrays nothing.

pub mod ack;
pub mod key;
pub mod replay;
pub mod token;

pub use ack::Status;
pub use key::{Carrier, CarrierKey, ClientKey, Kid, Locator, ServerId};
pub use replay::{Replay, Spend};
pub use token::{Header, Intent, Token};
