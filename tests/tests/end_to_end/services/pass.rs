//! A process that takes connections itself: here one in Python, as its author would write it.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use postern_shared::knock::Carrier;
use postern_tests::client::feed;
use postern_tests::net::{connect, read_all};
use postern_tests::process::{Process, text};
use postern_tests::{End, Posternd, Scratch, World, failure, finish, success, until};

use super::serving;

/// Takes connections, and sends back to each what it was told of it, whom the socket names, and all that
/// comes. The socket appears once it is listened on.
const TAKER: &str = r#"
import os, socket, sys, threading
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1] + ".new")
listener.listen(100)
os.rename(sys.argv[1] + ".new", sys.argv[1])

def serve(told, connection):
    blocking = os.get_blocking(connection.fileno())
    connection.settimeout(60)
    if connection.family == socket.AF_UNIX:
        peer = "a pair"
    else:
        peer = "%s:%d" % connection.getpeername()[:2]
    connection.sendall(("%r %s %s\n" % (told, peer, blocking)).encode())
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()

while True:
    unix, _ = listener.accept()
    told, descriptors, _, _ = socket.recv_fds(unix, 4096, 4)
    assert len(descriptors) == 1 and unix.recv(1) == b"", (told, descriptors)
    unix.close()
    connection = socket.socket(fileno=descriptors[0])
    threading.Thread(target=serve, args=(told, connection), daemon=True).start()
"#;

struct Taker {
    process: Process,
    path: PathBuf,
}

impl Taker {
    fn start(scratch: &Scratch) -> Taker {
        let path = scratch.path("taker.sock");
        let mut command = Command::new("python3");
        command.arg(scratch.write("taker.py", TAKER)).arg(&path);
        let mut process = Process::spawn("python3", &mut command, scratch.path("taker.log"));
        assert!(process.wrote(&path), "{}", process.log());
        Taker { process, path }
    }

    fn to(&self) -> String {
        format!("to = \"pass:{}\"\n", self.path.display())
    }
}

/// What the taker says of a connection that says `said`, and the connection's own address.
fn visit(server: &Posternd, said: &[u8]) -> (String, SocketAddr) {
    let mut stream = connect(server.address());
    stream.write_all(said).expect("sent");
    stream.shutdown(Shutdown::Write).expect("ended");
    let seen = read_all(&mut stream);
    assert_eq!(seen.end, End::Fin);
    (text(&seen.bytes), stream.local_addr().expect("bound"))
}

#[test]
fn a_connection_is_handed_over_whole_and_let_go() {
    let scratch = Scratch::new();
    let taker = Taker::start(&scratch);
    let server = serving(&scratch, &taker.to());
    visit(&server, b"hi\n");
    let before = server.descriptors();
    for _ in 0..50 {
        let (said, own) = visit(&server, b"hi\n");
        assert_eq!(said, format!("b'\\x00' {own} True\nhi\n"));
    }
    // One that lasts is nothing to posternd any more.
    let mut stream = connect(server.address());
    stream.write_all(b"hi\n").expect("sent");
    until("it to be handed over", || {
        (server.status()["outcomes"]["handed-over"] == 52).then_some(())
    });
    assert_eq!(server.status()["places"]["visitors"], 0);
    until("no descriptor to be kept", || (server.descriptors() <= before).then_some(()));
    drop(server);
    stream.write_all(b"still there\n").expect("sent");
    stream.shutdown(Shutdown::Write).expect("ended");
    let said = text(&read_all(&mut stream).bytes);
    assert!(said.ends_with("hi\nstill there\n"), "{said}");
}

#[test]
fn a_header_says_whose_it_is() {
    let scratch = Scratch::new();
    let taker = Taker::start(&scratch);
    let server = serving(&scratch, &(taker.to() + "proxy-protocol = \"v1\"\n"));
    let (said, own) = visit(&server, b"hi\n");
    let at = server.address();
    let header = format!("PROXY TCP4 {} {} {} {}\\r\\n", own.ip(), at.ip(), own.port(), at.port());
    assert_eq!(said, format!("b'{header}' {own} True\nhi\n"));
}

#[test]
fn a_taker_that_is_gone_is_a_service_that_is_down() {
    let scratch = Scratch::new();
    let mut taker = Taker::start(&scratch);
    let server = serving(&scratch, &taker.to());
    taker.process.signal(rustix::process::Signal::TERM);
    taker.process.wait();
    let mut stream = connect(server.address());
    stream.write_all(b"hi\n").expect("sent");
    assert_eq!(read_all(&mut stream).end, End::Reset);
    server.connection(|line| line["outcome"] == "upstream-down");
    fs::remove_file(&taker.path).expect("removed");
    let warned = text(&finish(&mut server.command(&["check"])).stderr);
    assert!(warned.contains("there is no socket"), "{warned}");
}

#[test]
fn whoever_knocks_is_handed_over_behind_his_knock() {
    let world = World::start();
    let taker = Taker::start(&world.scratch);
    let service = format!("to = \"tcp://{}\"\n", world.sshd.address());
    world.server.configure(&world.config.replace(&service, &taker.to()));
    success(&mut world.server.command(&["reload"]));
    let long = "what is sent comes back\n".repeat(20_000);
    for carrier in Carrier::ALL {
        let mut connect = world.client.connect(&["--carrier", carrier.name()]);
        let output = feed(&mut connect, long.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let (first, rest) = said.split_once('\n').expect("a line");
        assert!(rest == long, "{} bytes by {carrier}", rest.len());
        let line = world.server.connection(|line| line["carrier"] == carrier.name());
        if carrier == Carrier::Plain {
            let peer = line["peer"].as_str().expect("an address");
            assert_eq!(first, format!("b'\\x00' {peer} True"));
            assert_eq!(line["outcome"], "handed-over");
        } else {
            // The peer is behind posternd's TLS.
            assert_eq!(first, "b'\\x00' a pair True");
            assert_eq!(line["outcome"], "done");
        }
    }
    let warned = text(&finish(&mut world.server.command(&["check"])).stderr);
    assert!(warned.contains("keeps his connection when his key is revoked"), "{warned}");
    drop(taker);
    for carrier in Carrier::ALL {
        let message = failure(&mut world.client.connect(&["--carrier", carrier.name()]), 4);
        assert!(message.contains("'ssh' is down"), "{message}");
    }
}
