//! What a running `expose` says of itself to `expose --status`, over a socket in the state directory that
//! only this user can open. Decides whether all is well; takes no orders.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::book::{Entry, State};
use super::exposure::Exposure;
use super::offering::Offering;
use super::probe;
use super::size::Lanes;
use crate::error::Error;
use crate::files;
use crate::names::ProfileName;
use crate::out;

/// Longer than any probe takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is asked.
const QUESTION: [u8; 7] = *b"status\n";

/// For someone who does not ask, or does not listen.
const LISTENS: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_secs(1);

/// 256 entrances take less.
const MOST_REPLY: u64 = 256 * 1024;

/// The first line of a reply; anything else is not well.
const WELL: &str = "well";
const NOT_WELL: &str = "not well";

const NOT_WELL_CODE: u8 = 4;

/// Where the one that runs for a profile is asked.
pub(super) struct Desk {
    listener: StdListener,
    path: PathBuf,
}

impl Desk {
    /// There is one for each profile, so that two do not depose each other. `None` where this machine has no
    /// place for one, which is no reason to expose nothing.
    pub(super) fn open(name: &ProfileName) -> Result<Option<Desk>, Error> {
        let opened = files::state_dir().and_then(|dir| {
            files::make_dir(&dir)
                .map_err(|error| Error::local(&format!("cannot make {}", dir.display()), &error))?;
            let path = place(&dir, name);
            Desk::at(&path).map_err(|error| {
                Error::local(&format!("cannot listen at {}", path.display()), &error)
            })
        });
        match opened {
            Ok(Some(desk)) => Ok(Some(desk)),
            Ok(None) => Err(Error::Local(format!(
                "another `postern expose` runs for the profile {name}; end it first, or give that one \
                 more entrances: it can have many"
            ))),
            Err(error) => {
                out::complain(&format!("{error}; --status will not work"));
                Ok(None)
            }
        }
    }

    /// `None` where somebody else listens there.
    fn at(path: &Path) -> io::Result<Option<Desk>> {
        if StdStream::connect(path).is_ok() {
            return Ok(None);
        }
        // Of one that is gone.
        let _ = fs::remove_file(path);
        let listener = StdListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(files::PRIVATE))?;
        listener.set_nonblocking(true)?;
        Ok(Some(Desk { listener, path: path.to_owned() }))
    }

    /// Answers whoever asks, one after the other.
    pub(super) async fn answer(&self, exposure: &Rc<Exposure>) -> io::Result<Infallible> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        loop {
            let Ok((mut asker, _)) = listener.accept().await else {
                // There are no descriptors left; there may be some soon.
                sleep(PAUSE).await;
                continue;
            };
            // Whoever says nothing only wanted to know whether somebody is there.
            let mut word = [0; QUESTION.len()];
            let asked = timeout(LISTENS, asker.read_exact(&mut word)).await;
            if asked.is_ok_and(|read| read.is_ok()) && word == QUESTION {
                let reply = reply(exposure).await;
                let _ = timeout(LISTENS, asker.write_all(reply.as_bytes())).await;
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn place(dir: &Path, name: &ProfileName) -> PathBuf {
    dir.join(format!("expose-{name}.sock"))
}

/// Asks the one that runs for this profile.
pub(super) fn ask(name: &ProfileName) -> Result<ExitCode, Error> {
    let path = place(&files::state_dir()?, name);
    let Ok(mut stream) = StdStream::connect(&path) else {
        out::complain(&format!("no `postern expose` runs for the profile {name}"));
        return Ok(ExitCode::from(NOT_WELL_CODE));
    };
    let mut reply = String::new();
    stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.write_all(&QUESTION))
        .and_then(|()| (&mut stream).take(MOST_REPLY).read_to_string(&mut reply))
        .map_err(|error| Error::local("the `postern expose` that runs does not answer", &error))?;
    let (verdict, text) = reply.split_once('\n').unwrap_or_default();
    out::out(text)?;
    Ok(if verdict == WELL { ExitCode::SUCCESS } else { ExitCode::from(NOT_WELL_CODE) })
}

async fn reply(exposure: &Rc<Exposure>) -> String {
    let mut probes = JoinSet::new();
    for (id, entry) in (0..).zip(exposure.book.entries()) {
        if entry.is_open() {
            let exposure = exposure.clone();
            probes.spawn_local(async move { probe::run(&exposure, id).await });
        }
    }
    while probes.join_next().await.is_some() {}
    let lanes = exposure.pool.borrow().as_ref().map(|pool| pool.lanes());
    report(&exposure.said(), lanes, &exposure.offerings, &exposure.book.entries())
}

fn report(said: &str, lanes: Option<Lanes>, offerings: &[Offering], entries: &[Entry]) -> String {
    let is_well = lanes.is_some() && entries.iter().all(Entry::is_well);
    let mut text = format!("{}\n", if is_well { WELL } else { NOT_WELL });
    // What was said last may be long ago, but it is how things stand.
    text.push_str(said.lines().next().unwrap_or("not connected yet"));
    if let Some(lanes) = lanes {
        text.push_str(&format!("; lanes: {} idle, {} busy", lanes.idle, lanes.busy));
    }
    text.push('\n');
    for (offering, entry) in offerings.iter().zip(entries) {
        text.push_str(&line(offering, entry, lanes.is_some()));
        text.push('\n');
    }
    text
}

fn line(offering: &Offering, entry: &Entry, connected: bool) -> String {
    let state = match &entry.state {
        _ if !connected => "not open: there is no connection".to_owned(),
        State::Unknown => "not open yet".to_owned(),
        State::Open(at) if at.is_empty() => "open".to_owned(),
        State::Open(at) => format!("open at {at}"),
        State::Refused(why) => format!("not open: {why}"),
    };
    let reached = match entry.reached {
        Some(true) => ", reached",
        Some(false) => ", NOT REACHED from here by its public address",
        None => "",
    };
    let local = match entry.local_up {
        Some(true) => " is up",
        Some(false) => " IS DOWN",
        None => "",
    };
    let Entry { visitors, .. } = entry;
    format!("{}: {state}{reached}; {}{local}; {visitors} visitors", offering.entrance, offering.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expose::book::Book;
    use crate::expose::offering::Told;
    use postern_shared::expose::control::Refusal;

    fn offering(entrance: &str) -> Offering {
        Offering {
            entrance: entrance.parse().expect(entrance),
            to: "3000".parse().expect("a target"),
            terminate: false,
            told: Told::Nothing,
        }
    }

    #[test]
    fn a_report_says_whether_all_is_well() {
        let offerings = [offering("tcp:80"), offering("name:web")];
        let book = Book::new(2);
        let lanes = Some(Lanes { opening: 0, idle: 8, busy: 1 });
        let say = |lanes| report("connected", lanes, &offerings, &book.entries());
        assert!(say(lanes).starts_with("not well\nconnected; lanes: 8 idle, 1 busy\n"));

        book.turn(0, State::Open("0.0.0.0:80".to_owned()));
        book.turn(1, State::Open(String::new()));
        for id in 0..2 {
            book.local(id, true);
        }
        book.visited(0);
        book.probed(0, Some(true));
        book.probed(1, None);
        assert_eq!(
            say(lanes),
            "well\nconnected; lanes: 8 idle, 1 busy\n\
             tcp:80: open at 0.0.0.0:80, reached; localhost:3000 is up; 1 visitors\n\
             name:web: open; localhost:3000 is up; 0 visitors\n"
        );
        assert!(say(None).starts_with("not well\n"));
        book.local(1, false);
        assert!(say(lanes).starts_with("not well\n") && say(lanes).contains("IS DOWN"));
        book.local(1, true);
        book.probed(0, Some(false));
        assert!(say(lanes).starts_with("not well\n") && say(lanes).contains("NOT REACHED"));
        book.turn(0, State::Refused(Refusal::PortTaken));
        assert!(say(lanes).contains("tcp:80: not open: the server cannot listen there"));
    }

    #[test]
    fn a_living_one_is_left_alone_and_a_dead_one_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = place(dir.path(), &"bob".parse().expect("a name"));
        let open = || Desk::at(&path).expect("a directory of ours");
        let first = open().expect("nobody is there");
        assert_eq!(files::mode(&path), Some(0o600));
        assert!(open().is_none());
        drop(first);
        assert!(!path.exists());
        drop(StdListener::bind(&path).expect("its socket stays behind"));
        assert!(path.exists());
        assert!(open().is_some(), "nobody listens");
    }
}
