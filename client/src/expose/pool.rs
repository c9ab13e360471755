//! The lanes of one control connection. Decides when lanes are opened and let go, by [`Size`]; what happens on
//! a lane is its own matter. The pool ends with the control connection: lanes that wait are closed, those
//! with a visitor run to his end.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use postern_shared::expose::control::Welcome;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::backoff::Backoff;
use super::exposure::Exposure;
use super::lane;
use super::random;
use super::size::{Lanes, PERIOD, Size};
use crate::error::Error;
use crate::knock::Knock;

/// Without a failure for so long, the next one is the first again.
const CALM: Duration = Duration::from_secs(30);

/// The lanes of one welcome.
pub(super) struct Pool {
    pub(super) exposure: Rc<Exposure>,
    /// Lanes go where the control connection went, not where a name leads by now.
    pub(super) peer: SocketAddr,
    knock: Knock,
    lanes: Cell<Lanes>,
    size: RefCell<Size>,
    next: Cell<u32>,
    changed: Notify,
    dismissal: Notify,
    closed: Cell<bool>,
    closing: Notify,
    backoff: RefCell<Backoff>,
    failed: Cell<Option<Instant>>,
    not_before: Cell<Option<Instant>>,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Opening,
    Waiting,
    Serving,
}

impl Pool {
    /// Opens its first lanes at once.
    pub(super) fn open(exposure: &Rc<Exposure>, welcome: &Welcome, peer: SocketAddr) -> Rc<Pool> {
        let most = usize::from(welcome.most_lanes).min(exposure.most_lanes);
        let pool = Rc::new(Pool {
            exposure: exposure.clone(),
            peer,
            knock: exposure.lane_knock(welcome),
            lanes: Cell::default(),
            size: RefCell::new(Size::new(most)),
            next: Cell::new(1),
            changed: Notify::new(),
            dismissal: Notify::new(),
            closed: Cell::new(false),
            closing: Notify::new(),
            backoff: RefCell::default(),
            failed: Cell::new(None),
            not_before: Cell::new(None),
        });
        spawn_local(tend(pool.clone()));
        pool
    }

    pub(super) fn lanes(&self) -> Lanes {
        self.lanes.get()
    }

    /// The server has visitors that wait for so many lanes.
    pub(super) fn want(&self, count: u16) {
        self.size.borrow_mut().want(usize::from(count), self.lanes());
        self.changed.notify_one();
    }

    /// Ends all that waits, or is on its way.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.closing.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) async fn closed(&self) {
        let closing = self.closing.notified();
        if !self.closed.get() {
            closing.await;
        }
    }

    /// Returns to a lane that is not needed any more.
    pub(super) async fn dismissed(&self) {
        self.dismissal.notified().await;
    }

    /// A lane has opened.
    pub(super) fn opened(&self) {
        self.size.borrow_mut().answered();
        self.not_before.set(None);
    }

    /// A lane could not be opened.
    pub(super) fn not_opened(&self, began: Instant, error: &Error) {
        self.size.borrow_mut().answered();
        self.failed(began);
        self.exposure.complain_of_lanes(error);
    }

    /// A lane that was there since then failed before it was of use. What began before the last failure was
    /// noticed tells nothing new.
    pub(super) fn failed(&self, began: Instant) {
        let now = Instant::now();
        match self.failed.replace(Some(now)) {
            Some(before) if began < before => return,
            Some(before) if now - before > CALM => self.backoff.borrow_mut().reset(),
            Some(_) | None => {}
        }
        let wait = self.backoff.borrow_mut().next(random());
        self.not_before.set(Some(now.max(began + wait)));
    }

    /// Opens what is missing; answers when to look again, where something keeps it from that.
    fn fill(self: &Rc<Pool>) -> Option<Instant> {
        let missing = self.size.borrow().missing(self.lanes());
        if missing == 0 {
            return None;
        }
        if let Some(later) = self.not_before.get().filter(|later| *later > Instant::now()) {
            return Some(later);
        }
        for _ in 0..missing {
            let number = self.next.get();
            // After four thousand million lanes there is a new pool only with a new connection.
            self.next.set(number.checked_add(1)?);
            let place = Place::new(self.clone());
            spawn_local(lane::serve(place, self.knock.numbered(number)));
        }
        None
    }

    fn shrink(&self) {
        let many = self.size.borrow_mut().settle(self.lanes());
        for _ in 0..many {
            self.dismissal.notify_one();
        }
    }

    fn count(&self, change: impl FnOnce(&mut Lanes)) {
        let mut lanes = self.lanes.get();
        change(&mut lanes);
        self.lanes.set(lanes);
        let mut size = self.size.borrow_mut();
        size.note(lanes);
        if size.missing(lanes) > 0 {
            self.changed.notify_one();
        }
    }
}

/// Keeps a pool at its size for as long as it is open.
async fn tend(pool: Rc<Pool>) {
    let mut periods = interval_at(Instant::now() + PERIOD, PERIOD);
    periods.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !pool.is_closed() {
        let later = pool.fill();
        tokio::select! {
            () = pool.closed() => {}
            () = pool.changed.notified() => {}
            () = sleep_until(later.unwrap_or_else(Instant::now)), if later.is_some() => {}
            _ = periods.tick() => pool.shrink(),
        }
    }
}

/// A lane's place in the count, for as long as it lives.
pub(super) struct Place {
    pool: Rc<Pool>,
    doing: Doing,
}

impl Place {
    fn new(pool: Rc<Pool>) -> Place {
        pool.count(|lanes| lanes.opening += 1);
        Place { pool, doing: Doing::Opening }
    }

    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// Counts it from now on among those who do that.
    pub(super) fn turns_to(&mut self, doing: Doing) {
        let before = std::mem::replace(&mut self.doing, doing);
        self.pool.count(|lanes| {
            *lanes.of(before) -= 1;
            *lanes.of(doing) += 1;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.count(|lanes| *lanes.of(self.doing) -= 1);
    }
}

impl Lanes {
    fn of(&mut self, doing: Doing) -> &mut usize {
        match doing {
            Doing::Opening => &mut self.opening,
            Doing::Waiting => &mut self.idle,
            Doing::Serving => &mut self.busy,
        }
    }
}
