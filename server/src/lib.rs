//! posternd shares a port with a website and leads whoever knocks right to a private service.
//!
//! A connection's way is `conn`: look (`decide`, `front`), judge (`gate`), route (`route`), connect
//! (`service`), relay (`relay`), one outcome (`ops`). Datagrams have a shorter one: `udp`.

pub mod access;
mod admit;
pub mod boot;
pub mod certificate;
pub mod cli;
pub mod commands;
pub mod complaint;
pub mod config;
pub mod conn;
pub mod decide;
pub mod demo;
pub mod early;
pub mod expose;
pub mod follow;
pub mod front;
pub mod gate;
pub mod helper;
pub mod hours;
pub mod house;
pub mod identity;
pub mod inherit;
pub mod inquire;
mod introduce;
pub mod join;
pub mod listen;
pub mod liveness;
mod nets;
pub mod ops;
mod pair;
pub mod places;
pub mod policy;
pub mod program;
mod reading;
pub mod route;
pub mod service;
pub mod stage;
pub mod stream;
mod sys;
pub mod tls;
pub mod udp;
mod visit;
pub mod workers;
