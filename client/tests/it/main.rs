//! Runs the real binary against small servers that speak the other side of the protocol.

mod ending;
mod fdpass;
mod home;
mod refusal;
mod server;
mod setup;
mod stdio;
mod tunnel;
