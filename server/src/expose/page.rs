//! What a visitor who speaks HTTP is told where nobody serves him. Anybody else is reset, as at a port where
//! nobody listens.

use postern_shared::sniff::{Interest, Kind, Protocol, Sniff, sniff};

/// A whole response for whoever begins like this; `None` where that is not HTTP/1.
pub(crate) fn page_for(first: &[u8], status: Status) -> Option<Vec<u8>> {
    let mut interest = Interest::default();
    interest.kinds = interest.kinds.with(Kind::Http);
    let is_http = sniff(first, &interest) == Sniff::Found(Protocol::Plain(Kind::Http));
    is_http.then(|| status.page())
}

/// Why nobody serves him (RFC 9110, 15.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    BadGateway,
    Unavailable,
}

impl Status {
    fn page(self) -> Vec<u8> {
        let (line, more) = match self {
            Status::BadGateway => ("502 Bad Gateway", ""),
            Status::Unavailable => ("503 Service Unavailable", "Retry-After: 5\r\n"),
        };
        let body = format!("{line}\n");
        format!(
            "HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{more}\
             Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http_is_answered() {
        let page = page_for(b"GET / HTTP/1.1\r\n", Status::Unavailable).expect("HTTP");
        let page = String::from_utf8(page).expect("text");
        assert!(
            page.starts_with("HTTP/1.1 503 ")
                && page.ends_with("\r\n\r\n503 Service Unavailable\n")
        );
        for other in [&b""[..], b"SSH-2.0-x\r\n", b"\x16\x03\x01", b"hello"] {
            assert_eq!(page_for(other, Status::BadGateway), None, "{other:?}");
        }
    }
}
