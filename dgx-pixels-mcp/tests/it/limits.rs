//! Clients that are slow, idle or many, against a server with small limits.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use dgx_pixels_mcp::transport::HttpConfig;
use serde_json::json;

use crate::desk::request;
use crate::transport::{Server, read_until, rest};

/// A whole request of a keep-alive connection.
fn ask(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    read_until(stream, "\r\n\r\n")
}

/// `true` once the server has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    matches!(stream.read(&mut [0; 64]), Ok(0)) || stream.read(&mut [0; 64]).is_err()
}

fn is_open(stream: &mut TcpStream) -> bool {
    ask(stream, "/healthz").starts_with("HTTP/1.1 200 ")
}

#[test]
fn a_new_connection_takes_the_place_of_the_idlest() {
    let server = Server::start(HttpConfig { max_connections: 4, ..Default::default() });
    let mut used: Vec<_> = (0..4).map(|_| server.place.connect()).collect();
    for stream in &mut used {
        assert!(is_open(stream));
    }
    assert_eq!(server.place.send("GET", "/metrics", &[], "").status, 200);
    assert!(is_closed(&mut used[0]), "it was idle longest");
    assert!(used[1..].iter_mut().all(is_open));
}

#[test]
fn connections_that_never_ask_are_closed_before_those_that_did() {
    let server = Server::start(HttpConfig { max_connections: 4, ..Default::default() });
    let mut used = server.place.connect();
    assert!(is_open(&mut used));
    let mut silent: Vec<_> = (0..3).map(|_| server.place.connect()).collect();
    silent[1].write_all(b"POST /mcp HTTP/1.1\r\nHost: loc").unwrap();
    // From then on they are not new any more.
    thread::sleep(Duration::from_millis(1100));
    for _ in 0..3 {
        assert_eq!(server.place.send("GET", "/metrics", &[], "").status, 200);
    }
    assert!(is_open(&mut used));
}

#[test]
fn a_flood_of_connections_keeps_nobody_out() {
    let server = Server::start(HttpConfig { max_connections: 8, ..Default::default() });
    let flood: Vec<_> = (0..200).map(|_| server.place.connect()).collect();
    for _ in 0..20 {
        let reply = server.place.ask("tools/call", Some("large"), json!({ "name": "large" }));
        assert_eq!(reply.status, 200);
    }
    drop(flood);
}

#[test]
fn calls_are_not_cut_off_for_new_connections_and_health_is_told_all_the_same() {
    let server = Server::start(HttpConfig { max_connections: 3, ..Default::default() });
    let mut running = [server.begin(), server.begin(), server.begin()];
    for _ in 0..40 {
        let refused = server.place.send("GET", "/metrics", &[], "");
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")), "{refused:?}");
        assert_eq!(server.place.send("GET", "/healthz", &[], "").status, 200);
    }
    // Nor do those keep it from being told that fill the reserve.
    let _silent: Vec<_> = (0..40).map(|_| server.place.connect()).collect();
    assert_eq!(server.place.send("GET", "/healthz", &[], "").status, 200);
    server.stop.cancel();
    assert!(running.iter_mut().all(|call| rest(call).contains("stopped")));
}

#[test]
fn long_calls_beyond_the_limit_are_told_to_come_back_and_quick_ones_go_on() {
    let server = Server::start(HttpConfig { max_requests: 2, ..Default::default() });
    let mut running = [server.begin(), server.begin(), server.begin()];
    let mut told = |call: &mut TcpStream| {
        call.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut bytes = [0; 4096];
        let count = call.read(&mut bytes).unwrap_or_default();
        (count > 0).then(|| String::from_utf8_lossy(&bytes[..count]).to_lowercase())
    };
    let refused = (0..1000).find_map(|_| running.iter_mut().find_map(&mut told)).unwrap();
    assert!(refused.starts_with("http/1.1 503 ") && refused.contains("retry-after: 1"), "{refused}");
    server.hears("cancelled");
    let quick = server.place.ask("tools/call", Some("large"), json!({ "name": "large" }));
    assert_eq!(quick.status, 200);
    assert_eq!(server.place.send("GET", "/healthz", &[], "").status, 200);
}

const POST: &str = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
    Accept: application/json, text/event-stream\r\nContent-Length: 1000\r\n\r\n";

#[test]
fn who_is_slow_with_a_request_is_not_waited_for() {
    let server = Server::start(HttpConfig { patience: Duration::from_millis(200), ..Default::default() });
    for begun in ["", "GET /healthz HTTP/1.1\r\nHost: loc", POST] {
        let mut stream = server.place.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        let said = rest(&mut stream);
        assert!(!said.contains(" 200 "), "{begun}: {said}");
    }
    // An answer may take longer than that.
    let mut waiting = server.begin();
    thread::sleep(Duration::from_millis(600));
    server.stop.cancel();
    assert!(rest(&mut waiting).contains("stopped"));
}

/// The time is for the whole, and not for each part.
#[test]
fn a_byte_now_and_then_does_not_buy_time() {
    let server = Server::start(HttpConfig { patience: Duration::from_millis(300), ..Default::default() });
    for begun in ["GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", POST] {
        let mut stream = server.place.connect();
        stream.write_all(begun.as_bytes()).unwrap();
        let mut sent = 0;
        while stream.write_all(b" ").is_ok() {
            sent += 1;
            assert!(sent < 900, "the server keeps the connection open");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Sends calls in a row whose answers are larger than what the system keeps for the client, and
/// reads hardly any.
#[test]
fn who_does_not_take_an_answer_is_let_go() {
    let server = Server::start(HttpConfig { patience: Duration::from_millis(300), ..Default::default() });
    let body = request(1, "tools/call", json!({ "name": "large" })).to_string();
    let call = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
         Mcp-Method: tools/call\r\nMcp-Name: large\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let send = || {
        let mut stream = server.place.connect();
        for _ in 0..40 {
            if stream.write_all(call.as_bytes()).is_err() {
                break;
            }
        }
        stream
    };
    // The system keeps what it took; that the server closed shows when more is sent.
    let mut unread = send();
    let is_let_go = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(20));
        unread.write_all(call.as_bytes()).is_err()
    });
    assert!(is_let_go);
    drop(unread);
    assert!(trickle_ends(send()), "a byte at a time is not taking it");
    assert_eq!(server.place.send("GET", "/healthz", &[], "").status, 200);
}

/// `true` if the server closes while its answers are read a byte at a time: the rest is then less
/// than was asked for.
fn trickle_ends(mut stream: TcpStream) -> bool {
    for _ in 0..300 {
        thread::sleep(Duration::from_millis(5));
        if !matches!(stream.read(&mut [0; 1]), Ok(1)) {
            return true;
        }
    }
    let mut all = vec![];
    let _ = stream.read_to_end(&mut all);
    all.len() < 40 << 19
}

#[test]
fn a_stream_that_is_read_outlives_the_patience() {
    let server = Server::start(HttpConfig { patience: Duration::from_millis(200), ..Default::default() });
    let (mut stream, place) = server.listen();
    thread::sleep(Duration::from_millis(1000));
    assert_eq!(server.call(&place, 1, "large"), 202);
    read_until(&mut stream, "xxxx");
}

#[test]
fn the_idlest_listener_at_sse_is_let_go_for_another() {
    let server = Server::start(HttpConfig::default());
    let (mut used, place) = server.listen();
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = server.place.connect();
            stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let seen = read_until(&mut stream, "session_id=");
            assert!(seen.starts_with("HTTP/1.1 200 "), "{seen}");
            (stream, seen.split("data: ").nth(1).unwrap().lines().next().unwrap().trim().to_owned())
        })
        .collect();
    assert_eq!(server.call(&place, 1, "large"), 202);
    read_until(&mut used, "xxxx");
    let (mut first, place) = flood.into_iter().next().unwrap();
    read_until(&mut first, "0\r\n\r\n");
    assert_eq!(server.call(&place, 1, "large"), 404);
}
