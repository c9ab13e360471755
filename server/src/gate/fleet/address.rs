//! Where a fleet's store is, and how to log in there. Never shows the password.

use std::fmt;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// A Redis or Valkey.
#[derive(Clone)]
pub struct StoreAddress(ConnectionInfo);

impl StoreAddress {
    /// `redis://[user[:password]@]host[:port][/number]` or `unix:/path`. The error never quotes the text, in
    /// which a password may stand.
    pub fn parse(text: &str) -> Result<StoreAddress, &'static str> {
        if text.starts_with("rediss:") || text.starts_with("valkeys:") {
            return Err(
                "is Redis over TLS, which this version does not speak; use unix:/path, or a network that you trust",
            );
        }
        text.into_connection_info()
            .map(StoreAddress)
            .map_err(|_| "is not redis://[user[:password]@]host[:port][/number] or unix:/path")
    }

    pub fn with_password(self, password: &str) -> StoreAddress {
        let login = self.0.redis_settings().clone().set_password(password);
        StoreAddress(self.0.set_redis_settings(login))
    }

    pub fn has_password(&self) -> bool {
        self.0.redis_settings().password().is_some()
    }

    pub(super) fn info(&self) -> ConnectionInfo {
        self.0.clone()
    }
}

impl PartialEq for StoreAddress {
    fn eq(&self, other: &StoreAddress) -> bool {
        let login = |address: &StoreAddress| {
            let login = address.0.redis_settings();
            (login.db(), login.username().map(str::to_owned), login.password().map(str::to_owned))
        };
        self.to_string() == other.to_string() && login(self) == login(other)
    }
}

impl Eq for StoreAddress {}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let ConnectionAddr::Unix(path) = self.0.addr() {
            return write!(f, "unix:{}", path.display());
        }
        write!(f, "redis://{}/{}", self.0.addr(), self.0.redis_settings().db())
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_their_password() {
        for (text, shown) in [
            ("redis://10.0.0.9", "redis://10.0.0.9:6379/0"),
            ("redis://cache.example.org:7000/3", "redis://cache.example.org:7000/3"),
            ("redis://:hush@10.0.0.9/1", "redis://10.0.0.9:6379/1"),
            ("redis://postern:hush@10.0.0.9", "redis://10.0.0.9:6379/0"),
            ("unix:/run/redis.sock", "unix:/run/redis.sock"),
        ] {
            let address = StoreAddress::parse(text).expect("sound");
            assert_eq!(format!("{address} {address:?}"), format!("{shown} {shown}"));
            assert_eq!(address.has_password(), text.contains("hush"));
            let with = address.clone().with_password("hush");
            assert!(with.has_password() && !format!("{with} {with:?}").contains("hush"));
            assert_eq!(with == address, text.contains("hush"), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_quoted() {
        for text in [
            "",
            "hush",
            "http://:hush@host",
            "rediss://:hush@host",
            "redis://:hush@host/x",
            "redis://",
        ] {
            let refused = StoreAddress::parse(text).expect_err(text);
            assert!(!refused.contains("hush") && refused.starts_with("is "), "{refused}");
        }
    }
}
