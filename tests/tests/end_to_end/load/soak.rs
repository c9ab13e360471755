//! Connections that end in every way there is, by the thousand. Afterwards posternd holds what it held
//! before: no place, descriptor, child, pipe or thread more.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postern_tests::net::{Refusing, connect, free_port, local, read_all, reset};
use postern_tests::posternd::config;
use postern_tests::process::{children, resident};
use postern_tests::tls::hello;
use postern_tests::{Knocker, Posternd, Scratch, TcpService, posternd, success, until};

/// In `tests/run`. POSTERN_SOAK=200000 makes it that many.
const USUAL: usize = 10_000;

/// At a time, so that ways overlap.
const THREADS: usize = 8;

/// One that says nothing, and one that dies, both of which are started again; and their descriptors.
const HELPERS: usize = 2;
const OF_HELPERS: usize = 4 * HELPERS;

/// What may have been taken from the system and kept for later, in bytes.
const KEPT: u64 = 24 << 20;

fn routes(to: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (at, (name, service)) in to.iter().enumerate() {
        text += &format!(
            "[service.{name}]\n{service}\n[[route]]\nprefix = [\"{:02x}\"]\nservice = \"{name}\"\n",
            FIRST + u8::try_from(at).expect("few")
        );
    }
    text
}

/// The first byte that leads to the first of the services.
const FIRST: u8 = 0x80;

/// A listener whose queue is full: it neither takes nor refuses.
struct Hanging {
    listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Hanging {
    fn start() -> Hanging {
        let listener = TcpListener::bind(local(0)).expect("bind");
        rustix::net::listen(&listener, 0).expect("a short queue");
        let to = listener.local_addr().expect("bound");
        let patience = Duration::from_millis(200);
        let queued = (0..4).map_while(|_| TcpStream::connect_timeout(&to, patience).ok());
        Hanging { _queued: queued.collect(), listener }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }
}

#[derive(Debug)]
struct Holding {
    open: u64,
    tunnels: usize,
    descriptors: usize,
    children: usize,
    threads: usize,
}

impl Holding {
    fn look(server: &Posternd) -> Holding {
        let status = server.status();
        let places = status["places"].as_object().expect("places");
        let pid = server.process.pid();
        Holding {
            open: places.values().map(|count| count.as_u64().expect("a number")).sum(),
            tunnels: status["tunnels"].as_array().expect("tunnels").len(),
            descriptors: server.descriptors(),
            children: children(pid).len(),
            threads: fs::read_dir(format!("/proc/{pid}/task")).expect("list threads").count(),
        }
    }
}

impl Holding {
    fn is_within(&self, before: &Holding) -> bool {
        (self.open, self.tunnels) == (0, 0)
            && self.children <= HELPERS
            && self.descriptors <= before.descriptors + OF_HELPERS
            && self.threads <= before.threads
    }
}

#[test]
fn nothing_is_left_of_those_who_came_and_went() {
    let count =
        std::env::var("POSTERN_SOAK").map_or(USUAL, |count| count.parse().expect("a number"));
    let scratch = Scratch::new();
    success(
        posternd::posternd(&["cert", "--name", "ssh.example.com", "--out"]).arg(scratch.path("")),
    );
    let (echo, dead, hanging) = (TcpService::echo(), Refusing::bind(), Hanging::start());
    let closing = TcpService::start(drop);
    let resetting = TcpService::start(|mut stream| {
        let _ = stream.read(&mut [0; 16]);
        reset(stream);
    });
    let flapping = local(free_port());
    let to = |address: SocketAddr, more: &str| format!("to = \"tcp://{address}\"\n{more}");
    let services = [
        ("echo", to(echo.address(), "")),
        ("dead", to(dead.address(), "")),
        ("hanging", to(hanging.address(), "connect = \"100ms\"")),
        ("nowhere", "to = \"tcp://nowhere.invalid:9\"\nconnect = \"500ms\"".to_owned()),
        ("closing", to(closing.address(), "")),
        ("resetting", to(resetting.address(), "")),
        ("few", to(echo.address(), "max-connections = 2")),
        ("idle", to(echo.address(), "idle = \"100ms\"")),
        ("program", "to = \"exec:/bin/cat\"\nmax-connections = 16".to_owned()),
        ("gone", "to = \"exec:/bin/true\"\nmax-connections = 16".to_owned()),
        (
            "flapping",
            format!(
                "to = [\"tcp://{flapping}\", \"tcp://{}\"]\nhealth = \"100ms\"",
                echo.address()
            ),
        ),
        (
            "several",
            format!(
                "to = [\"tcp://{}\", \"tcp://{}\"]\nhealth = \"100ms\"",
                dead.address(),
                echo.address()
            ),
        ),
    ];
    let more = format!(
        "{}[[route]]\nprefix = [\"ff\"]\nreject = \"rst\"\n[[route]]\nprefix = [\"fe\"]\nreject = \"close\"\n\
         [service.inside]\nto = \"tcp://{}\"\nknock = true\n[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n\
         names = [\"ssh.example.com\"]\nvisitors = \"echo\"\n[limits]\nundecided-per-address = 64\n\
         [identifier.mute]\nto = \"exec:/bin/sleep 1000\"\n[[route]]\nexternal = [\"mute\"]\nservice = \"echo\"\n\
         [identifier.dying]\nto = \"exec:/bin/true\"\n[[route]]\nexternal = [\"dying\"]\nservice = \"echo\"\n",
        routes(&services),
        echo.address()
    );
    let server = Posternd::start(&scratch, &config(echo.address(), &more));
    let knocker = Knocker::new(&server.invite("laptop", &["--service", "inside"]));
    let own_name = hello(Some("ssh.example.com"));

    let once = |number: usize| {
        let mut stream = connect(server.address());
        // What fails here, fails because posternd has ended it: that is the other half of the ways.
        match number % 32 {
            0 => reset(stream),
            1 => drop(stream.write_all(b"\x16\x03")),
            2 => {
                let _ = stream.write_all(&own_name);
                reset(stream);
            }
            3 => {
                let _ = stream.write_all(&own_name).and_then(|()| stream.write_all(&[0xff; 64]));
                let _ = stream.read(&mut [0; 1024]);
            }
            4 => drop(stream.write_all(&[&[b'A'; 96], &b"x"[..]].concat())),
            5 => drop(stream.write_all(&knocker.plain())),
            6 => {
                let _ = stream.write_all(&[&knocker.plain(), &b"SSH-"[..]].concat());
                let _ = stream.read(&mut [0; 4]);
                reset(stream);
            }
            7 => {
                let _ = stream.write_all(&knocker.hello());
                let _ = stream.read(&mut [0; 1024]);
            }
            8 => {
                let _ =
                    stream.write_all(b"\xff").and_then(|()| stream.read(&mut [0; 16]).map(drop));
            }
            9 => {
                let _ =
                    stream.write_all(b"\xfe").and_then(|()| stream.read(&mut [0; 16]).map(drop));
            }
            // Nobody knows what this is: all who identify are asked.
            10 => {
                let _ =
                    stream.write_all(b"\x7f").and_then(|()| stream.read(&mut [0; 16]).map(drop));
            }
            way => {
                let service = number / 32 % services.len();
                let first = FIRST + u8::try_from(service).expect("few");
                let _ = stream.write_all(&[first, b'x']);
                match way % 4 {
                    0 => reset(stream),
                    1 => {
                        let _ = stream.shutdown(Shutdown::Write);
                        drop(read_all(&mut stream));
                    }
                    2 if services[service].0 == "idle" => drop(read_all(&mut stream)),
                    2 => drop(stream.read(&mut [0; 16])),
                    _ => drop(stream),
                }
            }
        }
    };

    // Once in each way before the first look: pipes, caches and threads are made when they are needed.
    let all_ways = 32 * services.len();
    (0..all_ways).for_each(&once);
    let at_rest = || {
        until("posternd to be at rest", || {
            Some(Holding::look(&server))
                .filter(|holding| holding.open == 0 && holding.children <= HELPERS)
        })
    };
    let before = at_rest();
    let memory = resident(server.process.pid()).expect("running");

    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let flapping = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let listener = TcpListener::bind(flapping);
                thread::sleep(Duration::from_millis(250));
                drop(listener);
                thread::sleep(Duration::from_millis(250));
            }
        });
        let work = || {
            while let Some(number) =
                Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count)
            {
                once(number);
            }
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
        flapping.join().expect("flapped");
    });

    // Threads that resolve names and start programs end after ten seconds without work.
    let deadline = Instant::now() + Duration::from_secs(40);
    let mut after = at_rest();
    while !after.is_within(&before) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
        after = at_rest();
    }
    assert!(after.is_within(&before), "{before:?} became {after:?}");
    let grown = resident(server.process.pid()).expect("running").saturating_sub(memory);
    eprintln!("after {count} connections: {after:?}, {grown} bytes more in memory");
    assert!(grown < KEPT, "{grown} bytes");
    let status = server.status();
    assert_eq!(status["outcomes"]["bug"], 0);
    for outcome in [
        "done",
        "client-reset",
        "upstream-reset",
        "upstream-down",
        "connect-timeout",
        "tls-failed",
        "shed",
        "idle-timeout",
        "rejected",
    ] {
        assert!(status["outcomes"][outcome].as_u64().is_some_and(|n| n > 0), "{outcome}: {status}");
    }
}
