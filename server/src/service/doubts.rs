//! What `check` finds doubtful about a service: likely not meant, though it can be run. Refuses nothing.

use std::path::Path;

use rustix::process::geteuid;

use super::{Handing, Service, Target};
use crate::program::Program;
use crate::sys;

impl Service {
    /// In words for whoever runs posternd. `knocks_in_tls` says whether knocks come by tls or hello.
    pub fn doubts(&self, is_fallback: bool, knocks_in_tls: bool) -> Vec<String> {
        let mut doubts = match &self.target {
            Target::Upstreams(_) | Target::Tunnel(_) => Vec::new(),
            Target::Exec(program) => doubts_of_program(program),
            Target::Pass(handing) => {
                let mut doubts = doubts_of_taker(handing, self.knock);
                doubts.extend(handing.otherwise.iter().flat_map(doubts_of_program));
                doubts
            }
        };
        if self.knock && knocks_in_tls && matches!(self.target, Target::Exec(_) | Target::Pass(_)) {
            doubts.push(
                "whoever knocks by tls or hello reaches it through posternd's TLS, on a socket that \
                 does not tell his address"
                    .to_owned(),
            );
        }
        if self.transparent
            && let Err(error) = sys::try_transparent()
        {
            doubts.push(format!(
                "transparent cannot work: {error}; posternd needs CAP_NET_ADMIN (AmbientCapabilities= in \
                 posternd.service), and the machine the routes of contrib/transparent.md"
            ));
        }
        let bearing = &self.bearing;
        let limited = [
            bearing.idle.is_some(),
            bearing.rate.is_some(),
            bearing.max_connections.is_some() && !matches!(self.target, Target::Exec(_)),
        ];
        if is_fallback && limited.contains(&true) {
            doubts.push(
                "idle, max-connections and rate on the fallback show strangers what the website alone \
                 would not"
                    .to_owned(),
            );
        }
        doubts.into_iter().map(|doubt| format!("service {:?}: {doubt}", self.name)).collect()
    }
}

fn doubts_of_program(program: &Program) -> Vec<String> {
    let path = &program.path;
    let mut doubts = Vec::new();
    if !Path::new(path).is_file() {
        doubts.push(format!("there is no program {path}"));
    } else if let Err(error) = program.is_there() {
        doubts.push(format!("{path} cannot be run: {error}"));
    }
    let root = match &program.account {
        Some(account) => account.uid == 0,
        None => geteuid().is_root(),
    };
    if Path::new(path).file_name().is_some_and(|name| name == "sshd") && !root {
        doubts.push(format!(
            "{path} would not run as root: it could let in nobody but the user that it runs as"
        ));
    }
    doubts
}

fn doubts_of_taker(handing: &Handing, knock: bool) -> Vec<String> {
    let mut doubts = Vec::new();
    if handing.otherwise.is_none() && !handing.socket.exists() {
        doubts.push(format!("there is no socket {}", handing.socket.display()));
    }
    if knock {
        doubts
            .push("whoever is handed over keeps his connection when his key is revoked".to_owned());
    }
    doubts
}
