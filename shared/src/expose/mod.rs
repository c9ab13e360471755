//! What postern and posternd say to each other so that a service of the client's machine is reached by
//! a public address of the server: which entrances there are, who may open which, the control connection's
//! messages, and the frames of the lanes on which visitors come. Pure; who is served is the server's to say.
//!
//! The client knocks with [`Intent::Expose`](crate::knock::Intent::Expose), and on that connection, inside
//! TLS, both sides speak [`control`]. It is handed the key of a *pool*, with which it opens lanes: further
//! connections, by [`Intent::Accept`](crate::knock::Intent::Accept), on which it waits. A visitor is given a
//! lane that waits, with his first bytes and no round trip; when he has gone in order the lane waits again.

pub mod control;
pub mod entrance;
pub mod lane;
pub mod window;

pub use entrance::{Entrance, Permit};
pub use window::Window;
