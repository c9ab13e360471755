//! The start order, readable top to bottom; and what happens to a running posternd: reload, a changed
//! clients file, stop. Decides nothing about connections.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::complaint::Complaint;
use crate::expose::Doors;
use crate::follow::Followed;
use crate::gate::replay::InUse;
use crate::gate::{OpenError, store};
use crate::house::House;
use crate::inherit::Inherited;
use crate::listen::{BindError, Listeners};
use crate::ops::{admin, log};
use crate::policy::Policy;
use crate::program;
use crate::service;
use crate::udp;
use crate::workers::Workers;

/// How often the gate is looked after.
const TEND: Duration = Duration::from_secs(1);

/// How long connections have to end in order when posternd stops.
const STOP: Duration = Duration::from_secs(1);

/// Why posternd does not start or a reload is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    File(#[from] Complaint),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    BindDatagrams(#[from] udp::listen::BindError),
    #[error("{what} changed, which takes a restart of posternd")]
    Restart { what: &'static str },
    #[error("cannot open the admin socket {}: {source}", path.display())]
    Admin { path: std::path::PathBuf, source: std::io::Error },
    #[error(transparent)]
    InUse(InUse),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Refused {
        match error {
            OpenError::File(complaint) => Refused::File(complaint),
            OpenError::InUse(in_use) => Refused::InUse(in_use),
            OpenError::System(error) => Refused::System(error),
        }
    }
}

/// A posternd that accepts connections. Dropping it does not stop it; [`Running::stop`] does.
#[derive(Debug)]
pub struct Running {
    house: Arc<House>,
    listeners: Arc<Listeners>,
    datagrams: udp::listen::Listeners,
    workers: Arc<Workers>,
    /// Stand in for `listen` in the file, also on reload.
    listen: Vec<SocketAddr>,
    /// One reload at a time.
    reloading: Mutex<()>,
}

/// Runs the configuration at `path` until SIGTERM or SIGINT.
pub async fn run(
    path: &Path,
    listen: Vec<SocketAddr>,
    inherited: Inherited,
) -> Result<(), Refused> {
    let policy = Policy::load(path)?;
    log::start(&policy.log);
    warn_all(&policy);
    raise_descriptor_limit();
    let policy = within_descriptors(policy);
    // Heard, so that a limit on file sizes makes writing fail instead of ending the process.
    let _too_long = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let running = start(path, policy, listen, inherited)?;
    for address in running.listeners.unused() {
        warn!(%address, "a listener was passed for an address that `listen` does not name: it is not used");
    }
    for address in running.datagrams.unused() {
        warn!(%address, "a socket was passed for an address that `[udp] listen` does not name: it is not used");
    }
    for address in running.addresses() {
        info!(%address, "listening");
    }
    for address in running.datagrams.addresses() {
        info!(%address, "listening for datagrams");
    }
    loop {
        tokio::select! {
            _ = hangup.recv() => drop(running.reload()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    running.stop().await;
    log::finish();
    Ok(())
}

/// Opens the gate, the listeners and the admin socket.
pub fn start(
    path: &Path,
    policy: Policy,
    listen: Vec<SocketAddr>,
    inherited: Inherited,
) -> Result<Arc<Running>, Refused> {
    store::make_state(policy.state.directory())?;
    if others_may_enter(policy.state.directory()) {
        let state = policy.state.directory().display();
        warn!("others can enter {state}, where keys lie; run: chmod 700 {state}");
    }
    let admin_socket = policy.state.admin_socket();
    let clients_file = policy.state.clients_file();
    let wanted = if listen.is_empty() { policy.listen.clone() } else { listen.clone() };
    let wanted_datagrams = for_datagrams(&policy);
    let backlog = policy.backlog;

    let house = Arc::new(House::new(path, policy)?);
    let running = Arc::new(Running {
        house: house.clone(),
        listeners: Arc::new(Listeners::with(inherited.listeners)),
        datagrams: udp::listen::Listeners::with(inherited.datagrams),
        workers: Arc::new(Workers::start()?),
        listen,
        reloading: Mutex::new(()),
    });
    let datagrams = running.datagrams.prepare(&wanted_datagrams, &running.workers)?;
    running.listeners.set(&wanted, backlog, &house, &running.workers)?;
    running.datagrams.put_in_force(datagrams, &house, &running.workers);
    for address in &house.policy().expose {
        // These are the file's own, and not for want of a client's permission.
        running.listeners.open_door(*address, backlog, &house, &running.workers)?;
    }
    house.set_doors(Doors::new(running.listeners.clone(), running.workers.clone()));
    running.tend_doors();
    let admin = admin::bind(&admin_socket)
        .map_err(|source| Refused::Admin { path: admin_socket, source })?;
    tokio::spawn(admin::serve(admin, running.clone()));
    tokio::spawn(follow_clients(clients_file, running.clone()));
    tokio::spawn(tend_gate(house.clone()));
    tokio::spawn(service::watch_health(house));
    Ok(running)
}

impl Running {
    pub fn house(&self) -> &House {
        &self.house
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// Where datagrams are received.
    pub fn datagram_addresses(&self) -> Vec<SocketAddr> {
        self.datagrams.addresses()
    }

    /// Reads the configuration and the clients again. What cannot be is refused and logged, and all
    /// that was in force stays.
    pub fn reload(&self) -> Result<(), Refused> {
        let _one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match self.try_reload() {
            Ok(clients) => {
                info!(clients, "reloaded");
                Ok(())
            }
            Err(refused) => {
                error!(error = %refused, "not reloaded; the old configuration stays in force");
                Err(refused)
            }
        }
    }

    fn try_reload(&self) -> Result<usize, Refused> {
        let old = self.house.policy();
        let new = Policy::load(self.house.path())?;
        if new.state != old.state {
            return Err(Refused::Restart { what: "state" });
        }
        if new.store != old.store {
            return Err(Refused::Restart { what: "[knock] store" });
        }
        if new.log != old.log {
            return Err(Refused::Restart { what: "[log]" });
        }
        let clients = self.house.gate.read_clients()?;
        let wanted = if self.listen.is_empty() { &new.listen } else { &self.listen };
        let datagrams = self.datagrams.prepare(&for_datagrams(&new), &self.workers)?;
        // The last that can fail: from here on everything changes.
        self.listeners.set(wanted, new.backlog, &self.house, &self.workers)?;
        self.datagrams.put_in_force(datagrams, &self.house, &self.workers);
        let clients = self.house.set_clients(clients);
        warn_all(&new);
        new.take_over(&old);
        self.house.set_policy(within_descriptors(new));
        self.tend_doors();
        Ok(clients)
    }

    /// Reads the clients again; those in force stay if it cannot be done.
    pub fn reload_clients(&self) -> Result<usize, Complaint> {
        let done = self.house.gate.read_clients().map(|clients| self.house.set_clients(clients));
        match &done {
            Ok(clients) => {
                info!(clients, "clients read again");
                self.tend_doors();
            }
            Err(error) => error!(%error, "clients not read again; the old ones stay in force"),
        }
        done
    }

    fn tend_doors(&self) {
        if let Some(doors) = self.house.doors() {
            doors.tend(&self.house);
        }
    }

    /// Where entrances listen.
    pub fn door_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.door_addresses()
    }

    /// Closes the listeners and ends all connections.
    pub async fn stop(&self) {
        self.listeners.close();
        self.datagrams.close();
        // Before connections have had their time, so that the next posternd need not wait for them.
        self.house.gate.close();
        self.workers.stop(STOP).await;
        self.house.helpers.close(STOP).await;
        let _ = std::fs::remove_file(self.house.policy().state.admin_socket());
        info!("stopped");
    }
}

fn for_datagrams(policy: &Policy) -> Vec<SocketAddr> {
    policy.udp.as_ref().map(|udp| udp.listen.clone()).unwrap_or_default()
}

fn warn_all(policy: &Policy) {
    for warning in &policy.warnings {
        warn!("{warning}");
    }
}

/// The files in it are for their owner alone too, but names and times tell something as well.
fn others_may_enter(state: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(state).is_ok_and(|meta| meta.mode() & 0o077 != 0)
}

/// Each tunnel takes two descriptors, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    program::set_open_files(limit);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit on open files could not be raised");
    }
}

/// Strangers must not use up the descriptors of the admitted: fewer places, if there are too few.
fn within_descriptors(mut policy: Policy) -> Policy {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let mut left = usize::try_from(descriptors).unwrap_or(usize::MAX);
    if let Some(udp) = &mut policy.udp {
        let wanted = udp.limits;
        udp.limits = wanted.fit(left);
        left = left.saturating_sub(udp.limits.with_ending());
        if udp.limits != wanted {
            let flows = udp.limits.flows;
            warn!(descriptors, flows, "the limit on open files is too low for [udp] flows");
        }
    }
    let wanted = policy.limits;
    policy.limits = wanted.fit(left);
    if policy.limits != wanted {
        warn!(
            descriptors,
            connections = policy.limits.connections,
            undecided = policy.limits.undecided,
            "the limit on open files is too low for [limits]; these are in force instead"
        );
    }
    policy
}

/// A changed clients file is noticed without being told: `client add` works at once.
async fn follow_clients(path: std::path::PathBuf, running: Arc<Running>) {
    let mut file = Followed::new(path);
    loop {
        file.changed().await;
        // It is logged; a file that is bad now may be good at the next change.
        let _ = running.reload_clients();
    }
}

/// The clock may be set, and the replay journal become writable, while nobody knocks.
async fn tend_gate(house: Arc<House>) {
    loop {
        sleep(TEND).await;
        house.gate.tend(house.policy().window);
        if let Some(doors) = house.doors() {
            doors.retry(&house);
        }
    }
}
