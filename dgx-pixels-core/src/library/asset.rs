//! An asset: an image that the library keeps, and the facts about it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::name::AssetId;
use crate::picture_file::Made;
use crate::pixel::{Certificate, Verdict};

/// An image that the library keeps, and how it was made.
///
/// # Example
/// ```
/// use dgx_pixels_core::library::{AssetName, Library, Quota};
/// use dgx_pixels_core::picture_file::sprite_png;
/// use image::{Rgba, RgbaImage};
/// # let folder = tempfile::tempdir()?;
/// let library = Library::open(folder.path(), Quota::default())?;
/// let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
/// let sprite = RgbaImage::from_pixel(16, 8, Rgba([200, 160, 40, 255]));
/// std::fs::write(library.path(&id), sprite_png(&sprite, None)?)?;
/// let asset = library.add(&id, None, Default::default())?;
/// assert_eq!((asset.width, asset.height, asset.colors), (16, 8, 1));
/// assert!(asset.made.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Asset {
    /// The name in the library.
    pub id: AssetId,
    /// The time at which it was added, by this machine's clock then.
    pub created: SystemTime,
    /// The name of the image's file, in the asset's folder.
    pub file: String,
    /// BLAKE3 of the file.
    pub blake3: String,
    /// The bytes of the file.
    pub bytes: u64,
    /// The time at which the file was written: while this and `bytes` are the file's, it is taken
    /// for the same without being read.
    pub modified: SystemTime,
    /// The width in pixels.
    pub width: u32,
    /// The height in pixels.
    pub height: u32,
    /// The number of different colors of visible pixels.
    pub colors: usize,
    /// The provenance; `None` for a sprite of an image that was not made here.
    pub made: Option<Made>,
    /// The verdict on the grid, if the caller that added the asset gave it.
    pub verdict: Option<Verdict>,
    /// The certificate of the sprite; `None` for an image without pixel stages.
    pub certificate: Option<Certificate>,
    /// Facts of the caller that added it, such as the style or the prompt as it was given.
    pub notes: BTreeMap<String, String>,
}
