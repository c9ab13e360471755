//! The whole picture of the README on one machine: a website and sshd behind posternd, and a laptop
//! that was invited.

use crate::client::Client;
use crate::nginx::Nginx;
use crate::posternd::{self, Posternd};
use crate::process::success;
use crate::scratch::Scratch;
use crate::sshd::Sshd;

/// Dropped from top to bottom, so that nobody loses what it still stands on.
#[derive(Debug)]
pub struct World {
    pub client: Client,
    pub server: Posternd,
    pub sshd: Sshd,
    pub nginx: Nginx,
    pub config: String,
    pub invite: String,
    pub scratch: Scratch,
}

impl World {
    pub fn start() -> World {
        World::with("")
    }

    /// `more` are further tables of posternd's configuration.
    pub fn with(more: &str) -> World {
        World::knocking("", more)
    }

    /// The same, and `knock` are further keys of `[knock]`.
    pub fn knocking(knock: &str, more: &str) -> World {
        let scratch = Scratch::new();
        let nginx = Nginx::start(&scratch);
        let sshd = Sshd::start(&scratch);
        let mut cert = posternd::posternd(&["cert", "--name", "ssh.example.com", "--out"]);
        success(cert.arg(scratch.path("")));
        let config = config(&nginx, &sshd, knock, more);
        let server = Posternd::start(&scratch, &config);
        let invite = server.invite("laptop", &["--service", "ssh"]);
        let client = Client::join(&scratch, "laptop", &invite);
        client.use_ssh(&sshd);
        World { client, server, sshd, nginx, config, invite, scratch }
    }
}

/// Patient with the undecided: a busy machine may take seconds from a connection to its first bytes.
fn config(nginx: &Nginx, sshd: &Sshd, knock: &str, more: &str) -> String {
    let services = format!(
        r#"
[service.plain-web]
to = "tcp://{}"

[service.ssh]
to = "tcp://{}"
knock = true

[knock]
sni = "www.example.com"
{knock}

[tls]
certificate = "tls.crt"
key = "tls.key"
names = ["ssh.example.com"]
visitors = "plain-web"

[timeouts]
decide = "30s"

{more}"#,
        nginx.http(),
        sshd.address()
    );
    posternd::config(nginx.https(), &services)
}
