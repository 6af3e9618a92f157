//! Messages that clients send beside the book, over HTTP and standard streams.

use serde_json::{Value, json};

use crate::desk::{Desk, Http, Reply};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const BOTH: (&str, &str) = ("Accept", "application/json, text/event-stream");

fn beginning(version: &str) -> Value {
    let about = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": about });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })
}

fn call(id: Value, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}

/// A session of `version`.
struct Session<'a> {
    server: &'a Http,
    id: String,
}

impl Session<'_> {
    fn begin<'a>(server: &'a Http, version: &str) -> Session<'a> {
        let reply = server.send("POST", "/mcp", &[JSON, BOTH], &beginning(version).to_string());
        let id = reply.header("mcp-session-id").unwrap().to_owned();
        Session { server, id }
    }

    fn post(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        let headers = [&[JSON, ("Mcp-Session-Id", &self.id)], headers].concat();
        self.server.send("POST", "/mcp", &headers, body)
    }
}

#[test]
fn what_is_no_message_is_a_bad_request_with_an_error_of_json_rpc() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let deep = "[".repeat(10_000);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("\u{0}\u{1}", -32700),
        (&deep, -32700),
        ("[1", -32700),
        ("[]", -32600),
        ("7", -32600),
        ("null", -32600),
        ("{\"jsonrpc\":\"2.0\"}", -32600),
        ("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", -32600),
    ] {
        let reply = server.send("POST", "/mcp", &[JSON, BOTH], body);
        assert_eq!(reply.status, 400, "{body:.20}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let answer = reply.json();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &Value::Null), "{answer}");
        assert_eq!(answer["jsonrpc"], "2.0");
    }
    for headers in [&[BOTH][..], &[BOTH, ("Content-Type", "text/plain")]] {
        assert_eq!(server.send("POST", "/mcp", headers, &beginning("2025-06-18").to_string()).status, 415);
    }
    let utf8 = [("Content-Type", "application/json; charset=utf-8"), BOTH];
    assert_eq!(server.send("POST", "/mcp", &utf8, &beginning("2025-06-18").to_string()).status, 200);
    assert_eq!(server.send("POST", "/mcp", &[JSON, ("Accept", "text/html")], "{}").status, 406);
    assert_eq!(server.send("PUT", "/mcp", &[JSON, BOTH], "{}").status, 405);
}

#[test]
fn an_unreadable_string_is_answered_with_the_id_of_its_call() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let session = Session::begin(&server, "2025-06-18");
    let body = call(json!("a"), "generate_sprite", json!({ "prompt": "HOLE" })).to_string();
    for bad in [r"\ud800", r"x \udfff", r"\ud83d\u0041"] {
        let reply = session.post(&[BOTH], &body.replace("HOLE", bad));
        let answer = reply.json();
        assert_eq!((reply.status, &answer["id"]), (400, &json!("a")), "{reply:?}");
        assert_eq!(answer["error"]["code"], -32700);
    }
    assert_eq!(
        session.post(&[BOTH], &json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string()).status,
        200
    );
}

#[test]
fn wrong_params_and_unknown_methods_are_errors_of_the_call() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let session = Session::begin(&server, "2025-06-18");
    for (method, params, code) in [
        ("tools/call", json!(7), -32602),
        ("tools/call", json!([]), -32602),
        ("tools/call", json!({ "name": 7 }), -32602),
        ("tools/call", json!({ "name": "no_such_tool", "arguments": {} }), -32602),
        ("tools/call", json!({ "name": "list_assets", "arguments": [] }), -32602),
        ("tools/list", json!({ "cursor": 7 }), -32602),
        ("prompts/list", json!([]), -32602),
        ("tools/list", json!({ "cursor": "made up" }), -32602),
        ("prompts/get", json!({ "name": "none" }), -32602),
        ("resources/read", json!({}), -32602),
        ("completion/complete", json!({ "ref": 7 }), -32602),
        ("no/such/method", json!({}), -32601),
    ] {
        let body = json!({ "jsonrpc": "2.0", "id": 5, "method": method, "params": params }).to_string();
        let reply = session.post(&[BOTH], &body);
        let answer = reply.json();
        assert_eq!(
            (&answer["error"]["code"], &answer["id"]),
            (&json!(code), &json!(5)),
            "{body}: {answer:.200}"
        );
        assert_eq!(reply.status, 200, "{body}");
    }
}

#[test]
fn a_session_that_is_not_there_is_not_found() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let gone = Session::begin(&server, "2025-06-18");
    assert!(server.send("DELETE", "/mcp", &[("Mcp-Session-Id", &gone.id)], "").status < 300);
    let never = Session { server: &server, id: "01a2093c-ac63-4568-bd21-cc926afd35b8".into() };
    for session in [&gone, &never] {
        for body in [
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }),
            json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": 7 }),
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }]),
        ] {
            assert_eq!(session.post(&[BOTH], &body.to_string()).status, 404, "{body}");
        }
        let listen = [("Accept", "text/event-stream"), ("Mcp-Session-Id", session.id.as_str())];
        assert_eq!(server.send("GET", "/mcp", &listen, "").status, 404);
    }
}

#[test]
fn a_client_that_reads_only_json_is_answered_in_json() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    for accept in [Some("application/json"), Some("*/*"), None] {
        let accept: Vec<_> = accept.map(|accept| ("Accept", accept)).into_iter().collect();
        let begin = [&[JSON], &accept[..]].concat();
        let reply = server.send("POST", "/mcp", &begin, &beginning("2025-06-18").to_string());
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some("application/json")),
            "{reply:?}"
        );
        assert_eq!(reply.json()["result"]["protocolVersion"], "2025-06-18");
        let session = Session { server: &server, id: reply.header("mcp-session-id").unwrap().into() };
        let notice = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
        assert_eq!(session.post(&accept, &notice).status, 202);
        let reply = session.post(&accept, &call(json!(3), "list_models", json!({})).to_string());
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
        let answer = reply.json();
        assert!(answer["id"] == 3 && answer["result"]["content"][0]["text"].is_string(), "{answer}");
    }
}

#[test]
fn a_batch_of_2025_03_26_is_answered_with_a_batch() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let session = Session::begin(&server, "2025-03-26");
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        call(json!("two"), "list_models", json!({})),
        { "jsonrpc": "2.0", "id": 3, "method": "no/such/method" },
        { "jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": 7 },
        beginning("2025-03-26"),
        7,
    ]);
    let told = |answers: &Value| -> Vec<(Value, Value)> {
        let all = answers.as_array().unwrap_or_else(|| panic!("{answers}"));
        let mut all: Vec<_> =
            all.iter().map(|answer| (answer["id"].clone(), answer["error"]["code"].clone())).collect();
        all.sort_by_key(|(id, _)| id.to_string());
        all
    };
    let mut expected = vec![
        (json!(1), Value::Null),
        (json!("two"), Value::Null),
        (json!(3), json!(-32601)),
        (json!(4), json!(-32602)),
        (json!(0), json!(-32600)),
        (Value::Null, json!(-32600)),
    ];
    expected.sort_by_key(|(id, _)| id.to_string());
    for accept in [BOTH, ("Accept", "application/json")] {
        let reply = session.post(&[accept], &batch.to_string());
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(told(&reply.json()), expected);
    }
    let notices = json!([{ "jsonrpc": "2.0", "method": "notifications/initialized" }]).to_string();
    let reply = session.post(&[BOTH], &notices);
    assert_eq!((reply.status, reply.body.as_str()), (202, ""));

    // Later revisions have none.
    let session = Session::begin(&server, "2025-06-18");
    let reply = session.post(&[BOTH, ("MCP-Protocol-Version", "2025-06-18")], &batch.to_string());
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(-32600)));

    // And over standard streams.
    let mut client = desk.stdio(&[]);
    client.send(&batch.to_string());
    assert_eq!(client.receive()["error"]["code"], -32600, "no revision was agreed on");
    client.send(&beginning("2025-03-26").to_string());
    assert_eq!(client.receive()["result"]["protocolVersion"], "2025-03-26");
    client.send(&batch.to_string());
    assert_eq!(told(&client.receive()), expected);
    client.send(&notices);
    client.send("[7]");
    assert_eq!(told(&client.receive()), [(Value::Null, json!(-32600))]);
    assert_eq!(client.leave(), Some(0));
    let mut client = desk.stdio(&[]);
    client.send(&beginning("2025-06-18").to_string());
    client.receive();
    client.send(&batch.to_string());
    assert_eq!(client.receive()["error"]["code"], -32600);
}

#[test]
fn over_standard_streams_every_fault_is_answered_and_the_connection_lives_on() {
    let desk = Desk::new();
    let mut client = desk.stdio(&[]);
    let long = format!("\"{}\"", "x".repeat(5 << 20));
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{}{}}}"#,
        "[".repeat(300),
        "]".repeat(300)
    );
    let faults = |client: &mut crate::desk::Stdin| {
        for (line, id, code) in [
            ("nonsense", json!(null), -32700),
            ("{\"jsonrpc\":\"2.0\",\"id\":1", json!(null), -32700),
            ("7", json!(null), -32600),
            (&long, json!(null), -32600),
            (&deep, json!(9), -32700),
            (r#"{"jsonrpc":"2.0","id":"s","method":"ping","params":{"a":"\ud800"}}"#, json!("s"), -32700),
            (r#"{"jsonrpc":"2.0","id":8,"method":"ping","params":{"a":1e400}}"#, json!(8), -32700),
            (r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}"#, json!(7), -32602),
            (r#"{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}"#, json!(7), -32602),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}"#, json!(null), -32600),
        ] {
            client.send(line);
            let answer = client.receive();
            assert_eq!(
                (&answer["id"], &answer["error"]["code"]),
                (&id, &json!(code)),
                "{line:.60}: {answer}"
            );
        }
    };
    faults(&mut client);
    // A notice that comes too early is no request, and so not answered.
    client.send("");
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    client.send(&beginning("2025-06-18").to_string());
    assert_eq!(client.receive()["result"]["protocolVersion"], "2025-06-18");
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    faults(&mut client);
    client.send(r#"{"jsonrpc":"2.0","id":3,"method":"no/such/method"}"#);
    assert_eq!(client.receive()["error"]["code"], -32601);
    client.send(&call(json!(4), "list_models", json!({})).to_string());
    assert!(client.receive()["result"]["content"].is_array());
    assert_eq!(client.leave(), Some(0));
}

#[test]
fn at_sse_faults_are_answered_too() {
    let desk = Desk::new();
    let server = desk.http(&[], None);
    let mut stream = server.connect();
    use std::io::Write as _;
    stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let seen = crate::transport::read_until(&mut stream, "session_id=");
    let place = seen.split("data: ").nth(1).unwrap().lines().next().unwrap().trim().to_owned();
    let post = |body: &str| server.send("POST", &place, &[JSON], body);
    let early = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    assert_eq!(post(&early).status, 202);
    assert_eq!(post(&beginning("2024-11-05").to_string()).status, 202);
    crate::transport::read_until(&mut stream, "\"protocolVersion\"");
    for body in ["", "{", r#"{"jsonrpc":"2.0","id":"s","method":"ping","params":{"a":"\ud800"}}"#] {
        let reply = post(body);
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (400, &json!(-32700)));
    }
    assert_eq!(post(r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":7}"#).status, 202);
    crate::transport::read_until(&mut stream, "-32602");
    assert_eq!(post(r#"[{"jsonrpc":"2.0","id":8,"method":"ping"}]"#).status, 202);
    crate::transport::read_until(&mut stream, "\"id\":8");
}
