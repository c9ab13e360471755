//! What the end-to-end tests stand on: real peers in scratch directories, each on a port of its own
//! and gone with the test that started it. It starts, speaks and watches; it asserts nothing about
//! posternd or postern beyond that they start.

pub mod client;
pub mod expose;
pub mod knock;
pub mod machine;
pub mod net;
pub mod nginx;
pub mod posternd;
pub mod process;
pub mod redis;
pub mod scratch;
pub mod sshd;
pub mod tls;
pub mod udp;
pub mod world;

pub use client::Client;
pub use knock::Knocker;
pub use machine::Machine;
pub use net::{End, Seen, TcpService, exchange};
pub use nginx::Nginx;
pub use posternd::Posternd;
pub use process::{Process, bounded, failure, finish, success, until};
pub use redis::Redis;
pub use scratch::{Scratch, sha256};
pub use sshd::Sshd;
pub use tls::{Pace, TlsClient};
pub use udp::{Peer, UdpService};
pub use world::World;

/// Makes a test of each carrier out of every function named here.
#[macro_export]
macro_rules! each_carrier {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn plain() {
                super::$name(postern_shared::knock::Carrier::Plain);
            }

            #[test]
            fn tls() {
                super::$name(postern_shared::knock::Carrier::Tls);
            }

            #[test]
            fn hello() {
                super::$name(postern_shared::knock::Carrier::Hello);
            }
        }
    )+};
}
