//! A server of its own for each test, and a client that speaks the newest revision.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// An empty home, and an empty folder to work in.
pub(crate) struct Desk {
    folder: TempDir,
    pub(crate) home: TempDir,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk { folder: tempfile::tempdir().unwrap(), home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dgx-pixels-mcp"));
        command.args(args).current_dir(self.folder.path()).env("HOME", self.home.path());
        for name in
            ["XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "DGX_PIXELS_MODELS", "DGX_PIXELS_MCP_TOKEN"]
        {
            command.env_remove(name);
        }
        // Tests run side by side, and libtorch is slow where threads of several programs wait for
        // each other.
        command.env("OMP_NUM_THREADS", "1");
        // SAFETY: of what may be done between fork and exec. Ignored, the signal of a file that is
        // too large becomes an error of the write, as a full disk is.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                Ok(())
            });
        }
        command.stderr(Stdio::null());
        command
    }

    /// A server on standard streams, with the sketch unless `args` say otherwise.
    pub(crate) fn stdio(&self, args: &[&str]) -> Stdin {
        let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "sketch"] };
        self.stdio_of_all(&[model, args].concat())
    }

    /// A server on standard streams, with all models that it finds unless `args` say otherwise.
    pub(crate) fn stdio_of_all(&self, args: &[&str]) -> Stdin {
        let library = self.path("assets");
        let base = ["stdio", "--library", library.to_str().unwrap()];
        let mut child = self
            .command(&[&base, args].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Stdin { child, stdin: Some(stdin), stdout: BufReader::new(stdout), id: 0, notices: vec![] }
    }

    /// A server on a free port.
    pub(crate) fn http(&self, args: &[&str], token: Option<&str>) -> Http {
        let library = self.path("assets");
        let base = ["http", "--bind", "127.0.0.1:0", "--library", library.to_str().unwrap()];
        let model: &[&str] = if args.contains(&"--model") { &[] } else { &["--model", "sketch"] };
        let mut command = self.command(&[&base, model, args].concat());
        if let Some(token) = token {
            command.env("DGX_PIXELS_MCP_TOKEN", token);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("listening on ")).expect("it listens");
        let address = line.rsplit_once("http://").unwrap().1.trim_end_matches("/mcp").parse().unwrap();
        // What is not read would stop the server some day.
        std::thread::spawn(move || lines.for_each(drop));
        Http { child, place: Place(address) }
    }
}

/// The newest revision's facts, which each request carries.
pub(crate) fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "progressToken": 7,
    })
}

pub(crate) fn request(id: u64, method: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A client on standard streams.
pub(crate) struct Stdin {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    id: u64,
    /// What came unasked.
    pub(crate) notices: Vec<Value>,
}

impl Stdin {
    pub(crate) fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// A request that says what the client can do.
    pub(crate) fn ask_as(&mut self, capabilities: Value, method: &str, params: Value) -> Value {
        self.id += 1;
        let mut request = request(self.id, method, params);
        request["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        self.send(&request.to_string());
        self.answer(self.id)
    }

    pub(crate) fn receive(&mut self) -> Value {
        let mut line = String::new();
        assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the server has gone");
        serde_json::from_str(&line).unwrap()
    }

    /// The whole answer to a request.
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.ask_as(json!({}), method, params)
    }

    fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.receive();
            if message["id"] == id {
                return message;
            }
            self.notices.push(message);
        }
    }

    /// A tool's result.
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.ask("tools/call", json!({ "name": tool, "arguments": arguments }));
        assert!(answer["error"].is_null(), "{answer}");
        answer["result"].clone()
    }

    /// The facts of a result that is no fault.
    pub(crate) fn facts(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.call(tool, arguments);
        assert_ne!(result["isError"], true, "{result}");
        serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
    }

    /// The names of the tools that are listed.
    pub(crate) fn tools(&mut self) -> Vec<String> {
        let tools = self.ask("tools/list", json!({}))["result"]["tools"].clone();
        tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The text of a result that is a fault.
    pub(crate) fn fault(&mut self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments);
        assert_eq!(result["isError"], true, "{result}");
        result["content"][0]["text"].as_str().unwrap().to_owned()
    }

    /// Closes the input; the exit code.
    pub(crate) fn leave(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server over HTTP.
pub(crate) struct Http {
    pub(crate) child: Child,
    place: Place,
}

impl std::ops::Deref for Http {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

/// Where a server listens.
#[derive(Clone, Copy)]
pub(crate) struct Place(pub(crate) SocketAddr);

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The value of a header, whose name is lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body as JSON: the whole, or the first message of its events.
    pub(crate) fn json(&self) -> Value {
        let mut events = self.body.lines().filter_map(|line| line.strip_prefix("data:"));
        let text = events.find(|data| !data.trim().is_empty()).unwrap_or(&self.body);
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Place {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// One request on a connection of its own. `headers` may replace `Host`.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut stream = self.connect();
        let host = format!("localhost:{}", self.0.port());
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: {host}\r\n");
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        // A server that refuses may answer before it has read all.
        let _ = stream.write_all(format!("{text}\r\n{body}").as_bytes());
        let mut bytes = vec![];
        let _ = stream.read_to_end(&mut bytes);
        let reply = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Reply { status, head: head.into(), body: body.into() }
    }

    /// A request of the newest revision to `/mcp`.
    pub(crate) fn ask(&self, method: &str, name: Option<&str>, params: Value) -> Reply {
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", method),
        ];
        headers.extend(name.map(|name| ("Mcp-Name", name)));
        self.send("POST", "/mcp", &headers, &request(1, method, params).to_string())
    }
}

impl Http {
    /// Asks it to end; the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session of revision 2025-06-18 over HTTP.
pub(crate) struct Session {
    place: Place,
    id: String,
}

impl Session {
    pub(crate) fn begin(place: Place) -> Session {
        let about = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
        });
        let begun = Session { place, id: String::new() }.post("initialize", about);
        let id =
            begun.head.lines().find_map(|line| line.strip_prefix("mcp-session-id: ")).expect("a session");
        Session { place, id: id.trim().to_owned() }
    }

    fn post(&self, method: &str, params: Value) -> Reply {
        let mut headers = vec![
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2025-06-18"),
        ];
        if !self.id.is_empty() {
            headers.push(("Mcp-Session-Id", &self.id));
        }
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.place.send("POST", "/mcp", &headers, &request.to_string())
    }

    /// The facts of a tool's result.
    pub(crate) fn facts(&self, tool: &str, arguments: Value) -> Value {
        let reply = self.post("tools/call", json!({ "name": tool, "arguments": arguments }));
        // One answer, as JSON or as an event.
        let body = reply.body.lines().find_map(|line| {
            let text = line.strip_prefix("data:").unwrap_or(line).trim();
            text.starts_with('{').then_some(text)
        });
        let answer: Value = serde_json::from_str(body.unwrap_or_else(|| panic!("{reply:?}"))).unwrap();
        let result = &answer["result"];
        assert_ne!(result["isError"], true, "{answer}");
        serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap()
    }
}
