//! Sockets as tests need them: a port for peers that cannot choose one, a TCP service in a thread, and
//! what a stranger sees when it sends some bytes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::process::DEADLINE;

/// A port that is free now, for peers that cannot listen on port 0. It lies below the range from which
/// outgoing connections are served, so only another listener could take it first.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 61 % 20_000).expect("below 20000");
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Starts a peer on free ports, again if somebody else took one of them in between.
pub fn on_free_ports<T>(mut start: impl FnMut() -> Result<T, String>) -> T {
    let mut last = String::new();
    for _ in 0..5 {
        match start() {
            Ok(peer) => return peer,
            Err(log) => last = log,
        }
    }
    panic!("a peer does not start:\n{last}");
}

pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// An address that refuses connections for as long as the value lives: bound, never listening.
#[derive(Debug)]
pub struct Refusing(Socket);

impl Refusing {
    pub fn bind() -> Refusing {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&local(0).into()).expect("bind");
        Refusing(socket)
    }

    pub fn address(&self) -> SocketAddr {
        let address = self.0.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("an IP address")
    }
}

/// A TCP service inside the test: each connection is given to `serve` in a thread of its own.
#[derive(Debug)]
pub struct TcpService {
    address: SocketAddr,
}

impl TcpService {
    pub fn start(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> TcpService {
        let listener = TcpListener::bind(local(0)).expect("bind");
        let address = listener.local_addr().expect("a bound socket has an address");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = serve.clone();
                thread::spawn(move || serve(patient(stream)));
            }
        });
        TcpService { address }
    }

    /// Says who it is to whoever speaks first, then closes.
    pub fn named(name: &'static str) -> TcpService {
        TcpService::start(move |mut stream| {
            if stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
                let _ = stream.write_all(name.as_bytes());
            }
        })
    }

    /// Sends back what comes, as it comes.
    pub fn echo() -> TcpService {
        TcpService::start(|stream| {
            // Whoever resets has seen enough.
            let _ = std::io::copy(&mut &stream, &mut &stream);
        })
    }

    /// Answers only after the other side's end of data: with the same bytes.
    pub fn echo_after_eof() -> TcpService {
        TcpService::start(|mut stream| {
            let mut all = Vec::new();
            if stream.read_to_end(&mut all).is_ok() {
                let _ = stream.write_all(&all);
            }
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    patient(TcpStream::connect(to).unwrap_or_else(|error| panic!("connect to {to}: {error}")))
}

/// Connects from another of the machine's loopback addresses.
pub fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("bind");
    socket.connect(&to.into()).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    patient(socket.into())
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
    stream.set_nodelay(true).expect("set TCP_NODELAY");
    stream
}

/// The packets of TCP that come to one of the machine's addresses, with their IP headers. It is allowed to
/// root and whoever has CAP_NET_RAW (raw(7)).
pub fn listen_in(to: Ipv4Addr) -> std::io::Result<impl Iterator<Item = Vec<u8>>> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((to, 0)).into())?;
    socket.set_read_timeout(Some(DEADLINE))?;
    Ok(std::iter::from_fn(move || {
        let mut packet = vec![0; 64 * 1024];
        let length = (&socket).read(&mut packet).expect("a packet");
        packet.truncate(length);
        Some(packet)
    }))
}

/// Closes with RST instead of FIN. What was sent must have arrived: a reset discards what is queued.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set SO_LINGER");
}

/// How the other side ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// All that the other side of a connection let us see.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub end: End,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, then {:?}", String::from_utf8_lossy(&self.bytes), self.end)
    }
}

/// Reads until the other side ends the connection.
pub fn read_all(stream: &mut impl Read) -> Seen {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => {
                return Seen { bytes, end: End::Fin };
            }
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                return Seen { bytes, end: End::Reset };
            }
            Err(error) => panic!("{error} after {} bytes", bytes.len()),
        }
    }
}

/// What a stranger does once its bytes are sent.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    Wait,
    Fin,
}

/// Sends `bytes` and looks on until the other side ends the connection; a web server's clock is masked.
pub fn exchange(to: SocketAddr, bytes: &[u8], then: Then) -> Seen {
    let mut stream = connect(to);
    // A peer may well close before it took everything; what it says then is what counts.
    let _ = stream.write_all(bytes);
    if let Then::Fin = then {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let seen = read_all(&mut stream);
    Seen { bytes: without_date(&seen.bytes), ..seen }
}

/// The bytes with the value of each `Date:` header replaced.
pub fn without_date(bytes: &[u8]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if line.to_ascii_lowercase().starts_with(b"date: ") {
            masked.extend_from_slice(b"Date: masked\r\n");
        } else {
            masked.extend_from_slice(line);
        }
    }
    masked
}
