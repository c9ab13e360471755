//! A program that posternd runs, and how each of them begins: with none of posternd's rights but those of
//! its user, and with nothing of its environment that could be a secret. Never involves a shell.
//!
//! It leads a session of its own and inherits no descriptor but the standard three. Of posternd's
//! environment it gets PATH, LANG and TZ; HOME, USER, LOGNAME and SHELL are there where it runs as another
//! user. Its limit on open files is the one that posternd was started with. Capabilities that posternd has
//! without being root (AmbientCapabilities=) it has not.

use std::fmt;
use std::io;
use std::process::Command;
use std::sync::OnceLock;

use rustix::process::Rlimit;

use crate::sys::{self, Account, Settled};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The limit on open files that posternd was started with; its own is raised.
static OPEN_FILES: OnceLock<Rlimit> = OnceLock::new();

/// Says with which limit on open files programs are to run.
pub fn set_open_files(limit: Rlimit) {
    // A posternd that is started twice in one process, as in tests, was raised before the second time.
    let _ = OPEN_FILES.set(limit);
}

/// What `exec:` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The program's absolute path.
    pub path: String,
    pub arguments: Vec<String>,
    /// Whose rights it has, where those are not posternd's own.
    pub(crate) account: Option<Account>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

impl Program {
    /// Whether there is something that can be run.
    pub(crate) fn is_there(&self) -> io::Result<()> {
        Ok(rustix::fs::access(self.path.as_str(), rustix::fs::Access::EXEC_OK)?)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        command.args(&self.arguments).env_clear().env("PATH", path);
        for name in ["LANG", "TZ"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        if let Some(account) = &self.account {
            command.env("HOME", &account.home).env("SHELL", &account.shell);
            command.env("USER", &account.name).env("LOGNAME", &account.name);
        }
        let open_files = OPEN_FILES.get().cloned();
        sys::settle(&mut command, Settled { open_files, account: self.account.clone() });
        command
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{
        CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities,
    };

    use super::*;

    #[test]
    fn a_child_has_no_ambient_capability() {
        let low_ports = CapabilitySet::NET_BIND_SERVICE;
        let mut own = capabilities(None).expect("told");
        if !own.permitted.contains(low_ports) {
            eprintln!("skipped: there is no capability to pass on; run as root");
            return;
        }
        // This thread's, and so of no other test.
        own.inheritable |= low_ports;
        set_capabilities(None, own).expect("set");
        configure_capability_in_ambient_set(low_ports, true).expect("raised");
        let arguments = ["CapAmb", "/proc/self/status"].map(str::to_owned);
        let ambient = |mut command: Command| {
            String::from_utf8(command.output().expect("it runs").stdout).expect("text")
        };
        let mut plain = Command::new("/bin/grep");
        plain.args(&arguments);
        assert_eq!(ambient(plain), "CapAmb:\t0000000000000400\n");
        let path = "/bin/grep".to_owned();
        let program = Program { path, arguments: arguments.into(), account: None };
        assert_eq!(ambient(program.command()), "CapAmb:\t0000000000000000\n");
    }
}
