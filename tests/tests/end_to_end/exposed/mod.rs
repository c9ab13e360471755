//! Services of a laptop, reached by the public server's own ports and names.

mod away;
mod crowd;
mod cut;
mod held;
mod insider;
mod local_server;
mod names;
mod through;
