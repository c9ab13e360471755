//! A real sshd with keys of its own, for the user who runs the tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::net::{free_port, local, on_free_ports};
use crate::process::{Process, success};
use crate::scratch::Scratch;

#[derive(Debug)]
pub struct Sshd {
    pub process: Process,
    dir: PathBuf,
    port: u16,
}

impl Sshd {
    pub fn start(scratch: &Scratch) -> Sshd {
        let dir = scratch.dir("sshd");
        // Where sshd, started by root, locks its unprivileged part in. Others do not need it.
        let _ = fs::create_dir_all("/run/sshd");
        for key in ["host_key", "user_key"] {
            let mut keygen = Command::new("ssh-keygen");
            success(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(key)));
        }
        on_free_ports(|| Sshd::start_in(&dir))
    }

    fn start_in(dir: &Path) -> Result<Sshd, String> {
        let port = free_port();
        let config = dir.join("sshd_config");
        fs::write(&config, sshd_config(dir, port)).expect("write sshd_config");
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(config);
        let mut process = Process::spawn("sshd", &mut command, dir.join("sshd.log"));
        if !process.wrote(&dir.join("sshd.pid")) {
            return Err(process.log());
        }
        Ok(Sshd { process, dir: dir.to_owned(), port })
    }

    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    /// Its configuration, by which it can also be started for one connection.
    pub fn config(&self) -> PathBuf {
        self.dir.join("sshd_config")
    }

    /// The private key that it lets in.
    pub fn user_key(&self) -> PathBuf {
        self.dir.join("user_key")
    }

    /// A line of known_hosts under which every name means this sshd and no other.
    pub fn known_host(&self) -> String {
        let key = fs::read_to_string(self.dir.join("host_key.pub")).expect("read the host key");
        format!("* {key}")
    }
}

fn sshd_config(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "ListenAddress 127.0.0.1:{port}
PidFile {dir}/sshd.pid
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/user_key.pub
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 200
MaxSessions 100
LogLevel VERBOSE
Subsystem sftp internal-sftp
"
    )
}
