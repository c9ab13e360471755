//! A fingerprint of a TLS server in the manner of JARM: what it chooses when the same offers are made in
//! other orders and versions.

use std::net::SocketAddr;

use super::hello::{ALPN, Hello, SUPPORTED_VERSIONS, TLS12_SUITES, TLS13_SUITES, alpn, vec8};
use super::probe::Probe;
use super::records::server_hello;
use super::witness::show;

/// Its answers to the offers; empty where it gave none.
pub(crate) fn fingerprint(server: SocketAddr) -> Vec<String> {
    let ask = |offer: Hello| {
        let probe = Probe::new("an offer", offer.record()).half_closing();
        server_hello(&show(&probe, server).bytes).unwrap_or_default()
    };
    offers().into_iter().map(ask).collect()
}

fn offers() -> Vec<Hello> {
    let all = [&TLS13_SUITES[..], &TLS12_SUITES].concat();
    let reversed: Vec<u16> = all.iter().rev().copied().collect();
    let with = |hello: Hello, suites: &[u16]| hello.bent(|hello| hello.suites = suites.to_vec());
    let rare = alpn(&["spdy/3", "http/0.9", "http/1.0"]);
    let tls11 = || Hello::tls12().bent(|hello| hello.version = 0x0302);
    vec![
        with(Hello::tls12(), &TLS12_SUITES),
        with(Hello::tls12(), &reversed),
        with(Hello::tls12(), &TLS12_SUITES[4..]),
        with(Hello::tls12(), &TLS12_SUITES[..4]).with(ALPN, rare.clone()),
        with(Hello::tls12(), &[&[0x0a0a], &TLS12_SUITES[2..]].concat()).without(ALPN),
        with(tls11(), &all),
        with(Hello::modern(), &all),
        with(Hello::modern(), &reversed).with(SUPPORTED_VERSIONS, vec8(&[3, 3, 3, 4])),
        with(Hello::modern(), &reversed).with(ALPN, alpn(&["http/1.1"])),
        with(Hello::modern(), &TLS12_SUITES).with(SUPPORTED_VERSIONS, vec8(&[3, 3, 3, 2])),
    ]
}
