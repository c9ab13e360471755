//! The token as the first bytes inside TLS, bound to this very TLS connection. Never TLS 1.2, whose
//! exporter binds less, and never a resumed session, whose certificate nobody has looked at.

use std::io;
use std::sync::Arc;

use postern_shared::hello::HostName;
use postern_shared::knock::EXPORTER_LABEL;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::verify::{self, Trust, WrongPin};
use crate::address::Address;
use crate::deadline::{Deadline, Step};
use crate::error::{Error, plain};
use crate::knock::Knock;
use crate::names::Host;
use crate::stdio::Input;

/// What the server's own TLS speaks for visitors.
const ALPN: &[u8] = b"http/1.1";

/// TLS that is configured, for one name.
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Shows `sni` if there is one, else the host unless that is an address.
    pub fn new(trust: &Trust, sni: Option<&HostName>, host: &Host) -> Result<Tls, Error> {
        Tls::showing(sni.map_or(host.as_str(), HostName::as_str), trust)
    }

    /// Shows `name`, and takes whoever answers to it: for a look from outside.
    pub fn blind(name: &HostName) -> Result<Tls, Error> {
        Tls::showing(name.as_str(), &Trust::Blind)
    }

    fn showing(shown: &str, trust: &Trust) -> Result<Tls, Error> {
        let name = ServerName::try_from(shown.to_owned()).map_err(|_| {
            Error::Usage(format!("{shown} cannot be shown as a name in TLS; give --sni"))
        })?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = verify::verifier(trust, &provider)?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Tls { config: Arc::new(config), name })
    }

    /// A hello of its own, which nobody follows up.
    pub fn hello(&self) -> io::Result<Vec<u8>> {
        let mut record = Vec::new();
        ClientConnection::new(self.config.clone(), self.name.clone())
            .map_err(io::Error::other)?
            .write_tls(&mut record)?;
        Ok(record)
    }

    /// The handshake alone.
    pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), stream).await
    }

    pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        knock: &Knock,
        input: &Input,
        deadline: Deadline,
    ) -> Result<TlsStream<S>, Error> {
        let at = &knock.at;
        let handshake = self.greet(stream);
        let mut stream = deadline
            .hold(Step::Handshake, at, handshake)
            .await?
            .map_err(|error| explain(at, &error))?;
        let binding = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, None)
            .expect("a finished handshake exports any short length");
        deadline.hold(Step::Knock, at, knock.admit(&mut stream, &binding, input)).await??;
        Ok(stream)
    }
}

pub(super) fn explain(at: &Address, error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(certificate)) = tls {
        if let CertificateError::Other(other) = certificate
            && let Some(WrongPin { shown }) = other.0.downcast_ref()
        {
            return Error::WrongPin { at: at.clone(), shown: *shown };
        }
        return Error::Tls {
            at: at.clone(),
            cause: format!("its certificate does not verify: {certificate}"),
            fix: "if the server has a CA of its own, give --ca FILE",
        };
    }
    Error::Tls {
        at: at.clone(),
        cause: tls.map_or_else(|| plain(error), ToString::to_string),
        fix: "check that posternd serves TLS at this port",
    }
}
