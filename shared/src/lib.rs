//! What `postern` and `posternd` must agree on: how first bytes are recognised, what a knock is,
//! what an invite says. Pure by rule: slices and `now` in, values out; no socket, clock, file or
//! random source, so all of it runs under fuzzers and property tests.

pub mod expose;
pub mod hello;
pub mod hex;
pub mod invite;
pub mod knock;
pub mod pin;
pub mod proxy;
pub mod reader;
pub mod sniff;
