//! The token in the session id of a TLS ClientHello: a watcher sees a visit to the website. Whoever
//! recognises the token says so in the ServerHello's random; anybody else is the website, and gets what
//! a visitor would send it, never a byte of the tunnel.

use std::io;
use std::sync::Arc;

use postern_shared::hello::{ClientHello, HostName, Parse};
use postern_shared::pin::Pin;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::overhear::{Ear, Overhear, Recognition};
use super::script::{self, Draws, Script};
use super::tls::explain;
use super::verify::Recognised;
use crate::deadline::{Deadline, Step};
use crate::error::Error;
use crate::knock::Knock;
use crate::profile::Alpn;
use crate::stdio::Input;

/// Behind the record's header.
const RECORD_HEADER: usize = 5;

/// TLS that shows one name.
pub struct Hello {
    pin: Option<Pin>,
    sni: HostName,
    alpn: Vec<Alpn>,
    provider: Arc<CryptoProvider>,
}

impl Hello {
    /// Without a pin, whoever recognises the token will do.
    pub fn new(pin: Option<Pin>, sni: HostName, alpn: &[Alpn]) -> Hello {
        Hello { pin, sni, alpn: alpn.to_vec(), provider: Arc::new(script::provider()) }
    }

    pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        knock: &Knock,
        input: &Input,
        deadline: Deadline,
    ) -> Result<TlsStream<Overhear<S>>, Error> {
        let at = &knock.at;
        let recognition = Recognition::default();
        let (handshake, random) = self.knocking(stream, knock, &recognition)?;
        let mut stream = deadline
            .hold(Step::Handshake, at, handshake)
            .await?
            .map_err(|error| explain(at, &error))?;
        if recognition.is_given() {
            deadline.hold(Step::Knock, at, knock.enter(&mut stream, &random, input)).await??;
            return Ok(stream);
        }
        let h2 = stream.get_ref().1.alpn_protocol() == Some(Alpn::H2.name().as_bytes());
        let alpn = if h2 { Alpn::H2 } else { Alpn::Http1 };
        Err(deadline.hold(Step::Knock, at, knock.visit(&mut stream, &self.sni, alpn)).await?)
    }

    /// Who is recognised differs from connection to connection.
    fn config(&self, recognition: &Recognition) -> Arc<ClientConfig> {
        let verifier = Recognised::new(self.pin, &self.provider, recognition.clone());
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has suites for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols =
            self.alpn.iter().map(|alpn| alpn.name().as_bytes().to_vec()).collect();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }

    /// A handshake whose hello knocks, and that hello's random.
    fn knocking<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        knock: &Knock,
        recognition: &Recognition,
    ) -> Result<(tokio_rustls::Connect<Overhear<S>>, [u8; 32]), Error> {
        let broken = |what: &str| Error::Local(format!("cannot make a hello that knocks: {what}"));
        let name = ServerName::try_from(self.sni.to_string())
            .map_err(|_| broken("its name cannot be shown in TLS; give --sni"))?;
        let draws = Draws::fresh().map_err(|_| broken("the system has no randomness"))?;

        let config = self.config(recognition);
        let mut script = Script::first(knock.untagged(&draws.random), &draws);
        let mut record = Vec::new();
        ClientConnection::new(config.clone(), name.clone())
            .map_err(io::Error::other)
            .and_then(|mut tls| tls.write_tls(&mut record))
            .map_err(|error| broken(&error.to_string()))?;
        let other =
            || broken("this rustls makes its hello in another way than the one it was tried with");
        if !script.is_spent() {
            return Err(other());
        }
        let tagged = knock.tagged(&parse(&record).ok_or_else(other)?).ok_or_else(other)?;
        let place = RECORD_HEADER + postern_shared::hello::SESSION_ID;
        record.get_mut(place..place + tagged.len()).ok_or_else(other)?.copy_from_slice(&tagged);
        if !parse(&record).is_some_and(|hello| knock.is_tagged(&hello)) {
            return Err(other());
        }

        script.again(tagged, &draws);
        let ear = Ear {
            ack: knock.ack_key().clone(),
            client_random: draws.random,
            recognition: recognition.clone(),
        };
        let stream = Overhear::new(stream, record, ear);
        let handshake = TlsConnector::from(config).connect(name, stream);
        if script.is_spent() { Ok((handshake, draws.random)) } else { Err(other()) }
    }
}

/// The hello, if it is that and fills exactly one record.
fn parse(record: &[u8]) -> Option<ClientHello> {
    match ClientHello::parse(record) {
        Parse::Found(hello) if hello.len() == record.len() => Some(hello),
        Parse::Found(_) | Parse::NeedMore(_) | Parse::Malformed => None,
    }
}
