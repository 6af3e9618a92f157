//! Who is let in over HTTP, and what becomes of those who behave badly.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::desk::{Desk, request};

const TOKEN: &str = "0123456789abcdef0123";
const PATHS: [(&str, &str); 6] = [
    ("POST", "/mcp"),
    ("GET", "/sse"),
    ("POST", "/messages"),
    ("GET", "/metrics"),
    ("GET", "/readyz"),
    ("GET", "/nothing"),
];

#[test]
fn host_and_origin_are_checked_on_every_path() {
    let desk = Desk::new();
    let server = desk.http(&["--allow-host", "studio.local", "--allow-origin", "https://game.example"], None);
    for (method, path) in PATHS.into_iter().chain([("GET", "/healthz")]) {
        for header in [
            ("Host", "evil.example"),
            ("Host", "localhost.evil.example"),
            ("Host", ""),
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
            ("Origin", "http://localhost.evil.example"),
            ("Origin", "https://game.example.evil.example"),
        ] {
            assert_eq!(server.send(method, path, &[header], "").status, 403, "{path} {header:?}");
        }
    }
    let twice = [("Origin", "http://localhost"), ("Origin", "https://evil.example")];
    assert_eq!(server.send("GET", "/healthz", &twice, "").status, 403);
    for header in [
        ("Host", "127.0.0.1:1"),
        ("Host", "[::1]"),
        ("Host", "STUDIO.local:80"),
        ("Origin", "http://localhost:3000"),
        ("Origin", "https://game.example"),
    ] {
        assert_eq!(server.send("GET", "/healthz", &[header], "").status, 200, "{header:?}");
    }
}

#[test]
fn without_the_token_nothing_is_told() {
    let desk = Desk::new();
    let server = desk.http(&[], Some(TOKEN));
    let wrong = format!("Bearer {}x", &TOKEN[1..]);
    let right = format!("bearer {TOKEN}");
    for (method, path) in PATHS {
        for headers in [&[][..], &[("Authorization", wrong.as_str())], &[("Authorization", TOKEN)]] {
            let reply = server.send(method, path, headers, "");
            assert_eq!(reply.status, 401, "{path} {headers:?}");
            assert!(reply.head.to_lowercase().contains("www-authenticate: bearer"), "{}", reply.head);
        }
    }
    assert_eq!(server.send("GET", "/healthz", &[], "").status, 200);
    let metrics = server.send("GET", "/metrics", &[("Authorization", &right)], "");
    assert_eq!(metrics.status, 200);
}

#[test]
fn other_machines_need_a_token() {
    let desk = Desk::new();
    let refused = |args: &[&str], token: Option<&str>| {
        let mut command = desk.command(&[&["http", "--model", "sketch"], args].concat());
        token.map(|token| command.env("DGX_PIXELS_MCP_TOKEN", token));
        let ended = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(ended.status.code(), Some(1));
        String::from_utf8_lossy(&ended.stderr).lines().last().unwrap_or_default().to_owned()
    };
    let error = refused(&["--bind", "0.0.0.0:0"], None);
    assert!(
        error.starts_with("error: `bind` is 0.0.0.0:0, which other machines can reach; expected a token"),
        "{error}"
    );
    let error = refused(&["--bind", "0.0.0.0:0"], Some("secret"));
    assert_eq!(
        error,
        "error: the token has 6 characters; expected 16 or more, without spaces, as of `openssl rand -hex 32`"
    );
    let error = refused(&["--token-file", "none"], None);
    assert!(error.starts_with("error: cannot read the token in `none`: "), "{error}");
}

#[test]
fn bad_requests_are_answered_and_the_server_goes_on() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let json = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let large = format!("{{\"prompt\":\"{}\"}}", "x".repeat(2 << 20));
    assert_eq!(server.send("POST", "/mcp", &json, &large).status, 413);
    assert_eq!(server.send("POST", "/messages?session_id=7", &json, "{}").status, 400);
    let nobody = "/messages?session_id=01a2093c-ac63-4568-bd21-cc926afd35b8";
    assert_eq!(server.send("POST", nobody, &json, "{}").status, 404);
    assert_eq!(server.send("GET", "/nothing", &[], "").status, 404);
    assert_eq!(server.send("DELETE", "/healthz", &[], "").status, 405);
    let reply = server.ask("tools/list", None, json!({}));
    assert_eq!(reply.status, 200);
    assert!(reply.body.contains("generate_sprite"));
}

/// Bytes that no client would send, from a seed so that a failure can be had again.
#[test]
fn ten_thousand_odd_requests_harm_nothing() {
    let desk = Desk::new();
    let mut server = desk.http(&[], None);
    let valid = request(1, "tools/call", json!({ "name": "list_assets", "arguments": {} })).to_string();
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, \
        text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: list_assets\r\n";
    let mut random = 7u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    let resident = |id: u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let mut before = 0;
    for round in 0..10_000 {
        let mut bytes = format!("{head}Content-Length: {}\r\n\r\n{valid}", valid.len()).into_bytes();
        for _ in 0..next(8) {
            let (place, byte) = (next(bytes.len()), next(256) as u8);
            match next(3) {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes.truncate(bytes.len() - next(3) * next(bytes.len()) / 3);
        let mut stream = server.connect();
        let _ = stream.write_all(&bytes);
        if round % 4 == 0 {
            // The others go without an answer.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 64]);
        }
        if round == 2_000 {
            before = resident(server.child.id());
        }
    }
    let after = resident(server.child.id());
    assert!(after < before + before / 4 + 8192, "{before} kB, then {after} kB");
    assert_eq!(server.ask("tools/list", None, json!({})).status, 200);
    assert!(server.child.try_wait().unwrap().is_none());
}

#[test]
fn operators_see_calls_and_the_engine() {
    let desk = Desk::new();
    let mut server = desk.http(&[], None);
    let arguments = json!({ "name": "generate_sprite", "arguments": { "prompt": "a key" } });
    let reply = server.ask("tools/call", Some("generate_sprite"), arguments);
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(server.send("GET", "/readyz", &[], "").body, "ready");
    let metrics = server.send("GET", "/metrics", &[], "").body;
    for line in [
        "dgx_pixels_mcp_tool_calls_total{kind=\"\",outcome=\"ok\",tool=\"generate_sprite\"} 1",
        "dgx_pixels_jobs_total{kind=\"\",outcome=\"finished\"} 1",
        "dgx_pixels_journal_errors_total{operation=\"accept\"} 0",
        "dgx_pixels_device_hangs_total{device=\"cpu\"} 0",
        "dgx_pixels_library_quota_bytes 4294967296",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let bytes = metrics.lines().find_map(|line| line.strip_prefix("dgx_pixels_library_bytes "));
    assert!(bytes.is_some_and(|bytes| bytes != "0"), "{metrics}");
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_client_of_2024_listens_at_sse_and_posts_beside_it() {
    let desk = Desk::new();
    let mut server = desk.http(&[], None);
    let mut stream = server.connect();
    stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let mut seen = String::new();
    let mut until = |wanted: &str| {
        while !seen.contains(wanted) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the stream ended: {seen}");
            seen += &String::from_utf8_lossy(&bytes[..count]);
        }
        seen.clone()
    };
    let seen = until("session_id=");
    let place = seen.split("data: ").nth(1).unwrap().lines().next().unwrap().trim().to_owned();
    let post = |message: Value| {
        let json = [("Content-Type", "application/json")];
        assert_eq!(server.send("POST", &place, &json, &message.to_string()).status, 202);
    };
    let client = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    post(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client }));
    until("\"protocolVersion\":\"2024-11-05\"");
    post(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    post(
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "list_models", "arguments": {} } }),
    );
    until("pico-8");
    drop(stream);
    let gone = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        server
            .send("POST", &place, &[], "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}")
            .status
            == 404
    });
    assert!(gone, "a session ends with its stream");
    assert_eq!(server.terminate(), Some(0));
}

/// The body of the first request of a client of 2025-06-18.
fn beginning() -> String {
    let client = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client }).to_string()
}

#[test]
fn a_flood_of_sessions_ends_the_idlest_and_not_those_that_are_used() {
    let desk = Desk::new();
    let mut server = desk.http(&[], None);
    let headers = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    let begin = || {
        let reply = server.send("POST", "/mcp", &headers, &beginning());
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.header("mcp-session-id").unwrap().to_owned()
    };
    let list = |session: &str| {
        let headers = [&headers[..], &[("Mcp-Session-Id", session)]].concat();
        let body = json!({ "jsonrpc": "2.0", "id": 2, "method": "prompts/list" }).to_string();
        server.send("POST", "/mcp", &headers, &body).status
    };
    let (used, idle) = (begin(), begin());
    assert_eq!(list(&used), 200);
    for _ in 0..300 {
        begin();
    }
    assert_eq!((list(&used), list(&idle)), (200, 404));
    assert_eq!(server.ask("tools/list", None, json!({})).status, 200);
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn a_web_page_of_an_allowed_origin_is_answered_so_that_it_can_read() {
    let desk = Desk::new();
    let server = desk.http(&["--allow-origin", "https://game.example"], Some(TOKEN));
    let page = ("Origin", "https://game.example");
    for path in ["/mcp", "/sse", "/messages", "/metrics"] {
        let asks = [
            page,
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type,mcp-session-id"),
            ("Access-Control-Request-Private-Network", "true"),
        ];
        let reply = server.send("OPTIONS", path, &asks, "");
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{reply:?}");
        assert_eq!(reply.header("access-control-allow-origin"), Some("https://game.example"));
        assert_eq!(reply.header("vary"), Some("Origin"));
        assert_eq!(reply.header("access-control-allow-private-network"), Some("true"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        let allowed = reply.header("access-control-allow-headers").unwrap().to_lowercase();
        for name in [
            "authorization",
            "content-type",
            "accept",
            "mcp-session-id",
            "mcp-protocol-version",
            "last-event-id",
        ] {
            assert!(allowed.split(", ").any(|allowed| allowed == name), "{name} is not in {allowed}");
        }
        assert!(reply.header("access-control-allow-methods").unwrap().contains("DELETE"));
    }

    // The preflight takes no token; what follows does, and its refusal can be read as well.
    let refused = server.send("POST", "/mcp", &[page], "");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(page.1)));
    let bearer = format!("Bearer {TOKEN}");
    let headers = [
        page,
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let reply = server.send("POST", "/mcp", &headers, &beginning());
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(page.1)));
    let exposed = reply.header("access-control-expose-headers").unwrap();
    assert!(
        exposed.split(", ").any(|name| name == "Mcp-Session-Id") && reply.header("mcp-session-id").is_some()
    );

    // Other pages, and a question that is no preflight.
    let evil = [("Origin", "https://evil.example"), ("Access-Control-Request-Method", "POST")];
    let reply = server.send("OPTIONS", "/mcp", &evil, "");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (403, None));
    assert_eq!(reply.header("vary"), Some("Origin"));
    assert_eq!(server.send("OPTIONS", "/mcp", &[page], "").status, 401);
    let without = server.send("GET", "/healthz", &[], "");
    assert_eq!((without.status, without.header("access-control-allow-origin")), (200, None));
}
