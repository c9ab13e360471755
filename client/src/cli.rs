//! The command line. Decides which command runs, and nothing about how.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::connect::{self, Wish};
use crate::error::{EXIT_CODES, Error};
#[cfg(target_os = "linux")]
use crate::expose;
use crate::join::join;
use crate::last_error;
use crate::names::{ProfileName, User};
use crate::profiles::profiles;
use crate::ssh_config::ssh_config;

/// Reaches a private service, ssh above all, behind a server that looks like a website.
#[derive(Debug, Parser)]
#[command(name = "postern", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a profile from an invite, read from standard input
    Join {
        /// What to call it [default: the server's host name]
        name: Option<ProfileName>,

        /// Replace a profile that holds another key
        #[arg(long)]
        force: bool,
    },

    /// Be ssh's ProxyCommand: knock, then carry standard input and output
    #[command(after_help = EXIT_CODES)]
    Connect {
        /// A profile, made by join
        name: ProfileName,

        #[command(flatten)]
        wish: Wish,

        /// Hand the connection to ssh and leave: for `ProxyUseFdpass yes`, on the plain carrier. Nothing
        /// then says whether the server admitted us: where it did not, ssh meets the website
        #[arg(long)]
        fdpass: bool,
    },

    /// Let this machine's address come without a knock for a while, where the server allows that
    #[command(after_help = EXIT_CODES)]
    Arm {
        /// A profile, made by join
        name: ProfileName,

        #[command(flatten)]
        wish: Wish,
    },

    /// Have services of this machine reached by the server's public address
    ///
    /// Runs until it is ended, and comes back after every break. With `--carrier plain` only what
    /// visitors and services say goes plain, which the kernel then moves by itself.
    #[cfg(target_os = "linux")]
    #[command(after_help = EXIT_CODES)]
    Expose {
        #[command(flatten)]
        arguments: Box<expose::Arguments>,
    },

    /// List the profiles
    Profiles,

    /// Print what ssh's configuration needs for a profile
    SshConfig {
        /// A profile, made by join
        name: ProfileName,

        /// Login name on the server
        #[arg(long)]
        user: Option<User>,

        /// Have ssh take the connection over (ProxyUseFdpass), on the plain carrier
        #[arg(long)]
        fdpass: bool,

        /// Write it to ~/.ssh/postern.conf, and have ~/.ssh/config include that
        #[arg(long)]
        write: bool,
    },
}

impl Cli {
    pub fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Join { name, force } => join(name, force)?,
            Command::Connect { name, wish, fdpass } => {
                return connect::connect(&name, &wish, fdpass)
                    .inspect_err(|error| last_error::keep("connect", &name, error));
            }
            Command::Arm { name, wish } => {
                return connect::arm(&name, &wish)
                    .inspect_err(|error| last_error::keep("arm", &name, error));
            }
            #[cfg(target_os = "linux")]
            Command::Expose { arguments } => {
                return expose::expose(&arguments)
                    .inspect_err(|error| last_error::keep("expose", &arguments.profile, error));
            }
            Command::Profiles => profiles()?,
            Command::SshConfig { name, user, fdpass, write } => {
                ssh_config(&name, user.as_ref(), fdpass, write)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_that_look_like_options_or_shell_are_refused() {
        for arguments in [
            &["connect", "-oProxyCommand=x"][..],
            &["connect", "--", "-x"],
            &["connect", "bob;reboot"],
            &["connect", "bob", "--carrier", "smoke"],
            &["connect", "bob", "--sni", "a b"],
            &["ssh-config", "bob", "--user", "a b"],
            &["join", "../bob"],
            &[],
        ] {
            let line = ["postern"].iter().chain(arguments);
            let error = Cli::try_parse_from(line).expect_err(&arguments.join(" "));
            assert_eq!(error.exit_code(), 2);
        }
    }
}
