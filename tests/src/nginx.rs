//! A real nginx with a website of its own: HTTPS with HTTP/2, the same behind the PROXY protocol, and
//! plain HTTP and HTTP/2 for what posternd decrypts.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::net::{free_port, local, on_free_ports};
use crate::process::{Process, success};
use crate::scratch::{Scratch, random_file};

pub const PAGE: &str = "<!doctype html><title>Example</title><p>Nothing to see here.\n";

/// The names its certificate is for.
const NAMES: &str = "DNS:www.example.com,DNS:ssh.example.com,IP:127.0.0.1";

#[derive(Debug)]
pub struct Nginx {
    pub process: Process,
    dir: PathBuf,
    https: u16,
    proxied: u16,
    http: u16,
    h2c: u16,
}

impl Nginx {
    pub fn start(scratch: &Scratch) -> Nginx {
        Nginx::start_with(scratch, "")
    }

    /// `http` are further directives for all servers.
    pub fn start_with(scratch: &Scratch, http: &str) -> Nginx {
        Nginx::signing_with(scratch, &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], http)
    }

    /// `key` is what openssl is to make for it. The signatures of an elliptic curve differ in length from
    /// one handshake to the next, those of RSA do not.
    pub fn signing_with(scratch: &Scratch, key: &[&str], http: &str) -> Nginx {
        let dir = scratch.dir("nginx");
        for below in ["www/upload", "temp"] {
            fs::create_dir_all(dir.join(below)).expect("create a directory");
        }
        fs::write(dir.join("www/index.html"), PAGE).expect("write a page");
        certificate(&dir, key);
        on_free_ports(|| Nginx::start_in(&dir, http))
    }

    fn start_in(dir: &Path, http: &str) -> Result<Nginx, String> {
        let ports @ [https, proxied, plain, h2c] = [(); 4].map(|()| free_port());
        fs::write(dir.join("nginx.conf"), config(dir, ports, http)).expect("write nginx.conf");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log"));
        command.arg("-c").arg(dir.join("nginx.conf"));
        let mut process = Process::spawn("nginx", &mut command, dir.join("error.log"));
        // The file appears once every port is bound.
        if !process.wrote(&dir.join("nginx.pid")) {
            return Err(process.log());
        }
        Ok(Nginx { process, dir: dir.to_owned(), https, proxied, http: plain, h2c })
    }

    pub fn https(&self) -> SocketAddr {
        local(self.https)
    }

    /// HTTPS that expects a PROXY header.
    pub fn proxied(&self) -> SocketAddr {
        local(self.proxied)
    }

    pub fn http(&self) -> SocketAddr {
        local(self.http)
    }

    /// HTTP/2 in clear, by prior knowledge.
    pub fn h2c(&self) -> SocketAddr {
        local(self.h2c)
    }

    pub fn certificate(&self) -> PathBuf {
        self.dir.join("tls.crt")
    }

    /// Puts a random file on the website; returns where it lies.
    pub fn publish(&self, name: &str, size: usize) -> PathBuf {
        let path = self.dir.join("www").join(name);
        random_file(&path, size);
        path
    }

    /// Where a file PUT to `/upload/NAME` ends up.
    pub fn uploaded(&self, name: &str) -> PathBuf {
        self.dir.join("www/upload").join(name)
    }

    /// One line for each request: the client's address and port, and the request line.
    pub fn access_log(&self) -> String {
        fs::read_to_string(self.dir.join("access.log")).unwrap_or_default()
    }
}

/// A certificate for names of the examples, which any TLS client can be told to trust.
fn certificate(dir: &Path, key: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-nodes", "-days", "30", "-newkey"]).args(key);
    openssl.args(["-subj", "/CN=www.example.com"]);
    openssl.args(["-addext", &format!("subjectAltName={NAMES}")]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    openssl.arg("-keyout").arg(dir.join("tls.key")).arg("-out").arg(dir.join("tls.crt"));
    success(&mut openssl);
}

/// One process, so that ending it ends all of it.
fn config(dir: &Path, [https, proxied, plain, h2c]: [u16; 4], http: &str) -> String {
    let dir = dir.display();
    format!(
        r#"daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 12000; }}
http {{
    log_format direct '$remote_addr:$remote_port "$request"';
    log_format proxied '$proxy_protocol_addr:$proxy_protocol_port "$request"';
    access_log {dir}/access.log direct;
    client_body_temp_path {dir}/temp/body;
    proxy_temp_path {dir}/temp/proxy;
    fastcgi_temp_path {dir}/temp/fastcgi;
    uwsgi_temp_path {dir}/temp/uwsgi;
    scgi_temp_path {dir}/temp/scgi;
    client_max_body_size 0;
    types {{ text/html html; }}
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate {dir}/tls.crt;
    ssl_certificate_key {dir}/tls.key;
    root {dir}/www;
    {http}
    server {{
        listen 127.0.0.1:{https} ssl http2;
        location /upload/ {{ dav_methods PUT; }}
    }}
    server {{
        listen 127.0.0.1:{proxied} ssl http2 proxy_protocol;
        access_log {dir}/access.log proxied;
    }}
    server {{
        listen 127.0.0.1:{plain};
    }}
    server {{
        listen 127.0.0.1:{h2c} http2;
    }}
}}
"#
    )
}
