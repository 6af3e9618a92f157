//! Sheets, checks, and sprites brought into a game.

use std::path::PathBuf;
use std::time::Duration;

use dgx_pixels_core::asset::{
    self, DEFAULT_FRAME_MS, Game, NewSprite, Project, Sheet, SheetFrame, SheetLayout, SheetOptions,
};
use dgx_pixels_core::files::write_whole;
use dgx_pixels_core::picture_file::{check_beside, plain_png, sidecar};
use dgx_pixels_core::{Error, ValueError};
use dgx_pixels_manifest::{GAME_PORT, SpriteName};
use image::RgbaImage;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::json;

use crate::error::{exception, invalid};

/// Checks PNG files, manifests and folders as a game would use them; JSON of the report.
#[pyfunction]
pub(crate) fn validate(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let report = py.detach(|| asset::validate(&path)).map_err(|error| exception(py, &error))?;
    Ok(json!(report).to_string())
}

/// A frame of Python's: its name, sides and bytes.
type Frame = (String, u32, u32, Vec<u8>);

/// The options of a sheet, from a `dict`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct SheetFields {
    columns: Option<u32>,
    packed: bool,
    gutter: u32,
    extrude: u32,
    duration_ms: Option<u32>,
    force: bool,
}

/// Writes a sheet of frames and its index beside it; JSON of where each frame is.
#[pyfunction]
pub(crate) fn sheet(
    py: Python<'_>,
    path: PathBuf,
    frames: Vec<Frame>,
    options: &Bound<'_, PyDict>,
) -> PyResult<String> {
    let SheetFields { columns, packed, gutter, extrude, duration_ms, force } = options.extract()?;
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        let text = format!("`path` is `{}`; expected a file that ends in `.png`", path.display());
        return Err(invalid(py, "path", text));
    }
    if packed && columns.is_some() {
        return Err(invalid(py, "columns", "`columns` is for a grid, and `layout` is `packed`".into()));
    }
    let path = std::path::absolute(&path).unwrap_or(path);
    let duration_ms = duration_ms.unwrap_or(DEFAULT_FRAME_MS);
    let make = || -> Result<String, Error> {
        let frames = frames.into_iter().map(|(name, width, height, bytes)| {
            let image = RgbaImage::from_raw(width, height, bytes)
                .ok_or_else(|| ValueError::new("frames", &name, "4 bytes for each pixel"))?;
            Ok(SheetFrame { name, image, duration_ms })
        });
        let frames = frames.collect::<Result<Vec<_>, ValueError>>()?;
        let layout = if packed { SheetLayout::Packed } else { SheetLayout::Grid { columns } };
        let sheet = Sheet::new(&frames, vec![], &SheetOptions { layout, gutter, extrude })?;
        let png = asset::optimized(&plain_png(&sheet.image)?)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let index = sheet.index.to_json(&name);
        let beside = sidecar(&path);
        check_beside(&beside, force)?;
        write_whole(&beside, index.as_bytes(), force)?;
        write_whole(&path, &png, force)?;
        Ok(index)
    };
    py.detach(make).map_err(|error| exception(py, &error))
}

/// A sprite for a game: its name there, and its PNG file.
type Deployable = (String, Vec<u8>);

/// Deploys sprites into a game's project, and asks the running game to show them; JSON of what was
/// done.
#[pyfunction]
pub(crate) fn deploy(
    py: Python<'_>,
    project: PathBuf,
    sprites: Vec<Deployable>,
    dry_run: bool,
    reload: bool,
    port: Option<u16>,
    wait: f64,
) -> PyResult<String> {
    let Some(wait) = Duration::try_from_secs_f64(wait).ok().filter(|wait| wait.as_secs() <= 600) else {
        return Err(invalid(py, "wait", format!("`wait` is {wait}; expected seconds, 0 to 600")));
    };
    let make = || -> Result<String, Error> {
        let project = Project::open(&project)?;
        let sprites = sprites.into_iter().map(|(name, png)| {
            let name: SpriteName = name.parse()?;
            Ok(NewSprite::new(name, png))
        });
        let sprites = sprites.collect::<Result<Vec<_>, Error>>()?;
        let deployed = if dry_run { project.plan(&sprites)? } else { project.deploy(&sprites)? };
        let mut answer = json!(deployed);
        let game = || Game::new(port.unwrap_or(GAME_PORT)).confirm(&project, &deployed, wait);
        answer["live"] = json!((reload && !dry_run).then(game));
        Ok(answer.to_string())
    };
    py.detach(make).map_err(|error| exception(py, &error))
}
