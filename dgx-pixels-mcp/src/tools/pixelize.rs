//! `pixelize_image`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use dgx_pixels_core::fields::{FieldError, check_pixel, json};
use dgx_pixels_core::library::AssetName;
use dgx_pixels_core::picture_file::{sprite_png, write_sprite};
use dgx_pixels_core::pixel::{GridChoice, PixelBounds, PixelError, PixelOptions, is_lost, pixelize_within};
use dgx_pixels_core::{Error, ImageSize, ValueError};
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Group, Kind, Response, Wrong, adds, blocking, wrong};
use crate::answer::{facts, with_picture};
use crate::pictures::{self, MAX_SPRITE_PIXELS, Use};
use crate::pixel_work::{Length, Stop};
use crate::preview::preview;
use crate::studio::Studio;

const TOOL: &str = "pixelize_image";
/// Columns and rows.
const SIDES: std::ops::RangeInclusive<u32> = 1..=2048;

pub(super) fn tools() -> Vec<Kind> {
    let run: super::Run = Arc::new(|call, arguments| Box::pin(pixelize_image(call, arguments)));
    vec![Kind::raw(Group::Pixelize, TOOL, "Make a sprite of an image", adds(), (*SCHEMAS[2]).clone(), run)]
}

/// Makes a true sprite of an image of pixel art that was enlarged, blurred or generated elsewhere:
/// finds its grid, and keeps one pixel for each cell. The image itself stays as it is. Example:
/// {"path":"/home/me/art/knight.png","max_colors":16}
#[derive(Debug, Deserialize, JsonSchema)]
struct OwnArguments {
    /// The image: PNG, JPEG, WebP, GIF or BMP, of at most 16 megapixels, in a folder that the
    /// server may read.
    path: PathBuf,
    /// Columns of the grid; with `height`. Default: `grid`.
    #[schemars(range(min = 1, max = 2048))]
    width: Option<u32>,
    /// Rows of the grid; with `width`. Default: `grid`.
    #[schemars(range(min = 1, max = 2048))]
    height: Option<u32>,
    /// The asset's name, as of `generate_sprite`. Default: the file's.
    name: Option<String>,
}

/// The schemas of [`OwnArguments`], of the pixel fields, and of both together.
static SCHEMAS: LazyLock<[Arc<JsonObject>; 3]> = LazyLock::new(|| {
    let (own, pixel) = (json::schema::<OwnArguments>(), json::schema::<PixelOptions>());
    let mut all = (*own).clone();
    if let (Some(Value::Object(all)), Some(Value::Object(pixel))) =
        (all.get_mut("properties"), pixel.get("properties"))
    {
        all.extend(pixel.clone());
    }
    [own, pixel, Arc::new(all)]
});

async fn pixelize_image(call: Call, mut given: JsonObject) -> Response {
    let fault = |error: FieldError| wrong(TOOL, error);
    let [own, pixel, _] = &*SCHEMAS;
    let own: OwnArguments = json::take(own, &mut given).map_err(fault)?;
    let names: Vec<_> =
        given.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect();
    let mut options: PixelOptions = json::take(pixel, &mut given).map_err(fault)?;
    own.put_grid(&mut options).map_err(fault)?;
    check_pixel(&options, |name| names.iter().any(|given| given == name)).map_err(fault)?;
    options.validate().map_err(|error| wrong(TOOL, error))?;
    let name: AssetName = match &own.name {
        Some(name) => name.parse().map_err(|error: ValueError| wrong(TOOL, error))?,
        None => AssetName::from_prompt(&own.path.file_stem().unwrap_or_default().to_string_lossy()),
    };
    let make = move |studio: &Studio, stop: &Stop| make(studio, stop, &own.path, &options, &name);
    blocking(&call.studio, &call.stop, Length::Long, make).await.map(Into::into)
}

impl OwnArguments {
    fn put_grid(&self, options: &mut PixelOptions) -> Result<(), FieldError> {
        let cells = match (self.width, self.height) {
            (None, None) => return Ok(()),
            (Some(width), Some(height)) if SIDES.contains(&width) && SIDES.contains(&height) => {
                GridChoice::Cells(ImageSize { width, height })
            }
            (Some(width), Some(height)) => {
                let text = format!("`width` and `height` are {width} and {height}; expected 1 to 2048");
                return Err(FieldError::new("width", text));
            }
            (width, _) => {
                let missing = if width.is_some() { "height" } else { "width" };
                return Err(FieldError::new(missing, "`width` and `height` go together; one is missing"));
            }
        };
        if options.grid != GridChoice::Auto && options.grid != cells {
            let text = format!(
                "`grid` is {}, and `width` and `height` are {cells}; expected one of both",
                options.grid
            );
            return Err(FieldError::new("grid", text));
        }
        options.grid = cells;
        Ok(())
    }
}

fn make(studio: &Studio, stop: &Stop, path: &Path, options: &PixelOptions, name: &AssetName) -> Answer {
    let fault = |reason: String| wrong(TOOL, Wrong::of("path", format!("is `{}`: {reason}", path.display())));
    let file = studio.roots().open(path)?;
    let picture = pictures::open(studio, stop, file, Use::Pixelize)?.map_err(fault)?;
    let bounds = PixelBounds { max_cells: MAX_SPRITE_PIXELS, is_stopped: &|| stop.is_set() };
    let made = pixelize_within(&picture.pixels, options, &bounds).map_err(|error| match error {
        PixelError::Stopped => stop.fault(),
        error => wrong(TOOL, &Error::from(error)),
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
    all.insert("confidence".into(), json!(made.confidence));
    if !made.others.is_empty() {
        let others =
            made.others.iter().map(|grid| json!({ "width": grid.x.cells(), "height": grid.y.cells() }));
        all.insert("other_grids".into(), others.collect());
    }
    let mut next =
        "Look at the image: if the grid is wrong, call again with `width` and `height`.".to_owned();
    if let Some([r, g, b]) = made.unsure_background {
        let color = format!("#{r:02X}{g:02X}{b:02X}");
        next += &format!(" If {color} is its background, call again with `transparent` set to it.");
        all.insert("unsure_background".into(), json!(color));
    }
    all.insert("next".into(), json!(next));
    if !picture.warnings.is_empty() {
        all.insert("warnings".into(), json!(picture.warnings));
    }
    Ok(with_picture(all, |side| preview(&made.sprite, side)))
}
