//! The client side of postern: profiles made from invites, and the ProxyCommand that knocks and then
//! carries ssh's bytes. Never writes anything but those bytes to the standard output of `connect`.

pub mod address;
pub mod answer;
pub mod carrier;
pub mod cli;
pub mod connect;
pub mod deadline;
pub mod dial;
pub mod error;
// On what only Linux has: splice, epoll, rtnetlink.
#[cfg(target_os = "linux")]
pub mod expose;
pub mod fdpass;
pub mod files;
pub mod join;
pub mod knock;
pub mod last_error;
pub mod names;
pub mod out;
pub mod pipe;
pub mod process;
pub mod profile;
pub mod profiles;
pub mod reach;
pub mod records;
pub mod runtime;
pub mod signals;
pub mod splice;
pub mod ssh_config;
pub mod stdio;
pub mod width;
