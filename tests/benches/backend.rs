//! The service behind every relay, and how it is asked for a load: a request of 16 bytes, one letter
//! and a number. The letters are small ones, with which no protocol that posternd knows begins.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use postern_tests::net::local;
use rustix::net::{RecvFlags, recv};

/// What the service answers to `Once` and `Echo`.
pub const SMALL: usize = 64;

/// Threads that accept, where nobody needs more. They answer what is small themselves.
const ACCEPTORS: usize = 4;

/// As large as a server's writes are at their best, and small enough to stay in the cache.
const WRITE: usize = 256 * 1024;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// So many bytes from the service.
    Down(usize),
    /// So many bytes to the service, which then answers one.
    Up(usize),
    /// Every 64 bytes come back.
    Echo,
    /// 64 bytes, and the end.
    Once,
    /// One byte; then the connection stays, and nothing happens on it.
    Hold,
}

impl Request {
    pub fn bytes(self) -> [u8; 16] {
        let (letter, number) = match self {
            Request::Down(count) => ('d', count),
            Request::Up(count) => ('u', count),
            Request::Echo => ('e', 0),
            Request::Once => ('o', 0),
            Request::Hold => ('h', 0),
        };
        let text = format!("{letter}{number:015}");
        text.as_bytes().try_into().expect("a letter and 15 digits")
    }

    fn parse(bytes: &[u8; 16]) -> Option<Request> {
        let (letter, number) = std::str::from_utf8(bytes).ok()?.split_at(1);
        let count = number.parse().ok()?;
        Some(match letter {
            "d" => Request::Down(count),
            "u" => Request::Up(count),
            "e" => Request::Echo,
            "o" => Request::Once,
            "h" => Request::Hold,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Backend {
    /// One for each relay, so that none uses up the ports of another.
    pub fn start() -> Backend {
        Backend::with(ACCEPTORS)
    }

    /// One that answers so many at a time, however late they are told that the answer has arrived.
    pub fn with(acceptors: usize) -> Backend {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .and_then(|socket| {
                socket.bind(&local(0).into())?;
                socket.listen(4096)?;
                Ok(TcpListener::from(socket))
            })
            .expect("a listener");
        let address = listener.local_addr().expect("a bound socket has an address");
        let held = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..acceptors {
            let listener = listener.try_clone().expect("duplicate a listener");
            let held = held.clone();
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that went away is its own measurement's trouble.
                    let _ = serve(stream, &held);
                }
            });
        }
        Backend { address, held }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the connections that were held.
    pub fn let_go(&self) {
        self.held.lock().expect("no holder panics").clear();
    }
}

fn serve(mut stream: TcpStream, held: &Mutex<Vec<TcpStream>>) -> io::Result<()> {
    patient(&stream)?;
    let mut request = [0; 16];
    stream.read_exact(&mut request)?;
    let request = Request::parse(&request).ok_or(io::ErrorKind::InvalidData)?;
    match request {
        Request::Once => {
            stream.write_all(&[b'o'; SMALL])?;
            stream.shutdown(Shutdown::Write)?;
            stream.read(&mut [0]).map(drop)
        }
        Request::Hold => {
            stream.write_all(b"h")?;
            held.lock().expect("no holder panics").push(stream);
            Ok(())
        }
        Request::Down(_) | Request::Up(_) | Request::Echo => {
            thread::spawn(move || serve_long(&mut stream, request));
            Ok(())
        }
    }
}

fn serve_long(stream: &mut TcpStream, request: Request) -> io::Result<()> {
    match request {
        // The client ends these, when it has read what they cost: a relay's process for a connection
        // is gone with it.
        Request::Down(count) => {
            send(stream, count)?;
            stream.read(&mut [0]).map(drop)
        }
        Request::Up(count) => {
            discard(stream, count)?;
            stream.write_all(b"u")?;
            stream.read(&mut [0]).map(drop)
        }
        Request::Echo => {
            let mut message = [0; SMALL];
            loop {
                stream.read_exact(&mut message)?;
                stream.write_all(&message)?;
            }
        }
        Request::Once | Request::Hold => Ok(()),
    }
}

pub fn patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Sends by plain writes: sendfile would be cheaper here, but its 4 KiB pages make a relay's splice
/// look different from what a server's data makes it.
pub fn send(stream: &mut TcpStream, count: usize) -> io::Result<()> {
    let chunk = vec![b'x'; WRITE.min(count)];
    let mut left = count;
    while left > 0 {
        let some = left.min(chunk.len());
        stream.write_all(&chunk[..some])?;
        left -= some;
    }
    Ok(())
}

/// Takes so many bytes without copying them (MSG_TRUNC, tcp(7)), so that the generator leaves the
/// processors to the relay.
pub fn discard(stream: &TcpStream, count: usize) -> io::Result<()> {
    let mut nowhere = vec![0; 4 * WRITE];
    let mut left = count;
    while left > 0 {
        let most = left.min(nowhere.len());
        match recv(stream, &mut nowhere[..most], RecvFlags::TRUNC) {
            Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((_, taken)) => left -= taken,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
