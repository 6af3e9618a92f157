//! A sprite that is read from files, to be deployed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use dgx_pixels_manifest::{Animation, Frame, MadeBy, SpriteName};

use crate::asset::SheetIndex;
use crate::error::Error;
use crate::files::{EntryKind, Folder, MAX_PICTURE_BYTES, MAX_TEXT_BYTES, PathError, read_regular};
use crate::picture_file::{Made, sidecar};

/// A sprite on its way into a game.
///
/// # Example
/// A sheet becomes a sprite with animations if its index lies beside it:
/// ```
/// use dgx_pixels_core::asset::{NewSprite, Sheet, SheetFrame, SheetOptions};
/// use dgx_pixels_core::picture_file::plain_png;
/// use dgx_pixels_manifest::SpriteName;
/// # let folder = tempfile::tempdir()?;
///
/// let frame = |n| SheetFrame { name: format!("walk_{n}"), image: image::RgbaImage::new(16, 16), duration_ms: 100 };
/// let sheet = Sheet::new(&[frame(0), frame(1)], vec!["walk=0-1".parse()?], &SheetOptions::default())?;
/// let path = folder.path().join("hero.png");
/// std::fs::write(&path, plain_png(&sheet.image)?)?;
/// std::fs::write(path.with_extension("json"), sheet.index.to_json("hero.png"))?;
///
/// let hero = NewSprite::read(SpriteName::new("character", "hero")?, &path)?;
/// assert_eq!((hero.frames.len(), hero.animations.contains_key("walk")), (2, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewSprite {
    /// The name in the game. A deploy replaces the sprite of this name.
    pub name: SpriteName,
    /// A PNG file.
    pub png: Vec<u8>,
    /// Empty for one frame, as large as the picture.
    pub frames: Vec<Frame>,
    /// The animations by their names, each with its frames.
    pub animations: BTreeMap<String, Animation>,
    /// The anchor, see [`ManifestSprite::anchor`](dgx_pixels_manifest::ManifestSprite::anchor).
    pub anchor: [f32; 2],
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Edges that meet: left and right, top and bottom.
    pub tile: [bool; 2],
    /// The record of how it was made, if that is known.
    pub made: Option<MadeBy>,
}

impl NewSprite {
    /// Reads the PNG file at `path`, and the JSON file beside it if that is a sheet's index.
    ///
    /// The caller chose `path`, which may be a link. The JSON file is found by its name alone, so
    /// it may not be one.
    ///
    /// # Errors
    /// [`Error::NoFile`] if one of them cannot be read; [`Error::Value`] for an index that cannot
    /// be used.
    pub fn read(name: SpriteName, path: &Path) -> Result<NewSprite, Error> {
        let png = read_regular(path, MAX_PICTURE_BYTES).map_err(|error| Error::no_file(path, error))?;
        let beside = sidecar(path);
        let (parent, file) = (beside.parent().unwrap_or(Path::new("")), beside.file_name());
        let folder = Folder::open(parent).map_err(|error| Error::no_file(&beside, error))?;
        let index = read_beside(&folder, file.unwrap_or_default()).map_err(no_file)?;
        NewSprite::with_index(name, png, index)
    }

    /// Reads as [`read`](NewSprite::read) does, from the file `file` in an open folder. Neither it
    /// nor the JSON file may be a link.
    ///
    /// # Errors
    /// As [`read`](NewSprite::read).
    pub fn read_in(name: SpriteName, folder: &Folder, file: &OsStr) -> Result<NewSprite, Error> {
        let Some(png) = folder.read(file, MAX_PICTURE_BYTES).map_err(no_file)? else {
            return Err(Error::no_file(folder.path().join(file), "it is not there"));
        };
        let beside = sidecar(Path::new(file));
        let index = read_beside(folder, beside.as_os_str()).map_err(no_file)?;
        NewSprite::with_index(name, png, index)
    }

    fn with_index(name: SpriteName, png: Vec<u8>, index: Option<Vec<u8>>) -> Result<NewSprite, Error> {
        let mut sprite = NewSprite::new(name, png);
        if let Some(index) = index.filter(|text| SheetIndex::is_meant(text)) {
            let index = SheetIndex::read(&index)?;
            sprite.frames = index.to_frames();
            sprite.animations = index.to_animations();
            sprite.made = sprite.made.or(index.made);
        }
        Ok(sprite)
    }

    /// A sprite that does not move, anchored at its middle. How it was made is told if the file
    /// says it.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::NewSprite;
    /// use dgx_pixels_manifest::SpriteName;
    /// # let png = dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(16, 16), None)?;
    /// // A sprite that stands on the ground, and is found by a word.
    /// let slime = NewSprite {
    ///     anchor: [0.0, -0.5],
    ///     tags: vec!["cave".into()],
    ///     ..NewSprite::new(SpriteName::new("enemy", "slime")?, png)
    /// };
    /// assert!(slime.frames.is_empty() && slime.made.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(name: SpriteName, png: Vec<u8>) -> NewSprite {
        let made = Made::read(&png).ok();
        let wrap = made
            .as_ref()
            .and_then(|made| made.pixel.as_ref())
            .map(crate::pixel::PixelOptions::wrap)
            .unwrap_or_default();
        NewSprite {
            name,
            frames: vec![],
            animations: BTreeMap::new(),
            anchor: [0.0; 2],
            tags: vec![],
            tile: [wrap.x, wrap.y],
            made: made.map(MadeBy::from),
            png,
        }
    }
}

impl From<Made> for MadeBy {
    fn from(made: Made) -> MadeBy {
        MadeBy {
            prompt: made.request.prompt,
            seed: made.request.seed,
            model: made.model,
            licence: made.licence,
            program: Some(format!("dgx-pixels {}", made.program)),
        }
    }
}

/// Reads the JSON file `name` beside a picture; `None` if there is nothing, or a folder.
///
/// # Errors
/// A refusal for a link, a pipe and a device, and for more than 16 MiB.
pub(in crate::asset) fn read_beside(folder: &Folder, name: &OsStr) -> Result<Option<Vec<u8>>, PathError> {
    match folder.kind(name)? {
        Some(EntryKind::Folder) => Ok(None),
        _ => folder.read(name, MAX_TEXT_BYTES),
    }
}

fn no_file(error: PathError) -> Error {
    Error::no_file(error.path, error.source)
}
