//! The transport alone, with small limits and a server of three tools.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use dgx_pixels_mcp::transport::{self, HttpConfig, Ops};
use rmcp::model::{CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::desk::{Place, request};

/// `large` answers with half a MiB, `wait` when its call is cancelled or the server stops.
#[derive(Clone)]
struct Handler {
    stop: CancellationToken,
    told: Sender<&'static str>,
}

impl ServerHandler for Handler {
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = match request.name.as_ref() {
            "large" => "x".repeat(1 << 19),
            _ => {
                let _ = self.told.send("begun");
                tokio::select! {
                    () = context.ct.cancelled() => {}
                    () = self.stop.cancelled() => {}
                }
                let _ = self.told.send("cancelled");
                "stopped".into()
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

pub(crate) struct Server {
    pub(crate) place: Place,
    pub(crate) stop: CancellationToken,
    told: Receiver<&'static str>,
    served: JoinHandle<()>,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn start(config: HttpConfig) -> Server {
        let runtime = Runtime::new().unwrap();
        let (told, listener) = mpsc::channel();
        let stop = CancellationToken::new();
        let config = HttpConfig { bind: ([127, 0, 0, 1], 0).into(), ..config };
        let bound = runtime.block_on(transport::bind(config)).unwrap();
        let place = Place(bound.local_addr().unwrap());
        let ops =
            Ops { ready: Arc::new(|| Err("no model".into())), metrics: Arc::new(|| "calls 1\n".into()) };
        let served = runtime.spawn(bound.serve(Handler { stop: stop.clone(), told }, ops, stop.clone()));
        Server { place, stop, told: listener, served, runtime }
    }

    /// Waits for what the handler says next.
    pub(crate) fn hears(&self, what: &str) {
        assert_eq!(self.told.recv_timeout(Duration::from_secs(20)), Ok(what));
    }

    /// Begins a call of the newest revision, which `wait` does not answer.
    pub(crate) fn begin(&self) -> TcpStream {
        let mut stream = self.place.connect();
        let body = request(1, "tools/call", json!({ "name": "wait" })).to_string();
        let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
            Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
            Mcp-Method: tools/call\r\nMcp-Name: wait\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        self.hears("begun");
        stream
    }

    /// Listens at `/sse` and begins a session of 2024: the stream, and where to post.
    pub(crate) fn listen(&self) -> (TcpStream, String) {
        let mut stream = self.place.connect();
        stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let seen = read_until(&mut stream, "session_id=");
        let place = seen.split("data: ").nth(1).unwrap().lines().next().unwrap().trim().to_owned();
        let about = json!({ "name": "test", "version": "1" });
        let params = json!({ "protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": about });
        self.post(&place, &json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
        read_until(&mut stream, "\"protocolVersion\":\"2024-11-05\"");
        self.post(&place, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        (stream, place)
    }

    pub(crate) fn post(&self, place: &str, message: &serde_json::Value) -> u16 {
        self.place.send("POST", place, &[("Content-Type", "application/json")], &message.to_string()).status
    }

    pub(crate) fn call(&self, place: &str, id: usize, tool: &str) -> u16 {
        let params = json!({ "name": tool, "arguments": {} });
        self.post(place, &json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }))
    }
}

pub(crate) fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the stream ended: {seen}");
        seen += &String::from_utf8_lossy(&bytes[..count]);
    }
    seen
}

/// All that still comes, however the connection ends.
pub(crate) fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = vec![];
    let ended = stream.read_to_end(&mut bytes);
    assert!(
        !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "the server keeps the connection open"
    );
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn operators_are_told_why_it_is_not_ready() {
    let server = Server::start(HttpConfig::default());
    let reply = server.place.send("GET", "/readyz", &[], "");
    assert_eq!((reply.status, reply.body.as_str()), (503, "no model"));
    assert_eq!(server.place.send("GET", "/metrics", &[], "").body, "calls 1\n");
    assert_eq!(server.place.send("GET", "/healthz", &[], "").status, 200);
}

#[test]
fn a_call_whose_client_vanishes_is_cancelled() {
    let server = Server::start(HttpConfig::default());
    drop(server.begin());
    server.hears("cancelled");
    let (stream, place) = server.listen();
    assert_eq!(server.call(&place, 1, "wait"), 202);
    server.hears("begun");
    drop(stream);
    server.hears("cancelled");
}

#[test]
fn calls_under_way_are_bounded_for_a_client_of_sse() {
    let server = Server::start(HttpConfig::default());
    let (mut stream, place) = server.listen();
    let statuses: Vec<_> = (1..=65).map(|id| server.call(&place, id, "wait")).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 202).count(), 64, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&503));
    let cancel = |id| {
        let params = json!({ "requestId": id });
        json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })
    };
    assert_eq!(server.call(&place, 7, "large"), 503, "the id is in use");
    assert_eq!(server.post(&place, &cancel(7)), 202);
    assert_eq!(server.call(&place, 65, "large"), 202);
    read_until(&mut stream, "xxxx");
}

/// Whether it takes answers as they come or cancels what was answered already, it costs a bounded
/// number of answers.
#[test]
fn a_client_of_sse_that_never_reads_is_bounded() {
    let server = Server::start(HttpConfig::default());
    let (_unread, place) = server.listen();
    let refused = (1..2000).find(|id| server.call(&place, *id, "large") != 202);
    let refused = refused.expect("calls beyond what may wait are refused");

    let gone = (0..2000).find(|round| {
        // Ids of calls that were answered, or are about to be.
        let id = refused - 1 - round % 60;
        let params = json!({ "requestId": id });
        server.post(
            &place,
            &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }),
        );
        server.call(&place, id, "large") == 404
    });
    assert!(gone.is_some(), "who lets too many answers wait is let go");
    assert_eq!(server.place.send("GET", "/healthz", &[], "").status, 200);
}

#[test]
fn a_stop_lets_calls_answer_and_ends_streams() {
    let server = Server::start(HttpConfig::default());
    let (mut stream, place) = server.listen();
    let mut calls = [server.begin(), server.begin()];
    assert_eq!(server.call(&place, 1, "wait"), 202);
    server.hears("begun");
    server.stop.cancel();
    for call in &mut calls {
        let said = rest(call);
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("stopped"), "{said}");
    }
    assert!(rest(&mut stream).contains("stopped"));
    server.runtime.block_on(server.served).unwrap();
    assert!(TcpStream::connect(server.place.0).is_err(), "nobody listens any more");
}
