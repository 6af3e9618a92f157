//! The running game, asked over Bevy's remote protocol: JSON-RPC over HTTP on this machine.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Deployed, GameStatus, Project};
use crate::error::Error;

/// For an answer that takes one frame of the game.
const PATIENCE: Duration = Duration::from_secs(5);

/// A screenshot is drawn, read back and written.
const SCREENSHOT_PATIENCE: Duration = Duration::from_secs(20);

/// A game with `SpritesPlugin` of `dgx-pixels-bevy`, feature `remote`, at a port of this machine.
///
/// Nothing is kept open between calls, so a game may end and begin anew.
#[derive(Clone, Debug)]
pub struct Game {
    port: u16,
    agent: ureq::Agent,
}

/// Whether a game shows what was deployed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Live {
    /// Whether the game has said that it shows the manifest.
    pub live: bool,
    /// From the question to that answer, in milliseconds.
    pub ms: Option<f64>,
    /// Why no game has confirmed it, or which sprites it cannot show.
    pub reason: Option<String>,
    /// What the game said last.
    pub status: Option<GameStatus>,
}

impl Game {
    /// At [`GAME_PORT`](super::GAME_PORT), or another.
    pub fn new(port: u16) -> Game {
        // A proxy of the environment is for other machines.
        let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).max_redirects(0);
        Game { port, agent: config.build().into() }
    }

    /// What it shows.
    ///
    /// # Errors
    /// [`Error::Game`] if none answers, or one without the plugin.
    pub fn status(&self) -> Result<GameStatus, Error> {
        self.call("sprites/status", Value::Null, PATIENCE)
    }

    /// Has the game write a PNG of what it shows to an absolute path, where nothing is yet. Returns when the file is whole.
    ///
    /// # Errors
    /// [`Error::Game`] if none answers, or it cannot.
    pub fn screenshot(&self, path: &Path) -> Result<(), Error> {
        let params = json!({ "path": path });
        let _: Value = self.watch("sprites/screenshot+watch", params, SCREENSHOT_PATIENCE)?;
        Ok(())
    }

    /// Has the game read its manifest anew, and waits until it shows the one with this BLAKE3, or says why not.
    ///
    /// # Errors
    /// [`Error::Game`] if none answers in time.
    pub fn reload(&self, blake3: &str, patience: Duration) -> Result<GameStatus, Error> {
        self.watch("sprites/reload+watch", json!({ "manifest": blake3 }), patience)
    }

    /// Whether the game of this project shows what was deployed. That none does is no error: it will when it is started.
    pub fn confirm(&self, project: &Project, deployed: &Deployed, patience: Duration) -> Live {
        let begun = Instant::now();
        let not = |reason: String, status| Live { live: false, ms: None, reason: Some(reason), status };
        let status = match self.reload(&deployed.blake3, patience) {
            Ok(status) => status,
            Err(error) => return not(error.to_string(), None),
        };
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        let assets = project.assets();
        let assets = assets.canonicalize().unwrap_or(assets);
        if let Some(other) =
            status.assets.as_ref().filter(|path| path.canonicalize().ok().as_ref() != Some(&assets))
        {
            let reason = format!(
                "the game at port {} is another: its assets are in `{}`, the project's in `{}`",
                self.port,
                other.display(),
                assets.display()
            );
            return not(reason, Some(status));
        }
        if status.manifest.as_deref() != Some(deployed.blake3.as_str()) {
            let reason = status.error.clone().unwrap_or_else(|| "it shows another manifest".into());
            return not(reason, Some(status));
        }
        let is_deployed = |name: &str| deployed.sprites.iter().any(|sprite| sprite.name.as_str() == name);
        let fault = status.faults.iter().find(|fault| is_deployed(&fault.sprite));
        let reason = fault.map(|fault| format!("`{}` {}", fault.sprite, fault.reason));
        Live { live: reason.is_none(), ms: Some(ms), reason, status: Some(status) }
    }

    fn fault(&self, reason: impl ToString) -> Error {
        Error::Game { port: self.port, reason: reason.to_string() }
    }

    fn post(&self, method: &str, params: Value, patience: Duration) -> Result<ureq::Body, Error> {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.agent.post(format!("http://127.0.0.1:{}/", self.port));
        let sent = request.config().timeout_global(Some(patience)).build().send_json(call);
        sent.map(ureq::http::Response::into_body).map_err(|error| self.fault(unreachable(&error)))
    }

    fn call<T: DeserializeOwned>(&self, method: &str, params: Value, patience: Duration) -> Result<T, Error> {
        let mut body = self.post(method, params, patience)?;
        let text = body.read_to_string().map_err(|error| self.fault(unreachable(&error)))?;
        self.read(&text)
    }

    /// The first event of a method that answers when it has something to say.
    fn watch<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
        patience: Duration,
    ) -> Result<T, Error> {
        let body = self.post(method, params, patience)?;
        for line in BufReader::new(body.into_reader()).lines() {
            let line = line.map_err(|error| self.fault(timed_out(&error, patience)))?;
            if let Some(text) = line.strip_prefix("data:") {
                return self.read(text);
            }
        }
        Err(self.fault("it ended before it answered"))
    }

    fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, Error> {
        #[derive(Deserialize)]
        struct Answer<T> {
            result: Option<T>,
            error: Option<Fault>,
        }
        #[derive(Deserialize)]
        struct Fault {
            code: i64,
            message: String,
        }
        const METHOD_NOT_FOUND: i64 = -32601;
        let answer: Answer<T> = serde_json::from_str(text)
            .map_err(|error| self.fault(format!("what answers there is no game of Bevy: {error}")))?;
        match (answer.result, answer.error) {
            (Some(result), _) => Ok(result),
            (None, Some(Fault { code: METHOD_NOT_FOUND, message })) => {
                Err(self
                    .fault(format!("{message}; the game there needs `SpritesPlugin` with feature `remote`")))
            }
            (None, Some(Fault { message, .. })) => Err(self.fault(message)),
            (None, None) => Err(self.fault("the answer is empty")),
        }
    }
}

fn unreachable(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "nothing listens there; start the game, with feature `remote` of dgx-pixels-bevy".into()
        }
        ureq::Error::Timeout(_) => "it does not answer; it hangs, or stands still in a debugger".into(),
        error => error.to_string(),
    }
}

fn timed_out(error: &std::io::Error, patience: Duration) -> String {
    match error.kind() {
        std::io::ErrorKind::TimedOut | std::io::ErrorKind::Other => {
            format!("it has not answered within {} s", patience.as_secs_f64())
        }
        _ => error.to_string(),
    }
}
