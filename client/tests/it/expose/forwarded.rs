//! Visitors who are named in their requests.

use postern_shared::expose::lane::Frame;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::edge::{Edge, Visit, on_server};
use super::{BOTH, greet, start};
use crate::home::Home;
use crate::server;

/// Answers each request with what it said; after `many` it closes.
async fn tell_back(tcp: TcpStream, many: usize) {
    let mut stream = BufReader::new(tcp);
    for _ in 0..many {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let (first, switched) = if head.contains("Upgrade: websocket") {
            ("101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket", true)
        } else {
            ("200 OK", false)
        };
        let answer = if switched {
            format!("HTTP/1.1 {first}\r\n\r\n")
        } else {
            format!("HTTP/1.1 {first}\r\nContent-Length: {}\r\n\r\n{head}", head.len())
        };
        stream.write_all(answer.as_bytes()).await.expect("it listens");
        if switched {
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a line");
            stream.write_all(line.to_uppercase().as_bytes()).await.expect("it listens");
            return;
        }
    }
}

/// Hears so many heads.
async fn hear_heads(lane: &mut Visit, heads: usize) -> String {
    let mut text = String::new();
    while text.matches("\r\n\r\n").count() < heads {
        let (_, data) = lane.hear().await.expect("more");
        text.push_str(&String::from_utf8_lossy(&data));
    }
    text
}

fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: web.example.com\r\n{fields}\r\n").into_bytes()
}

#[test]
fn each_request_names_its_visitor_and_an_upgrade_passes() {
    let mut edge = Edge::open();
    let home = Home::with(edge.address, &BOTH);
    // It closes after each request, so that the next one needs another connection.
    let service = server::serve_tcp(|tcp| tell_back(tcp, 1));
    let line = ["name:web", "--to", &service.to_string(), "--forwarded"];
    let _client = start(&home, &line);
    on_server(async {
        let mut control = edge.control().await;
        greet(&mut control, 1, 1).await;
        let (_, mut lane) = edge.lane().await;
        let forged = "X-Forwarded-For: 10.0.0.1\r\nX-forwarded-host: bank\r\n";
        lane.bring(1, 0, &get("/one", forged)).await;
        assert_eq!(lane.frame().await, Some(Frame::Taken));
        for path in ["/one", "/two"] {
            // The head of the answer, and the head of the request within.
            let answer = hear_heads(&mut lane, 2).await;
            let lower = answer.to_lowercase();
            assert!(answer.contains(path), "{answer}");
            assert_eq!(lower.matches("x-forwarded-for: 192.0.2.1\r\n").count(), 1, "{answer}");
            assert_eq!(lower.matches("x-forwarded-").count(), 3, "{answer}");
            assert!(lower.contains("x-forwarded-host: web.example.com"), "{answer}");
            if path == "/one" {
                lane.say(&get("/two", "")).await;
            }
        }
        lane.say(&get("/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n")).await;
        let switched = hear_heads(&mut lane, 1).await;
        assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
        lane.say(b"now another protocol\n").await;
        assert_eq!(lane.hear_all().await, b"NOW ANOTHER PROTOCOL\n");
        lane.end().await;
        lane.bring(2, 0, b"").await;
        assert_eq!(lane.frame().await, Some(Frame::Taken), "and the lane carries another");
    });
}
