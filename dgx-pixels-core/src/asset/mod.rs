//! Sprites in a game: the manifest that says which there are, and names.

mod manifest;
mod name;

pub use self::manifest::{
    Animation, Frame, MANIFEST_PATH, MANIFEST_VERSION, MadeBy, Manifest, ManifestFault, ManifestImage,
    ManifestSprite, Rect,
};
pub use self::name::{SpriteName, check_category};
