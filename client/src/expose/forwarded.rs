//! Names the visitor in the requests that he makes: an HTTP/1.1 proxy between his lane and the local
//! service. Decides which fields a request carries from here on; a forged one never gets through. What it
//! passes on it passes as it is, protocols that a connection is upgraded to included.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use http_body_util::{Either, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::header::{CONNECTION, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use postern_relay::Wire;
use postern_relay::wire::Then;
use tokio::io::copy_bidirectional;
use tokio::task::spawn_local;

use super::exposure::Exposure;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that are about one connection alone (RFC 9110, 7.6.1), beside those that Connection names. Not
/// Transfer-Encoding: both connections are framed alike.
const OF_ONE_CONNECTION: [HeaderName; 3] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Answer = Response<Either<Incoming, Empty<Bytes>>>;

/// Who is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visitor {
    pub(super) ip: IpAddr,
    /// His side of it is TLS, which the server ends.
    pub(super) https: bool,
}

/// Stands between a visitor and the service from now on; answers the visitor's end.
pub(super) fn stand_between(
    exposure: &Rc<Exposure>,
    id: u16,
    visitor: Visitor,
    service: Wire,
) -> io::Result<Wire> {
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let (near, far) = (Wire::unix(near.into())?, Wire::unix(far.into())?);
    let exposure = exposure.clone();
    spawn_local(async move {
        let first = Cell::new(connection(service).await.ok());
        let proxy = Rc::new(Proxy { exposure, id, visitor, service: first });
        let serving = server::Builder::new()
            .half_close(true)
            .preserve_header_case(true)
            .serve_connection(
                TokioIo::new(far),
                service_fn(move |request| {
                    let proxy = proxy.clone();
                    async move { Ok::<_, Infallible>(proxy.pass(request).await) }
                }),
            )
            .with_upgrades();
        // How a visitor's connection fails is seen where his lane ends.
        let _ = serving.await;
    });
    Ok(near)
}

struct Proxy {
    exposure: Rc<Exposure>,
    id: u16,
    visitor: Visitor,
    /// Between two requests.
    service: Cell<Option<SendRequest<Incoming>>>,
}

impl Proxy {
    async fn pass(&self, mut request: Request<Incoming>) -> Answer {
        name(&mut request, self.visitor);
        let wanted = request.headers().get(UPGRADE).cloned();
        let visitor = wanted.as_ref().map(|_| upgrade::on(&mut request));
        tidy(request.headers_mut(), wanted);
        let Some(mut response) = self.send(request).await else {
            let mut answer = Response::new(Either::Right(Empty::new()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            return answer;
        };
        let granted = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
            .then(|| response.headers().get(UPGRADE).cloned())
            .flatten();
        if granted.is_some()
            && let Some(visitor) = visitor
        {
            spawn_local(carry(visitor, upgrade::on(&mut response)));
        }
        tidy(response.headers_mut(), granted);
        response.map(Either::Left)
    }

    /// `None` where the service cannot be asked.
    async fn send(&self, mut request: Request<Incoming>) -> Option<Response<Incoming>> {
        let mut kept = self.service.take();
        loop {
            // A service may close a connection that was idle; only the request that meets that is sent again,
            // and only if none of it was sent.
            let (mut service, is_fresh) = match kept.take() {
                Some(service) => (service, false),
                None => (self.dial().await.ok()?, true),
            };
            if service.ready().await.is_err() {
                if is_fresh {
                    return None;
                }
                continue;
            }
            match service.try_send_request(request).await {
                Ok(response) => {
                    self.service.set(Some(service));
                    return Some(response);
                }
                Err(mut failure) => match failure.take_message() {
                    Some(unsent) if !is_fresh => request = unsent,
                    Some(_) | None => return None,
                },
            }
        }
    }

    async fn dial(&self) -> io::Result<SendRequest<Incoming>> {
        let local = self.exposure.locals.get(usize::from(self.id));
        let local = local.ok_or(io::ErrorKind::NotFound)?;
        connection(local.dial(Then::Write).await?).await
    }
}

async fn connection(service: Wire) -> io::Result<SendRequest<Incoming>> {
    let (sender, connection) = client::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(service))
        .await
        .map_err(io::Error::other)?;
    spawn_local(connection.with_upgrades());
    Ok(sender)
}

/// Carries what an upgraded connection speaks.
async fn carry(visitor: OnUpgrade, service: OnUpgrade) {
    if let (Ok(visitor), Ok(service)) = tokio::join!(visitor, service) {
        let (mut visitor, mut service) = (TokioIo::new(visitor), TokioIo::new(service));
        let _ = copy_bidirectional(&mut visitor, &mut service).await;
    }
}

/// Says who asks, and nothing else that somebody may have said of that.
fn name<B>(request: &mut Request<B>, visitor: Visitor) {
    let host = request.headers().get(HOST).cloned();
    let fields = request.headers_mut();
    fields.remove(FORWARDED);
    fields.remove(FORWARDED_HOST);
    if let Ok(ip) = HeaderValue::from_str(&visitor.ip.to_string()) {
        fields.insert(FOR, ip);
    }
    let proto = if visitor.https { "https" } else { "http" };
    fields.insert(PROTO, HeaderValue::from_static(proto));
    if let Some(host) = host {
        fields.insert(FORWARDED_HOST, host);
    }
}

/// Leaves out what is about one connection alone, but for the protocol that it is upgraded to.
fn tidy(fields: &mut HeaderMap, upgraded_to: Option<HeaderValue>) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // What we say ourselves cannot be left out by naming it there.
        .filter(|name| ![FOR, PROTO, FORWARDED_HOST, HOST].contains(name))
        .collect();
    for name in OF_ONE_CONNECTION.into_iter().chain(named) {
        fields.remove(name);
    }
    fields.remove(UPGRADE);
    if let Some(protocol) = upgraded_to {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, protocol);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder();
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn forged_fields_are_replaced() {
        let mut request = request(&[
            ("Host", "web.example.com"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-For", "10.0.0.2"),
            ("X-Forwarded-Proto", "gopher"),
            ("X-Forwarded-Host", "bank.example.com"),
            ("Forwarded", "for=10.0.0.1"),
            ("Connection", "keep-alive, X-Forwarded-For, X-Hop"),
            ("X-Hop", "1"),
        ]);
        name(&mut request, Visitor { ip: [192, 0, 2, 7].into(), https: true });
        tidy(request.headers_mut(), None);
        let mut fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "host: web.example.com",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-host: web.example.com",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn an_upgrade_stays_and_nothing_beside_it() {
        let mut request = request(&[
            ("Connection", "keep-alive, Upgrade"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "websocket"),
        ]);
        tidy(request.headers_mut(), Some(HeaderValue::from_static("websocket")));
        assert_eq!(request.headers().len(), 2);
        assert_eq!(request.headers().get(CONNECTION).expect("kept"), "upgrade");
        assert_eq!(request.headers().get(UPGRADE).expect("kept"), "websocket");
    }
}
