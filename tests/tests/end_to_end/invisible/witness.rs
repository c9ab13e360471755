//! A stranger on one connection, who does what its probe says and keeps all that it sees. It compares
//! nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::net::{connect, reset};

use super::probe::{Act, Probe};

/// How long a connection is watched: three times as long as the website waits for anything.
pub(crate) const WATCH: Duration = Duration::from_secs(4);

/// Sent after the end, to see whether anybody is there still.
const LATE: &[u8] = b"x";

/// How soon a reset comes that belongs to the end.
const SOON: Duration = Duration::from_millis(50);

/// How long the answer to a late byte may take.
const LATE_ANSWER: Duration = Duration::from_millis(500);

/// How a connection ended, as the stranger saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Fin,
    /// RST came soon after the FIN without having been asked for by [`LATE`] bytes.
    FinAndReset,
    /// What was sent late was answered with RST, as a closed socket does.
    FinThenReset,
    Reset,
    /// Nobody ended it.
    Open,
    /// The stranger itself reset it.
    Own,
}

/// All that a stranger sees. Times are counted from the connection's start.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) bytes: Vec<u8>,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) end: End,
    pub(crate) ended: Duration,
}

/// Shows the probe to whoever listens there.
pub(crate) fn show(probe: &Probe, to: SocketAddr) -> Sight {
    let mut witness = Witness::new(connect(to));
    for act in &probe.acts {
        match act {
            Act::Send(bytes) => witness.write(bytes),
            Act::Pause(pause) => witness.pause(*pause),
            Act::HalfClose => witness.half_close(),
            Act::Reset => return witness.give_up(),
        }
    }
    witness.watch(witness.start + WATCH);
    witness.speak_late();
    witness.sight()
}

struct Witness {
    stream: TcpStream,
    start: Instant,
    bytes: Vec<u8>,
    first_byte: Option<Duration>,
    fin: Option<Duration>,
    reset: Option<Duration>,
    answers_late: bool,
    half_closed: bool,
}

impl Witness {
    fn new(stream: TcpStream) -> Witness {
        Witness {
            stream,
            start: Instant::now(),
            bytes: Vec::new(),
            first_byte: None,
            fin: None,
            reset: None,
            answers_late: false,
            half_closed: false,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.reset.is_some() {
            return;
        }
        if let Err(error) = self.stream.write_all(bytes) {
            let now = self.start.elapsed();
            self.reset = Some(now);
            // What came before the reset can be read still.
            self.watch(Instant::now());
            // A reset that follows a FIN is reported so (tcp(7)).
            if error.kind() == ErrorKind::BrokenPipe {
                self.fin.get_or_insert(now);
            }
        }
    }

    fn half_close(&mut self) {
        self.half_closed = true;
        // It may be over by now.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads until the end, or for so long.
    fn watch(&mut self, until: Instant) {
        let mut buffer = vec![0; 64 * 1024];
        while self.fin.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && self.reset.is_none() {
                return;
            }
            let timeout = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(timeout)).expect("set a timeout");
            match self.stream.read(&mut buffer) {
                // After an error that a write has taken the rest is no FIN.
                Ok(0) if self.reset.is_some() => return,
                Ok(0) => self.fin = Some(self.start.elapsed()),
                Ok(count) => {
                    self.first_byte.get_or_insert(self.start.elapsed());
                    self.bytes.extend_from_slice(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                    self.reset = Some(self.start.elapsed());
                    return;
                }
            }
        }
    }

    /// As [`watch`](Self::watch), and goes on only then, whatever has ended.
    fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        self.watch(until);
        thread::sleep(until.saturating_duration_since(Instant::now()));
    }

    /// A website that has closed answers a further byte with RST; who only has half closed takes it.
    fn speak_late(&mut self) {
        if self.fin.is_none() || self.reset.is_some() || self.half_closed {
            return;
        }
        thread::sleep(SOON);
        if self.stream.take_error().expect("a socket").is_some() {
            self.reset = Some(self.start.elapsed());
            return;
        }
        let asked = Instant::now();
        while self.reset.is_none() && asked.elapsed() < LATE_ANSWER {
            self.write(LATE);
            thread::sleep(Duration::from_millis(10));
        }
        self.answers_late = self.reset.is_some();
    }

    fn give_up(self) -> Sight {
        if self.fin.is_some() || self.reset.is_some() {
            return self.sight();
        }
        let sight = Sight {
            bytes: self.bytes,
            first_byte: self.first_byte,
            end: End::Own,
            ended: self.start.elapsed(),
        };
        reset(self.stream);
        sight
    }

    fn sight(self) -> Sight {
        let (end, ended) = match (self.fin, self.reset) {
            (Some(fin), None) => (End::Fin, fin),
            (Some(fin), Some(_)) if self.answers_late => (End::FinThenReset, fin),
            (Some(fin), Some(_)) => (End::FinAndReset, fin),
            (None, Some(reset)) => (End::Reset, reset),
            (None, None) => (End::Open, WATCH),
        };
        Sight { bytes: self.bytes, first_byte: self.first_byte, end, ended }
    }
}
