//! TLS, both ways: what posternd terminates for the names in `[tls]` and for hellos that knock, and
//! `tls://` services it calls. Nothing outside names rustls; nothing in it decides who is let in.

mod identity;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_relay::{ReadAhead, Wire};
use postern_shared::hello::HostName;
use postern_shared::knock::EXPORTER_LABEL;
use postern_shared::pin::Pin;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion, RootCertStore,
    ServerConfig, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

pub use identity::Identity;

use crate::stream::Stream;

const HTTP_1: &[u8] = b"http/1.1";
pub const HTTP_2: &[u8] = b"h2";

/// Why a certificate, key or CA file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: cannot be read as PEM: {source}", path.display())]
    Read { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{}: holds no PEM certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Unusable { path: PathBuf, source: rustls::Error },
    #[error("{}: not a usable X.509 certificate", path.display())]
    NotX509 { path: PathBuf },
    #[error("these authorities cannot be used: {0}")]
    Authorities(rustls::client::VerifierBuilderError),
    #[error("the platform's certificate store is empty; name a `ca` file or a `pin`")]
    NoRoots,
}

impl FileError {
    /// Whether it is this file that is wrong.
    pub fn concerns(&self, file: &Path) -> bool {
        match self {
            FileError::Read { path, .. }
            | FileError::NoCertificate { path }
            | FileError::Unusable { path, .. }
            | FileError::NotX509 { path } => path == file,
            FileError::Authorities(_) | FileError::NoRoots => false,
        }
    }
}

/// What terminates TLS for the names in `[tls]`.
pub struct Inward {
    acceptor: TlsAcceptor,
    leaf: Option<CertificateDer<'static>>,
    pin: Pin,
    self_signed: bool,
}

impl fmt::Debug for Inward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inward").field("pin", &self.pin).finish_non_exhaustive()
    }
}

impl Inward {
    /// Reads the PEM chain and its key. HTTP/2 is offered only where there is somebody to speak it.
    pub fn load(certificate: &Path, key: &Path, http_2: bool) -> Result<Inward, FileError> {
        let chain = certificates(certificate)?;
        let secret = PrivateKeyDer::from_pem_file(key)
            .map_err(|source| FileError::Read { path: key.to_owned(), source })?;
        let (pin, self_signed) = public_key(&chain, certificate)?;

        let leaf = chain.first().cloned();
        let unusable = |source| FileError::Unusable { path: key.to_owned(), source };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(unusable)?;
        let offered = [Some(HTTP_2).filter(|_| http_2), Some(HTTP_1)];
        config.alpn_protocols = offered.into_iter().flatten().map(<[u8]>::to_vec).collect();
        // A token must not arrive in early data, which can be replayed (RFC 8446 §8).
        config.max_early_data_size = 0;
        Ok(Inward { acceptor: TlsAcceptor::from(Arc::new(config)), leaf, pin, self_signed })
    }

    /// The same for a service that speaks HTTP/1.1 alone.
    pub fn offering_http_1(&self) -> Inward {
        let mut config = ServerConfig::clone(self.acceptor.config());
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        let (acceptor, leaf) = (TlsAcceptor::from(Arc::new(config)), self.leaf.clone());
        Inward { acceptor, leaf, ..*self }
    }

    /// Whether the certificate is for this name (RFC 9525).
    pub fn is_for(&self, name: &HostName) -> bool {
        let Ok(name) = ServerName::try_from(name.as_str()) else { return false };
        let leaf = self.leaf.as_ref().map(webpki::EndEntityCert::try_from);
        matches!(leaf, Some(Ok(leaf)) if leaf.verify_is_valid_for_subject_name(&name).is_ok())
    }

    /// The public key's pin if clients cannot verify the certificate in another way.
    pub fn pin_for_invites(&self) -> Option<Pin> {
        self.self_signed.then_some(self.pin)
    }

    /// The server's handshake, on a socket from which nothing was read yet.
    pub async fn accept(&self, wire: Wire) -> io::Result<TlsStream<ReadAhead>> {
        self.acceptor.accept(ReadAhead::new(wire)).await.map(TlsStream::from)
    }
}

/// What binds a token to this TLS session: the exporter's 32 bytes (RFC 9266's idea, with a label of
/// our own). `None` below TLS 1.3, where a token does not count.
pub fn binding(tls: &TlsStream<ReadAhead>) -> Option<[u8; 32]> {
    let TlsStream::Server(tls) = tls else { return None };
    let session = tls.get_ref().1;
    if session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    session.export_keying_material([0; 32], EXPORTER_LABEL, None).ok()
}

/// Whether HTTP/2 was agreed on (RFC 7301).
pub fn speaks_http_2(tls: &TlsStream<ReadAhead>) -> bool {
    tls.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

/// The protocol that was agreed on for what comes inside.
pub fn alpn(tls: &TlsStream<ReadAhead>) -> Option<Vec<u8>> {
    tls.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
}

/// How a `tls://` service is called.
pub struct Outward {
    connector: TlsConnector,
    name: Option<HostName>,
}

impl fmt::Debug for Outward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outward").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a `tls://` service's certificate is judged by.
#[derive(Debug)]
pub enum Trust {
    Pin(Pin),
    Authorities(PathBuf),
    Platform,
    /// For a service on loopback, which nobody stands in between of.
    Anything,
}

impl Outward {
    /// `name` replaces the name that the visitor asked for.
    pub fn new(trust: &Trust, name: Option<HostName>) -> Result<Outward, FileError> {
        let provider = provider();
        let versions = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let config = match trust {
            Trust::Pin(pin) => versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(OnlyKey { pin: Some(*pin), provider })),
            Trust::Anything => versions
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(OnlyKey { pin: None, provider })),
            Trust::Authorities(path) => {
                versions.with_webpki_verifier(verifier(authorities(path)?, provider)?)
            }
            Trust::Platform => {
                let roots = platform_roots()?;
                versions.with_webpki_verifier(verifier(roots, provider)?)
            }
        };
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1.to_vec()];
        Ok(Outward { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// The client's handshake with the service at `host`, asking for `visitor`'s name unless the
    /// configuration says another.
    pub async fn connect(
        &self,
        wire: Wire,
        visitor: Option<&HostName>,
        host: &str,
    ) -> io::Result<TlsStream<ReadAhead>> {
        let asked = self.name.as_ref().or(visitor).map_or(host, HostName::as_str);
        let name = ServerName::try_from(asked.to_owned()).map_err(io::Error::other)?;
        self.connector.connect(name, ReadAhead::new(wire)).await.map(TlsStream::from)
    }
}

/// A handshake in TLS 1.3 with X25519 for this name, which proves nothing of who it is with.
pub async fn try_modern(stream: Stream, name: &HostName) -> io::Result<()> {
    let config = unproven()?;
    let name = ServerName::try_from(name.to_string()).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map(drop)
}

/// The hello of a client that asks for this name and these protocols, as rustls makes it.
pub fn sample_hello(name: Option<&HostName>, alpn: &[String]) -> io::Result<Vec<u8>> {
    let mut config = unproven()?;
    config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.enable_sni = name.is_some();
    let name = name.map_or("nobody.invalid", HostName::as_str).to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    let mut client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

/// TLS 1.3 with X25519 for which any key will do: only for what is not served.
fn unproven() -> io::Result<ClientConfig> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let provider = Arc::new(provider);
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?;
    Ok(config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OnlyKey { pin: None, provider }))
        .with_no_client_auth())
}

/// Whether a service's host is this machine, by address or as `localhost`.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let read = |source| FileError::Read { path: path.to_owned(), source };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if chain.is_empty() {
        return Err(FileError::NoCertificate { path: path.to_owned() });
    }
    Ok(chain)
}

/// The pin of a chain's first certificate, and whether nobody but itself vouches for it.
fn public_key(chain: &[CertificateDer<'_>], path: &Path) -> Result<(Pin, bool), FileError> {
    let not_x509 = || FileError::NotX509 { path: path.to_owned() };
    let leaf = chain.first().ok_or_else(not_x509)?;
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|_| not_x509())?;
    Ok((Pin::of(&parsed.subject_public_key_info()), parsed.issuer() == parsed.subject()))
}

fn authorities(path: &Path) -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|source| FileError::Unusable { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn platform_roots() -> Result<RootCertStore, FileError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(FileError::NoRoots) } else { Ok(roots) }
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, FileError> {
    let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(FileError::Authorities)
}

/// Accepts the one public key, or any when there is none to compare; that the peer holds it is
/// checked in either case.
#[derive(Debug)]
struct OnlyKey {
    pin: Option<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyKey {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = rustls::server::ParsedCertificate::try_from(leaf)?;
        let shown = Pin::of(&parsed.subject_public_key_info());
        match self.pin {
            Some(pin) if pin != shown => Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::ApplicationVerificationFailure,
            )),
            Some(_) | None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, schemes)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
