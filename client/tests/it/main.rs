//! Runs the real binary against small servers that speak the other side of the protocol.

mod ending;
#[cfg(target_os = "linux")]
mod expose;
mod fdpass;
mod home;
mod refusal;
mod server;
mod setup;
mod stdio;
mod tunnel;
