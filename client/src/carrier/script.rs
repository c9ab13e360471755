//! Makes rustls write the same ClientHello twice but for its session id. The first is read to be tagged,
//! the second is sent. Lives in one thread, in the provider of the hello carrier alone; outside of a
//! script that provider is the usual one.
//!
//! rustls 0.23 draws three values for a hello, in this order: session id, seed of the extensions' order,
//! random. A test fails when that changes.

use std::cell::RefCell;
use std::collections::VecDeque;

use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::{Error, NamedGroup};

/// What a hello is made of, beside its configuration and its session id.
pub(super) struct Draws {
    seed: [u8; 2],
    pub(super) random: [u8; 32],
}

impl Draws {
    pub(super) fn fresh() -> Result<Draws, GetRandomFailed> {
        let mut draws = Draws { seed: [0; 2], random: [0; 32] };
        real(&mut draws.seed)?;
        real(&mut draws.random)?;
        Ok(draws)
    }
}

/// rustls' provider, with our random source and a key share that can be had twice.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        // The order of browsers. The first two are sent as shares; nobody asks posternd's own clients
        // for another.
        kx_groups: vec![&FIRST, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1],
        secure_random: &Scripted,
        ..aws_lc_rs::default_provider()
    }
}

thread_local! {
    static SCRIPT: RefCell<Option<State>> = const { RefCell::new(None) };
}

struct State {
    draws: VecDeque<Vec<u8>>,
    share: Share,
}

enum Share {
    /// The next one is kept, and a copy of what shows of it given out.
    Keep,
    Kept(Box<dyn ActiveKeyExchange>),
    Given,
}

/// While it is in scope, rustls draws what stands in it.
pub(super) struct Script(());

impl Script {
    /// For the hello that is tagged.
    pub(super) fn first(session_id: [u8; 32], draws: &Draws) -> Script {
        let state = State { draws: list(session_id, draws), share: Share::Keep };
        SCRIPT.set(Some(state));
        Script(())
    }

    /// For the same hello once more, with another session id.
    pub(super) fn again(&mut self, session_id: [u8; 32], draws: &Draws) {
        SCRIPT.with_borrow_mut(|script| {
            if let Some(state) = script {
                state.draws = list(session_id, draws);
            }
        });
    }

    /// Whether all of it was used, and once.
    pub(super) fn is_spent(&self) -> bool {
        SCRIPT.with_borrow(|script| {
            script.as_ref().is_some_and(|state| {
                state.draws.is_empty() && matches!(state.share, Share::Kept(_) | Share::Given)
            })
        })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        SCRIPT.set(None);
    }
}

fn list(session_id: [u8; 32], draws: &Draws) -> VecDeque<Vec<u8>> {
    [&session_id[..], &draws.seed, &draws.random].map(<[u8]>::to_vec).into()
}

fn real(buf: &mut [u8]) -> Result<(), GetRandomFailed> {
    ::aws_lc_rs::rand::fill(buf).map_err(|_| GetRandomFailed)
}

#[derive(Debug)]
struct Scripted;

impl SecureRandom for Scripted {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        SCRIPT.with_borrow_mut(|script| match script {
            None => real(buf),
            Some(state) => {
                let draw = state.draws.pop_front().filter(|draw| draw.len() == buf.len());
                buf.copy_from_slice(&draw.ok_or(GetRandomFailed)?);
                Ok(())
            }
        })
    }
}

/// The group whose share is sent first; X25519's, which rustls sends along, is a part of it.
#[derive(Debug)]
struct First;

static FIRST: First = First;

impl First {
    fn real(&self) -> &'static dyn SupportedKxGroup {
        kx_group::X25519MLKEM768
    }
}

impl SupportedKxGroup for First {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        SCRIPT.with_borrow_mut(|script| {
            let Some(state) = script else { return self.real().start() };
            match std::mem::replace(&mut state.share, Share::Given) {
                Share::Keep => {
                    let real = self.real().start()?;
                    let shown = Shown::of(&*real);
                    state.share = Share::Kept(real);
                    Ok(Box::new(shown))
                }
                Share::Kept(real) => Ok(real),
                Share::Given => Err(Error::General("a third key share".to_owned())),
            }
        })
    }

    fn name(&self) -> NamedGroup {
        self.real().name()
    }

    fn usable_for_version(&self, version: rustls::ProtocolVersion) -> bool {
        self.real().usable_for_version(version)
    }
}

/// What a hello shows of a key exchange.
struct Shown {
    group: NamedGroup,
    share: Vec<u8>,
    component: Option<(NamedGroup, Vec<u8>)>,
}

impl Shown {
    fn of(real: &dyn ActiveKeyExchange) -> Shown {
        Shown {
            group: real.group(),
            share: real.pub_key().to_vec(),
            component: real.hybrid_component().map(|(group, share)| (group, share.to_vec())),
        }
    }
}

impl ActiveKeyExchange for Shown {
    fn complete(self: Box<Self>, _peer: &[u8]) -> Result<SharedSecret, Error> {
        Err(Error::General("the hello that was only to be tagged was answered".to_owned()))
    }

    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        self.component.as_ref().map(|(group, share)| (*group, &share[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn group(&self) -> NamedGroup {
        self.group
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use postern_shared::hello::{ClientHello, Parse};
    use rustls::client::Resumption;
    use rustls::version::TLS13;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello() -> Result<Vec<u8>, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let name = "www.example.com".try_into().expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name)?;
        let mut record = Vec::new();
        tls.write_tls(&mut record).expect("written to memory");
        Ok(record)
    }

    fn parse(record: &[u8]) -> ClientHello {
        match ClientHello::parse(record) {
            Parse::Found(hello) => hello,
            Parse::NeedMore(_) | Parse::Malformed => panic!("no hello"),
        }
    }

    /// Fails when rustls draws other values, or in another order, than the hello carrier needs.
    #[test]
    fn two_hellos_differ_in_their_session_ids_alone() {
        let draws = Draws::fresh().expect("randomness");
        let mut script = Script::first([1; 32], &draws);
        let first = hello().expect("the first");
        assert!(script.is_spent());
        script.again([2; 32], &draws);
        let again = hello().expect("the second");
        assert!(script.is_spent());
        drop(script);
        assert_eq!(parse(&first).random(), &draws.random);
        assert_eq!(parse(&first).session_id(), [1; 32]);
        assert_eq!(parse(&again).session_id(), [2; 32]);
        let differing = first.iter().zip(&again).enumerate().filter(|(_, (a, b))| a != b);
        assert_eq!(differing.map(|(at, _)| at).collect::<Vec<_>>(), (44..76).collect::<Vec<_>>());
        assert_eq!(first.len(), again.len());
    }

    #[test]
    fn no_script_outlives_its_hello() {
        let draws = Draws::fresh().expect("randomness");
        let script = Script::first([1; 32], &draws);
        hello().expect("the first");
        assert!(hello().is_err(), "nothing is drawn twice");
        drop(script);
        let free = parse(&hello().expect("as usual"));
        assert_ne!(free.random(), &draws.random);
        assert_ne!(free.session_id(), [1; 32]);
    }

    #[test]
    fn the_extensions_are_shuffled_anew_each_time() {
        let order = || {
            let draws = Draws::fresh().expect("randomness");
            let _script = Script::first([1; 32], &draws);
            let hello = parse(&hello().expect("one"));
            let suites = &hello.message()[postern_shared::hello::SESSION_ID + 32..];
            let count = usize::from(u16::from_be_bytes([suites[0], suites[1]]));
            // Behind these, no compression, and the extensions' length.
            let mut rest = &suites[2 + count + 2 + 2..];
            let mut kinds = Vec::new();
            while let [high, low, long, short, data @ ..] = rest {
                kinds.push(u16::from_be_bytes([*high, *low]));
                rest = &data[usize::from(u16::from_be_bytes([*long, *short]))..];
            }
            kinds
        };
        let all: std::collections::BTreeSet<_> = (0..20).map(|_| order()).collect();
        assert!(all.len() > 1);
    }
}
