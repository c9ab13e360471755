//! The command line: arguments to one command each. What a command does is elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use postern_shared::expose::Permit;

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
    /// Show which route a connection takes, and why not the others
    Explain(Explain),
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

/// A connection: its first bytes, and whence it comes. Without first bytes it is silent.
#[derive(Debug, Args)]
pub struct Explain {
    /// It begins with a TLS hello for this name; "" is a hello without one
    #[arg(long, value_name = "NAME", group = "first")]
    pub sni: Option<String>,
    /// It begins with these bytes in hex, like "53 53 48 2d"
    #[arg(long, value_name = "BYTES", group = "first")]
    pub hex: Option<String>,
    /// It begins with what stands in this file; - is standard input
    #[arg(long, value_name = "PATH", group = "first")]
    pub file: Option<PathBuf>,
    /// It comes from here; from this machine if not given
    #[arg(long, value_name = "IP")]
    pub from: Option<IpAddr>,
    /// It comes to this address of `listen`; the first if not given
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// A protocol that the hello of --sni offers, or that was agreed on for --inside
    #[arg(long, value_name = "PROTOCOL")]
    pub alpn: Vec<String>,
    /// These are bytes inside the TLS that posternd terminates for NAME
    #[arg(long, value_name = "NAME", conflicts_with = "sni")]
    pub inside: Option<String>,
    /// It comes at this time, like 2026-12-31T18:00:00Z; now if not given
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    #[command(flatten)]
    pub of: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Make a key for NAME and print its invite, which is secret, for `postern join`
    Add(NewKey),
    /// Give NAME a new key and print its invite; the old one stays good for a while
    Rotate {
        #[arg(required_unless_present_any = ["locator", "drop_locator"])]
        name: Option<String>,
        /// How long the old key stays good; 0s makes it void at once
        #[arg(long, value_name = "SPAN", default_value = "7d")]
        keep: String,
        /// Instead of a client's key, add a locator, by which clients recognise knocks as knocks
        #[arg(long, conflicts_with = "name")]
        locator: bool,
        /// Drop the older of two locators: who has not been rotated since is a stranger then
        #[arg(long, conflicts_with_all = ["name", "locator"])]
        drop_locator: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Show who has a key
    List {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Say what NAME may expose from now on; nothing if no entrance is given
    Expose {
        name: String,
        /// tcp:80, tcp:10000-10100, sni:NAME or name:NAME; with /shared behind it, beside others
        #[arg(value_name = "ENTRANCE")]
        permits: Vec<Permit>,
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

/// A key to be made, and what narrows it.
#[derive(Debug, Args)]
pub struct NewKey {
    pub name: String,
    /// A service it may reach, the first is the usual one; all with knock = true if not given
    #[arg(long = "service", value_name = "SERVICE")]
    pub services: Vec<String>,
    /// What it may expose: tcp:80, tcp:10000-10100, sni:NAME or name:NAME; with /shared behind it, beside
    /// others; may be given several times
    #[arg(long, value_name = "ENTRANCE")]
    pub expose: Vec<Permit>,
    /// Addresses it may come from; anywhere if not given
    #[arg(long, value_name = "CIDR")]
    pub from: Vec<String>,
    /// A carrier it may use; all that are enabled if not given
    #[arg(long = "carrier", value_name = "CARRIER")]
    pub carriers: Vec<String>,
    /// First day (2026-12-31) or time (2026-12-31T18:00:00Z) at which it is let in
    #[arg(long, value_name = "DATE")]
    pub not_before: Option<String>,
    /// Last day (2026-12-31) or time (2026-12-31T18:00:00Z) at which it is let in
    #[arg(long, value_name = "DATE")]
    pub until: Option<String>,
    /// When it is let in: "08:00-18:00", "mon-fri 08:00-18:00"; may be given several times
    #[arg(long, value_name = "TIMES")]
    pub hours: Vec<String>,
    /// The time zone of --hours, like Europe/Berlin; this machine's if not given
    #[arg(long, value_name = "ZONE", requires = "hours")]
    pub time_zone: Option<String>,
    /// How many tunnels it may have open at a time
    #[arg(long, value_name = "N")]
    pub max_tunnels: Option<usize>,
    #[command(flatten)]
    pub file: ConfigFile,
}

impl NewKey {
    /// A key for everything that a knock can reach.
    pub fn named(name: &str, file: ConfigFile) -> NewKey {
        NewKey {
            name: name.to_owned(),
            services: Vec::new(),
            expose: Vec::new(),
            from: Vec::new(),
            carriers: Vec::new(),
            not_before: None,
            until: None,
            hours: Vec::new(),
            time_zone: None,
            max_tunnels: None,
            file,
        }
    }
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
