//! The system's sshd as the demo's private service: run per connection as the current user, with keys
//! and a configuration of its own. Touches nothing of the user's ssh.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use postern_shared::knock::Carrier;

use super::{Demo, PROFILE, find_on_path};

/// Paths of one demo's sshd.
pub(super) struct Sshd {
    program: PathBuf,
    directory: PathBuf,
    user: String,
}

impl Sshd {
    /// `None` where OpenSSH is not installed.
    pub(super) fn set_up(directory: &Path) -> anyhow::Result<Option<Sshd>> {
        let programs = ["sshd", "ssh", "ssh-keygen"].map(find_on_path);
        let [Some(program), Some(_), Some(keygen)] = programs else { return Ok(None) };
        fs::create_dir(directory)?;
        let key = |name: &str| -> anyhow::Result<()> {
            let made = Command::new(&keygen)
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "postern demo", "-f"])
                .arg(directory.join(name))
                .stdin(Stdio::null())
                .output()?;
            if !made.status.success() {
                bail!("ssh-keygen failed: {}", String::from_utf8_lossy(&made.stderr).trim());
            }
            Ok(())
        };
        key("host_key")?;
        key("user_key")?;
        let root = rustix::process::geteuid().is_root();
        if root {
            // sshd's privilege separation directory, which Debian makes only when the service starts.
            fs::create_dir_all("/run/sshd").context("sshd run by root needs /run/sshd")?;
        }
        let user = Command::new("id").arg("-un").output().context("`id -un` does not run")?;
        let user = String::from_utf8_lossy(&user.stdout).trim().to_owned();
        let sshd = Sshd { program, directory: directory.to_owned(), user };
        fs::write(sshd.file("sshd_config"), sshd.configuration())?;
        Ok(Some(sshd))
    }

    /// The service's `to`.
    pub(super) fn target(&self) -> String {
        let (config, log) = (self.file("sshd_config"), self.log());
        let (program, config, log) = (self.program.display(), config.display(), log.display());
        format!("exec:\"{program}\" -i -f \"{config}\" -E \"{log}\"")
    }

    /// What to run by ssh. An sshd that is not root's cannot record a login, and on many systems refuses
    /// a terminal for it.
    pub(super) fn command(&self) -> &'static str {
        if rustix::process::geteuid().is_root() { "" } else { " uname -a" }
    }

    pub(super) fn ssh_config(&self) -> PathBuf {
        self.file("ssh_config")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.file("sshd.log")
    }

    /// The host `demo`, and one for each other carrier, for the current user.
    pub(super) fn write_ssh_config(&self, demo: &Demo) -> anyhow::Result<()> {
        let host_key = fs::read_to_string(self.file("host_key.pub"))?;
        fs::write(self.file("known_hosts"), format!("{PROFILE} {host_key}"))?;
        let environment: Vec<_> = demo
            .client_environment()
            .iter()
            .map(|(variable, directory)| format!("{variable}={}", directory.display()))
            .collect();
        let (environment, postern) = (environment.join(" "), demo.postern.display());
        let (user, user_key, known_hosts) =
            (&self.user, self.file("user_key"), self.file("known_hosts"));
        let (user_key, known_hosts) = (user_key.display(), known_hosts.display());
        let hosts: String = Carrier::ALL
            .into_iter()
            .map(|carrier| {
                let host = super::host(carrier);
                format!(
                    "Host {host}\n    ProxyCommand env {environment} {postern} connect {PROFILE} --carrier {carrier}\n"
                )
            })
            .collect();
        let text = format!(
            "{hosts}Host demo*\n    User {user}\n    HostKeyAlias {PROFILE}\n    IdentityFile {user_key}\n    \
             IdentitiesOnly yes\n    UserKnownHostsFile {known_hosts}\n    StrictHostKeyChecking yes\n    \
             LogLevel ERROR\n"
        );
        Ok(fs::write(self.ssh_config(), text)?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn configuration(&self) -> String {
        let at = |name: &str| self.file(name).display().to_string();
        let (host_key, user_key) = (at("host_key"), at("user_key.pub"));
        format!(
            "HostKey {host_key}\nAuthorizedKeysFile {user_key}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PrintMotd no\nSubsystem sftp internal-sftp\n"
        )
    }
}
