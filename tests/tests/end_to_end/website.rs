//! The website through posternd, as browsers see it: nothing differs but the port.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use postern_tests::net::{connect, connect_from, without_date};
use postern_tests::posternd::config;
use postern_tests::scratch::MIB;
use postern_tests::{
    Nginx, Posternd, Scratch, TlsClient, World, bounded, finish, sha256, success, until,
};

/// nginx and a posternd before it that has nothing else to do.
fn website() -> (Nginx, Posternd, Scratch) {
    let scratch = Scratch::new();
    let nginx = Nginx::start(&scratch);
    let server = Posternd::start(&scratch, &config(nginx.https(), ""));
    (nginx, server, scratch)
}

/// curl on the website as it is found at this address.
fn curl(nginx: &Nginx, at: SocketAddr) -> Command {
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", "--cacert"]).arg(nginx.certificate());
    curl.args(["--connect-to", &format!("::{at}")]);
    curl
}

#[test]
fn a_page_is_the_same_in_both_versions_of_http() {
    let (nginx, server, _scratch) = website();
    for version in ["--http1.1", "--http2"] {
        let page = |at| {
            let mut curl = curl(&nginx, at);
            let output = finish(curl.args(["-i", version, "https://www.example.com/"]));
            String::from_utf8(without_date(&output.stdout)).expect("a page")
        };
        let (direct, through) = (page(nginx.https()), page(server.address()));
        assert!(direct.contains(" 200") && direct.contains("Nothing to see here"), "{direct}");
        assert_eq!(through, direct, "{version}");
    }
}

#[test]
fn a_connection_is_kept_alive() {
    let (nginx, server, _scratch) = website();
    for version in ["--http1.1", "--http2"] {
        let mut curl = curl(&nginx, server.address());
        curl.args([version, "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"]);
        curl.args(["https://www.example.com/#[1-5]"]);
        assert_eq!(success(&mut curl), format!("200 1\n{}", "200 0\n".repeat(4)), "{version}");
    }
}

#[test]
fn a_hundred_megabytes_down_and_up() {
    let (nginx, server, scratch) = website();
    let file = nginx.publish("big", 100 * MIB);
    for version in ["--http1.1", "--http2"] {
        let down = scratch.path("down");
        let mut download = curl(&nginx, server.address());
        success(download.args([version, "https://www.example.com/big", "-o"]).arg(&down));
        assert_eq!(sha256(&down), sha256(&file), "{version}");

        let mut upload = curl(&nginx, server.address());
        upload.args([version, "https://www.example.com/upload/up", "-T"]).arg(&file);
        success(&mut upload);
        assert_eq!(sha256(&nginx.uploaded("up")), sha256(&file), "{version}");
    }
}

#[test]
fn the_certificate_is_the_websites_own() {
    let (nginx, server, _scratch) = website();
    let mut s_client = bounded("openssl");
    s_client.args(["s_client", "-servername", "www.example.com", "-connect"]);
    let shown = success(s_client.arg(server.address().to_string()));
    let certificate = std::fs::read_to_string(nginx.certificate()).expect("read a certificate");
    assert!(shown.contains(certificate.trim()), "{shown}");
}

#[test]
fn the_proxy_header_tells_the_website_who_comes() {
    for version in ["v1", "v2"] {
        let scratch = Scratch::new();
        let nginx = Nginx::start(&scratch);
        let header = format!("proxy-protocol = \"{version}\"");
        let server = Posternd::start(&scratch, &config(nginx.proxied(), &header));
        let stream = connect_from(Ipv4Addr::new(127, 0, 0, 5), server.address());
        let visitor = stream.local_addr().expect("a connected socket has an address");
        let mut tls = TlsClient::connect(stream, "www.example.com", &nginx.certificate());
        assert!(tls.get("/").contains("Nothing to see here"));
        let line = format!("{visitor} \"GET / HTTP/1.1\"");
        until("the access log", || nginx.access_log().contains(&line).then_some(()));
    }
}

/// The sample as the guide has it included: nginx must not name the port it listens on.
#[test]
fn redirects_do_not_name_the_port_behind() {
    let scratch = Scratch::new();
    let sample = include_str!("../../../contrib/nginx/postern.conf");
    let nginx = Nginx::start_with(&scratch, sample);
    let server = Posternd::start(&scratch, &config(nginx.proxied(), "proxy-protocol = \"v2\""));
    let mut curl = curl(&nginx, server.address());
    curl.args(["-o", "/dev/null", "-w", "%{redirect_url}", "https://www.example.com/upload"]);
    assert_eq!(success(&mut curl), "https://www.example.com/upload/");
}

#[test]
fn names_of_our_own_show_visitors_the_plain_website() {
    let world = World::start();
    let url = "https://ssh.example.com/";
    let mut curl = bounded("curl");
    curl.args(["-sS", "--fail", "-i", "--http1.1", url, "--cacert"])
        .arg(world.scratch.path("tls.crt"));
    curl.args(["--connect-to", &format!("::{}", world.server.address())]);
    let through = finish(&mut curl).stdout;
    let mut curl = bounded("curl");
    curl.args([
        "-sS",
        "-i",
        "-H",
        "Host: ssh.example.com",
        &format!("http://{}/", world.nginx.http()),
    ]);
    let direct = finish(&mut curl).stdout;
    assert_eq!(
        String::from_utf8_lossy(&without_date(&through)),
        String::from_utf8_lossy(&without_date(&direct))
    );
}

#[test]
fn a_tls_target_is_encrypted_again() {
    let world = World::start();
    let config = world.config.replace(
        &format!("tcp://{}", world.nginx.http()),
        &format!("tls://{}", world.nginx.https()),
    );
    assert_ne!(config, world.config);
    world.server.configure(&config);
    success(&mut world.server.command(&["reload"]));
    let stream = connect(world.server.address());
    let mut tls = TlsClient::connect(stream, "ssh.example.com", &world.scratch.path("tls.crt"));
    let answer = tls.get("/");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("Nothing to see"), "{answer}");
}
