//! HAProxy's TCP rules: nginx, Apache, ocserv, monit, Shadowsocks and ssh on one port.

use std::fs;
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use postern_tests::net::{Then, connect};
use postern_tests::{Nginx, Process, Scratch, Sshd, bounded, exchange, success, until};

use super::{greeting, ours};

const PASSWORD: &str = "not much of a secret";

fn apache(scratch: &Scratch, certificate: &Path) -> (SocketAddr, Process) {
    let dir = scratch.dir("apache");
    fs::write(dir.join("who"), "Apache").expect("write a page");
    Process::listening(scratch, "apache2", |address| {
        let (root, crt) = (dir.display(), certificate.display());
        let key = certificate.with_extension("key");
        let modules = ["mpm_event", "authz_core", "ssl"].map(|name| {
            format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
        });
        let config = format!(
            "{}ServerRoot {root}\nServerName apache.example.com\nPidFile {root}/pid\nErrorLog {root}/error.log\n\
             Mutex file:{root}\nDocumentRoot {root}\nListen {address}\nSSLEngine on\n\
             SSLCertificateFile {crt}\nSSLCertificateKeyFile {}\n",
            modules.concat(),
            key.display()
        );
        let mut command = Command::new("/usr/sbin/apache2");
        command.arg("-X").arg("-f").arg(scratch.write("apache.conf", config));
        command
    })
}

fn monit(scratch: &Scratch, certificate: &Path) -> (SocketAddr, Process) {
    let dir = scratch.dir("monit");
    let pem = [certificate.with_extension("key"), certificate.to_owned()]
        .map(|path| fs::read_to_string(path).expect("read"));
    let pem = scratch.write("monit.pem", pem.concat());
    private(&pem);
    Process::listening(scratch, "monit", |address| {
        let (dir, pem) = (dir.display(), pem.display());
        let config = format!(
            "set daemon 60\nset idfile {dir}/id\nset statefile {dir}/state\nset pidfile {dir}/pid\n\
             set httpd port {} and use address 127.0.0.1 with ssl {{ pemfile: {pem} }}\n allow admin:monit\n",
            address.port()
        );
        let file = scratch.write("monitrc", config);
        private(&file);
        let mut command = Command::new("monit");
        command.arg("-I").arg("-c").arg(file);
        command
    })
}

/// monit takes no file that others may read.
fn private(file: &Path) {
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("chmod");
}

fn ocserv(scratch: &Scratch, certificate: &Path) -> (SocketAddr, Process) {
    let passwords = scratch.write("ocpasswd", "");
    Process::listening(scratch, "ocserv", |address| {
        let (crt, key) = (certificate.display(), certificate.with_extension("key"));
        let config = format!(
            "auth = \"plain[passwd={}]\"\ntcp-port = {}\nlisten-host = 127.0.0.1\nrun-as-user = nobody\n\
             run-as-group = nogroup\nsocket-file = {}\nserver-cert = {crt}\nserver-key = {}\n\
             isolate-workers = false\ndevice = vpns\nipv4-network = 10.66.66.0/24\n",
            passwords.display(),
            address.port(),
            scratch.path("ocserv.sock").display(),
            key.display()
        );
        let mut command = Command::new("/usr/sbin/ocserv");
        command.arg("-f").arg("-c").arg(scratch.write("ocserv.conf", config));
        command
    })
}

fn shadowsocks(program: &'static str, at: SocketAddr, more: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(["-s", "127.0.0.1", "-k", PASSWORD, "-m", "aes-256-gcm", "-p"]);
    command.arg(at.port().to_string()).args(more);
    command
}

#[test]
fn six_services_on_one_port() {
    let scratch = Scratch::new();
    let syslog = UnixDatagram::bind(scratch.path("log.sock")).expect("bind");
    syslog.set_read_timeout(Some(Duration::from_secs(60))).expect("set a timeout");
    let (nginx, sshd) = (Nginx::start(&scratch), Sshd::start(&scratch));
    let certificate = nginx.certificate();
    let (apache, _apache) = apache(&scratch, &certificate);
    let (monit, _monit) = monit(&scratch, &certificate);
    let (ocserv, _ocserv) = ocserv(&scratch, &certificate);
    let (shadow, _shadow) =
        Process::listening(&scratch, "ss-server", |address| shadowsocks("ss-server", address, &[]));
    let server = ours(
        &scratch,
        "haproxy.md",
        &[
            ("127.0.0.1:8443", nginx.https()),
            ("127.0.0.1:8444", apache),
            ("127.0.0.1:4443", ocserv),
            ("127.0.0.1:2812", monit),
            ("127.0.0.1:8388", shadow),
            ("127.0.0.1:22", sshd.address()),
        ],
    );
    let door = server.address();
    let get = |name: &str, path: &str| {
        let mut curl = bounded("curl");
        curl.args(["-sik", "--resolve", &format!("{name}:{}:127.0.0.1", door.port())]);
        success(curl.arg(format!("https://{name}:{}{path}", door.port())))
    };
    assert!(get("apache.example.com", "/who").ends_with("Apache"), "by an exact name");
    assert!(get("APACHE.example.com", "/who").ends_with("Apache"), "in any case");
    assert!(get("a.vpn.example.com", "/").contains("X-Transcend-Version"), "by a suffix");
    assert!(get("anything.example.net", "/").contains("Nothing to see here"), "by any name");
    assert!(get("vpn.example.com", "/").contains("Nothing to see here"), "by any name");
    assert!(get("127.0.0.1", "/").to_lowercase().contains("realm=\"monit\""), "by none");

    // What Shadowsocks says is neither TLS nor ssh nor anything else that is known.
    let (local, _local) = Process::listening(&scratch, "ss-local", |address| {
        shadowsocks("ss-local", door, &["-l", &address.port().to_string()])
    });
    let mut curl = bounded("curl");
    curl.args(["-s", "--socks5", &local.to_string(), &format!("http://{}/", nginx.http())]);
    assert!(success(&mut curl).contains("Nothing to see here"), "through Shadowsocks");

    let banner = greeting(door);
    assert!(banner.starts_with("SSH-2.0-OpenSSH"), "the silent are greeted by ssh: {banner}");
    let seen = exchange(door, b"SSH-2.0-x\r\n", Then::Fin);
    assert!(seen.bytes.starts_with(b"SSH-2.0-OpenSSH"), "those who talk ssh, too: {seen:?}");

    // Of whoever comes and goes without a word there is no line, of the others there is.
    let silent = connect(door);
    silent.shutdown(Shutdown::Write).expect("shut down");
    drop(silent);
    let mut buffer = [0; 8192];
    let mut line = || {
        let count = syslog.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..count].to_vec()).expect("text")
    };
    let line = until("the line of what Shadowsocks carried", || {
        Some(line()).filter(|line| line.contains("service=\"shadowsocks\""))
    });
    for part in ["<134>", "peer=127.0.0.1:", "rule=7", "outcome=", "up=", "down=", "ms="] {
        assert!(line.contains(part), "{part} in {line}");
    }
}
