//! TLS for those whose ClientHello knocked: terminated from its first byte with a key that only clients
//! know of, and acknowledged in the ServerHello's random. Decides nothing; its handshake proves that
//! the hello was not a captured one.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use postern_relay::{ReadAhead, Wire};
use postern_shared::pin::Pin;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::kx_group::{X25519, X25519MLKEM768};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::version::TLS13;
use tokio_rustls::{LazyConfigAcceptor, TlsStream};

use super::{FileError, HTTP_1, HTTP_2, certificates, provider, public_key};

/// What terminates TLS for a hello that knocked.
pub struct Identity {
    config: Arc<ServerConfig>,
    pin: Pin,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the PEM certificate and its key.
    pub fn load(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
        let chain = certificates(certificate)?;
        let (pin, _) = public_key(&chain, certificate)?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| FileError::Read { path: key.to_owned(), source })?;
        let provider = CryptoProvider {
            // Those of which every client sends a share: to ask for another (RFC 8446 §4.1.4) would take
            // a second hello.
            kx_groups: vec![X25519MLKEM768, X25519],
            secure_random: &Scripted,
            ..Arc::unwrap_or_clone(provider())
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|source| FileError::Unusable { path: key.to_owned(), source })?;
        // Whichever of these the client chose to look like.
        config.alpn_protocols = [HTTP_2, HTTP_1].map(<[u8]>::to_vec).to_vec();
        // Nothing is resumed: each connection knocks anew.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Identity { config: Arc::new(config), pin })
    }

    /// By what clients know it.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The server's handshake with `random` in its ServerHello, on a socket from which nothing was read
    /// yet; complete when the client's Finished is verified.
    pub async fn accept(&self, wire: Wire, random: [u8; 32]) -> io::Result<TlsStream<ReadAhead>> {
        let hello = LazyConfigAcceptor::new(Acceptor::default(), ReadAhead::new(wire)).await?;
        let handshake = {
            let _script = Script::begin(random);
            // Here, before anything is awaited, rustls draws the one random value that it needs.
            hello.into_stream(self.config.clone())
        };
        handshake.await.map(TlsStream::from)
    }
}

thread_local! {
    static NEXT: Cell<Option<[u8; 32]>> = const { Cell::new(None) };
}

/// The one value that rustls draws while it is in scope.
struct Script;

impl Script {
    fn begin(random: [u8; 32]) -> Script {
        NEXT.set(Some(random));
        Script
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        NEXT.set(None);
    }
}

/// The provider's random source but for what a script says.
#[derive(Debug)]
struct Scripted;

impl SecureRandom for Scripted {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        match NEXT.take() {
            Some(random) => {
                // Of any other length it would be another value than the ServerHello's.
                let place: &mut [u8; 32] = buf.try_into().map_err(|_| GetRandomFailed)?;
                *place = random;
                Ok(())
            }
            None => aws_lc_rs::rand::fill(buf).map_err(|_| GetRandomFailed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_script_is_for_one_value_of_its_length() {
        let mut random = [0; 32];
        let script = Script::begin([7; 32]);
        Scripted.fill(&mut random).expect("scripted");
        assert_eq!(random, [7; 32]);
        Scripted.fill(&mut random).expect("the system's");
        assert_ne!(random, [7; 32]);
        drop(script);

        let script = Script::begin([7; 32]);
        assert!(Scripted.fill(&mut [0; 16]).is_err(), "not a ServerHello's random");
        drop(script);
        Scripted.fill(&mut random).expect("the system's");
        assert_ne!(random, [7; 32]);
    }

    /// Fails when rustls draws other values for its ServerHello than this carrier needs.
    #[test]
    fn the_random_stands_in_the_server_hello() {
        let state = tempfile::tempdir().expect("a directory");
        let identity = crate::identity::open(state.path(), None).expect("made");
        let pin = Some(identity.pin());
        let verifier = Arc::new(super::super::OnlyKey { pin, provider: provider() });
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let name = "www.example.com".try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("written to memory");

        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &hello[..]).expect("read from memory");
        let accepted = acceptor.accept().ok().flatten().expect("a hello");
        let script = Script::begin([7; 32]);
        let answered = accepted.into_connection(identity.config.clone());
        let mut server = answered.map_err(|(error, _)| error).expect("answered");
        drop(script);
        let mut answer = Vec::new();
        server.write_tls(&mut answer).expect("written to memory");
        assert_eq!(answer.get(11..43), Some(&[7; 32][..]));
        client.read_tls(&mut &answer[..]).expect("read from memory");
        client.process_new_packets().expect("the pinned key");
        client.writer().write_all(b"in").expect("the handshake is over");
    }
}
