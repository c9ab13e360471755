//! End-to-end tests against the real peers. One binary, so that it is linked once and its tests run
//! side by side.

mod access;
mod check;
mod config_errors;
mod demo;
mod external;
mod fdpass;
mod fleet;
mod forwarding;
mod hellos;
mod inherited;
mod inside;
mod invisible;
mod keys;
mod knocks;
mod limits;
mod load;
mod logs;
mod memory;
mod operations;
mod packets;
mod relay;
mod replay;
mod routes;
mod rows;
mod rules;
mod services;
mod ssh;
mod startup;
mod strangers;
mod transfer;
mod trust;
mod tunnel;
mod udp;
mod udp_limits;
mod website;
