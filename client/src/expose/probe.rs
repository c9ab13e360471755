//! Tries an entrance from outside, as a visitor would, and its local service. Decides whether an entrance is
//! reached: by bytes that nobody else can know, which must come in by a lane and go back by it. Such a
//! visitor is never led to the local service.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use postern_relay::wire::Then;
use postern_shared::expose::Entrance;
use postern_shared::hex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::exposure::Exposure;
use super::offering::Offering;
use crate::address::Address;
use crate::carrier::Tls;
use crate::deadline::Deadline;
use crate::dial::dial;

/// For the way out, in, and back.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often each entrance is tried.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// A probe's bytes come right behind its connection. For no longer is a visitor held up who says nothing
/// while one is on its way.
const HOLD: Duration = Duration::from_millis(500);

/// The probes that are on their way.
#[derive(Default)]
pub(super) struct Probes {
    expected: RefCell<Vec<Expected>>,
    running: RefCell<BTreeSet<u16>>,
}

#[derive(Clone)]
struct Expected {
    id: u16,
    bytes: Rc<[u8]>,
}

/// What a visitor's first bytes say of him.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    Visitor,
    Undecided,
    Probe,
}

impl Probes {
    /// Reads what a visitor says first, where he could be a probe; whether he is. These bytes are then gone
    /// from the lane.
    pub(super) async fn first_words<L: AsyncRead + Unpin>(
        &self,
        id: u16,
        lane: &mut L,
    ) -> io::Result<(Vec<u8>, bool)> {
        let mut first = Vec::new();
        let reading = async {
            while self.judge(id, &first) == Looks::Undecided {
                if lane.read_buf(&mut first).await? == 0 {
                    break;
                }
            }
            io::Result::Ok(())
        };
        // Who has said too little until then is a visitor.
        if let Ok(read) = timeout(HOLD, reading).await {
            read?;
        }
        let is_probe = self.judge(id, &first) == Looks::Probe;
        Ok((first, is_probe))
    }

    /// Whether a visitor of this entrance could be one.
    pub(super) fn are_expected(&self, id: u16) -> bool {
        self.expected.borrow().iter().any(|one| one.id == id)
    }

    fn judge(&self, id: u16, bytes: &[u8]) -> Looks {
        let expected = self.expected.borrow();
        let mut looks = Looks::Visitor;
        for one in expected.iter().filter(|one| one.id == id && one.bytes.starts_with(bytes)) {
            if one.bytes.len() == bytes.len() {
                return Looks::Probe;
            }
            looks = Looks::Undecided;
        }
        looks
    }
}

/// Tries an entrance in a task of its own, unless that is being done.
pub(super) fn begin(exposure: &Rc<Exposure>, id: u16) {
    if exposure.probes.running.borrow_mut().insert(id) {
        let exposure = exposure.clone();
        spawn_local(async move {
            run(&exposure, id).await;
            exposure.probes.running.borrow_mut().remove(&id);
        });
    }
}

/// Tries an entrance and its service, and writes down how they fare.
pub(super) async fn run(exposure: &Exposure, id: u16) {
    let place = usize::from(id);
    let Some((offering, local)) = exposure.offerings.get(place).zip(exposure.locals.get(place))
    else {
        return;
    };
    let (reached, service) = tokio::join!(reach(exposure, id, offering), local.dial(Then::Wait));
    exposure.book.local(id, service.is_ok());
    exposure.book.probed(id, reached);
}

/// Whether an entrance leads here; `None` where it has no public address.
async fn reach(exposure: &Exposure, id: u16, offering: &Offering) -> Option<bool> {
    let at = match &offering.entrance {
        Entrance::Tcp(port) => {
            Address { host: exposure.at.host.clone(), port: (*port).try_into().ok()? }
        }
        Entrance::Sni(_) => exposure.at.clone(),
        Entrance::Name(_) => return None,
    };
    Some(timeout(PATIENCE, go(exposure, id, offering, &at)).await.is_ok_and(|went| went.is_ok()))
}

async fn go(
    exposure: &Exposure,
    id: u16,
    offering: &Offering,
    at: &Address,
) -> Result<(), io::Error> {
    let tls = match &offering.entrance {
        Entrance::Sni(name) => Some(Tls::blind(name).map_err(io::Error::other)?),
        Entrance::Tcp(_) | Entrance::Name(_) => None,
    };
    let bytes: Rc<[u8]> = match &tls {
        // Its random is known to nobody else.
        Some(tls) if !offering.terminate => tls.hello()?.into(),
        Some(_) | None => line()?.into(),
    };
    // Before there is a connection: a lane may bring it before we hear that it stands.
    let _expected = Expectation::new(&exposure.probes, id, bytes.clone());
    let stream = dial(at, Deadline::after(PATIENCE)).await.map_err(io::Error::other)?;
    match tls {
        Some(tls) if offering.terminate => echo(tls.greet(stream).await?, &bytes).await,
        Some(_) | None => echo(stream, &bytes).await,
    }
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer).await?;
    if answer != bytes {
        return Err(io::Error::other("somebody else answered"));
    }
    // In order, so that the lane can carry another.
    stream.shutdown().await
}

fn line() -> io::Result<Vec<u8>> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    Ok([hex::encode(&random).as_bytes(), b"\n"].concat())
}

/// Has a probe recognised for as long as it lives.
struct Expectation<'a> {
    probes: &'a Probes,
    bytes: Rc<[u8]>,
}

impl<'a> Expectation<'a> {
    fn new(probes: &'a Probes, id: u16, bytes: Rc<[u8]>) -> Expectation<'a> {
        probes.expected.borrow_mut().push(Expected { id, bytes: bytes.clone() });
        Expectation { probes, bytes }
    }
}

impl Drop for Expectation<'_> {
    fn drop(&mut self) {
        self.probes.expected.borrow_mut().retain(|one| !Rc::ptr_eq(&one.bytes, &self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_probes_own_bytes_are_a_probe() {
        let probes = Probes::default();
        let (mut far, mut near) = tokio::io::duplex(64);
        far.write_all(b"secret").await.expect("room");
        let (first, is_probe) = probes.first_words(0, &mut near).await.expect("read");
        assert!(first.is_empty() && !is_probe, "nothing is read while none is on its way");

        let expectation = Expectation::new(&probes, 0, b"secret".as_slice().into());
        let (first, is_probe) = probes.first_words(1, &mut near).await.expect("read");
        assert!(first.is_empty() && !is_probe, "on its way to another entrance");
        let (first, is_probe) = probes.first_words(0, &mut near).await.expect("read");
        assert!(first == b"secret" && is_probe);

        for words in [&b"secrets"[..], b"sec\n", b"S", b"secr"] {
            far.write_all(words).await.expect("room");
            let (first, is_probe) = probes.first_words(0, &mut near).await.expect("read");
            assert!(first == words && !is_probe, "{words:?}");
        }
        let (first, is_probe) = probes.first_words(0, &mut near).await.expect("read");
        assert!(first.is_empty() && !is_probe, "whoever is silent is a visitor after a while");
        drop(expectation);
        assert!(probes.expected.borrow().is_empty());
    }

    #[test]
    fn no_two_lines_are_the_same() {
        let (one, other) = (line().expect("randomness"), line().expect("randomness"));
        assert_eq!((one.len(), one.last()), (65, Some(&b'\n')));
        assert_ne!(one, other);
    }
}
