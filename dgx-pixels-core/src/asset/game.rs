//! The running game, asked over Bevy's remote protocol: JSON-RPC over HTTP on this machine.

use std::io::{self, BufRead as _, BufReader};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use dgx_pixels_manifest::{GameStatus, Manifest, SpriteName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Deployed, DeployedSprite, Project};
use crate::error::{Cause, Error, Reason, one_line};

/// For an answer that takes one frame of the game.
const PATIENCE: Duration = Duration::from_secs(5);

/// A screenshot is drawn, read back and encoded.
const SCREENSHOT_PATIENCE: Duration = Duration::from_secs(20);

/// The most bytes of an answer: a screenshot of 4K in Base64, and as much again.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// A game with `SpritesPlugin` of `dgx-pixels-bevy`, feature `remote`, at a port of this machine.
///
/// Nothing is kept open between calls, so a game may end and begin anew.
///
/// # Example
/// ```
/// use dgx_pixels_core::ErrorKind;
/// use dgx_pixels_core::asset::Game;
/// // No program listens on port 1.
/// assert_eq!(Game::new(1).status().unwrap_err().kind(), ErrorKind::GameUnavailable);
/// ```
#[derive(Clone, Debug)]
pub struct Game {
    port: u16,
    agent: ureq::Agent,
}

/// The answer to whether a game shows what was deployed.
///
/// A deploy is done whether or not a game answers, so this is a report and no error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Live {
    /// `true` if the game has said that it shows the manifest, and names none of the deployed
    /// sprites as faulty.
    pub live: bool,
    /// The time from the first question to that answer, in milliseconds.
    pub ms: Option<f64>,
    /// The reason why no game has confirmed it, or the sprite that the game cannot show.
    pub reason: Option<String>,
    /// The status that the game reported last.
    pub status: Option<GameStatus>,
}

impl Game {
    /// Returns the game at this port, [`GAME_PORT`](dgx_pixels_manifest::GAME_PORT) or another.
    pub fn new(port: u16) -> Game {
        // A proxy of the environment is for other machines.
        let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).max_redirects(0);
        Game { port, agent: config.build().into() }
    }

    /// Returns the status of the game: what it shows.
    ///
    /// # Errors
    /// [`Error::Game`] if none answers, or one without the plugin.
    pub fn status(&self) -> Result<GameStatus, Error> {
        self.call("sprites/status", Value::Null, PATIENCE)
    }

    /// A PNG of what its first camera draws.
    ///
    /// # Errors
    /// [`Error::Game`] if none answers, or it draws to nothing that can be read.
    pub fn screenshot(&self) -> Result<Vec<u8>, Error> {
        #[derive(Deserialize)]
        struct Screenshot {
            png: String,
        }
        let params = json!({ "id": uuid::Uuid::now_v7().to_string() });
        let Screenshot { png } = self.watch("sprites/screenshot+watch", params, SCREENSHOT_PATIENCE)?;
        BASE64_STANDARD.decode(png).map_err(|error| self.fault(("its screenshot is not Base64", error)))
    }

    /// Has the game read its manifest anew, and waits until it shows the one with this BLAKE3, or
    /// says why not.
    ///
    /// # Errors
    /// [`Error::Game`] if none answers in time.
    pub fn reload(&self, blake3: &str, patience: Duration) -> Result<GameStatus, Error> {
        self.watch("sprites/reload+watch", json!({ "manifest": blake3 }), patience)
    }

    /// Asks whether the game of this project shows what was deployed, by itself or in a manifest
    /// that came after. It is no error that no game does: it will when it is started.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use dgx_pixels_core::asset::{Game, Project};
    /// # let game = tempfile::tempdir()?;
    /// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
    /// let project = Project::open(game.path())?;
    /// let deployed = project.deploy(&[])?;
    /// // No program listens on port 1.
    /// let live = Game::new(1).confirm(&project, &deployed, Duration::from_millis(10));
    /// assert!(!live.live && live.reason.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn confirm(&self, project: &Project, deployed: &Deployed, patience: Duration) -> Live {
        let begun = Instant::now();
        let not = |reason: String, status| Live { live: false, ms: None, reason: Some(reason), status };
        let mut wanted = deployed.blake3.clone();
        loop {
            let status = match self.reload(&wanted, patience.saturating_sub(begun.elapsed())) {
                Ok(status) => status,
                Err(error) => return not(one_line(&error), None),
            };
            let ms = begun.elapsed().as_secs_f64() * 1e3;
            if let Some(reason) = self.is_another(project, &status) {
                return not(reason, Some(status));
            }
            let newest = match project.read_manifest() {
                Ok(newest) => {
                    newest.map(|(manifest, text)| (manifest, blake3::hash(&text).to_hex().to_string()))
                }
                Err(error) => return not(one_line(&error), Some(status)),
            };
            match newest {
                _ if status.manifest.as_ref() == Some(&deployed.blake3) => {}
                Some((manifest, blake3)) if status.manifest.as_ref() == Some(&blake3) => {
                    if let Some(name) = replaced(project, &manifest, deployed) {
                        return not(format!("another deploy has replaced `{name}` since"), Some(status));
                    }
                }
                Some((_, blake3)) if blake3 != wanted => {
                    wanted = blake3;
                    continue;
                }
                _ => {
                    let reason = status.error.clone().unwrap_or_else(|| "it shows another manifest".into());
                    return not(reason, Some(status));
                }
            }
            let is_deployed = |name: &str| deployed.sprites.iter().any(|sprite| sprite.name.as_str() == name);
            let fault = status.faults.iter().find(|fault| is_deployed(&fault.sprite));
            let reason = fault.map(|fault| format!("`{}` {}", fault.sprite, fault.reason));
            return Live { live: reason.is_none(), ms: Some(ms), reason, status: Some(status) };
        }
    }

    /// Returns the reason why the game that answers is not the project's, if it is another.
    fn is_another(&self, project: &Project, status: &GameStatus) -> Option<String> {
        let assets = project.assets();
        let assets = assets.canonicalize().unwrap_or(assets);
        let shown = status.assets.as_ref()?;
        (shown.canonicalize().ok().as_ref() != Some(&assets)).then(|| {
            format!(
                "the game at port {} is another: its assets are in `{}`, the project's in `{}`",
                self.port,
                shown.display(),
                assets.display()
            )
        })
    }

    fn fault(&self, reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::Game { port: self.port, reason, cause }
    }

    fn post(&self, method: &str, params: Value, patience: Duration) -> Result<ureq::Body, Error> {
        let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self.agent.post(format!("http://127.0.0.1:{}/", self.port));
        let sent = request.config().timeout_global(Some(patience)).build().send_json(call);
        sent.map(ureq::http::Response::into_body).map_err(|error| self.fault(unreachable(error)))
    }

    fn call<T: DeserializeOwned>(&self, method: &str, params: Value, patience: Duration) -> Result<T, Error> {
        let mut body = self.post(method, params, patience)?;
        let text = body.read_to_string().map_err(|error| self.fault(unreachable(error)))?;
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
        let body = body.into_with_config().limit(MAX_ANSWER_BYTES).reader();
        for line in BufReader::new(body).lines() {
            let line = line.map_err(|error| self.fault(timed_out(error, patience)))?;
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
            .map_err(|error| self.fault(("what answers there is no game of Bevy", error)))?;
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

/// A sprite that is not in the manifest as it was deployed.
fn replaced<'a>(project: &Project, manifest: &Manifest, deployed: &'a Deployed) -> Option<&'a SpriteName> {
    let is_there = |sprite: &&DeployedSprite| {
        let entry = manifest.sprites.get(&sprite.name);
        entry.is_some_and(|entry| project.sprites().join(&entry.image) == sprite.path)
    };
    deployed.sprites.iter().find(|sprite| !is_there(sprite)).map(|sprite| &sprite.name)
}

fn unreachable(error: ureq::Error) -> Reason {
    match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nothing listens there; start the game, with feature `remote` of dgx-pixels-bevy".into()
        }
        ureq::Error::Timeout(_) => "it does not answer; it hangs, or stands still in a debugger".into(),
        error => Cause::from(error).into(),
    }
}

fn timed_out(error: io::Error, patience: Duration) -> Reason {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::Other => {
            format!("it has not answered within {} s", patience.as_secs_f64()).into()
        }
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use dgx_pixels_manifest::SpriteFault;
    use image::{Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;
    use crate::asset::NewSprite;
    use crate::picture_file::sprite_png;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// What a game answers, call by call; the last answer again and again.
    fn game(answers: Vec<String>) -> Game {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for n in 0.. {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let mut request = vec![];
                while !request.ends_with(b"}") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    request.push(byte[0]);
                }
                let answer = &answers[n.min(answers.len() - 1)];
                let is_watch = String::from_utf8_lossy(&request).contains("+watch\"");
                let body = if is_watch { format!("data: {answer}\n\n") } else { answer.clone() };
                let head =
                    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Game::new(port)
    }

    fn shows(status: &GameStatus) -> String {
        json!({ "jsonrpc": "2.0", "id": 1, "result": status }).to_string()
    }

    fn deployed() -> (TempDir, Project, Deployed) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
        let project = Project::open(folder.path()).unwrap();
        let deployed = project.deploy(&[sprite("enemy_slime", 1)]).unwrap();
        (folder, project, deployed)
    }

    fn sprite(name: &str, color: u8) -> NewSprite {
        let picture = RgbaImage::from_pixel(16, 16, Rgba([color, 40, 90, 255]));
        NewSprite::new(name.parse().unwrap(), sprite_png(&picture, None).unwrap())
    }

    fn status(project: &Project, manifest: &str) -> GameStatus {
        GameStatus { assets: Some(project.assets()), manifest: Some(manifest.into()), ..Default::default() }
    }

    #[test]
    fn an_answer_without_end_is_not_kept() {
        let game = game(vec!["x".repeat(MAX_ANSWER_BYTES as usize + 1)]);
        let error = game.screenshot().unwrap_err();
        assert!(matches!(error, Error::Game { .. }) && error.to_string().len() < 300, "{error}");
    }

    #[test]
    fn a_game_that_shows_the_manifest_confirms_it() {
        let (_folder, project, deployed) = deployed();
        let game = game(vec![shows(&status(&project, &deployed.blake3))]);
        let live = game.confirm(&project, &deployed, PATIENCE);
        assert!(live.live && live.ms.is_some() && live.reason.is_none(), "{live:?}");
        assert_eq!(game.status().unwrap(), status(&project, &deployed.blake3));
    }

    #[test]
    fn a_manifest_that_came_after_confirms_what_is_still_in_it() {
        let (_folder, project, first) = deployed();
        let second = project.deploy(&[sprite("enemy_ghost", 2)]).unwrap();
        // It shows the third by the time it is asked for the second.
        let third = project.deploy(&[sprite("enemy_ghost", 3)]).unwrap();
        let steps = [&second, &third].map(|deployed| shows(&status(&project, &deployed.blake3)));
        let game = game(steps.to_vec());
        assert!(game.confirm(&project, &first, PATIENCE).live);
        let live = game.confirm(&project, &second, PATIENCE);
        assert_eq!(live.reason.unwrap(), "another deploy has replaced `enemy_ghost` since");
        assert!(game.confirm(&project, &third, PATIENCE).live);
    }

    #[test]
    fn what_does_not_show_it_is_told() {
        let (_folder, project, deployed) = deployed();
        let shown = status(&project, &deployed.blake3);
        let fault =
            |sprite: &str| SpriteFault { sprite: sprite.into(), reason: "cannot be shown: no PNG".into() };
        let answers = [
            (
                shows(&GameStatus { assets: Some("/elsewhere".into()), ..shown.clone() }),
                "is another: its assets are in `/elsewhere`",
            ),
            (
                shows(&GameStatus { manifest: None, error: Some("cut off".into()), ..shown.clone() }),
                "cut off",
            ),
            (shows(&GameStatus { manifest: None, ..shown.clone() }), "it shows another manifest"),
            (
                shows(&GameStatus { faults: vec![fault("enemy_slime")], ..shown.clone() }),
                "`enemy_slime` cannot be shown: no PNG",
            ),
            (
                r#"{"error":{"code":-32601,"message":"Method not found"}}"#.into(),
                "needs `SpritesPlugin` with feature `remote`",
            ),
            (r#"{"error":{"code":-1,"message":"no camera"}}"#.into(), "no camera"),
            ("hello".into(), "is no game of Bevy"),
            ("{}".into(), "the answer is empty"),
        ];
        for (answer, expected) in answers {
            let live = game(vec![answer]).confirm(&project, &deployed, PATIENCE);
            assert!(!live.live && live.reason.as_ref().unwrap().contains(expected), "{live:?}");
        }
        // Another sprite's fault is not this deploy's.
        let game = game(vec![shows(&GameStatus { faults: vec![fault("item_key")], ..shown })]);
        assert!(game.confirm(&project, &deployed, PATIENCE).live);
    }

    #[test]
    fn a_game_that_hangs_or_is_not_there_is_told() {
        let (_folder, project, deployed) = deployed();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let live = Game::new(port).confirm(&project, &deployed, Duration::from_millis(50));
        assert!(live.reason.as_ref().unwrap().contains("does not answer"), "{live:?}");
        drop(listener);
        let live = Game::new(port).confirm(&project, &deployed, PATIENCE);
        assert!(live.reason.as_ref().unwrap().contains("nothing listens there"), "{live:?}");
    }

    #[test]
    fn a_screenshot_is_a_picture() {
        let answer = |png: &str| json!({ "result": { "width": 1, "height": 1, "png": png } }).to_string();
        assert_eq!(game(vec![answer("aGk=")]).screenshot().unwrap(), b"hi");
        let error = game(vec![answer("?")]).screenshot().unwrap_err().to_string();
        assert!(error.contains("not Base64"), "{error}");
    }
}
