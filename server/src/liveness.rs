//! How an admitted peer that has vanished is noticed, so that its tunnel ends. Never set on a
//! stranger's socket: the website's own listener would show no such probes.

use std::time::Duration;

use postern_relay::Wire;
use socket2::{SockRef, TcpKeepalive};

/// Probes that may stay unanswered before the connection is given up.
const RETRIES: u32 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Idle time before the first probe (TCP_KEEPIDLE, tcp(7)); a third of it lies between two. Keeps
    /// an idle tunnel in the tables of address translators too, many of which forget after 60 s.
    pub keepalive: Option<Duration>,
    /// How long what was sent may stay unacknowledged (TCP_USER_TIMEOUT, tcp(7)); the system's own
    /// retries, a quarter of an hour, otherwise.
    pub user_timeout: Option<Duration>,
}

impl Liveness {
    pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(30);

    /// Best effort: a socket that refuses an option, as every unix socket does, is served without.
    pub fn watch(&self, wire: &Wire) {
        let socket = SockRef::from(wire.socket());
        if let Some(idle) = self.keepalive {
            let probes = TcpKeepalive::new()
                .with_time(idle)
                .with_interval((idle / 3).max(Duration::from_secs(1)))
                .with_retries(RETRIES);
            let _ = socket.set_tcp_keepalive(&probes);
        }
        if let Some(limit) = self.user_timeout {
            let _ = socket.set_tcp_user_timeout(Some(limit));
        }
    }
}
