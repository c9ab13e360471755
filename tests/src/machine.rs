//! Machines of their own, as far as the network goes: network namespaces, which only root can make, and
//! cables between them.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{finish, success};

/// Deleted when dropped.
#[derive(Debug)]
pub struct Machine(String);

impl Machine {
    /// `None` if it is not allowed.
    pub fn new(name: &str) -> Option<Machine> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let machine = Machine(format!("pn{}-{number}{name}", std::process::id()));
        let made = finish(Command::new("ip").args(["netns", "add", &machine.0])).status.success();
        if !made {
            return None;
        }
        machine.ip("link set lo up");
        Some(machine)
    }

    /// `ip` on it, with these arguments.
    pub fn ip(&self, command: &str) {
        success(Command::new("ip").args(["-n", &self.0]).args(command.split(' ')));
    }

    /// A program that runs on it.
    pub fn run(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]);
        command
    }

    /// A cable to another one, and the addresses of both its ends.
    pub fn connect(&self, link: &str, own: &[&str], other: &Machine, others: &[&str]) {
        self.ip(&format!("link add {link} type veth peer name {link} netns {}", other.0));
        for (machine, addresses) in [(self, own), (other, others)] {
            machine.ip(&format!("link set {link} up"));
            for address in addresses {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                machine.ip(&format!("addr add {address} dev {link}{nodad}"));
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}
