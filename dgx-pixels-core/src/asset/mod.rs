//! Sprites on their way into a game: sheets, checks, and deploys while the game runs.
//!
//! The manifest that names a game's sprites is a crate of its own, `dgx_pixels_manifest`, which the
//! game shares.

mod deploy;
mod game;
mod png;
mod sheet;
mod sheet_index;
mod validate;

pub use self::deploy::{Change, Deployed, DeployedSprite, NewSprite, Project};
pub use self::game::{Game, Live};
pub use self::png::optimized;
pub use self::sheet::{
    BEVY_META, DEFAULT_FRAME_MS, MAX_SIDE as MAX_SHEET_SIDE, Sheet, SheetFrame, SheetLayout, SheetOptions,
};
pub use self::sheet_index::{
    Direction, IndexedFrame, MAX_FRAMES, MAX_INDEX_BYTES, MAX_SHOWN, MAX_TAGS, SheetIndex, Tag,
};
pub use self::validate::{Finding, Report, Severity, validate};
