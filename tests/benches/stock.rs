//! Other people's relays as processes: found where they are installed, each given what its manual
//! recommends for plain TCP, and ended with all that it started. None of them logs connections.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use postern_tests::net::{free_port, local};
use postern_tests::process::{exists, send};
use postern_tests::{Process, Scratch, until};
use rustix::process::Signal;

use crate::proc;

/// Fits twice into 20,000 descriptors.
const CONNECTIONS: usize = 9_300;

#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    Haproxy(&'a Haproxy<'a>),
    Nginx,
    /// The program's name: sslh comes in variants.
    Sslh(&'static str),
}

#[derive(Debug)]
pub struct Haproxy<'a> {
    pub splice: Splice,
    /// `tune.pipesize`
    pub pipes: Option<usize>,
    /// A PEM file with a certificate and its key: TLS is terminated.
    pub tls: Option<&'a Path>,
}

#[derive(Debug)]
pub enum Splice {
    Off,
    /// When HAProxy itself thinks that it is worth it, which is rare where the reader is fast.
    Auto,
    Always,
}

/// A running relay.
#[derive(Debug)]
pub struct Stock {
    process: Process,
    address: SocketAddr,
}

/// PATH first, so that a newer build is taken; Debian's daemons are not in everybody's.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

impl Kind<'_> {
    pub fn program(self) -> &'static str {
        match self {
            Kind::Haproxy(_) => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Sslh(program) => program,
        }
    }

    fn command(self, scratch: &Scratch, at: SocketAddr, to: SocketAddr) -> Command {
        let mut command = Command::new(find(self.program()).expect("it is installed"));
        match self {
            Kind::Haproxy(options) => {
                let file = scratch.write("haproxy.cfg", haproxy(options, at, to));
                command.arg("-db").arg("-f").arg(file);
            }
            Kind::Nginx => {
                let file = scratch.write("nginx.conf", nginx(&scratch.path(""), at, to));
                command.arg("-e").arg(scratch.path("error.log")).arg("-c").arg(file);
            }
            Kind::Sslh(_) => {
                command.arg("-f").arg("-P").arg(scratch.path("pid"));
                command.arg("-p").arg(at.to_string()).arg("--anyprot").arg(to.to_string());
            }
        }
        command
    }
}

impl Stock {
    /// Starts it on a free port in front of `to`. `scratch` is its own.
    pub fn start(kind: Kind, scratch: &Scratch, to: SocketAddr) -> Stock {
        let (name, address) = (kind.program(), local(free_port()));
        let mut command = kind.command(scratch, address, to);
        let mut process = Process::spawn(name, &mut command, scratch.path("log"));
        until(&format!("{name} to listen"), || {
            assert!(process.exited().is_none(), "{name} ended: {}", process.log());
            TcpStream::connect(address).ok()
        });
        Stock { process, address }
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// nginx's workers and sslh's forks outlive a master that is killed: it is asked first.
impl Drop for Stock {
    fn drop(&mut self) {
        let below = proc::tree(self.pid()).split_off(1);
        self.process.signal(Signal::TERM);
        for _ in 0..20 {
            if !below.iter().any(|pid| exists(*pid)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        for pid in below.into_iter().filter(|pid| exists(*pid)) {
            send(pid, Signal::KILL);
        }
    }
}

fn haproxy(options: &Haproxy, at: SocketAddr, to: SocketAddr) -> String {
    let pipes = options.pipes.map(|size| format!("tune.pipesize {size}")).unwrap_or_default();
    let splice = match options.splice {
        Splice::Off => "",
        Splice::Auto => "option splice-auto",
        Splice::Always => "option splice-request\n    option splice-response",
    };
    let tls = options.tls.map(|pem| format!("ssl crt {}", pem.display())).unwrap_or_default();
    format!(
        "global
    maxconn {CONNECTIONS}
    maxpipes 256
    {pipes}
listen relay
    mode tcp
    {splice}
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    bind {at} {tls}
    server backend {to}
"
    )
}

fn nginx(dir: &Path, at: SocketAddr, to: SocketAddr) -> String {
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load = if fs::exists(module).unwrap_or(false) {
        format!("load_module {module};")
    } else {
        String::new()
    };
    let dir = dir.display();
    format!(
        "{load}
daemon off;
worker_processes auto;
pid {dir}/nginx.pid;
error_log {dir}/error.log warn;
events {{ worker_connections 20000; }}
stream {{
    server {{
        listen {at};
        proxy_pass {to};
        proxy_timeout 1h;
    }}
}}
"
    )
}
