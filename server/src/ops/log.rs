//! The log: human lines or JSON on stderr, where systemd and containers expect it. Never holds a
//! secret, since no secret has a `Debug` or `Display` that shows it; and never holds a connection, since
//! a thread of its own writes, and lines that it cannot keep up with are dropped and counted.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that wait for a slow reader of stderr.
const WAITING: usize = 4096;

/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_millis(500);

static QUEUE: OnceLock<SyncSender<Entry>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

enum Entry {
    Line(Vec<u8>),
    /// Answered when all lines before it are written.
    Flush(SyncSender<()>),
}

/// Where the subscriber writes each line, whole, in one call.
struct Queue;

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(queue) = QUEUE.get()
            && queue.try_send(Entry::Line(line.to_vec())).is_err()
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_out(entries: &Receiver<Entry>) {
    for entry in entries {
        // Nobody is left to be told of a stderr that fails.
        match entry {
            Entry::Line(line) => drop(io::stderr().write_all(&line)),
            Entry::Flush(done) => drop(done.send(())),
        }
        let dropped = DROPPED.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(io::stderr(), "posternd: {dropped} lines of this log were dropped");
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
pub fn start(log: Log) {
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    // Our own events only: what libraries say is about their insides.
    let filter = Targets::new().with_target("posternd", level);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Human => {
            let colour = rustix::termios::isatty(io::stderr());
            fmt::layer().with_writer(|| Queue).with_ansi(colour).with_target(false).boxed()
        }
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_writer(|| Queue).with_target(false).boxed()
        }
    };
    let (queue, entries) = sync_channel(WAITING);
    if QUEUE.set(queue).is_ok() {
        std::thread::spawn(move || write_out(&entries));
    }
    // A second start, as in tests that run several servers, keeps the first.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
