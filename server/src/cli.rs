//! The command line: arguments to one command each. What a command does is elsewhere.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Shares port 443 with a website and lets in whoever knocks right.
#[derive(Debug, Parser)]
#[command(name = "posternd", version, about, max_term_width = 100)]
#[command(after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 bad configuration.")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Try everything on this machine: a website, a key, and ssh through it
    Demo {
        /// Where to listen
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Check that it works, say so, and exit
        #[arg(long)]
        once: bool,
    },
    /// Serve
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Listen here instead of where the file says; may be given several times
        #[arg(long, value_name = "ADDR")]
        listen: Vec<SocketAddr>,
    },
    /// Say whether the configuration can be run, and what is doubtful in it
    Check {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show what a running posternd is doing
    Status {
        #[command(flatten)]
        file: ConfigFile,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Have a running posternd read its configuration and clients again
    Reload {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Give out keys, and take them back
    Client {
        #[command(subcommand)]
        command: ClientCommand,
    },
    /// Make a self-signed certificate and key: DIR/tls.crt and DIR/tls.key
    Cert {
        /// The host name in it; may be given several times
        #[arg(long = "name", value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Where to put them; existing files are not overwritten
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Make a new certificate for the key that is there, so that its pin stays
        #[arg(long)]
        reuse_key: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Make a key for NAME and print its invite, which is secret, for `postern join`
    Add {
        name: String,
        /// A service it may reach, the first is the usual one; all with knock = true if not given
        #[arg(long = "service", value_name = "SERVICE")]
        services: Vec<String>,
        /// Addresses it may come from; anywhere if not given
        #[arg(long, value_name = "CIDR")]
        from: Vec<String>,
        /// Last day (2026-12-31) or time (2026-12-31T18:00:00Z) at which it is let in
        #[arg(long, value_name = "DATE")]
        until: Option<String>,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show who has a key
    List {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Take NAME's key back and close its tunnels
    Revoke {
        name: String,
        #[command(flatten)]
        file: ConfigFile,
    },
}

#[derive(Debug, Args)]
pub struct ConfigFile {
    /// The configuration file
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        default_value = "/etc/postern/posternd.toml"
    )]
    pub config: PathBuf,
}
