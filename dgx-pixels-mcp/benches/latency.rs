//! How long a call takes that makes no picture, on the loopback, while another draws:
//! `cargo bench --package dgx-pixels-mcp --bench latency -- [MODEL]`.
//!
//! A raw keep-alive client, so that what is measured is the server: at 1 and at 32 connections, the
//! newest revision's JSON answers.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const CALLS: usize = 4000;

fn main() {
    let model =
        std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_else(|| "sketch".into());
    let folder = tempfile::tempdir().expect("a folder for assets");
    let (mut server, address, start) = start(&model, folder.path());
    println!(
        "model {model}; start to first answer {:.0} ms, resident {:.1} MiB",
        ms(start),
        resident(&server)
    );
    for (what, drawing) in [("idle", false), ("while a picture is drawn", true)] {
        let drawn = drawing.then(|| {
            let arguments = json!({ "prompt": "a key", "steps": 1000, "width": 64 });
            let body = call("generate_sprite", arguments);
            let mut stream = connect(address);
            stream.write_all(&body).expect("the server takes a call");
            thread::sleep(Duration::from_millis(500));
            stream
        });
        for connections in [1, 32] {
            for (tool, arguments) in [
                ("list_models", json!({})),
                ("list_assets", json!({})),
                ("get_job", json!({ "job_id": "7" })),
            ] {
                let mut times = time(address, connections, tool, &arguments);
                times.sort_unstable();
                let at = |share: f64| ms(times[((times.len() - 1) as f64 * share) as usize]);
                println!(
                    "{what}, {connections:>2} connections, {tool:<12} p50 {:.3} ms, p99 {:.3} ms",
                    at(0.5),
                    at(0.99)
                );
            }
        }
        drop(drawn);
    }
    let _ = server.kill();
    let _ = server.wait();
}

fn start(model: &str, folder: &std::path::Path) -> (Child, SocketAddr, Duration) {
    let began = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_dgx-pixels-mcp"))
        .args(["http", "--bind", "127.0.0.1:0", "--model", model, "--library"])
        .arg(folder)
        .env("XDG_STATE_HOME", folder)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut lines = BufReader::new(server.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listening on ")).expect("it listens");
    thread::spawn(move || lines.for_each(drop));
    let address = line.rsplit_once("http://").expect("an address").1.trim_end_matches("/mcp").parse();
    let address = address.expect("an address");
    ask(&mut connect(address), &call("list_models", json!({})));
    (server, address, began.elapsed())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a socket of our own");
    stream
}

fn call(tool: &str, arguments: Value) -> Vec<u8> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "latency", "version": "1" },
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
         MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends a request and reads the answer, whose length its head tells.
fn ask(stream: &mut TcpStream, request: &[u8]) {
    stream.write_all(request).expect("the server reads");
    let mut reply = vec![];
    let mut bytes = [0; 16384];
    loop {
        let count = stream.read(&mut bytes).expect("the server answers");
        assert!(count > 0, "the server closed the connection");
        reply.extend_from_slice(&bytes[..count]);
        let Some(head) = reply.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&reply[..head]).to_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize =
            length.and_then(|length| length.parse().ok()).expect("a JSON answer has a length");
        if reply.len() >= head + 4 + length {
            return;
        }
    }
}

fn time(address: SocketAddr, connections: usize, tool: &str, arguments: &Value) -> Vec<Duration> {
    let request = call(tool, arguments.clone());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = connect(address);
                    let each = |_| {
                        let began = Instant::now();
                        ask(&mut stream, &request);
                        began.elapsed()
                    };
                    (0..CALLS / connections).map(each).collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("a client ends")).collect()
    })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// In MiB.
fn resident(server: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1024.0
}
