//! The status that a running game reports: the plugin writes it, and deploys read it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The port at which a game answers Bevy's remote protocol. Default: this one, unless
/// `BRP_EXTRAS_PORT` names another.
pub const GAME_PORT: u16 = 15702;

/// The answer of a game to the method `sprites/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GameStatus {
    /// The absolute path of the game's assets folder; `None` if its assets are not in a folder.
    pub assets: Option<PathBuf>,
    /// The BLAKE3 hash of the manifest that is shown; `None` before the first.
    pub manifest: Option<String>,
    /// `true` while another manifest is loaded.
    pub loading: bool,
    /// The reason why the newest manifest is not shown.
    pub error: Option<String>,
    /// The number of sprites that can be shown.
    pub sprites: usize,
    /// The sprites that show an older image or none.
    pub faults: Vec<SpriteFault>,
    /// The time from the manifest's first byte to the frame that shows all of its images, in
    /// milliseconds.
    pub load_ms: Option<f64>,
}

/// A sprite that the game does not show as the manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpriteFault {
    /// The name of the sprite.
    pub sprite: String,
    /// The reason.
    pub reason: String,
}
