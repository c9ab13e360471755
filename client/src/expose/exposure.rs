//! What the tasks of one `expose` share: what is offered, how the server is reached, and what is known of
//! how it fares. Decides what a person is told of that, and when; opens no connection itself.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use postern_relay::{ReadAhead, Wire};
use postern_shared::expose::Window;
use postern_shared::expose::control::{Hello, Welcome};
use postern_shared::knock::{Carrier, ClientKey, Intent};

use super::book::Book;
use super::line::Line;
use super::local::Local;
use super::offering::Offering;
use super::pool::Pool;
use super::probe::Probes;
use crate::address::Address;
use crate::carrier::Ready;
use crate::deadline::{CONNECT, Deadline};
use crate::error::Error;
use crate::knock::Knock;
use crate::out;
use crate::profile::{Profile, Service};
use crate::stdio::Input;

/// By which carrier connections of a kind go.
pub(super) struct Way {
    pub(super) carrier: Carrier,
    pub(super) ready: Ready,
}

/// All that is known.
pub(super) struct Exposure {
    pub(super) profile: Profile,
    pub(super) key: ClientKey,
    pub(super) at: Address,
    pub(super) control: Way,
    /// Where it is another one than the control connection's.
    pub(super) lanes: Option<Way>,
    pub(super) offerings: Vec<Offering>,
    /// The services, each by its offering's number.
    pub(super) locals: Vec<Local>,
    pub(super) most_lanes: usize,
    pub(super) instance: [u8; 16],
    pub(super) epoch: Cell<u64>,
    pub(super) nothing: Input,
    pub(super) book: Book,
    pub(super) probes: Probes,
    /// Visitors who were here: also by lanes of a pool before, whose last word the server may not have heard.
    window: RefCell<Window>,
    /// Of the control connection that there is, if there is one.
    pub(super) pool: RefCell<Option<Rc<Pool>>>,
    said: RefCell<String>,
    said_of_lanes: RefCell<String>,
}

impl Exposure {
    /// A run of its own. It fails where the system has no randomness or no pipe left.
    pub(super) fn new(
        profile: Profile,
        key: ClientKey,
        at: Address,
        (control, lanes): (Way, Option<Way>),
        offerings: Vec<Offering>,
        most_lanes: usize,
    ) -> Result<Exposure, Error> {
        let nothing =
            Input::nothing().map_err(|error| Error::local("cannot use a pipe", &error))?;
        let mut instance = [0; 16];
        aws_lc_rs::rand::fill(&mut instance)
            .map_err(|_| Error::Local("the system has no randomness".to_owned()))?;
        Ok(Exposure {
            profile,
            key,
            at,
            control,
            lanes,
            locals: offerings.iter().map(|offering| Local::new(offering.to.clone())).collect(),
            book: Book::new(offerings.len()),
            offerings,
            most_lanes,
            instance,
            epoch: Cell::new(0),
            nothing,
            probes: Probes::default(),
            window: RefCell::default(),
            pool: RefCell::new(None),
            said: RefCell::default(),
            said_of_lanes: RefCell::default(),
        })
    }

    /// Whether this visitor has not been here yet.
    pub(super) fn admit(&self, visitor: u64) -> bool {
        self.window.borrow_mut().admit(visitor)
    }

    /// From now on they are counted anew.
    pub(super) fn forget_visitors(&self) {
        self.window.take();
    }

    /// The knock of a control connection.
    pub(super) fn control_knock(&self) -> Knock {
        let Exposure { profile, key, at, control, .. } = self;
        Knock::new(profile, key, at.clone(), control.carrier, service(), Intent::Expose)
    }

    /// The knock of a pool's lanes, but for their numbers.
    pub(super) fn lane_knock(&self, welcome: &Welcome) -> Knock {
        let (at, carrier) = (self.at.clone(), self.lane_way().carrier);
        Knock::of_pool(&self.profile, welcome.pool, &welcome.key, at, carrier, service())
    }

    pub(super) fn hello(&self) -> Hello {
        Hello { instance: self.instance, epoch: self.epoch.get() }
    }

    /// Gets admitted on a fresh connection.
    pub(super) async fn enter(&self, way: &Way, wire: Wire, knock: &Knock) -> Result<Line, Error> {
        let deadline = Deadline::after(CONNECT);
        way.ready.open(wire, ReadAhead::new, knock, &self.nothing, deadline).await
    }

    pub(super) fn lane_way(&self) -> &Way {
        self.lanes.as_ref().unwrap_or(&self.control)
    }

    /// How the connection to the server fares: told where that is news.
    pub(super) fn say(&self, text: &str) {
        if self.said.replace(text.to_owned()) != text {
            out::complain(text);
            self.book.changed();
        }
    }

    /// What was told last.
    pub(super) fn said(&self) -> String {
        self.said.borrow().clone()
    }

    /// What keeps lanes from being opened while the control connection stands; in silence once it is gone.
    pub(super) fn complain_of_lanes(&self, error: &Error) {
        let text = error.to_string();
        let stands = self.pool.borrow().as_ref().is_some_and(|pool| !pool.is_closed());
        if stands && self.said_of_lanes.replace(text.clone()) != text {
            out::complain(&format!("visitors' connections cannot be opened: {text}"));
        }
    }

    /// Connected, to that address.
    pub(super) fn connected(&self, peer: SocketAddr) {
        self.said_of_lanes.take();
        self.say(&format!("connected to {peer} by the {} carrier", self.control.carrier));
    }
}

/// What such knocks ask for: nothing that has a number.
fn service() -> Service {
    Service { name: "expose".to_owned(), number: 0 }
}
