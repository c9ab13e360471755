//! What is being looked at: the connection itself, or what comes inside our own TLS. Decides what is
//! worth waiting for there, which knock counts, and where a visitor goes; opens nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use postern_shared::knock::Carrier;
use postern_shared::sniff::{Interest, Kind, LETTERS, Protocol};

use crate::decide::Patience;
use crate::expose::Pool;
use crate::gate::memory::Keep;
use crate::gate::secrets::{Place, Said};
use crate::gate::{Entrant, Holder, Pass, Shown, Verdict, Wish};
use crate::house::House;
use crate::ops::outcome::{Record, Way};
use crate::policy::Policy;
use crate::route::{Answers, Facts, Inside, Seen};
use crate::service::{Dialing, Service};

/// Nobody's letters. By them is judged whoever shows nothing like a knock: were he not judged at all, the
/// time that it takes would tell him what is.
const NO_KNOCK: [u8; LETTERS] = [b'A'; LETTERS];

/// One look at a connection.
#[derive(Debug)]
pub struct Stage {
    /// Where whoever is nothing else goes.
    pub fallback: Arc<Service>,
    pub patience: Patience,
    pub dialing: Dialing,
    /// The listener, as the configuration calls it.
    listener: SocketAddr,
    depth: Depth,
}

/// What becomes of a connection.
#[derive(Debug)]
pub enum Judged {
    Visitor,
    /// One who is let in, and what for.
    Enters(Entrant, Errand),
    /// He has said a secret, and is a visitor now: with the decoy in the place of his first bytes.
    Said {
        count: usize,
        decoy: Vec<u8>,
    },
}

/// What somebody who is let in gets.
#[derive(Debug)]
pub enum Errand {
    Reach(Arc<Service>),
    Arm(Arc<Service>, Keep),
    /// A control connection, to open entrances of his own by.
    Expose,
    /// Visitors of this pool.
    Wait(Arc<Pool>),
}

impl Errand {
    pub fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Errand::Reach(service) | Errand::Arm(service, _) => Some(service),
            Errand::Expose | Errand::Wait(_) => None,
        }
    }

    /// What this wish comes to, or the word for why to nothing.
    fn of(wish: &Wish, policy: &Policy) -> Result<Errand, &'static str> {
        let service = |name: &str| policy.knock_service(name).cloned().ok_or("service");
        Ok(match wish {
            Wish::Reach(name) => Errand::Reach(service(name)?),
            Wish::Arm(name) => Errand::Arm(
                service(name)?,
                policy.memory.map(|memory| memory.keep).ok_or("memory")?,
            ),
            Wish::Expose => Errand::Expose,
            Wish::Wait(pool) => Errand::Wait(pool.clone()),
        })
    }
}

#[derive(Debug)]
enum Depth {
    /// The TCP connection.
    Outside,
    /// Inside TLS. `binding` ties a token to its session; without one a token does not count.
    Inside { binding: Option<[u8; 32]>, tls: Inside },
}

impl Stage {
    pub fn outside(
        house: &House,
        policy: &Policy,
        listener: SocketAddr,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Stage {
        let silent_memory = policy.memory.and_then(|memory| memory.silent);
        let silent_memory = silent_memory.filter(|_| house.gate.is_armed(peer.ip()));
        let mut stage = Stage {
            fallback: policy.fallback_at(&listener).clone(),
            patience: Patience {
                interest: policy.outer_interest(),
                silent_after: silent_memory,
                decide: policy.decide,
            },
            listener,
            dialing: Dialing { peer, local, sni: None, bytes_follow: false },
            depth: Depth::Outside,
        };
        stage.heed_silence(policy);
        stage
    }

    /// What comes inside the TLS for this name. Without a `binding` nobody can knock there.
    pub fn inside(
        self,
        policy: &Policy,
        visitors: Arc<Service>,
        binding: Option<[u8; 32]>,
        alpn: Option<Vec<u8>>,
    ) -> Stage {
        let interest = policy.inner_interest();
        let letters = interest.letters && binding.is_some();
        let tls = Inside { name: self.dialing.sni.clone(), alpn };
        let mut stage = Stage {
            fallback: visitors,
            patience: Patience {
                interest: Interest { letters, ..interest },
                silent_after: None,
                decide: policy.decide,
            },
            depth: Depth::Inside { binding, tls },
            ..self
        };
        stage.heed_silence(policy);
        stage
    }

    fn heed_silence(&mut self, policy: &Policy) {
        let of_routes = policy.routes.silent_after(&self.facts(&Seen::Other, &[], Answers::NONE));
        self.patience.silent_after = self.patience.silent_after.into_iter().chain(of_routes).min();
    }

    /// Whether this is the TCP connection itself.
    pub fn is_outside(&self) -> bool {
        matches!(self.depth, Depth::Outside)
    }

    pub fn fallback_way(&self) -> Way {
        match self.depth {
            Depth::Outside => Way::Fallback,
            Depth::Inside { .. } => Way::Visitors,
        }
    }

    pub fn facts<'a>(&'a self, seen: &'a Seen, bytes: &'a [u8], answers: &'a Answers) -> Facts<'a> {
        Facts {
            seen,
            bytes,
            from: self.dialing.peer.ip(),
            listener: self.listener,
            inside: match &self.depth {
                Depth::Outside => None,
                Depth::Inside { tls, .. } => Some(tls),
            },
            answers,
            now: Timestamp::now(),
        }
    }

    /// What these first bytes, or the address they come from, open.
    pub async fn judge(
        &self,
        house: &House,
        policy: &Policy,
        seen: &Seen,
        bytes: &[u8],
        record: &mut Record,
    ) -> Judged {
        match self.shown(policy, seen) {
            Some(shown) => {
                if let Some(knocked) = self.knock(house, policy, shown, record).await {
                    return knocked;
                }
            }
            None if policy.speaks(Carrier::Plain) => {
                let from = self.dialing.peer.ip();
                let _ = house.gate.judge(Shown::Plain(&NO_KNOCK), from, policy.window);
            }
            None => {}
        }
        match self.depth {
            Depth::Outside => self
                .said(house, policy, seen, bytes, record)
                .or_else(|| self.remembered(house, policy, seen, record))
                .unwrap_or(Judged::Visitor),
            Depth::Inside { .. } => Judged::Visitor,
        }
    }

    /// What becomes of a knock; `None` if it is none.
    async fn knock(
        &self,
        house: &House,
        policy: &Policy,
        shown: Shown<'_>,
        record: &mut Record,
    ) -> Option<Judged> {
        let by = shown.carrier().name();
        let from = self.dialing.peer.ip();
        let (client, refused) = match house.gate.judge(shown, from, policy.window) {
            Verdict::Stranger => return None,
            Verdict::Refused { client, reason } => (client, reason.name()),
            Verdict::Admitted(mut admitted) => {
                let client = admitted.client.clone();
                match Errand::of(&admitted.wish, policy) {
                    Err(reason) => (client, reason),
                    Ok(errand) => match house.gate.confirm(&mut admitted).await {
                        Ok(()) => {
                            let entrant = Entrant::Knock(admitted);
                            record.note(&entrant);
                            return Some(Judged::Enters(entrant, errand));
                        }
                        Err(reason) => (client, reason.name()),
                    },
                }
            }
        };
        house.counts.knocks_refused.fetch_add(1, Ordering::Relaxed);
        record.holder = Some(Holder::Client(client));
        record.by = Some(by);
        record.details().refused = Some(refused);
        Some(Judged::Visitor)
    }

    /// A static secret arms the address; the website gets a decoy in its place.
    fn said(
        &self,
        house: &House,
        policy: &Policy,
        seen: &Seen,
        bytes: &[u8],
        record: &mut Record,
    ) -> Option<Judged> {
        let (secrets, memory) = (policy.secrets.as_ref()?, policy.memory?);
        let from = self.dialing.peer.ip();
        let (secret, said) = match seen.sni() {
            // The name stays what it is: both ends' signatures are over it.
            Some(name) => (secrets.find(Place::Sni, name.as_str().as_bytes())?, None),
            None => Said::in_clear(bytes).find_map(|said| {
                let secret = secrets.find(said.place, said.word(bytes))?;
                Some((secret, Some(said)))
            })?,
        };
        let holder = Holder::Secret(secret.clone());
        record.holder = Some(holder.clone());
        record.by = Some("secret");
        if let Some(reason) = secret.terms.refuse(Timestamp::now(), from, None) {
            record.details().refused = Some(reason.name());
        } else {
            let pass = Pass { holder, service: secret.service.clone() };
            house.gate.arm(from, pass, memory.keep);
        }
        // Also where it is refused: it is nobody's business but ours.
        Some(match said {
            Some(said) => Judged::Said { count: said.at.end, decoy: said.decoy(bytes) },
            None => Judged::Visitor,
        })
    }

    /// Whoever comes from an armed address in the words of ssh, or without any.
    fn remembered(
        &self,
        house: &House,
        policy: &Policy,
        seen: &Seen,
        record: &mut Record,
    ) -> Option<Judged> {
        let memory = policy.memory?;
        match seen {
            Seen::Protocol(Protocol::Plain(Kind::Ssh)) => {}
            Seen::Silent(time) if memory.silent.is_some_and(|least| *time >= least) => {}
            Seen::Protocol(_) | Seen::Silent(_) | Seen::Other => return None,
        }
        let from = self.dialing.peer.ip();
        let Pass { holder, service } = house.gate.claim(from)?;
        let holder = house.in_force(&holder)?;
        if holder.terms().refuse(Timestamp::now(), from, None).is_some() {
            return None;
        }
        let service = policy.knock_service(&service)?;
        let entrant = Entrant::Memory(holder);
        record.note(&entrant);
        Some(Judged::Enters(entrant, Errand::Reach(service.clone())))
    }

    /// What could be a knock here.
    fn shown<'a>(&'a self, policy: &Policy, seen: &'a Seen) -> Option<Shown<'a>> {
        let Seen::Protocol(protocol) = seen else { return None };
        let shown = match (&self.depth, protocol) {
            (Depth::Outside, Protocol::Letters(letters)) => Shown::Plain(letters),
            (Depth::Outside, Protocol::Tls(hello)) => Shown::Hello(hello),
            (Depth::Inside { binding, .. }, Protocol::Letters(letters)) => {
                Shown::Tls { letters, binding: binding.as_ref()? }
            }
            (Depth::Inside { .. }, Protocol::Tls(_)) | (_, Protocol::Plain(_)) => return None,
        };
        policy.speaks(shown.carrier()).then_some(shown)
    }
}
