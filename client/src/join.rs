//! Makes a profile from an invite. Takes it from standard input alone: it is a secret, and arguments
//! can be seen by all.

use std::io::{self, BufRead, IsTerminal, Read};

use postern_shared::invite::Invite;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::names::ProfileName;
use crate::out;
use crate::profile::{Profile, Store};

/// Twice the longest invite.
const MAX: u64 = 16 * 1024;

pub fn join(name: Option<ProfileName>, force: bool) -> Result<(), Error> {
    let stdin = io::stdin().lock();
    if stdin.is_terminal() {
        out::complain("paste the invite, one line that begins with postern://, and press Enter");
    }
    let mut line = Zeroizing::new(String::with_capacity(1024));
    stdin
        .take(MAX)
        .read_line(&mut line)
        .map_err(|error| Error::Local(format!("cannot read the invite: {error}")))?;
    let invite = Invite::from_link(&line).map_err(|error| Error::Local(error.to_string()))?;
    let profile = Profile::from_invite(invite)?;
    let name = match name {
        Some(name) => name,
        None => profile.host.as_str().parse().map_err(|error| {
            Error::Usage(format!("{} cannot name a profile ({error}); give a name", profile.host))
        })?,
    };
    let store = Store::open()?;
    // What this machine exposes is no matter of the invite.
    let expose = store.load(&name).map_or_else(|_| Vec::new(), |old| old.expose);
    let profile = Profile { expose, ..profile };
    let file = store.save(&name, &profile, force)?;
    let next = if profile.services.is_empty() {
        format!("postern expose ENTRANCE --to TARGET --profile {name}")
    } else {
        format!("postern ssh-config {name} --write && ssh {name}")
    };
    out::out(&format!(
        "{} now holds the key to {}.\nNext: {next}\n",
        file.display(),
        profile.address()
    ))
}
