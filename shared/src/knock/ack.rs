//! The acknowledgement: the server's first 16 bytes, by which a client knows that it was admitted
//! and what became of its service. Only the holder of the client's key can make or read one.

use super::key::CarrierKey;

/// Bytes of an acknowledgement.
pub const LENGTH: usize = 16;

/// What the server says to the one it admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The service answers; its bytes follow.
    Ok,
    /// Admitted, but the service could not be reached.
    UpstreamDown,
    /// Admitted, but the server has no place left for another tunnel.
    Busy,
    /// Admitted, but the server's access program does not let this client to the service now.
    Denied,
}

impl Status {
    const ALL: [Status; 4] = [Status::Ok, Status::UpstreamDown, Status::Busy, Status::Denied];

    fn code(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::UpstreamDown => 1,
            Status::Busy => 2,
            Status::Denied => 3,
        }
    }

    /// The acknowledgement of the token with this nonce.
    pub fn seal(self, ack: &CarrierKey, nonce: &[u8; 16]) -> [u8; LENGTH] {
        ack.mac(&[&[self.code()], nonce])
    }

    /// The status that `bytes` acknowledge; `None` if they are not an acknowledgement at all.
    pub fn open(bytes: &[u8; LENGTH], ack: &CarrierKey, nonce: &[u8; 16]) -> Option<Status> {
        Status::ALL.into_iter().find(|status| ack.mac_eq(&[&[status.code()], nonce], bytes).into())
    }
}

/// A ServerHello's random that acknowledges the hello with this random: it looks as random as any, and
/// `salt` must be.
pub fn seal_random(ack: &CarrierKey, client: &[u8; 32], salt: [u8; 16]) -> [u8; 32] {
    let mut random = [0; 32];
    let mac = ack.mac(&[client, &salt]);
    for (byte, value) in random.iter_mut().zip(salt.into_iter().chain(mac)) {
        *byte = value;
    }
    random
}

/// Whether a ServerHello's random acknowledges the hello with the random `client`.
pub fn opens_random(random: &[u8; 32], ack: &CarrierKey, client: &[u8; 32]) -> bool {
    match random.split_first_chunk::<LENGTH>() {
        Some((salt, mac)) => {
            mac.try_into().is_ok_and(|mac| ack.mac_eq(&[client, salt], mac).into())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::key::{ClientKey, ServerId};

    #[test]
    fn each_status_is_told_apart_and_bound_to_its_knock() {
        let key = ClientKey::new([4; 32]).ack(&ServerId([5; 16]));
        for status in Status::ALL {
            let sealed = status.seal(&key, &[6; 16]);
            assert_eq!(Status::open(&sealed, &key, &[6; 16]), Some(status));
            assert_eq!(Status::open(&sealed, &key, &[7; 16]), None);
        }
        assert_eq!(Status::open(b"HTTP/1.1 400 Bad", &key, &[6; 16]), None);
    }

    #[test]
    fn a_server_random_acknowledges_one_hello() {
        let server = ServerId([5; 16]);
        let (key, other) =
            (ClientKey::new([4; 32]).ack(&server), ClientKey::new([3; 32]).ack(&server));
        let random = seal_random(&key, &[6; 32], [7; 16]);
        assert!(opens_random(&random, &key, &[6; 32]));
        assert!(!opens_random(&random, &key, &[5; 32]));
        assert!(!opens_random(&random, &other, &[6; 32]));
        assert!(!opens_random(&[7; 32], &key, &[6; 32]));
    }
}
