//! A network that swallows every packet for a while, without a FIN: laptop, router and server are machines of
//! their own, and the router forgets the way.

use std::thread;
use std::time::{Duration, Instant};

use postern_tests::expose::{certify, exposing_config, profile};
use postern_tests::posternd::binary;
use postern_tests::{Client, Machine, Process, Scratch, posternd, success, until};
use serde_json::Value;

/// Sends numbers, reads them back, and says how many came back right; one each so many seconds.
const VISITOR: &str = r#"
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", 8000), 60)
connection.settimeout(120)
right = 0
for number in range(int(sys.argv[1])):
    word = number.to_bytes(4, "big") * 500
    connection.sendall(word)
    back = b""
    while len(back) < len(word):
        piece = connection.recv(len(word) - len(back))
        if not piece: sys.exit(f"ended after {right} words")
        back += piece
    if back != word: sys.exit(f"word {number} came back as another one")
    right += 1
    print(right, flush=True)
    time.sleep(float(sys.argv[2]))
connection.shutdown(socket.SHUT_WR)
if connection.recv(1): sys.exit("more came back than was sent")
"#;

/// Sends back what comes.
const ECHO: &str = r#"
import socket, sys, threading
def serve(connection):
    while True:
        piece = connection.recv(65536)
        if not piece: break
        connection.sendall(piece)
    connection.close()
listener = socket.create_server(("127.0.0.1", 3000))
open(sys.argv[1], "w").close()
while True:
    connection, _ = listener.accept()
    threading.Thread(target=serve, args=(connection,), daemon=True).start()
"#;

struct World {
    _expose: Process,
    _posternd: Process,
    _echo: Process,
    scratch: Scratch,
    laptop: Machine,
    router: Machine,
    server: Machine,
}

/// `None` where namespaces cannot be made.
fn world() -> Option<World> {
    let [Some(laptop), Some(router), Some(server)] = ["l", "r", "s"].map(Machine::new) else {
        eprintln!("skipped: it takes root, ip and the right to make network namespaces");
        return None;
    };
    laptop.connect("near", &["10.91.1.2/24"], &router, &["10.91.1.1/24"]);
    router.connect("far", &["10.91.2.1/24"], &server, &["10.91.2.2/24"]);
    laptop.ip("route add default via 10.91.1.1");
    server.ip("route add default via 10.91.2.1");
    success(router.run("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]));

    let scratch = Scratch::new();
    certify(&scratch, &["ssh.example.com"]);
    let script = scratch.write("echo.py", ECHO);
    let ready = scratch.path("echo.ready");
    let mut python = laptop.run("python3");
    let mut echo =
        Process::spawn("python3", python.arg(script).arg(&ready), scratch.path("echo.log"));
    assert!(echo.wrote(&ready), "{}", echo.log());

    let config = exposing_config("expose = \"100s\"\n[[expose]]\nlisten = \"127.0.0.1:8000\"\n");
    let config = config.replace("PUBLIC", "10.91.2.2:443");
    let listen = config.lines().next().expect("it begins with `listen`").to_owned();
    let config = config.replacen(&listen, "listen = [\"10.91.2.2:443\"]", 1);
    let file = scratch.write("posternd.toml", config);
    let invite = success(
        posternd::posternd(&["client", "add", "laptop", "-c"])
            .arg(&file)
            .args(["--expose", "tcp:8000"]),
    );
    let mut run = server.run(binary("posternd").to_str().expect("a path"));
    run.args(["run", "-c"]).arg(&file);
    let posternd = Process::spawn("posternd", &mut run, scratch.path("posternd.log"));
    let client = Client::join(&scratch, "laptop", &invite);
    assert!(profile(&client).exists());
    let mut run = laptop.run(binary("postern").to_str().expect("a path"));
    run.env("HOME", client.home()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME");
    run.args(["expose", "8000", "--to", "3000", "--profile", "laptop"]);
    let expose = Process::spawn("postern expose", &mut run, scratch.path("expose.log"));
    let world = World {
        _expose: expose,
        _posternd: posternd,
        _echo: echo,
        scratch,
        laptop,
        router,
        server,
    };
    world.until_held();
    Some(world)
}

impl World {
    /// Who holds the entrance, in posternd's words.
    fn holders(&self) -> Option<Vec<Value>> {
        let file = self.scratch.path("posternd.toml");
        let output = posternd::posternd(&["status", "--json", "-c"]).arg(file).output().ok()?;
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["entrances"][0]["holders"].as_array().cloned()
    }

    fn until_held(&self) {
        until("the entrance to be held", || {
            let idle = self.holders()?.first()?["idle"].as_u64()?;
            (idle > 0).then_some(())
        });
    }

    /// Until posternd has given up on the laptop.
    fn until_free(&self) {
        until("the entrance to be free", || self.holders()?.is_empty().then_some(()));
    }

    /// From now on packets between laptop and server are swallowed.
    fn cut(&self) {
        self.router.ip("route add blackhole 10.91.1.2/32");
        self.router.ip("route add blackhole 10.91.2.2/32");
    }

    fn mend(&self) {
        self.router.ip("route del blackhole 10.91.1.2/32");
        self.router.ip("route del blackhole 10.91.2.2/32");
    }

    fn visitor(&self, name: &str, words: u32, pause: &str) -> Process {
        let mut python = self.server.run("python3");
        python.args(["-c", VISITOR, &words.to_string(), pause]);
        Process::spawn("a visitor", &mut python, self.scratch.path(name))
    }
}

fn finish(mut visitor: Process) {
    let status = visitor.wait();
    assert!(status.success(), "{status}: {}", visitor.log());
}

#[test]
fn a_short_cut_costs_nobody_a_byte() {
    let Some(world) = world() else { return };
    let visitor = world.visitor("visitor.log", 30, "0.1");
    until("words to pass", || visitor.log().lines().nth(4).map(drop));
    world.cut();
    // Long enough for several retransmissions, too short for the connection to be given up.
    thread::sleep(Duration::from_secs(3));
    world.mend();
    finish(visitor);
}

#[test]
fn a_long_cut_keeps_the_port_and_the_first_visitor_has_the_new_connection() {
    let Some(world) = world() else { return };
    finish(world.visitor("before.log", 3, "0"));
    world.cut();
    // He comes while the server does not know yet, and waits; nobody is refused, then or later.
    let early = world.visitor("early.log", 3, "0");
    world.until_free();
    let late = world.visitor("late.log", 3, "0");
    thread::sleep(Duration::from_secs(1));
    let mended = Instant::now();
    world.mend();
    finish(late);
    eprintln!("the first visitor was served {:?} after the network came back", mended.elapsed());
    finish(early);
    finish(world.visitor("after.log", 3, "0"));
}

#[test]
fn a_changed_network_is_noticed_at_once() {
    let Some(world) = world() else { return };
    // Another address, as when a laptop moves: the old connections are dead, and say nothing.
    world.laptop.ip("addr del 10.91.1.2/24 dev near");
    world.laptop.ip("addr add 10.91.1.3/24 dev near");
    world.laptop.ip("route add default via 10.91.1.1");
    until("the laptop to come by its new address", || from(&world, "10.91.1.3"));
    finish(world.visitor("moved.log", 3, "0"));
}

fn from(world: &World, address: &str) -> Option<()> {
    let status =
        success(posternd::posternd(&["status", "-c"]).arg(world.scratch.path("posternd.toml")));
    status.contains(address).then_some(())
}
