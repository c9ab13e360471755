//! The demo's website: one page over HTTPS, served by hyper. It knows nothing of posternd.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use postern_relay::Wire;
use tokio::net::{TcpListener, TcpStream};

use crate::tls::Inward;

/// What every visitor gets.
pub(super) const PAGE: &str = "<!doctype html>\n<title>A quiet page</title>\n\
    <h1>A quiet page</h1>\n<p>There is nothing else here.</p>\n";

/// Serves the page with the certificate in `directory`, on a port of its own.
pub(super) async fn serve(directory: &Path) -> anyhow::Result<SocketAddr> {
    let inward =
        Arc::new(Inward::load(&directory.join("tls.crt"), &directory.join("tls.key"), false)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(inward.clone(), socket));
        }
    });
    Ok(address)
}

async fn connection(inward: Arc<Inward>, socket: TcpStream) {
    let Ok(wire) = socket.into_std().and_then(|socket| Wire::tcp(socket.into())) else { return };
    let Ok(tls) = inward.accept(wire).await else { return };
    // A visitor that breaks off is no event here.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(tls), service_fn(page)).await;
}

async fn page(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    let html = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    Ok(response)
}
