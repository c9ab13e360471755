//! Services of a laptop, reached by the public server's own ports and names.

mod away;
mod local_server;
mod through;
