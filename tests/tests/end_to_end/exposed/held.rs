//! Who holds an entrance, and who does not get it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use postern_tests::expose::{Exposing, certify, expose, exposing, exposing_config};
use postern_tests::net::Then;
use postern_tests::net::{connect, exchange, free_port, local, read_all};
use postern_tests::tls::hello;
use postern_tests::{Client, Posternd, Process, Scratch, TcpService, success, until};

fn answer(at: SocketAddr) -> String {
    let mut visitor = connect(at);
    visitor.write_all(b"hi").expect("sent");
    String::from_utf8_lossy(&read_all(&mut visitor).bytes).into_owned()
}

/// A posternd, and a laptop that may expose this.
fn world(permits: &[&str], more: &str) -> (Scratch, Posternd, Client) {
    let scratch = Scratch::new();
    certify(&scratch, &["ssh.example.com"]);
    let server = Posternd::start(&scratch, &exposing_config(more));
    let permits: Vec<_> = permits.iter().flat_map(|permit| ["--expose", permit]).collect();
    let invite = server.invite("laptop", &permits);
    let client = Client::join(&scratch, "laptop", &invite);
    (scratch, server, client)
}

#[test]
fn a_port_that_another_program_has() {
    let taken = TcpListener::bind(local(0)).expect("bound");
    let port = taken.local_addr().expect("bound").port();
    let entrance = format!("tcp:{port}");
    let (scratch, server, client) = world(&[&entrance], "");
    let service = TcpService::named("laptop");
    let to = service.address().to_string();
    let args = [&*entrance, "--to", &to];

    let mut strict = expose(&scratch, &client, "strict", &[&args[..], &["--strict"]].concat());
    assert_eq!(strict.wait().code(), Some(11), "{}", strict.log());
    assert!(strict.log().contains("another program has the port"), "{}", strict.log());

    let mut patient = expose(&scratch, &client, "patient", &args);
    until("it to be told", || patient.log().contains("another program").then_some(()));
    assert!(patient.exited().is_none());
    drop(taken);
    server.until_held(&entrance);
    assert_eq!(answer(local(port)), "laptop");
}

#[test]
fn what_was_not_granted() {
    let (scratch, _server, client) = world(&["tcp:10"], "");
    let mut other = expose(&scratch, &client, "other", &["tcp:11", "--to", "1", "--strict"]);
    assert_eq!(other.wait().code(), Some(11), "{}", other.log());
    assert!(other.log().contains("may not open it"), "{}", other.log());
}

#[test]
fn a_key_that_may_expose_nothing_is_not_admitted() {
    let ssh =
        format!("[service.ssh]\nto = \"tcp://{}\"\nknock = true\n", TcpService::echo().address());
    let scratch = Scratch::new();
    certify(&scratch, &["ssh.example.com"]);
    let server = Posternd::start(&scratch, &exposing_config(&ssh));
    let client = Client::join(&scratch, "laptop", &server.invite("laptop", &[]));
    let args = ["tcp:80", "--to", "1", "--carrier", "tls"];
    let mut process = expose(&scratch, &client, "expose", &args);
    assert_eq!(process.wait().code(), Some(7), "{}", process.log());
    let line = server.connection(|line| line["client"] == "laptop");
    assert_eq!(line["refused"], "expose");
}

#[test]
fn a_port_of_a_range_and_several_at_once() {
    let (first, second) = (free_port(), free_port());
    let range = format!("tcp:{}-{}", first.min(second), first.max(second));
    let (scratch, server, client) = world(&[&range], "");
    let services = [TcpService::named("one"), TcpService::named("two")];
    let to = services.each_ref().map(|service| service.address().to_string());
    let entrances = [first, second].map(|port| format!("tcp:{port}"));
    let args = [&*entrances[0], "--to", &to[0], &entrances[1], "--to", &to[1]];
    let _process = expose(&scratch, &client, "expose", &args);
    entrances.iter().for_each(|entrance| server.until_held(entrance));
    assert_eq!((answer(local(first)), answer(local(second))), ("one".into(), "two".into()));
}

#[test]
fn what_the_profile_says_is_exposed() {
    let port = free_port();
    let entrance = format!("tcp:{port}");
    let (scratch, server, client) = world(&[&entrance], "");
    let service = TcpService::named("laptop");
    let profile = postern_tests::expose::profile(&client);
    let mut text = std::fs::read_to_string(&profile).expect("read");
    text += &format!("\n[[expose]]\nentrance = \"{port}\"\nto = \"{}\"\n", service.address());
    std::fs::write(&profile, text).expect("written");
    let _process = expose(&scratch, &client, "expose", &[]);
    server.until_held(&entrance);
    assert_eq!(answer(local(port)), "laptop");
}

#[test]
fn a_port_that_the_file_names_is_bound_at_once_where_it_says() {
    let address = SocketAddr::from(([127, 0, 0, 5], free_port()));
    let more = format!("expose = \"60s\"\n[[expose]]\nlisten = \"{address}\"\n");
    let entrance = format!("tcp:{}", address.port());
    let (scratch, server, client) = world(&[&entrance], &more);
    let mut visitor = connect(address);
    visitor.write_all(b"hi").expect("sent");
    let service = TcpService::named("laptop");
    let to = service.address().to_string();
    let _process = expose(&scratch, &client, "expose", &[&entrance, "--to", &to]);
    assert_eq!(read_all(&mut visitor).bytes, b"laptop");
    let at = &server.entrance(&entrance).expect("there")["at"];
    assert_eq!(at.as_array().expect("a list"), &[address.to_string()]);
}

#[test]
fn any_route_can_lead_to_an_exposed_service() {
    let more = r#"
[service.laptop]
to = "tunnel:web"
connect = "60s"

[[route]]
sni = ["app.example.com"]
service = "laptop"
"#;
    let (scratch, server, client) = world(&["name:web"], more);
    let service = TcpService::named("laptop");
    let to = service.address().to_string();
    let _process = expose(&scratch, &client, "expose", &["name:web", "--to", &to]);
    for _ in 0..3 {
        let seen = exchange(server.address(), &hello(Some("app.example.com")), Then::Wait);
        assert_eq!(seen.bytes, b"laptop");
    }
    let checked = server.command(&["check"]).output().expect("run");
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn one_that_knocks_can_reach_what_another_one_exposes() {
    let more = "[service.laptop]\nto = \"tunnel:ssh\"\nknock = true\n";
    let (scratch, server, client) = world(&["name:ssh"], more);
    let echo = TcpService::echo();
    let to = echo.address().to_string();
    let _process = expose(&scratch, &client, "expose", &["name:ssh", "--to", &to]);
    server.until_held("name:ssh");
    let other = Client::join(&scratch, "other", &server.invite("other", &["--service", "laptop"]));
    for carrier in ["hello", "tls", "plain"] {
        let mut connect = other.connect(&["--carrier", carrier]);
        let output = postern_tests::client::feed(&mut connect, b"over two tunnels");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "over two tunnels", "{carrier}");
    }
}

/// Two laptops that hold a port together.
fn sharing(port: u16) -> (Scratch, Posternd, [Process; 2], [TcpService; 2]) {
    let entrance = format!("tcp:{port}");
    let shared = format!("{entrance}/shared");
    let scratch = Scratch::new();
    certify(&scratch, &["ssh.example.com"]);
    let server = Posternd::start(&scratch, &exposing_config(""));
    let services = ["one", "two"].map(|name| (name, TcpService::named(name)));
    let processes = services.each_ref().map(|(name, service)| {
        let invite = server.invite(name, &["--expose", &shared]);
        let client = Client::join(&scratch, name, &invite);
        let mut command = client.lasting(postern_tests::posternd::binary("postern"));
        let to = service.address().to_string();
        command.args(["expose", &entrance, "--to", &to, "--profile", name]);
        Process::spawn("postern expose", &mut command, scratch.path(&format!("{name}.log")))
    });
    until("both to hold it", || {
        let entrance = server.entrance(&entrance)?;
        let holders = entrance["holders"].as_array()?;
        let ready = holders.iter().filter(|holder| holder["idle"].as_u64() > Some(3));
        (ready.count() == 2).then_some(())
    });
    (scratch, server, processes, services.map(|(_, service)| service))
}

#[test]
fn those_who_may_share_have_turns() {
    let port = free_port();
    let entrance = format!("tcp:{port}");
    let (_scratch, server, processes, _services) = sharing(port);
    let mut counts = BTreeMap::new();
    for _ in 0..20 {
        *counts.entry(answer(local(port))).or_insert(0) += 1;
    }
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["one", "two"], "{counts:?}");
    // One is gone: the other has all.
    let [one, _two] = processes;
    drop(one);
    until("one to be gone", || {
        let entrance = server.entrance(&entrance)?;
        (entrance["holders"].as_array()?.len() == 1).then_some(())
    });
    assert!((0..5).all(|_| answer(local(port)) == "two"));
}

/// It may have bytes of a visitor's, so that nobody else can have him; he waits until it wakes.
#[test]
fn one_of_those_who_share_may_be_slow() {
    let port = free_port();
    let (_scratch, server, processes, _services) = sharing(port);
    processes[0].signal(rustix::process::Signal::STOP);
    let visitors: Vec<_> =
        (0..6).map(|_| std::thread::spawn(move || answer(local(port)))).collect();
    // Longer than a lane is given to say that it has him.
    std::thread::sleep(std::time::Duration::from_secs(1));
    processes[0].signal(rustix::process::Signal::CONT);
    let answers: Vec<_> = visitors.into_iter().map(|one| one.join().expect("served")).collect();
    assert!(answers.iter().all(|answer| ["one", "two"].contains(&&**answer)), "{answers:?}");
    assert!(answers.iter().any(|answer| answer == "one"), "{answers:?}");
    drop(server);
}

#[test]
fn an_entrance_that_another_client_holds() {
    let service = TcpService::named("first");
    let exposing_first = Exposing::start(service.address(), &[]);
    let entrance = format!("tcp:{}", exposing_first.door.port());
    let invite = exposing_first.server.invite("second", &["--expose", &entrance]);
    let scratch = Scratch::new();
    let second = Client::join(&scratch, "laptop", &invite);
    let mut command = exposing(&second, &[&entrance, "--to", "1", "--strict"]);
    let mut process = Process::spawn("second", &mut command, scratch.path("second.log"));
    assert_eq!(process.wait().code(), Some(11), "{}", process.log());
    assert!(process.log().contains("another client has it open"), "{}", process.log());
    assert_eq!(answer(exposing_first.door), "first");
}

#[test]
fn what_is_not_safe_is_refused() {
    let (scratch, _server, client) = world(&["sni:a.example.com"], "");
    for (args, why) in [
        (
            &["sni:a.example.com", "--to", "1", "--carrier", "plain", "--terminate"][..],
            "leave terminate out",
        ),
        (&["80", "--to", "1", "81"], "--to"),
        (&["80"], "--to"),
        (&["udp:80", "--to", "1"], "tcp:80"),
    ] {
        let mut process = expose(&scratch, &client, "refused", args);
        assert_eq!(process.wait().code(), Some(2), "{args:?}: {}", process.log());
        assert!(process.log().contains(why), "{args:?}: {}", process.log());
    }
}

#[test]
fn a_list_shows_what_a_key_may_expose() {
    let (_scratch, server, _client) = world(&["tcp:80", "sni:a.example.com"], "");
    let list = success(&mut server.command(&["client", "list"]));
    assert!(list.contains("exposes tcp:80 sni:a.example.com"), "{list}");
}
