//! Sprites in a game: the manifest that says which there are, names, and how they get there while it runs.

#[cfg(feature = "deploy")]
mod deploy;
#[cfg(feature = "deploy")]
mod game;
mod game_status;
mod manifest;
mod name;
#[cfg(feature = "deploy")]
mod png;
#[cfg(feature = "deploy")]
mod sheet;
#[cfg(feature = "deploy")]
mod sheet_index;
#[cfg(feature = "deploy")]
mod validate;

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
#[cfg(feature = "deploy")]
pub use self::png::optimized;
#[cfg(feature = "deploy")]
pub use self::sheet::{
    BEVY_META, DEFAULT_FRAME_MS, MAX_FRAMES, MAX_SHOWN, MAX_SIDE as MAX_SHEET_SIDE, MAX_TAGS, Sheet,
    SheetFrame, SheetLayout, SheetOptions,
};
#[cfg(feature = "deploy")]
pub use self::sheet_index::{Direction, IndexedFrame, MAX_INDEX_BYTES, SheetIndex, Tag};
#[cfg(feature = "deploy")]
pub use self::validate::{Finding, Report, Severity, validate};
