//! `dgx-pixels deploy`: sprites into a Bevy project, and into its game while it runs.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use dgx_pixels_core::asset::{Change, Deployed, Game, Live, NewSprite, Project};
use dgx_pixels_core::{Error, Reason};
use dgx_pixels_manifest::{GAME_PORT, SpriteName};
use serde_json::json;

use crate::failure::{Failure, counted};
use crate::output;

/// The text that `--help` prints after the flags.
pub(crate) const NOTES: &str = "\
Standard output has the result for each sprite, and whether the running game shows it. A sprite of
the same name in the game is replaced. `--rollback` takes the last deploy back. With --json there
is one line:
{\"manifest\",\"blake3\",\"changed\",\"dry_run\",\"sprites\":[{\"name\",\"path\",\"width\",\"height\",\"frames\",\"change\"}],\"live\":{\"live\",\"ms\",\"reason\",\"status\"}}

The project may be a clone of a repository that you do not trust: a symbolic link in a deploy's
way is an error, and is not followed.

A game with `SpritesPlugin` of the crate dgx-pixels-bevy shows the sprites at once; see
docs/bevy.md. Without an answer of the game the deploy is still done.";

/// Bring sprites into a Bevy game, while it runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// PNG files. One with an Aseprite-style JSON file beside it, as `dgx-pixels sheet` writes it,
    /// has its frames and animations.
    #[arg(value_name = "ASSET", required_unless_present = "rollback")]
    assets: Vec<PathBuf>,

    /// The game's folder, with its `Cargo.toml`.
    #[arg(long, value_name = "DIR")]
    project: PathBuf,

    /// Kind of thing that the game uses the sprites for, for example `enemy`. Their names begin
    /// with it. Default: the first word of the name, for example of `enemy_slime`.
    #[arg(long, value_name = "CATEGORY")]
    category: Option<String>,

    /// Name of the sprite in the game, for a single asset. Default: the file's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The point of the sprite that lies on its place: `0,0` is the middle, `0,-0.5` the middle of
    /// the lower edge.
    #[arg(long, value_name = "X,Y", default_value = "0,0", allow_hyphen_values = true)]
    anchor: AnchorPoint,

    /// A word to find it by. May be given again.
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,

    /// Take the last deploy back.
    #[arg(long, conflicts_with_all = ["assets", "category", "name", "anchor", "tags", "dry_run"])]
    rollback: bool,

    /// Follow the project's `assets` where it is a symbolic link that you made, also out of the
    /// project. Without this flag a link anywhere in a deploy's way is an error.
    #[arg(long)]
    follow_assets_link: bool,

    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,

    /// Do not ask the running game.
    #[arg(long)]
    no_reload: bool,

    /// The game's port on this machine. Default: that of `$BRP_EXTRAS_PORT`, or the plugin's own.
    #[arg(long, value_name = "PORT", conflicts_with_all = ["no_reload", "dry_run"])]
    port: Option<u16>,

    /// Seconds to wait until the game shows the sprites, 1 to 600. Default: 5.
    #[arg(long, value_name = "S", conflicts_with_all = ["no_reload", "dry_run"], value_parser = RangedU64ValueParser::<u64>::new().range(1..=600))]
    wait: Option<u64>,

    /// Print one JSON line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The default of `--wait`, in seconds.
const WAIT_SECONDS: u64 = 5;

/// The port that the environment names, as it does for the game itself.
fn default_port() -> Result<u16, Failure> {
    let Some(port) = std::env::var_os(PORT_VARIABLE) else { return Ok(GAME_PORT) };
    let port = port.to_string_lossy();
    port.parse().map_err(|_| {
        Failure::Flags(format!("`{PORT_VARIABLE}` is `{port}`; expected a port, a whole number up to 65535"))
    })
}

/// The environment variable of the port, which bevy_brp_extras reads too.
const PORT_VARIABLE: &str = "BRP_EXTRAS_PORT";

/// Two numbers from -0.5 to 0.5.
#[derive(Clone, Copy)]
struct AnchorPoint([f32; 2]);

impl FromStr for AnchorPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<AnchorPoint, String> {
        let parts: Vec<_> = text.split(',').map(|part| part.trim().parse::<f32>()).collect();
        match parts.as_slice() {
            [Ok(x), Ok(y)] if [x, y].iter().all(|part| (-0.5..=0.5).contains(*part)) => {
                Ok(AnchorPoint([*x, *y]))
            }
            _ => Err("expected two numbers from -0.5 to 0.5, as `0,-0.5`".into()),
        }
    }
}

/// Deploys, asks the game, and says both.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.name.is_some() && args.assets.len() > 1 {
        let count = args.assets.len();
        return Err(Failure::Flags(format!("`--name` names one asset, and {count} are given; leave it out")));
    }
    let port = args.port.map_or_else(default_port, Ok)?;
    let mut project = Project::open(&args.project)?;
    if args.follow_assets_link {
        project = project.follow_assets_link();
    }
    let sprites = args.assets.iter().map(|path| sprite(args, path)).collect::<Result<Vec<_>, _>>()?;
    let deployed = match (args.rollback, args.dry_run) {
        (true, _) => project.rollback()?,
        (false, true) => project.plan(&sprites)?,
        (false, false) => project.deploy(&sprites)?,
    };
    let asks = !args.no_reload && !args.dry_run;
    let wait = Duration::from_secs(args.wait.unwrap_or(WAIT_SECONDS));
    let live = asks.then(|| Game::new(port).confirm(&project, &deployed, wait));
    if args.json {
        let mut line = json!(deployed);
        line["dry_run"] = json!(args.dry_run);
        line["live"] = json!(live);
        return output::say_json(&line);
    }
    tell(&project, args.dry_run, &deployed)?;
    match live {
        Some(Live { live: true, ms, .. }) => {
            output::say(&format_args!("live in game, {:.0} ms", ms.unwrap_or_default()))
        }
        Some(Live { reason, .. }) => output::say(&format_args!(
            "deployed; no game has confirmed it: {}",
            reason.unwrap_or_else(|| "it gave no reason".into())
        )),
        None => Ok(()),
    }
}

fn sprite(args: &Args, path: &Path) -> Result<NewSprite, Failure> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let given = args.name.clone().unwrap_or(stem);
    let name = match &args.category {
        Some(category) => SpriteName::new(category, &given).map_err(Error::from)?,
        None => given.parse().map_err(|_| {
            Failure::Flags(format!(
                "`{given}` does not say what the game uses it for; give `--category enemy`, or a `--name` as `enemy_slime`"
            ))
        })?,
    };
    let mut sprite = NewSprite::read(name, path).map_err(|error| match error {
        Error::NoFile { path, reason: words, cause } => Failure::input(path, Reason { words, cause }),
        error => error.into(),
    })?;
    sprite.anchor = args.anchor.0;
    sprite.tags = args.tags.clone();
    Ok(sprite)
}

fn tell(project: &Project, dry_run: bool, deployed: &Deployed) -> Result<(), Failure> {
    for sprite in &deployed.sprites {
        let change = match (sprite.change, dry_run) {
            (Change::Unchanged, _) => "unchanged",
            (Change::Added, false) => "added",
            (Change::Replaced, false) => "replaced",
            (Change::Added, true) => "would be added",
            (Change::Replaced, true) => "would be replaced",
        };
        let path = sprite.path.strip_prefix(project.root()).unwrap_or(&sprite.path);
        let frames = counted(sprite.frames, "frame");
        output::say(&format_args!(
            "{}  {change}  {}x{}, {frames}  {}",
            sprite.name,
            sprite.width,
            sprite.height,
            path.display()
        ))?;
    }
    Ok(())
}
