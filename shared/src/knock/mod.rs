//! The knock: what a client shows so that it is let in, and how a server judges it. This module
//! never decides on services, addresses or sockets; that is the gate's work.
//!
//! Version 1, key schedule and layout: a token is `nonce 16 | masked header 16 | tag 16`, written
//! as 96 letters A-P. While such letters come, a TLS web server waits for the rest of what could be
//! a request line, so holding them betrays nothing. In a ClientHello its random is the nonce, and the
//! other two are the session id, which is random in every client that speaks TLS 1.3 (RFC 8446, D.4).

/// The label of the TLS exporter (RFC 8446, section 7.5) that binds a token of the tls carrier to its
/// session, with no context and 32 bytes of output.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-postern-v1";

pub mod ack;
pub mod hello;
pub mod key;
pub mod replay;
pub mod token;

pub use ack::Status;
pub use hello::HelloToken;
pub use key::{Carrier, CarrierKey, ClientKey, Kid, Locator, ServerId};
pub use replay::{Replay, Spend, Spent};
pub use token::{Header, Intent, Token};
