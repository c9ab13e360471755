//! A service that sees its visitors' own addresses: on another machine, on this one, in IPv4 and IPv6. The
//! machines are network namespaces, which only root can make.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use postern_tests::net::local;
use postern_tests::posternd::binary;
use postern_tests::process::{Process, text};
use postern_tests::{Machine, Scratch, finish, posternd, success, until};
use rustix::process::geteuid;

/// Says to each who has spoken who it seems to be, on the addresses given.
const BACKEND: &str = r#"
import socket, sys, threading
def serve(listener):
    while True:
        connection, peer = listener.accept()
        connection.recv(16)
        connection.sendall((peer[0] + "\n").encode())
        connection.close()
for host in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 8080), family=family)
    threading.Thread(target=serve, args=(listener,)).start()
open(sys.argv[1], "w").close()
"#;

/// Visits an address and prints what it is told.
const VISITOR: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60)
connection.sendall(b"hi\n")
print(connection.makefile().read(), end="")
"#;

/// Who the visitor on this machine seems to be.
fn visit(machine: &Machine, to: SocketAddr) -> IpAddr {
    let mut python = machine.run("python3");
    python.args(["-c", VISITOR, &to.ip().to_string(), &to.port().to_string()]);
    let said = success(&mut python);
    said.trim().parse().unwrap_or_else(|_| panic!("{said:?} is no address"))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn the_service_sees_the_visitor_s_own_address() {
    let machines = ["v", "p", "b"].map(Machine::new);
    let [Some(visitor), Some(gate), Some(backend)] = &machines else {
        eprintln!("skipped: it takes root, ip and the right to make network namespaces");
        return;
    };
    visitor.connect(
        "front",
        &["10.90.1.2/24", "fd90:1::2/64"],
        gate,
        &["10.90.1.1/24", "fd90:1::1/64"],
    );
    gate.connect(
        "back",
        &["10.90.2.1/24", "fd90:2::1/64"],
        backend,
        &["10.90.2.2/24", "fd90:2::2/64"],
    );
    // As contrib/transparent.md has it: answers come back by way of posternd's machine, and are its own there.
    backend.ip("route add default via 10.90.2.1");
    backend.ip("-6 route add default via fd90:2::1");
    for family in ["-4", "-6"] {
        gate.ip(&format!("{family} rule add iif back lookup 100"));
        gate.ip(&format!("{family} route add local default dev lo table 100"));
    }
    gate.ip("-4 rule add from 127.0.0.0/8 iif lo lookup 100");
    gate.ip("addr add fd90:3::1/128 dev lo");
    gate.ip("-6 rule add from fd90:3::1 iif lo lookup 100");
    let localnet = "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet";
    success(gate.run("sh").args(["-c", localnet]));

    let scratch = Scratch::new();
    let script = scratch.write("backend.py", BACKEND);
    let start = |machine: &Machine, name: &str, hosts: &[&str]| {
        let ready = scratch.path(&format!("{name}.ready"));
        let mut python = machine.run("python3");
        python.arg(&script).arg(&ready).args(hosts);
        let mut process =
            Process::spawn("python3", &mut python, scratch.path(&format!("{name}.log")));
        assert!(process.wrote(&ready), "{}", process.log());
        process
    };
    let _far = start(backend, "far", &["10.90.2.2", "fd90:2::2"]);
    let _near = start(gate, "near", &["127.0.0.1", "fd90:3::1"]);

    let listen = ["10.90.1.1:443", "10.90.1.1:444", "[fd90:1::1]:443", "127.0.0.1:443"];
    let config = format!(
        "listen = {listen:?}\nfallback = \"far\"\nstate = \"state\"\n\
         [service.far]\nto = \"tcp://10.90.2.2:8080\"\ntransparent = true\n\
         [service.far6]\nto = \"tcp://[fd90:2::2]:8080\"\ntransparent = true\n\
         [service.near]\nto = \"tcp://127.0.0.1:8080\"\ntransparent = true\n\
         [[route]]\nfrom = [\"fd90:1::2\"]\nservice = \"far6\"\n\
         [service.near6]\nto = \"tcp://[fd90:3::1]:8080\"\ntransparent = true\n\
         [[route]]\nfrom = [\"fd90:1::3\"]\nservice = \"near6\"\n\
         [[route]]\nfrom = [\"10.90.1.3\"]\nservice = \"near\"\n"
    );
    let file = scratch.write("posternd.toml", config);
    let mut run = gate.run(binary("posternd").to_str().expect("a path"));
    run.args(["run", "-c"]).arg(&file);
    let server = Process::spawn("posternd", &mut run, scratch.path("posternd.log"));
    until("posternd to listen", || {
        (server.log().matches("listening").count() == listen.len()).then_some(())
    });
    let at = |host: &str| SocketAddr::new(address(host), 443);
    for _ in 0..3 {
        assert_eq!(visit(visitor, at("10.90.1.1")), address("10.90.1.2"), "{}", server.log());
    }
    assert_eq!(visit(visitor, at("fd90:1::1")), address("fd90:1::2"), "{}", server.log());
    assert_eq!(visit(gate, at("127.0.0.1")), address("10.90.2.1"), "loopback goes nowhere else");
    // Visitors of services on the same machine.
    visitor.ip("addr add fd90:1::3/64 dev front nodad");
    visitor.ip("-6 route add fd90:1::1 dev front src fd90:1::3");
    assert_eq!(visit(visitor, at("fd90:1::1")), address("fd90:1::3"), "{}", server.log());
    visitor.ip("addr add 10.90.1.3/24 dev front");
    visitor.ip("route add 10.90.1.1 dev front src 10.90.1.3");
    assert_eq!(visit(visitor, at("10.90.1.1")), address("10.90.1.3"), "{}", server.log());
}

#[test]
fn check_says_what_is_missing() {
    if !geteuid().is_root() {
        eprintln!("skipped: only root can give up a right");
        return;
    }
    let scratch = Scratch::new();
    let config = posternd::config(local(9), "transparent = true\n");
    let file = scratch.write("posternd.toml", config);
    let without = "-net_admin,-net_raw";
    let mut check = Command::new("setpriv");
    check.args(["--bounding-set", without, "--inh-caps", without]).arg(binary("posternd"));
    let output = finish(check.args(["check", "-c"]).arg(&file));
    let said = text(&output.stderr);
    assert!(said.contains("CAP_NET_ADMIN") && said.contains("contrib/transparent.md"), "{said}");
    let output = finish(posternd::posternd(&["check", "-c"]).arg(&file));
    assert!(!text(&output.stderr).contains("transparent"), "{output:?}");
}
