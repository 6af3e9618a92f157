//! The place and the version of a manifest.

/// The path of the manifest in a game's `assets` folder.
pub const MANIFEST_PATH: &str = "sprites/manifest.json";

/// The version of the format: the only one that is written and read.
pub const MANIFEST_VERSION: u32 = 1;
