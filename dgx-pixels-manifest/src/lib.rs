//! The manifest of a game's sprites, shared by the programs that write it and the game that reads
//! it.
//!
//! `dgx-pixels deploy` puts images and [`MANIFEST_PATH`] into the `assets` folder of a game. A
//! [`Manifest`] lists the images, and the sprites cut out of them with their frames and animations.
//! [`Manifest::read`] checks the form of the text. [`Manifest::faults`] checks what it says.
//!
//! A running game answers the question for its state with a [`GameStatus`], at [`GAME_PORT`].
//!
//! The crate depends on `serde`, `serde_json` and `thiserror` alone. A game therefore compiles
//! nothing of the library that draws.
//!
//! # Example
//! ```
//! use dgx_pixels_manifest::Manifest;
//!
//! let manifest = Manifest::read(br##"{
//!   "version": 1,
//!   "images": { "item/item_key.0a1b2c3d.png": { "blake3": "0a1b2c3d", "width": 32, "height": 16, "palette": ["#c8a028"] } },
//!   "sprites": { "item_key": { "category": "item", "image": "item/item_key.0a1b2c3d.png", "frames": [
//!     { "rect": { "min": [0, 0], "max": [16, 16] }, "duration_ms": 100 },
//!     { "rect": { "min": [16, 0], "max": [33, 16] }, "duration_ms": 100 }
//!   ] } }
//! }"##)?;
//! assert_eq!(manifest.sprites["item_key"].frames.len(), 2);
//!
//! let faults = manifest.faults();
//! assert_eq!(
//!     faults[0].to_string(),
//!     "`sprites.item_key.frames[1].rect` is (16, 0) to (33, 16); expected pixels inside the picture of 32x16"
//! );
//! # Ok::<(), dgx_pixels_manifest::ManifestError>(())
//! ```

mod error;
mod format;
mod game_status;
mod manifest;
mod name;

pub use self::error::{ManifestError, ManifestFault};
pub use self::format::{MANIFEST_PATH, MANIFEST_VERSION};
pub use self::game_status::{GAME_PORT, GameStatus, SpriteFault};
pub use self::manifest::{Animation, Frame, MadeBy, Manifest, ManifestImage, ManifestSprite, Rect};
pub use self::name::{SpriteName, check_category};

/// The README's example, which is compiled and run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
