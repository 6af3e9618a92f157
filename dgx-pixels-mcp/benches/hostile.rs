//! The time that honest clients wait beside hostile ones, and the memory of the server:
//! `cargo bench --package dgx-pixels-mcp --bench hostile -- [SECONDS [KIND]]`.
//!
//! 64 hostile clients of eight kinds, 8 of each, do what they can to keep 4 honest ones out for
//! SECONDS (default 600). The honest ones ask without drawing, and now and then draw a sprite with
//! the built-in `sketch`. The program fails if a job that was accepted is lost. With KIND, 1 to 8,
//! all 64 are of that kind.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const HOSTILE: usize = 64;
const HONEST: usize = 4;
/// One of this many honest calls draws.
const DRAWS: usize = 100;

/// The work of a hostile client, which it repeats.
type Act = fn(&Load);

const KINDS: [(&str, Act); 8] = [
    ("read answers a byte at a time", slow_reader),
    ("send heads a byte at a time", slow_head),
    ("send bodies a byte at a time", slow_body),
    ("call without a pause", flood_of_calls),
    ("open connections, and say nothing", flood_of_connections),
    ("vanish while a sprite is drawn", vanish),
    ("send bodies of 1 MiB and more", huge),
    ("begin sessions and streams, and leave them", flood_of_sessions),
];

/// The state that all clients share.
struct Load {
    address: SocketAddr,
    stop: AtomicBool,
    acts: [AtomicU64; KINDS.len()],
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.set_write_timeout(Some(Duration::from_secs(60))).ok()?;
        Some(stream)
    }
}

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<u64>().ok());
    let (seconds, only) = (numbers.next().unwrap_or(600), numbers.next());
    let folder = tempfile::tempdir().expect("a folder for assets");
    let (mut server, address) = start(folder.path());
    let load = Load { address, stop: AtomicBool::new(false), acts: Default::default() };
    // What is made once is made before memory is compared.
    let warm = |_| honest(&load, Some(300));
    (0..2).map(warm).for_each(drop);
    let idle = resident(&server);

    let mut peak = idle;
    let mut all = Honest::default();
    thread::scope(|scope| {
        let load = &load;
        let clients: Vec<_> = (0..HONEST).map(|_| scope.spawn(|| honest(load, None))).collect();
        for client in 0..HOSTILE {
            let kind = only.map_or(client, |kind| (kind as usize).saturating_sub(1)) % KINDS.len();
            scope.spawn(move || {
                while load.goes_on() {
                    KINDS[kind].1(load);
                    load.acts[kind].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) {
            thread::sleep(Duration::from_millis(100));
            peak = peak.max(resident(&server));
        }
        load.stop.store(true, Ordering::Relaxed);
        for client in clients {
            all.add(client.join().expect("an honest client ends"));
        }
    });

    let lost = lost(&load, &all.jobs);
    let lives = server.try_wait().is_ok_and(|ended| ended.is_none());
    let _ = server.kill();
    let _ = server.wait();
    for ((kind, _), acts) in KINDS.iter().zip(&load.acts) {
        println!(
            "{:>3} hostile clients {kind}: {} times",
            HOSTILE / KINDS.len(),
            acts.load(Ordering::Relaxed)
        );
    }
    all.times.sort_unstable();
    let at = |share: f64| {
        let place = (all.times.len().saturating_sub(1) as f64 * share) as usize;
        all.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    println!(
        "{HONEST} honest clients, {seconds} s, {} calls: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms; \
         {} tried again",
        all.times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        all.retries
    );
    println!("{} jobs accepted, {} refused, {lost} lost", all.jobs.len(), all.refused);
    println!("resident {idle:.1} MiB idle, {peak:.1} MiB at most, {:.1} MiB above idle", peak - idle);
    if lives && lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(folder: &std::path::Path) -> (Child, SocketAddr) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_dgx-pixels-mcp"))
        .args(["http", "--bind", "127.0.0.1:0", "--model", "sketch", "--library"])
        .arg(folder.join("assets"))
        .env("XDG_STATE_HOME", folder)
        .env("DGX_PIXELS_LOG", "warn,dgx_pixels_mcp::transport=warn,dgx_pixels_mcp=info")
        .stderr(Stdio::piped())
        .spawn()
        .expect("the server starts");
    let mut lines = BufReader::new(server.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("listening on ")).expect("it listens");
    thread::spawn(move || lines.for_each(drop));
    let address = line.rsplit_once("http://").expect("an address").1.trim_end_matches("/mcp").parse();
    (server, address.expect("an address"))
}

/// A whole request of the newest revision.
fn call(tool: &str, arguments: Value) -> Vec<u8> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "hostile", "version": "1" },
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let head = head(body.len());
    format!(
        "{head}MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The head of a request, to which more may be added.
fn head(length: usize) -> String {
    format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\nContent-Length: {length}\r\n"
    )
}

/// Sends a request and reads the answer. `None` if the server closed the connection, or refused for
/// now.
fn ask(stream: &mut TcpStream, request: &[u8]) -> Option<Value> {
    stream.write_all(request).ok()?;
    let mut reply = vec![];
    let mut bytes = [0; 16384];
    loop {
        let count = stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
        reply.extend_from_slice(&bytes[..count]);
        let Some(head) = reply.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&reply[..head]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok())?;
        if reply.len() >= head + 4 + length {
            let is_answer = text.starts_with("http/1.1 200");
            return is_answer.then(|| serde_json::from_slice(&reply[head + 4..]).ok())?;
        }
    }
}

/// The experience of honest clients.
#[derive(Default)]
struct Honest {
    times: Vec<Duration>,
    retries: usize,
    /// Ids of assets and of jobs that were accepted.
    jobs: Vec<Value>,
    refused: usize,
}

impl Honest {
    fn add(&mut self, other: Honest) {
        self.times.extend(other.times);
        self.jobs.extend(other.jobs);
        self.retries += other.retries;
        self.refused += other.refused;
    }
}

/// Asks, with a pause between calls, and asks again where the connection was closed or the server
/// was busy; the time is that of all tries.
fn honest(load: &Load, calls: Option<usize>) -> Honest {
    let quick = [
        call("list_models", json!({})),
        call("list_assets", json!({ "limit": 10 })),
        call("get_job", json!({ "job_id": "7" })),
    ];
    let mut met = Honest::default();
    let mut stream = None;
    for round in 0..calls.unwrap_or(usize::MAX) {
        if calls.is_none() && !load.goes_on() {
            break;
        }
        let draws = round % DRAWS == DRAWS - 1;
        let drawing = draws.then(|| call("generate_sprite", json!({ "prompt": "a key", "width": 16 })));
        let request = drawing.as_ref().unwrap_or(&quick[round % quick.len()]);
        let began = Instant::now();
        let answer = loop {
            stream = stream.or_else(|| load.connect());
            match stream.as_mut().and_then(|stream| ask(stream, request)) {
                Some(answer) => break answer,
                None => {
                    (met.retries, stream) = (met.retries + 1, None);
                    thread::sleep(Duration::from_millis(5));
                    if began.elapsed() > Duration::from_secs(60) {
                        break Value::Null;
                    }
                }
            }
        };
        if draws {
            let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_default();
            let facts: Value = serde_json::from_str(text).unwrap_or_default();
            match (&facts["asset_id"], &facts["running"][0]["job_id"]) {
                (Value::Null, Value::Null) => met.refused += 1,
                (Value::Null, job) => met.jobs.push(json!({ "job_id": job })),
                (asset, _) => met.jobs.push(json!({ "asset_id": asset })),
            }
        } else {
            met.times.push(began.elapsed());
        }
        thread::sleep(Duration::from_millis(10));
    }
    met
}

/// The number of jobs of which there is neither a sprite nor a word.
fn lost(load: &Load, jobs: &[Value]) -> usize {
    let finished = |job: &&Value| {
        let tool = if job["job_id"].is_null() { "get_asset" } else { "get_job" };
        (0..20).any(|_| {
            let answer = load.connect().and_then(|mut stream| ask(&mut stream, &call(tool, (*job).clone())));
            answer.is_some_and(|answer| answer.to_string().contains("\\\"path\\\""))
        })
    };
    jobs.iter().filter(|job| !finished(job)).count()
}

fn slow_reader(load: &Load) {
    let Some(mut stream) = load.connect() else { return };
    let request = call("list_models", json!({}));
    for _ in 0..200 {
        if stream.write_all(&request).is_err() {
            break;
        }
    }
    while load.goes_on() && matches!(stream.read(&mut [0; 1]), Ok(1)) {
        thread::sleep(Duration::from_millis(50));
    }
}

fn trickle(load: &Load, begun: &str) {
    let Some(mut stream) = load.connect() else { return };
    let mut goes_on = stream.write_all(begun.as_bytes()).is_ok();
    while goes_on && load.goes_on() {
        thread::sleep(Duration::from_millis(100));
        goes_on = stream.write_all(b" ").is_ok();
    }
}

fn slow_head(load: &Load) {
    trickle(load, "POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
}

fn slow_body(load: &Load) {
    trickle(load, &format!("{}\r\n", head(100_000)));
}

fn flood_of_calls(load: &Load) {
    let Some(mut stream) = load.connect() else { return };
    let request = call("list_assets", json!({}));
    while load.goes_on() && ask(&mut stream, &request).is_some() {}
}

fn flood_of_connections(load: &Load) {
    let streams: Vec<_> = (0..80).map_while(|_| load.goes_on().then(|| load.connect())).collect();
    thread::sleep(Duration::from_millis(200));
    drop(streams);
}

fn vanish(load: &Load) {
    let Some(mut stream) = load.connect() else { return };
    let _ = stream.write_all(&call("generate_sprite", json!({ "prompt": "a key", "steps": 1000 })));
    thread::sleep(Duration::from_millis(50));
}

fn huge(load: &Load) {
    static REQUESTS: OnceLock<[Vec<u8>; 6]> = OnceLock::new();
    let requests = REQUESTS.get_or_init(|| {
        [
            call("generate_sprite", json!({ "prompt": "word ".repeat(190_000) })),
            call("list_assets", json!({ "limit": vec![1; 400_000] })),
            call("generate_batch", json!({ "prompts": vec!["a"; 200_000] })),
            [head(1 << 30).into_bytes(), b"\r\n".to_vec(), vec![b'['; 1 << 20]].concat(),
            [head(900_000).into_bytes(), b"\r\n".to_vec(), vec![b'['; 900_000]].concat(),
            [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'x'; 1 << 20]].concat(),
        ]
    });
    for request in requests {
        if let Some(mut stream) = load.connect().filter(|_| load.goes_on()) {
            ask(&mut stream, request);
        }
    }
}

fn flood_of_sessions(load: &Load) {
    let about = json!({ "name": "hostile", "version": "1" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }).to_string();
    let begin = format!("{}\r\n{body}", head(body.len()));
    let streams: Vec<_> = (0..10)
        .map_while(|_| load.goes_on().then(|| load.connect()))
        .map(|stream| {
            let mut stream = stream?;
            stream.write_all(begin.as_bytes()).ok()?;
            stream.write_all(b"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
            Some(stream)
        })
        .collect();
    thread::sleep(Duration::from_millis(100));
    drop(streams);
}

/// In MiB.
fn resident(server: &Child) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(f64::NAN) / 1024.0
}
