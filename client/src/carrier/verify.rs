//! Decides whether a TLS server is the one that is meant. A pin stands alone: where a key is pinned,
//! neither names nor dates nor authorities are asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use postern_shared::pin::Pin;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, PeerIncompatible, RootCertStore,
    SignatureScheme,
};

use super::overhear::Recognition;
use crate::error::Error;

/// By what a server is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    Pin(Pin),
    /// The authorities in this PEM file alone.
    Ca(PathBuf),
    Platform,
    /// By nothing: whoever answers will do.
    Blind,
}

/// The server proved another key than the pinned one.
#[derive(Debug, thiserror::Error)]
#[error("the server's key is {shown}")]
pub(super) struct WrongPin {
    pub(super) shown: Pin,
}

pub(super) fn verifier(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let roots = match trust {
        Trust::Pin(pin) => return Ok(Arc::new(KeyOnly::new(Some(*pin), provider))),
        Trust::Blind => return Ok(Arc::new(KeyOnly::new(None, provider))),
        Trust::Ca(file) => authorities(file)?,
        Trust::Platform => platform()?,
    };
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|error| Error::Local(format!("no usable certificate authorities: {error}")))
}

fn authorities(file: &Path) -> Result<RootCertStore, Error> {
    let bad = |error: String| Error::Local(format!("CA file {}: {error}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("no certificate in it".to_owned()));
    }
    Ok(roots)
}

fn platform() -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    // Every platform has some that webpki cannot read; one good root is enough to try.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::Local(
            "this system has no certificate authorities; install ca-certificates or give --ca FILE"
                .to_owned(),
        ));
    }
    Ok(roots)
}

/// Asks for the pinned key of those who recognised the token. Anybody else is the website, whose
/// certificate does not matter, since nothing of ours is shown to it.
#[derive(Debug)]
pub(super) struct Recognised {
    pinned: KeyOnly,
    any: KeyOnly,
    recognition: Recognition,
}

impl Recognised {
    pub(super) fn new(
        pin: Option<Pin>,
        provider: &CryptoProvider,
        recognition: Recognition,
    ) -> Recognised {
        let (pinned, any) = (KeyOnly::new(pin, provider), KeyOnly::new(None, provider));
        Recognised { pinned, any, recognition }
    }

    fn current(&self) -> &KeyOnly {
        if self.recognition.is_given() { &self.pinned } else { &self.any }
    }
}

impl ServerCertVerifier for Recognised {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let current = self.current();
        current.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.any.supported_verify_schemes()
    }
}

/// Takes a certificate for its key: the pinned one, or without a pin any. Either way the server
/// must prove that it holds the key.
#[derive(Debug)]
struct KeyOnly {
    pin: Option<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl KeyOnly {
    fn new(pin: Option<Pin>, provider: &CryptoProvider) -> KeyOnly {
        KeyOnly { pin, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for KeyOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Pin::of(&ParsedCertificate::try_from(end_entity)?.subject_public_key_info());
        match self.pin {
            Some(pin) if pin != shown => {
                let wrong = OtherError(Arc::new(WrongPin { shown }));
                Err(CertificateError::Other(wrong).into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
