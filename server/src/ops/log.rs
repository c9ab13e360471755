//! The log: human lines or JSON, on stderr unless told otherwise, where systemd and containers expect it.
//! Never holds a secret, since no secret has a `Debug` or `Display` that shows it; and never holds a connection, since
//! a thread of its own writes, and lines that it cannot keep up with are dropped and counted.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use super::sink::{Destination, Sink};
use crate::config::{LogFormat, LogLevel};

/// Lines that wait for a slow reader of stderr.
const WAITING: usize = 4096;

/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_millis(500);

static QUEUE: OnceLock<SyncSender<Entry>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// What is logged, how, and where to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logging {
    pub format: LogFormat,
    pub level: LogLevel,
    pub to: Destination,
    /// Whether connections on which nobody said a byte are.
    pub empty: bool,
}

enum Entry {
    Line(Level, Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Where the subscriber writes each line, whole, in one call.
struct Queue(Level);

/// Gives each line its level along.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Queue;

    fn make_writer(&'a self) -> Queue {
        Queue(Level::INFO)
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Queue {
        Queue(*meta.level())
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get()
            && queue.try_send(Entry::Line(self.0, line.to_vec())).is_err()
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(entries: &Receiver<Entry>, mut sink: Sink) {
    for entry in entries {
        match entry {
            Entry::Line(level, line) => sink.write(level, &line),
            Entry::Flush(done) => drop(done.send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = format!("posternd: {dropped} lines of this log were dropped\n");
            sink.write(Level::WARN, line.as_bytes());
        }
    }
}

/// Waits, for a moment, until what was logged is written: the process is about to end.
pub fn finish() {
    let Some(queue) = QUEUE.get() else { return };
    let until = Instant::now() + LAST;
    let (done, written) = sync_channel(1);
    // The queue may be full of the lines of those whom the stop has ended.
    while queue.try_send(Entry::Flush(done.clone())).is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = written.recv_timeout(until.saturating_duration_since(Instant::now()));
}

/// Starts logging; to be called once.
pub fn start(log: &Logging) {
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    // Our own events only: what libraries say is about their insides.
    let filter = Targets::new().with_target("posternd", level);
    let colour = log.to == Destination::Stderr && rustix::termios::isatty(io::stderr());
    let lines = fmt::layer().with_writer(Lines).with_target(false).with_ansi(colour);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Human if log.to.tells_the_time() => {
            lines.without_time().with_level(false).boxed()
        }
        LogFormat::Human => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let (queue, entries) = sync_channel(WAITING);
    if QUEUE.set(queue).is_ok() {
        let sink = Sink::open(&log.to);
        std::thread::spawn(move || write_out(&entries, sink));
    }
    // A second start, as in tests that run several servers, keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
