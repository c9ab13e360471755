//! What is shared by measurements without a socket.

use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::figures::Spread;

/// So many at a time, since a clock that is read for each would cost as much as some of them.
const BATCH: usize = 20;

/// The median of what one takes, in microseconds.
pub fn each<'a, T>(all: &'a [T], mut one: impl FnMut(&'a T)) -> f64 {
    let batch = |batch: &'a [T]| {
        let started = Instant::now();
        batch.iter().for_each(&mut one);
        started.elapsed().as_secs_f64() * 1e6 / batch.len() as f64
    };
    Spread::of(all.chunks(BATCH).map(batch)).map_or(f64::NAN, |spread| spread.median)
}

/// As large as a browser's, by the key share that has been usual since 2024.
pub fn browser_hello(name: &str) -> Vec<u8> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("it has suites for all of them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = name.to_owned().try_into().expect("a name");
    let mut tls = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut record = Vec::new();
    tls.write_tls(&mut record).expect("written to memory");
    record
}
