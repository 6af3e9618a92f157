//! A hub of this machine: the two endpoints that `pull` uses, and a storage that it sends to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::json;

/// The commit of every repository.
pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file on the hub.
#[derive(Clone)]
pub(super) struct Stored {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    pub(super) etag: String,
}

/// What the hub does besides.
#[derive(Clone, Default)]
pub(super) struct Manner {
    /// The status of every answer, with headers.
    pub(super) refuses: Option<(u16, &'static str)>,
    /// The times that `refuses` holds; then the hub answers.
    pub(super) times: Option<usize>,
    /// The bytes of one answer after which the storage closes the connection, and whether it gives
    /// nothing more afterwards.
    pub(super) breaks_at: Option<(usize, bool)>,
    /// The storage sends whole files only.
    pub(super) knows_no_parts: bool,
    /// The token that is wanted.
    pub(super) token: Option<&'static str>,
}

/// A request as it came: its first line and its headers.
pub(super) type Asked = Vec<String>;

/// A hub that runs until the test ends.
pub(super) struct Hub {
    pub(super) address: String,
    state: Arc<State>,
}

struct State {
    files: Vec<Stored>,
    manner: Mutex<Manner>,
    asked: Mutex<Vec<Asked>>,
}

impl Hub {
    /// Begins to serve `files` as the repository `org/frog`.
    pub(super) fn new(files: Vec<Stored>) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { files, manner: Mutex::default(), asked: Mutex::default() });
        let (shared, base) = (state.clone(), address.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, base) = (shared.clone(), base.clone());
                thread::spawn(move || state.serve(&stream, &base));
            }
        });
        Hub { address, state }
    }

    pub(super) fn set(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// What was asked since the last call.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock().unwrap())
    }
}

/// A file whose ETag is no SHA-256.
pub(super) fn small(path: &str, bytes: impl Into<Vec<u8>>) -> Stored {
    let etag = format!("{:040x}", path.len() * 977 + path.bytes().map(usize::from).sum::<usize>());
    Stored { path: path.into(), bytes: bytes.into(), etag }
}

/// A file that lies in the storage, with its SHA-256.
pub(super) fn large(path: &str, bytes: impl Into<Vec<u8>>) -> Stored {
    use sha2::Digest as _;
    let bytes = bytes.into();
    let etag = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Stored { path: path.into(), bytes, etag }
}

/// Every file of a folder.
pub(super) fn folder(path: &Path) -> Vec<Stored> {
    let mut files = vec![];
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                folders.push(entry);
                continue;
            }
            let name = entry.strip_prefix(path).unwrap().to_str().unwrap();
            let bytes = std::fs::read(&entry).unwrap();
            files.push(if name.ends_with(".safetensors") { large(name, bytes) } else { small(name, bytes) });
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

impl State {
    fn serve(&self, stream: &TcpStream, base: &str) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut lines = vec![];
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                match line.trim_end() {
                    "" => break,
                    line => lines.push(line.to_owned()),
                }
            }
            self.asked.lock().unwrap().push(lines.clone());
            if self.answer(stream, base, &lines).is_none() {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    /// Answers one request; `None` closes the connection.
    fn answer(&self, mut stream: &TcpStream, base: &str, lines: &[String]) -> Option<()> {
        let manner = self.manner.lock().unwrap().clone();
        let mut words = lines[0].split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let header = |name: &str| {
            let found = lines[1..].iter().filter_map(|line| line.split_once(": "));
            found.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
        };
        let mut send = |status: u16, headers: &str, length: usize, body: &[u8]| -> Option<()> {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n{headers}\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            if method != "HEAD" {
                stream.write_all(body).ok()?;
            }
            (method == "HEAD" || body.len() == length).then_some(())
        };
        if let Some((status, headers)) = manner.refuses {
            let mut kept = self.manner.lock().unwrap();
            kept.times = kept.times.map(|times| times - 1);
            if kept.times == Some(0) {
                kept.refuses = None;
            }
            drop(kept);
            return send(status, headers, 0, b"");
        }
        if let Some(name) = path.strip_prefix("/storage/") {
            assert_eq!(header("authorization"), None, "the token is the hub's alone");
            assert_eq!(method, "GET", "the address is signed for it");
            let file = self.files.iter().find(|file| file.etag == name)?;
            let from = header("range").filter(|_| !manner.knows_no_parts).map(|range| {
                range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse::<usize>().unwrap()
            });
            let bytes = &file.bytes[from.unwrap_or(0)..];
            let sent = match manner.breaks_at {
                Some((_, true)) if from.is_some() => &bytes[..0],
                Some((most, _)) => &bytes[..most.min(bytes.len())],
                None => bytes,
            };
            let all = file.bytes.len();
            let range = from.map(|from| format!("content-range: bytes {from}-{}/{all}\r\n", all - 1));
            let status = if range.is_some() { 206 } else { 200 };
            return send(
                status,
                &format!("etag: \"storage\"\r\n{}", range.unwrap_or_default()),
                bytes.len(),
                sent,
            );
        }
        let has_token = header("authorization") == manner.token.map(|token| format!("Bearer {token}"));
        if manner.token.is_some() && !has_token {
            return send(401, "x-error-code: RepoNotFound\r\n", 0, b"");
        }
        if path.starts_with("/api/models/org/frog/revision/") {
            let siblings: Vec<_> = self.files.iter().map(|file| json!({ "rfilename": file.path })).collect();
            let list = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
            return send(200, "content-type: application/json\r\n", list.len(), list.as_bytes());
        }
        let file = path.strip_prefix(&format!("/org/frog/resolve/{COMMIT}/"));
        let Some(file) = self.files.iter().find(|stored| Some(&*stored.path) == file) else {
            return send(404, "x-error-code: EntryNotFound\r\n", 0, b"");
        };
        let (etag, length) = (&file.etag, file.bytes.len());
        if etag.len() == 64 {
            // Another host for the program, which a token must not reach.
            let base = base.replace("127.0.0.1", "localhost");
            let headers = format!(
                "location: {base}/storage/{etag}\r\nx-linked-etag: \"{etag}\"\r\nx-linked-size: {length}\r\n"
            );
            return send(302, &headers, 0, b"");
        }
        send(200, &format!("etag: W/\"{etag}\"\r\n"), length, &file.bytes)
    }
}
