//! tcpmux's sample configuration: hand-over, `sshd -i` behind an access program, echo, and identifiers.

use std::fs;
use std::path::Path;
use std::process::Command;

use postern_tests::net::{Then, free_port, local};
use postern_tests::process::Process;
use postern_tests::{Client, Posternd, Scratch, Sshd, bounded, exchange, success, until};
use rustix::process::{Signal, geteuid};

use super::adapted;

/// A web server that is given its connections: it appears at the path when it is ready.
const HTTP: &str = r#"
import http.server, os, socket, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("handed over: %s:%d" % self.client_address).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind(sys.argv[1] + ".new")
listener.listen(100)
os.rename(sys.argv[1] + ".new", sys.argv[1])
while True:
    unix, _ = listener.accept()
    _, descriptors, _, _ = socket.recv_fds(unix, 4096, 1)
    unix.close()
    connection = socket.socket(fileno=descriptors[0])
    Page(connection, connection.getpeername(), None)
    connection.close()
"#;

/// For one connection, which is its stdin and stdout.
const ONCE: &str = r#"
end=$(printf '\r')
while read -r line && [ "$line" != "$end" ]; do :; done
printf 'HTTP/1.1 200 OK\r\n\r\nby a program'
"#;

fn contrib(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(name);
    path.canonicalize().expect("it is there").display().to_string()
}

struct Sample {
    server: Posternd,
    sshd: Sshd,
    http: Process,
    scratch: Scratch,
}

fn sample() -> Sample {
    let scratch = Scratch::new();
    let sshd = Sshd::start(&scratch);
    let socket = scratch.path("http.sock");
    let mut command = Command::new("python3");
    command.arg(scratch.write("web.py", HTTP)).arg(&socket);
    let mut http = Process::spawn("python3", &mut command, scratch.path("http.log"));
    assert!(http.wrote(&socket), "{}", http.log());
    let module = fs::read_to_string(contrib("identifiers/echo.wat")).expect("read");
    let module = wat::parse_str(module.replace("\"echo \"", "\"wasm \"")).expect("a module");
    let module = scratch.write("echo.wasm", module);
    let rules = scratch.write("access.rules", "allow ssh - 127.0.0.0/8 *\n");
    let once = scratch.write("http-once", ONCE);
    let mut words = vec![
        ("/run/http.sock".to_owned(), socket.display().to_string()),
        ("/usr/local/bin/http-once".to_owned(), format!("/bin/sh {}", once.display())),
        (
            "/usr/sbin/sshd -i".to_owned(),
            format!("/usr/sbin/sshd -i -f {}", sshd.config().display()),
        ),
        (
            "/usr/lib/postern/allow /etc/postern/access.rules".to_owned(),
            format!("{} {}", contrib("access/allow"), rules.display()),
        ),
        ("/usr/lib/postern/identify-echo".to_owned(), contrib("identifiers/identify-echo")),
        ("/usr/lib/postern/echo.wasm".to_owned(), module.display().to_string()),
    ];
    if !geteuid().is_root() {
        words.push(("user   = \"root\"\n".to_owned(), String::new()));
    }
    let server = adapted(&scratch, "tcpmux.md", &words);
    Sample { server, sshd, http, scratch }
}

#[test]
fn its_sample_configuration() {
    let Sample { server, sshd, mut http, scratch } = sample();
    let door = server.address();
    let get = || success(bounded("curl").arg("-s").arg(format!("http://{door}/")));
    assert!(get().starts_with("handed over: 127.0.0.1:"), "{}", get());

    // Echo, as a program says that it is, and as a module does.
    for (said, service) in [("echo hello", "echo"), ("wasm hello", "echo-by-module")] {
        let seen = exchange(door, said.as_bytes(), Then::Fin);
        assert_eq!(seen.bytes, said.as_bytes());
        until("its line", || {
            server.process.log().contains(&format!("service=\"{service}\"")).then_some(())
        });
    }

    // ssh, as the access program's rules allow, and then as they do not.
    let client = Client::uninvited(&scratch, "laptop");
    client.use_ssh(&sshd);
    let said = || {
        let mut ssh = client.openssh("ssh");
        ssh.args(["-o", &format!("HostName={}", door.ip()), "-p", &door.port().to_string()]);
        ssh.args(["elsewhere", "echo $SSH_CONNECTION"]).output().expect("ssh runs")
    };
    let allowed = String::from_utf8(said().stdout).expect("text");
    assert!(
        allowed.starts_with("127.0.0.1 ") && allowed.contains(&door.port().to_string()),
        "{allowed}"
    );
    scratch.write("access.rules", "deny * * * *\n");
    success(&mut server.command(&["reload"]));
    until("the rules to be read again", || {
        // It reads them when it starts.
        let pids = postern_tests::process::children(server.process.pid());
        pids.iter().for_each(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if line.contains("access/allow") {
                postern_tests::process::send(*pid, Signal::TERM);
            }
        });
        (!said().status.success()).then_some(())
    });
    until("the refusal", || server.process.log().contains("refused=\"access\"").then_some(()));

    // Where nobody takes http's connections, a program is run for each.
    http.signal(Signal::TERM);
    http.wait();
    assert_eq!(get(), "by a program");
}

/// `tcpmux -p`.
#[test]
fn another_port_by_the_command_line() {
    let Sample { server, sshd: _sshd, http: _http, scratch } = sample();
    let address = local(free_port());
    let file = server.file().to_owned();
    drop(server);
    let mut command = Command::new(postern_tests::posternd::binary("posternd"));
    command.args(["run", "--listen", &address.to_string(), "-c"]).arg(file);
    let process = Process::spawn("posternd", &mut command, scratch.path("another.log"));
    until("it to listen there", || process.log().contains(&address.to_string()).then_some(()));
    assert_eq!(exchange(address, b"echo hello", Then::Fin).bytes, b"echo hello");
}
