//! What a running game says of its sprites: written by the plugin, read by whoever deploys.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The port at which Bevy's remote protocol answers, if nothing else is said.
pub const GAME_PORT: u16 = 15702;

/// The answer of the method `sprites/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GameStatus {
    /// The game's assets folder, absolute; `None` if the game reads its assets from elsewhere than a folder.
    pub assets: Option<PathBuf>,
    /// BLAKE3 of the manifest that is shown; `None` before the first.
    pub manifest: Option<String>,
    /// Whether another is being loaded.
    pub loading: bool,
    /// Why the newest manifest is not shown.
    pub error: Option<String>,
    /// Number of sprites that can be shown.
    pub sprites: usize,
    /// Sprites of which an older picture or none is shown.
    pub faults: Vec<SpriteFault>,
    /// From the manifest's first byte read to all of its pictures shown, in milliseconds.
    pub load_ms: Option<f64>,
}

/// A sprite that is not shown as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpriteFault {
    /// Its name.
    pub sprite: String,
    /// What is wrong.
    pub reason: String,
}
