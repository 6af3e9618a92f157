//! `deploy_to_bevy`, `game_status` and `game_screenshot`; and what `generate_sprite` deploys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dgx_pixels_core::asset::{
    Change, DEFAULT_FRAME_MS, Deployed, Game, NewSprite, Project, Sheet, SheetFrame, SheetOptions, Tag,
};
use dgx_pixels_core::files::read_opened;
use dgx_pixels_core::picture_file::{Made, plain_png};
use dgx_pixels_core::{Error, ErrorKind, ValueError, one_line};
use dgx_pixels_manifest::{GameStatus, MadeBy, SpriteName};
use rmcp::model::ToolAnnotations;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use super::{Answer, Call, Group, Kind, Wrong, blocking, reads, wrong};
use crate::answer::{Fault, structured, with_picture_of};
use crate::pictures::{self, MAX_FILE_BYTES, MAX_PIXELS, Use, decode, dimensions};
use crate::pixel_work::{Length, Stop};
use crate::preview::{SCREENSHOT_SIDES, shrunk};
use crate::studio::{PlannedSprite, Studio};
use dgx_pixels_core::fields::json::cut;

const DEPLOY: &str = "deploy_to_bevy";
const STATUS: &str = "game_status";
const SCREENSHOT: &str = "game_screenshot";
/// The longest wait until the game shows the deployed sprites. A game that draws takes
/// milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_FRAME_MS: u32 = 60_000;
/// The most assets of a call.
const MAX_ASSETS: usize = 512;
/// The most animations of a call.
const MAX_ANIMATIONS: usize = 256;
/// The most bytes of the files of all assets of a call.
const MAX_ALL_BYTES: u64 = 64 << 20;
/// Deploying takes as much for a pixel of the sheet: the frames, the sheet, and what making its
/// file small takes.
const DEPLOYING_BYTES: u64 = 16;

pub(super) fn tools() -> Vec<Kind> {
    // A second `rollback` takes the first back.
    let replaces =
        ToolAnnotations::new().read_only(false).destructive(true).idempotent(false).open_world(false);
    vec![
        Kind::new(Group::Game, DEPLOY, "Deploy into a Bevy game", replaces, deploy_to_bevy)
            .with_output::<Deployment>(),
        Kind::new(Group::Game, STATUS, "What the game shows", reads(), game_status).with_output::<Status>(),
        Kind::new(Group::Game, SCREENSHOT, "Look at the game", reads(), game_screenshot),
    ]
}

/// Puts assets into a Bevy game as sprites. A game that runs and has the plugin dgx-pixels-bevy
/// shows them at once, and `live` says that it does; any other shows them when it is started next.
/// A sprite of the same name is replaced. Example:
/// {"assets":["a-green-slime"],"category":"enemy","names":["slime"]}
#[derive(Debug, Deserialize, JsonSchema)]
struct DeployToBevy {
    /// Assets to deploy, each as a sprite: asset_ids, or paths of PNG files. A file with an
    /// Aseprite-style JSON beside it keeps its animations. With `animations` they are the frames of
    /// one sprite. At most 512 files of 64 MiB and 16 megapixels together.
    assets: Option<Vec<String>>,
    /// The game's folder, with its Cargo.toml. Default: the folder that the server was started in.
    project: Option<PathBuf>,
    /// Kind of thing that the game uses the sprites for, for example "enemy". Their names begin
    /// with it. It may be left out if `names` contain it, for example "enemy_slime".
    category: Option<String>,
    /// Names of the sprites in the game, one for each. Default: the names of the assets.
    names: Option<Vec<String>>,
    /// Makes the assets the frames of one sprite, with these animations, as
    /// ["idle=0","walk=0-3","hurt=4-5:pingpong"].
    animations: Option<Vec<String>>,
    /// Time for which a frame is shown, in milliseconds. Default 100.
    #[schemars(range(min = 1, max = 60000))]
    frame_ms: Option<u32>,
    /// The point of the sprite that lies on its place in the game. Default "center"; "bottom" suits
    /// who stands on ground.
    anchor: Option<AnchorPoint>,
    /// Says what would be done, and does nothing.
    dry_run: Option<bool>,
    /// Takes the last deploy back; `assets` stays empty then.
    rollback: Option<bool>,
    /// The game's port on this machine. Default: the server's, 15702.
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum AnchorPoint {
    Center,
    Bottom,
}

/// The result of a deploy.
#[derive(Serialize, JsonSchema)]
pub(super) struct Deployment {
    /// True if the running game has reported that it shows the sprites.
    live: bool,
    /// Time from the first question to the game's report, in milliseconds.
    live_ms: Option<f64>,
    /// Reason why no game has confirmed it.
    reason: Option<String>,
    /// Sprites in the order of `assets`.
    sprites: Vec<Sprite>,
    /// The game's folder.
    project: String,
    /// BLAKE3 of the manifest, which `game_status` names as well.
    manifest: String,
    /// Advice on the next step.
    next: &'static str,
}

/// A sprite in the game.
#[derive(Serialize, JsonSchema)]
struct Sprite {
    /// Name of the sprite in the game.
    name: String,
    /// "added", "replaced" or "unchanged".
    change: &'static str,
    /// Its file, absolute.
    path: String,
    /// Number of frames.
    frames: usize,
}

/// Asks the running game what it shows: which manifest, how many sprites, and those that it cannot
/// show.
#[derive(Debug, Deserialize, JsonSchema)]
struct AskGame {
    /// The game's port on this machine. Default: the server's, 15702.
    port: Option<u16>,
}

/// Takes a screenshot of the running game.
#[derive(Debug, Deserialize, JsonSchema)]
struct LookAtGame {
    /// The game's port on this machine. Default: the server's, 15702.
    port: Option<u16>,
}

#[derive(Serialize, JsonSchema)]
struct Status {
    /// The folder that it loads from.
    assets: Option<String>,
    /// BLAKE3 of the manifest that it shows; none before the first.
    manifest: Option<String>,
    /// True while another manifest is being loaded.
    loading: bool,
    /// Reason why the newest manifest is not shown.
    error: Option<String>,
    /// Number of sprites that can be shown.
    sprites: usize,
    /// Sprites for which the game shows an older image, or none.
    faults: Vec<SpriteFault>,
    /// Time that it took to load all sprites, in milliseconds.
    load_ms: Option<f64>,
}

#[derive(Serialize, JsonSchema)]
struct SpriteFault {
    /// Its name.
    sprite: String,
    /// Description of the fault.
    reason: String,
}

async fn deploy_to_bevy(call: Call, arguments: DeployToBevy) -> Answer {
    let port = arguments.port;
    let deploy = move |studio: &Studio, stop: &Stop| arguments.deploy(studio, stop);
    let (project, deployed) = match blocking(&call.studio, &call.stop, Length::Long, deploy).await? {
        Done::Planned(deployment) => return structured(&deployment),
        Done::Deployed(project, deployed) => (project, deployed),
    };
    blocking(&call.studio, &call.stop, Length::Waits, move |studio, _| {
        structured(&confirmed(studio, &project, &deployed, port))
    })
    .await
}

/// The result for the files.
enum Done {
    /// Nothing.
    Planned(Deployment),
    /// The game has not been asked yet.
    Deployed(Project, Deployed),
}

async fn game_status(call: Call, arguments: AskGame) -> Answer {
    blocking(&call.studio, &call.stop, Length::Waits, move |studio, _| {
        let GameStatus { assets, manifest, loading, error, sprites, faults, load_ms } =
            game(studio, arguments.port).status()?;
        let faults =
            faults.into_iter().map(|fault| SpriteFault { sprite: fault.sprite, reason: fault.reason });
        let (assets, faults) = (assets.map(|path| path.display().to_string()), faults.collect());
        structured(&Status { assets, manifest, loading, error, sprites, faults, load_ms })
    })
    .await
}

async fn game_screenshot(call: Call, arguments: LookAtGame) -> Answer {
    blocking(&call.studio, &call.stop, Length::Waits, move |studio, stop| {
        let png = game(studio, arguments.port).screenshot()?;
        let fault = |reason: String| {
            let text = format!("the game's screenshot cannot be used: {reason}");
            Fault::new(ErrorKind::GameUnavailable, text)
        };
        let size = dimensions(&png).map_err(fault)?;
        let _memory = studio.pixel_work().memory(pictures::needs(size, Use::Preview), stop)?;
        let picture = decode(&png).map_err(fault)?;
        let facts = Map::from_iter([("width".into(), json!(size.0)), ("height".into(), json!(size.1))]);
        Ok(with_picture_of(facts, &SCREENSHOT_SIDES, |side| shrunk(&picture, side)))
    })
    .await
}

fn game(studio: &Studio, port: Option<u16>) -> Game {
    Game::new(port.unwrap_or(studio.game_port()))
}

/// The project that is named, or the first that the server may write to.
fn project(studio: &Studio, named: Option<&Path>) -> Result<Project, Wrong> {
    if let Some(path) = named {
        let folder = studio.roots().open_folder(path);
        return folder.and_then(Project::open_in).map_err(|error| Wrong::from(&error));
    }
    let mut found = studio.roots().folders().iter().filter_map(|folder| Project::open(folder).ok());
    found.next().ok_or_else(|| {
        let fault = "is missing; expected the folder of a Bevy game, as the server was not started in one";
        Wrong::of("project", fault)
    })
}

/// Asks the game.
fn confirmed(studio: &Studio, project: &Project, deployed: &Deployed, port: Option<u16>) -> Deployment {
    let live = game(studio, port).confirm(project, deployed, PATIENCE);
    let next = match live.live {
        true => "`game_screenshot` shows the game.",
        false => "The sprites are in the game's folder. See `reason`; a game that starts later shows them.",
    };
    Deployment {
        live: live.live,
        live_ms: live.ms.filter(|_| live.live),
        reason: live.reason,
        ..Deployment::new(project, deployed, next)
    }
}

impl Deployment {
    /// Builds the answer for a deploy about which no game was asked.
    fn new(project: &Project, deployed: &Deployed, next: &'static str) -> Deployment {
        let sprite = |sprite: &dgx_pixels_core::asset::DeployedSprite| Sprite {
            name: sprite.name.to_string(),
            change: match sprite.change {
                Change::Added => "added",
                Change::Replaced => "replaced",
                Change::Unchanged => "unchanged",
            },
            path: sprite.path.display().to_string(),
            frames: sprite.frames,
        };
        Deployment {
            live: false,
            live_ms: None,
            reason: None,
            sprites: deployed.sprites.iter().map(sprite).collect(),
            project: project.root().display().to_string(),
            manifest: deployed.blake3.clone(),
            next,
        }
    }
}

impl DeployToBevy {
    /// Does all that needs no game.
    fn deploy(&self, studio: &Studio, stop: &Stop) -> Result<Done, Fault> {
        let project = project(studio, self.project.as_deref()).map_err(|fault| wrong(DEPLOY, fault))?;
        if self.rollback.unwrap_or(false) {
            if self.assets.as_ref().is_some_and(|assets| !assets.is_empty()) {
                return Err(wrong(
                    DEPLOY,
                    Wrong::of("rollback", "takes the last deploy back; leave `assets` out"),
                ));
            }
            let deployed = project.rollback()?;
            return Ok(Done::Deployed(project, deployed));
        }
        let names = self.sprite_names()?;
        let (pixels, bytes) = self.measure(studio, stop)?;
        let _memory = studio.pixel_work().memory(DEPLOYING_BYTES * pixels + bytes, stop)?;
        let sprites = self.sprites(studio, stop, names)?;
        stop.check()?;
        if self.dry_run.unwrap_or(false) {
            let plan = project.plan(&sprites)?;
            return Ok(Done::Planned(Deployment::new(&project, &plan, "Nothing was done.")));
        }
        let deployed = project.deploy(&sprites)?;
        Ok(Done::Deployed(project, deployed))
    }

    fn assets(&self) -> &[String] {
        self.assets.as_deref().unwrap_or_default()
    }

    /// A name for each sprite.
    fn sprite_names(&self) -> Result<Vec<SpriteName>, Fault> {
        let fault = |field: &str, fault: String| wrong(DEPLOY, Wrong::of(field, fault));
        let assets = self.assets();
        if assets.is_empty() {
            return Err(fault("assets", "is missing; expected one asset_id or more".into()));
        }
        if assets.len() > MAX_ASSETS {
            return Err(fault("assets", format!("has {}; expected at most {MAX_ASSETS}", assets.len())));
        }
        let animations = self.animations.as_ref().map_or(0, Vec::len);
        if animations > MAX_ANIMATIONS {
            return Err(fault("animations", format!("has {animations}; expected at most {MAX_ANIMATIONS}")));
        }
        let count = if self.animations.is_some() { 1 } else { assets.len() };
        let names: Vec<_> = match self.names.as_deref() {
            Some(names) if names.len() != count => {
                let given = names.len();
                return Err(fault("names", format!("has {given}; expected {count}, one for each sprite")));
            }
            Some(names) => names.to_vec(),
            None => assets.iter().take(count).map(|asset| stem(asset)).collect(),
        };
        names
            .iter()
            .map(|name| sprite_name(self.category.as_deref(), name))
            .collect::<Result<_, _>>()
            .map_err(|fault| wrong(DEPLOY, fault))
    }

    /// The pixels and bytes of all assets together, from their headers: nothing is decoded yet.
    fn measure(&self, studio: &Studio, stop: &Stop) -> Result<(u64, u64), Fault> {
        let (mut pixels, mut bytes) = (0, 0);
        for asset in self.assets() {
            stop.check()?;
            let file = bytes_of(studio, asset)?;
            let (width, height) = dimensions(&file).map_err(|reason| cannot_be_read(asset, &reason))?;
            pixels += u64::from(width) * u64::from(height);
            bytes += file.len() as u64;
            if pixels > MAX_PIXELS || bytes > MAX_ALL_BYTES {
                let (megapixels, mib) = (MAX_PIXELS >> 20, MAX_ALL_BYTES >> 20);
                let text = format!(
                    "has {pixels} pixels in {bytes} bytes up to `{}`; expected at most {megapixels} megapixels in {mib} MiB \
                     together, so deploy them in several calls",
                    cut(asset)
                );
                return Err(wrong(DEPLOY, Wrong::of("assets", text)));
            }
        }
        Ok((pixels, bytes))
    }

    fn sprites(&self, studio: &Studio, stop: &Stop, names: Vec<SpriteName>) -> Result<Vec<NewSprite>, Fault> {
        let assets = self.assets();
        let mut sprites = match (&self.animations, names.first()) {
            (Some(animations), Some(name)) => {
                vec![self.animated(studio, stop, name.clone(), assets, animations)?]
            }
            _ => names
                .into_iter()
                .zip(assets)
                .map(|(name, asset)| self.still(studio, name, asset))
                .collect::<Result<Vec<_>, _>>()?,
        };
        for sprite in &mut sprites {
            sprite.anchor = match self.anchor {
                None | Some(AnchorPoint::Center) => [0.0, 0.0],
                Some(AnchorPoint::Bottom) => [0.0, -0.5],
            };
        }
        Ok(sprites)
    }

    fn still(&self, studio: &Studio, name: SpriteName, asset: &str) -> Result<NewSprite, Fault> {
        match is_path(asset) {
            true => {
                let (folder, file) = studio.roots().open_beside(Path::new(asset))?;
                Ok(NewSprite::read_in(name, &folder, &file)?)
            }
            false => Ok(NewSprite::new(name, bytes_of(studio, asset)?)),
        }
    }

    /// The assets in one sheet.
    fn animated(
        &self,
        studio: &Studio,
        stop: &Stop,
        name: SpriteName,
        assets: &[String],
        animations: &[String],
    ) -> Result<NewSprite, Fault> {
        let tags = animations.iter().map(|text| text.parse::<Tag>()).collect::<Result<Vec<_>, _>>();
        let tags = tags.map_err(|error| wrong(DEPLOY, error.of("animations")))?;
        let duration_ms = self.frame_ms.unwrap_or(DEFAULT_FRAME_MS);
        if !(1..=MAX_FRAME_MS).contains(&duration_ms) {
            let fault = format!("is {duration_ms}; expected 1 to {MAX_FRAME_MS}");
            return Err(wrong(DEPLOY, Wrong::of("frame_ms", fault)));
        }
        let (mut frames, mut made) = (vec![], None);
        for asset in assets {
            stop.check()?;
            let png = bytes_of(studio, asset)?;
            made = made.or_else(|| Made::read(&png).ok());
            let image = decode(&png).map_err(|reason| cannot_be_read(asset, &reason))?;
            frames.push(SheetFrame { name: stem(asset), image, duration_ms });
        }
        let sheet = Sheet::new(&frames, tags, &SheetOptions::default())?;
        drop(frames);
        Ok(NewSprite {
            frames: sheet.index.to_frames(),
            animations: sheet.index.to_animations(),
            made: made.map(MadeBy::from),
            ..NewSprite::new(name, plain_png(&sheet.image)?)
        })
    }
}

/// No asset_id has a slash or a dot.
fn is_path(asset: &str) -> bool {
    asset.contains(['/', '.'])
}

fn stem(asset: &str) -> String {
    Path::new(asset).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn cannot_be_read(asset: &str, reason: &str) -> Fault {
    wrong(DEPLOY, &format!("`{}` cannot be read: {reason}", cut(asset)))
}

/// The file of an asset or at a path.
fn bytes_of(studio: &Studio, asset: &str) -> Result<Vec<u8>, Fault> {
    if is_path(asset) {
        let file = studio.roots().open(Path::new(asset))?;
        return read_opened(file, MAX_FILE_BYTES).map_err(|error| cannot_be_read(asset, &one_line(&error)));
    }
    let id = asset.parse().map_err(|error: ValueError| wrong(DEPLOY, error.of("assets")))?;
    Ok(studio.library().read_png(&id)?)
}

fn sprite_name(category: Option<&str>, name: &str) -> Result<SpriteName, Wrong> {
    match category {
        Some(category) => {
            SpriteName::new(category, name).map_err(|error| Wrong::from(&Error::from(error)))
        }
        None => name.parse().map_err(|_| {
            let text = format!("`{name}` does not say what the game uses it for; expected a `category`, or a name such as \"enemy_slime\"");
            Wrong { field: Some("category".into()), ..Wrong::from(&text) }
        }),
    }
}

/// The game that sprites go into as soon as they are drawn.
pub(super) struct Onto {
    project: Project,
    /// One for each picture.
    names: Vec<SpriteName>,
}

impl Onto {
    /// Several pictures of one name are its variants, counted from 1.
    pub(super) fn new(
        studio: &Studio,
        named: &Path,
        category: Option<&str>,
        wanted: &[PlannedSprite],
    ) -> Result<Onto, Wrong> {
        let project = project(studio, Some(named))?;
        let mut counts = BTreeMap::new();
        for PlannedSprite { name, .. } in wanted {
            *counts.entry(name.as_str()).or_insert(0) += 1;
        }
        let mut seen = BTreeMap::new();
        let names = wanted.iter().map(|PlannedSprite { name, .. }| {
            let n = seen.entry(name.as_str()).or_insert(0);
            *n += 1;
            let name = match counts[name.as_str()] {
                1 => name.to_string(),
                _ => format!("{name}_{n}"),
            };
            sprite_name(category, &name)
        });
        let names = names.collect::<Result<_, _>>()?;
        Ok(Onto { project, names })
    }

    /// Deploys those that are there, `None` being one that failed.
    pub(super) fn deploy(&self, studio: &Studio, pngs: Vec<Option<Vec<u8>>>) -> Result<Deployment, Error> {
        let drawn =
            self.names.iter().zip(pngs).filter_map(|(name, png)| Some(NewSprite::new(name.clone(), png?)));
        let deployed = self.project.deploy(&drawn.collect::<Vec<_>>())?;
        Ok(confirmed(studio, &self.project, &deployed, None))
    }
}
