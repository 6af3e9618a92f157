//! `pixelize_image`.

use std::path::{Path, PathBuf};

use dgx_pixels_core::library::AssetName;
use dgx_pixels_core::picture_file::{sprite_png, write_sprite};
use dgx_pixels_core::pixel::{
    GridChoice, MaxColors, PixelBounds, PixelError, PixelOptions, Transparent, Wrap, is_lost, pixelize_within,
};
use dgx_pixels_core::{Error, ImageSize, ValueError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::generate::{at_most, palette_of};
use super::{Answer, Call, Group, Kind, adds, blocking, wrong};
use crate::answer::{facts, with_picture};
use crate::pictures::{self, MAX_SPRITE_PIXELS, Use};
use crate::pixel_work::{Length, Stop};
use crate::preview::preview;
use crate::studio::Studio;

const TOOL: &str = "pixelize_image";
/// Columns and rows.
const SIDES: std::ops::RangeInclusive<u32> = 1..=2048;

pub(super) fn tools() -> Vec<Kind> {
    vec![Kind::new(Group::Pixelize, TOOL, "Make a sprite of a picture", adds(), pixelize_image)]
}

/// Makes a true sprite of a picture of pixel art that was enlarged, blurred or generated elsewhere: finds its grid, and keeps one pixel
/// for each cell. The picture itself stays as it is. Example: {"path":"/home/me/art/knight.png","max_colors":16}
#[derive(Debug, Deserialize, JsonSchema)]
struct PixelizeImage {
    /// The image: PNG, JPEG, WebP, GIF or BMP, of at most 16 megapixels, in a folder that the server may read.
    path: PathBuf,
    /// Columns of the grid; with `height`. Default: found.
    #[schemars(range(min = 1, max = 2048))]
    width: Option<u32>,
    /// Rows of the grid; with `width`. Default: found.
    #[schemars(range(min = 1, max = 2048))]
    height: Option<u32>,
    /// A palette's name from `list_models`, or colours as "#1a1c2c,#5d275d".
    palette: Option<String>,
    /// Colours at most. Default: all of a picture that is pixel art already, else as many as it needs.
    #[schemars(range(min = 1, max = 256))]
    max_colors: Option<u32>,
    /// Whether a plain background is cut out. Default true.
    transparent: Option<bool>,
    /// The left edge meets the right one.
    tile_x: Option<bool>,
    /// The top edge meets the bottom one.
    tile_y: Option<bool>,
    /// The asset's name, as of `generate_sprite`. Default: the file's.
    name: Option<String>,
}

async fn pixelize_image(call: Call, arguments: PixelizeImage) -> Answer {
    let options = arguments.options().map_err(|fault| wrong(TOOL, &fault))?;
    let name: AssetName = match &arguments.name {
        Some(name) => name.parse().map_err(|error: ValueError| wrong(TOOL, error))?,
        None => AssetName::from_prompt(&arguments.path.file_stem().unwrap_or_default().to_string_lossy()),
    };
    let make = move |studio: &Studio, stop: &Stop| make(studio, stop, &arguments.path, &options, &name);
    blocking(&call.studio, &call.stop, Length::Long, make).await
}

impl PixelizeImage {
    fn options(&self) -> Result<PixelOptions, String> {
        let grid = match (self.width, self.height) {
            (None, None) => GridChoice::Auto,
            (Some(width), Some(height)) if SIDES.contains(&width) && SIDES.contains(&height) => {
                GridChoice::Cells(ImageSize { width, height })
            }
            (Some(width), Some(height)) => {
                return Err(format!("`width` and `height` are {width} and {height}; expected 1 to 2048"));
            }
            _ => return Err("`width` and `height` go together; one is missing".into()),
        };
        Ok(PixelOptions {
            grid,
            max_colors: self.max_colors.map_or(Ok(MaxColors::Auto), at_most)?,
            palette: self.palette.as_deref().map(palette_of).transpose()?,
            transparent: if self.transparent.unwrap_or(true) { Transparent::Auto } else { Transparent::Off },
            wrap: Wrap { x: self.tile_x.unwrap_or(false), y: self.tile_y.unwrap_or(false) },
            ..Default::default()
        })
    }
}

fn make(studio: &Studio, stop: &Stop, path: &Path, options: &PixelOptions, name: &AssetName) -> Answer {
    let fault = |reason: String| wrong(TOOL, &format!("`path` is `{}`: {reason}", path.display()));
    let file = studio.roots().open(path)?;
    let picture = pictures::open(studio, stop, file, Use::Pixelize)?.map_err(fault)?;
    let bounds = PixelBounds { max_cells: MAX_SPRITE_PIXELS, is_stopped: &|| stop.is_set() };
    let made = pixelize_within(&picture.pixels, options, &bounds).map_err(|error| match error {
        PixelError::Stopped => stop.fault(),
        error => wrong(TOOL, &error.to_string()),
    })?;
    if is_lost(&picture.pixels, &made.sprite) {
        return Err(Error::EmptySprite { seeds: vec![] }.into());
    }
    let png = sprite_png(&made.sprite, None)?;
    // From here on it is kept, whether anybody waits or not.
    stop.check()?;
    let library = studio.library();
    let reserved = library.reserve(name)?;
    write_sprite(&reserved.png(), &png, &made.certificate, false)?;
    let notes = [("source".to_owned(), path.display().to_string())].into();
    let asset = library.add(reserved.id(), Some(made.verdict), notes)?;
    reserved.keep();
    let mut all = facts(library, &asset);
    let next = "Look at the picture: if the grid is wrong, call again with `width` and `height`.";
    all.insert("next".into(), json!(next));
    if !picture.warnings.is_empty() {
        all.insert("warnings".into(), json!(picture.warnings));
    }
    Ok(with_picture(all, |side| preview(&made.sprite, side)))
}
