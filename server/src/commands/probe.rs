//! What `check` asks the website itself: whether it is there, whether it is silent wherever posternd waits
//! for more, and whether it speaks the TLS that clients of the hello carrier show.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use postern_shared::knock::Carrier;
use postern_shared::sniff::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::policy::Policy;
use crate::service::{Address, Dialing, Reached, connect};
use crate::tls;

/// Far longer than a website takes that does not wait for more.
const SILENCE: Duration = Duration::from_millis(500);

/// For a handshake.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is doubtful about the website behind this policy.
pub(super) fn website(policy: &Policy) -> Vec<String> {
    let mut addresses = policy.fallback.target.addresses();
    if !addresses.any(|address| matches!(address, Address::Tcp(_) | Address::Unix(_))) {
        return Vec::new();
    }
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ask(policy)),
        Err(error) => vec![format!("the website was not tried: {error}")],
    }
}

async fn ask(policy: &Policy) -> Vec<String> {
    let name = &policy.fallback.name;
    if let Err(failure) = connect(&policy.fallback, &nobody()).await {
        return vec![format!("the website, service {name:?}, cannot be reached: {failure}")];
    }
    let mut questions = JoinSet::new();
    for (what, bytes) in held(policy) {
        let service = policy.fallback.clone();
        questions.spawn(async move {
            let mut stream = connect(&service, &nobody()).await.ok()?.stream;
            stream.write_all(bytes).await.ok()?;
            let spoke = timeout(SILENCE, stream.read(&mut [0])).await.is_ok();
            spoke.then(|| {
                format!(
                    "the website answers {what} at once, where posternd waits for more: who tries \
                     that can tell"
                )
            })
        });
    }
    let mut doubts: Vec<_> = questions.join_all().await.into_iter().flatten().collect();
    if policy.speaks(Carrier::Hello)
        && let Some(sni) = &policy.sni
        && let Ok(Reached { stream, .. }) = connect(&policy.fallback, &nobody()).await
    {
        let shaken = timeout(PATIENCE, tls::try_modern(stream, sni)).await;
        let problem = match shaken {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        doubts.extend(problem.map(|problem| {
            format!(
                "the website does not finish a handshake in TLS 1.3 with X25519 for {sni} ({problem}), as \
                 clients of the hello carrier begin one: they stand out"
            )
        }));
    }
    doubts.sort();
    doubts
}

/// Whoever asks is this machine.
fn nobody() -> Dialing {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Dialing { peer: here, local: here, sni: None, bytes_follow: true }
}

/// The beginnings of what posternd waits for.
fn held(policy: &Policy) -> Vec<(&'static str, &'static [u8])> {
    let mut interest = policy.outer_interest();
    if interest.path {
        interest.kinds = interest.kinds.with(Kind::Http);
    }
    let mut held: Vec<_> = interest.kinds.iter().map(beginning).collect();
    held.extend(interest.letters.then_some(("the first letter of a knock by plain", &b"A"[..])));
    held.extend(interest.line.then_some(("the beginning of a word", &b"S"[..])));
    held
}

fn beginning(kind: Kind) -> (&'static str, &'static [u8]) {
    match kind {
        Kind::Tls => ("the header of a TLS hello", &[22, 3, 1, 2, 0, 1]),
        Kind::Ssh => ("the beginning of an ssh banner", b"SSH"),
        Kind::Http => ("the beginning of a request in clear", b"GET"),
        Kind::Http2 => ("the beginning of HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM"),
        Kind::OpenVpn => ("the beginning of an OpenVPN packet", &[0, 14, 0x38]),
        Kind::Tinc => ("the beginning of tinc's ID", b"0 a"),
        Kind::Xmpp => ("the beginning of an XMPP stream", b"<stream"),
        Kind::Adb => ("the beginning of an ADB message", b"CNXN"),
        Kind::Socks4 => ("the beginning of a SOCKS 4 request", &[4, 1]),
        Kind::Socks5 => ("the beginning of a SOCKS 5 greeting", &[5, 1]),
        Kind::Syslog => ("the beginning of a syslog message", b"<13"),
        Kind::Rdp => ("the beginning of an RDP request", &[3, 0]),
        Kind::Postgres => ("the beginning of a PostgreSQL startup", &[0, 0, 0]),
        Kind::Mqtt => ("the beginning of an MQTT packet", &[0x10]),
    }
}

#[cfg(test)]
mod tests {
    use postern_shared::sniff::{Interest, Kinds, Sniff, sniff};

    use super::*;

    #[test]
    fn what_is_tried_is_what_posternd_waits_behind() {
        for kind in Kind::ALL {
            let interest = Interest { kinds: Kinds::of([kind]), ..Interest::default() };
            let (what, bytes) = beginning(kind);
            assert!(matches!(sniff(bytes, &interest), Sniff::NeedMore(_)), "{what}");
        }
    }
}
