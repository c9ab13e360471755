//! A network that takes its time: connections through it are slow to come, and what is said on them
//! arrives as late as it would over a distance. Never loses, limits or reorders anything.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a byte is on its way.
pub const ONE_WAY: Duration = Duration::from_millis(50);

/// A chunk, empty at the end of data, and when it arrives.
type Late = (Instant, Vec<u8>);

/// Stands at `at` for `to`, and says where that is if the port was left open.
pub fn start(at: SocketAddr, to: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(at)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // Whoever went away is its own measurement's trouble.
            thread::spawn(move || join(near, to));
        }
    });
    Ok(address)
}

fn join(near: TcpStream, to: SocketAddr) -> io::Result<()> {
    near.set_nodelay(true)?;
    // The kernel has accepted already, so the handshake is paid for here: a real client knows of its
    // connection after a round trip only, and the server one way later. What was sent before counts as
    // sent then.
    thread::sleep(2 * ONE_WAY);
    let up = late(near.try_clone()?);
    thread::sleep(ONE_WAY);
    let far = TcpStream::connect(to)?;
    far.set_nodelay(true)?;
    let down = late(far.try_clone()?);
    thread::spawn(move || deliver(&down, near));
    deliver(&up, far)
}

/// Reads for ever what comes, however much of it is on its way.
fn late(mut from: TcpStream) -> Receiver<Late> {
    let (sender, receiver): (Sender<Late>, _) = channel();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            let chunk = buffer[..count].to_vec();
            if sender.send((Instant::now() + ONE_WAY, chunk)).is_err() || count == 0 {
                return;
            }
        }
    });
    receiver
}

fn deliver(chunks: &Receiver<Late>, mut to: TcpStream) -> io::Result<()> {
    for (due, chunk) in chunks {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if chunk.is_empty() {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&chunk)?;
    }
    Ok(())
}
