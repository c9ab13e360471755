//! What stands in ssh's configuration for a profile, and where. Never relies on a shell to leave a
//! path as it is.

mod install;

use std::env;
use std::fs;
use std::path::PathBuf;

use postern_shared::knock::Carrier;

use crate::error::Error;
use crate::names::{ProfileName, User};
use crate::out;
use crate::profile::Store;

/// Prints a profile's stanza, or writes it where ssh finds it.
pub fn ssh_config(
    name: &ProfileName,
    user: Option<&User>,
    fdpass: bool,
    write: bool,
) -> Result<(), Error> {
    // A stanza for a profile that cannot be used would only fail later, and within ssh.
    let profile = Store::open()?.load(name)?;
    if fdpass && !profile.carriers.contains(&Carrier::Plain) {
        return Err(Error::Usage(format!(
            "--fdpass needs the plain carrier, which the invite of {name} does not offer; leave \
             --fdpass out"
        )));
    }
    let stanza = stanza(name, user, fdpass, &program()?);
    if !write {
        return out::out(&stanza);
    }
    let file = install::install(name, &stanza)?;
    out::out(&format!("{} now holds {name}.\nNext: ssh {name}\n", file.display()))
}

fn stanza(name: &ProfileName, user: Option<&User>, fdpass: bool, program: &str) -> String {
    let user = user.map_or_else(String::new, |user| format!("    User {user}\n"));
    let (options, taken) =
        if fdpass { (" --carrier plain --fdpass", "    ProxyUseFdpass yes\n") } else { ("", "") };
    format!(
        "Host {name}\n    HostKeyAlias {name}\n{user}    \
         ProxyCommand {program} connect {name}{options}\n{taken}"
    )
}

/// How a shell calls this very program.
fn program() -> Result<String, Error> {
    let cannot = |error| Error::Local(format!("cannot find this program's own path: {error}"));
    let this = env::current_exe().and_then(fs::canonicalize).map_err(cannot)?;
    if on_path("postern").is_some_and(|found| found == this) {
        return Ok("postern".to_owned());
    }
    this.to_str().and_then(quote).ok_or_else(|| {
        let path = this.display();
        Error::Local(format!("{path:?} cannot stand in ssh's configuration; install it elsewhere"))
    })
}

/// The program that a shell would run; without relative directories, as ssh runs anywhere.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
        .and_then(|file| fs::canonicalize(file).ok())
}

/// Quotes for the shell, and `%` for ssh, which expands it first. `None` where a line would break.
fn quote(path: &str) -> Option<String> {
    if path.chars().any(char::is_control) {
        return None;
    }
    let path = path.replace('%', "%%");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+%".contains(c);
    if path.chars().all(plain) {
        return Some(path);
    }
    Some(format!("'{}'", path.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_reads_like_one() {
        let name = "bob".parse().expect("a name");
        let user = "alice".parse().expect("a name");
        assert_eq!(
            stanza(&name, Some(&user), false, "postern"),
            "Host bob\n    HostKeyAlias bob\n    User alice\n    ProxyCommand postern connect bob\n"
        );
        assert_eq!(
            stanza(&name, None, true, "postern"),
            "Host bob\n    HostKeyAlias bob\n    \
             ProxyCommand postern connect bob --carrier plain --fdpass\n    ProxyUseFdpass yes\n"
        );
    }

    #[test]
    fn a_path_survives_ssh_and_the_shell() {
        for (path, quoted) in [
            ("/usr/bin/postern", Some("/usr/bin/postern")),
            ("/home/a b/postern", Some("'/home/a b/postern'")),
            ("/opt/it's/postern", Some(r"'/opt/it'\''s/postern'")),
            ("/opt/100%h/$HOME/postern", Some("'/opt/100%%h/$HOME/postern'")),
            ("/opt/a\nHost b/postern", None),
        ] {
            assert_eq!(quote(path).as_deref(), quoted, "{path}");
        }
    }
}
