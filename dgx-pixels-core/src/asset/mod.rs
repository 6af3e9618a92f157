//! Sprites in a game: the manifest that says which there are, names, and how they get there while it runs.

#[cfg(feature = "deploy")]
mod deploy;
#[cfg(feature = "deploy")]
mod game;
mod game_status;
mod manifest;
mod name;

#[cfg(feature = "deploy")]
pub use self::deploy::{Change, Deployed, DeployedSprite, NewSprite, Project};
#[cfg(feature = "deploy")]
pub use self::game::{Game, Live};
pub use self::game_status::{GAME_PORT, GameStatus, SpriteFault};

pub use self::manifest::{
    Animation, Frame, MANIFEST_PATH, MANIFEST_VERSION, MadeBy, Manifest, ManifestFault, ManifestImage,
    ManifestSprite, Rect,
};
pub use self::name::{SpriteName, check_category};
