//! The server side of the protocol, as little of it as the tests need, on ports of its own. A test's
//! server is one async function over the stream of each client.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use postern_shared::hello::HostName;
use postern_shared::invite::{Grant, Invite};
use postern_shared::knock::{
    Carrier, ClientKey, Header, Intent, Kid, Locator, ServerId, Status, Token,
};
use postern_shared::pin::Pin;
use rcgen::{CertifiedKey, KeyPair, PublicKeyData};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

pub(crate) const NAME: &str = "ssh.example.com";
pub(crate) const SSH: u16 = 1;
pub(crate) const GIT: u16 = 2;

pub(crate) const SERVER: ServerId = ServerId([0x11; 16]);

pub(crate) fn kid() -> Kid {
    Kid::new(0x4d4d).expect("not 0")
}

pub(crate) fn key() -> ClientKey {
    ClientKey::new([0x33; 32])
}

pub(crate) fn locator() -> Locator {
    Locator::new([0x22; 32])
}

pub(crate) static CERTIFICATE: LazyLock<CertifiedKey<KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate"));

/// All servers of all tests share it; it outlives every test.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) type Tunnel = Box<dyn Stream>;

/// A client whose knock was right, and who has not been answered yet.
pub(crate) struct Knocked {
    pub(crate) stream: Tunnel,
    pub(crate) service: u16,
    token: Token,
}

impl Knocked {
    pub(crate) async fn answer(mut self, status: Status) -> Tunnel {
        self.stream.write_all(&ack(&self.token, status)).await.expect("the client is there");
        self.stream.flush().await.expect("the client is there");
        self.stream
    }

    pub(crate) async fn admit(self) -> Tunnel {
        self.answer(Status::Ok).await
    }
}

/// Serves raw connections.
pub(crate) fn serve_tcp<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    serve_tcp_at((Ipv4Addr::LOCALHOST, 0).into(), serve)
}

pub(crate) fn serve_tcp_at<F, R>(at: SocketAddr, serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    RUNTIME.block_on(async {
        let listener = TcpListener::bind(at).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("a socket");
                tokio::spawn(serve(stream));
            }
        });
        address
    })
}

/// Serves clients that knock right; the others are dropped.
pub(crate) fn serve<F, R>(carrier: Carrier, serve: F) -> SocketAddr
where
    F: Fn(Knocked) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let serve = Arc::new(serve);
    serve_tcp(move |tcp| {
        let serve = serve.clone();
        async move {
            let knocked = match carrier {
                Carrier::Plain => knocked(Box::new(tcp), carrier, b"").await,
                Carrier::Tls => {
                    let Ok(tls) = TlsAcceptor::from(tls_config()).accept(tcp).await else { return };
                    let mut binding = [0; 32];
                    let (_, session) = tls.get_ref();
                    session
                        .export_keying_material(&mut binding, b"EXPORTER-postern-v1", None)
                        .expect("a finished handshake");
                    knocked(Box::new(tls), carrier, &binding).await
                }
                Carrier::Hello => unreachable!("none of CARRIERS"),
            };
            if let Some(knocked) = knocked {
                serve(knocked).await;
            }
        }
    })
}

async fn knocked(mut stream: Tunnel, carrier: Carrier, binding: &[u8]) -> Option<Knocked> {
    let (token, service) = judge(&mut stream, carrier, binding).await?;
    Some(Knocked { stream, service, token })
}

/// Reads a knock, and tells for which service it was if it was right.
pub(crate) async fn judge<S: AsyncRead + Unpin>(
    stream: &mut S,
    carrier: Carrier,
    binding: &[u8],
) -> Option<(Token, u16)> {
    let mut letters = [0; 96];
    stream.read_exact(&mut letters).await.ok()?;
    let token = Token::from_letters(&letters)?;
    let header = token.unmask(&locator().on(carrier, &SERVER))?;
    let verified = bool::from(token.verify(&key().on(carrier, &SERVER), binding));
    let Header { ack, intent, kid: who, service, .. } = header;
    (verified && ack && intent == Intent::Pipe && who == kid()).then_some((token, service))
}

pub(crate) fn ack(token: &Token, status: Status) -> [u8; 16] {
    status.seal(&key().ack(&SERVER), token.nonce())
}

pub(crate) fn tls_config() -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(CERTIFICATE.signing_key.serialize_der());
    let chain = vec![CERTIFICATE.cert.der().clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Those that this server speaks; the hello carrier is tried with posternd itself, end to end.
pub(crate) const CARRIERS: [Carrier; 2] = [Carrier::Tls, Carrier::Plain];

/// What the server would tell a new client.
pub(crate) fn invite(address: SocketAddr, carriers: &[Carrier]) -> Invite {
    let grant = |service: &str, number| Grant { service: service.to_owned(), number };
    Invite {
        host: address.ip().to_string(),
        port: address.port(),
        server: SERVER,
        locator: locator(),
        kid: kid(),
        key: key(),
        services: vec![grant("ssh", SSH), grant("git", GIT)],
        carriers: carriers.to_vec(),
        tls_sni: HostName::parse(NAME.as_bytes()),
        tls_pin: Some(Pin::of(&CERTIFICATE.signing_key.subject_public_key_info())),
        hello: None,
    }
}
