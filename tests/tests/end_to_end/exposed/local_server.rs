//! When the laptop's own service is down, slow or somewhere else.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::thread;

use postern_tests::expose::{Exposing, expose};
use postern_tests::net::{End, Refusing, read_all};
use postern_tests::{TcpService, until};

fn ask(exposing: &Exposing, words: &[u8]) -> (String, End) {
    let mut visitor = exposing.visit();
    visitor.write_all(words).expect("sent");
    let seen = read_all(&mut visitor);
    (String::from_utf8_lossy(&seen.bytes).into_owned(), seen.end)
}

#[test]
fn a_service_that_is_down_answers_at_once() {
    let down = Refusing::bind();
    let exposing = Exposing::start(down.address(), &[]);
    let entrance = format!("tcp:{}", exposing.door.port());
    for _ in 0..30 {
        let (page, end) = ask(&exposing, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{page:?}");
        assert_eq!(end, End::Fin);
    }
    assert_eq!(ask(&exposing, b"SSH-2.0-x\r\n"), (String::new(), End::Reset));
    until("the server to know", || {
        let entrance = exposing.server.entrance(&entrance)?;
        (entrance["holders"][0]["health"] == "local-down").then_some(())
    });
    let (status, code) = exposing.status();
    assert!(status.contains("IS DOWN") && code == 4, "{code}: {status}");
}

#[test]
fn one_that_is_up_is_found_healthy_through_the_public_port() {
    let service = TcpService::named("laptop");
    let exposing = Exposing::start(service.address(), &[]);
    let entrance = format!("tcp:{}", exposing.door.port());
    until("the server to know", || {
        let entrance = exposing.server.entrance(&entrance)?;
        (entrance["holders"][0]["health"] == "reached").then_some(())
    });
    let (status, code) = exposing.status();
    assert!(
        status.contains(&entrance) && status.contains("reached") && code == 0,
        "{code}: {status}"
    );
    assert_eq!(ask(&exposing, b"hi"), ("laptop".to_owned(), End::Fin));
}

#[test]
fn it_may_be_a_unix_socket() {
    let exposing = Exposing::start(TcpService::named("tcp").address(), &[]);
    let entrance = format!("tcp:{}", exposing.door.port());
    let mut exposing = exposing;
    exposing.process.signal(rustix::process::Signal::TERM);
    exposing.process.wait();
    let socket = exposing.scratch.path("service.sock");
    let listener = UnixListener::bind(&socket).expect("bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"unix");
        }
    });
    let to = format!("unix:{}", socket.display());
    exposing.process =
        expose(&exposing.scratch, &exposing.client, "unix", &[&entrance, "--to", &to]);
    exposing.server.until_held(&entrance);
    assert_eq!(ask(&exposing, b"").0, "unix");
}
