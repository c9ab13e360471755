//! A real Redis that keeps nothing, on a port of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::net::{free_port, local, on_free_ports};
use crate::process::{Process, until};
use crate::scratch::Scratch;

#[derive(Debug)]
pub struct Redis {
    pub process: Process,
    port: u16,
    more: Vec<String>,
    scratch: Scratch,
}

impl Redis {
    /// `more` are further arguments.
    pub fn start(more: &[&str]) -> Redis {
        let scratch = Scratch::new();
        let more: Vec<_> = more.iter().map(|text| (*text).to_owned()).collect();
        let (process, port) = on_free_ports(|| {
            let port = free_port();
            Ok((start(&scratch, port, &more)?, port))
        });
        Redis { process, port, more, scratch }
    }

    /// Ends it without a word.
    pub fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }

    /// Starts it again where it was; it must have ended.
    pub fn restart(&mut self) {
        let process = start(&self.scratch, self.port, &self.more);
        self.process = process.expect("its port is free again");
    }

    pub fn address(&self) -> SocketAddr {
        local(self.port)
    }

    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address())
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.path("redis.sock")
    }
}

fn start(scratch: &Scratch, port: u16, more: &[String]) -> Result<Process, String> {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"]);
    command.arg(port.to_string()).arg("--dir").arg(scratch.path(""));
    command.arg("--unixsocket").arg(scratch.path("redis.sock")).args(more);
    let mut process = Process::spawn("redis-server", &mut command, scratch.path("redis.log"));
    until("Redis to answer", || match process.exited() {
        Some(_) => Some(Err(process.log())),
        None => answers(local(port)).then_some(Ok(())),
    })?;
    Ok(process)
}

fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        stream.read(&mut [0; 64])
    };
    ask().is_ok_and(|length| length > 0)
}
