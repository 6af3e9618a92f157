//! Pixel work on images that Python hands in, and PNG files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};

use dgx_pixels_core::fields::check_pixel;
use dgx_pixels_core::fields::json;
use dgx_pixels_core::files::write_whole;
use dgx_pixels_core::input_image::{self, InputImage};
use dgx_pixels_core::picture_file::{Made, picture_png, sprite_png, write_sprite};
use dgx_pixels_core::pixel::{Certificate, Palette, PixelBounds, PixelOptions, is_empty, is_lost};
use dgx_pixels_core::{Cause, Error, ErrorKind, pixel};
use image::{DynamicImage, RgbaImage};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::json;

use crate::error::{exception, invalid, of_field, of_kind};
use crate::event::{Pixels, rgba};
use crate::{SIGNALS_EVERY, check_signals};

/// Returns the image of these bytes, four for each pixel.
fn image(py: Python<'_>, width: u32, height: u32, bytes: Vec<u8>) -> PyResult<RgbaImage> {
    let count = bytes.len();
    RgbaImage::from_raw(width, height, bytes).ok_or_else(|| {
        invalid(
            py,
            "image",
            format!("`image` has {count} bytes; expected 4 for each of {width}x{height} pixels"),
        )
    })
}

/// Reads an image file: its pixels upright and in sRGB, and warnings.
#[pyfunction]
pub(crate) fn read_image(py: Python<'_>, path: PathBuf) -> PyResult<(Pixels<'_>, Vec<String>)> {
    let read = || {
        let bytes = input_image::read_file(&path)?;
        input_image::decode(&bytes)
    };
    let InputImage { pixels, warnings } =
        py.detach(read).map_err(|error| exception(py, &Error::no_file(&path, Cause::from(error))))?;
    Ok((rgba(py, &pixels), warnings))
}

/// Makes a sprite of an image: its pixels, and JSON of how it was found.
#[pyfunction]
pub(crate) fn pixelize<'py>(
    py: Python<'py>,
    width: u32,
    height: u32,
    bytes: Vec<u8>,
    fields: &Bound<'py, PyDict>,
) -> PyResult<(Pixels<'py>, String)> {
    let picture = image(py, width, height, bytes)?;
    let mut given = crate::json::object(fields)?;
    crate::fields::read_palette(py, &mut given)?;
    let schema = json::schema::<PixelOptions>();
    let options: PixelOptions = json::parse(&schema, Some(given)).map_err(|error| of_field(py, &error))?;
    check_pixel(&options, |_| true).map_err(|error| of_field(py, &error))?;

    // On a thread of its own: a stage of a large image takes longer than Ctrl-C may.
    let picture = Arc::new(picture);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let (sender, receiver) = mpsc::channel();
    let (own, stop) = (picture.clone(), is_stopped.clone());
    std::thread::spawn(move || {
        let is_stopped = || stop.load(Ordering::Relaxed);
        let bounds = PixelBounds { is_stopped: &is_stopped, ..PixelBounds::NONE };
        // Nobody waits any more if the wait was interrupted.
        let _ = sender.send(pixel::pixelize_within(&own, &options, &bounds));
    });
    let made = py.detach(move || {
        loop {
            match receiver.recv_timeout(SIGNALS_EVERY) {
                Ok(made) => return Ok(made),
                Err(RecvTimeoutError::Timeout) => check_signals().inspect_err(|_| {
                    is_stopped.store(true, Ordering::Relaxed);
                })?,
                // It panicked, which is a bug of ours; its words are on standard error.
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(PyRuntimeError::new_err("pixelize panicked"));
                }
            }
        }
    })?;
    let made = made.map_err(|error| exception(py, &Error::Pixel(error)))?;
    if is_empty(&made.sprite) && is_lost(&picture, &made.sprite) {
        return Err(exception(py, &Error::EmptySprite { seeds: vec![] }));
    }
    let grid = |grid: &pixel::Grid| {
        json!({
            "columns": grid.x.cells(), "rows": grid.y.cells(),
            "step_x": grid.x.step, "step_y": grid.y.step,
        })
    };
    let info = json!({
        "verdict": made.verdict,
        "confidence": made.confidence,
        "grid": grid(&made.grid),
        "others": made.others.iter().map(grid).collect::<Vec<_>>(),
        "unsure_background": made.unsure_background.map(|[r, g, b]| format!("#{r:02X}{g:02X}{b:02X}")),
        "certificate": made.certificate,
    });
    Ok((rgba(py, &made.sprite), info.to_string()))
}

/// A record of how an image was made, from JSON.
fn provenance(py: Python<'_>, json: Option<&str>) -> PyResult<Option<Made>> {
    let read = |json: &str| {
        let made: Made = serde_json::from_str(json).map_err(|error| error.to_string())?;
        made.validate().map_err(|error| error.to_string())?;
        Ok(made)
    };
    json.map(read).transpose().map_err(|error: String| {
        invalid(py, "provenance", format!("`provenance` is no record of an image: {error}"))
    })
}

/// Returns the bytes of a PNG file: a sprite, or with `raw` a model's image.
fn png(sprite: &RgbaImage, made: Option<&Made>, raw: bool) -> Result<Vec<u8>, Error> {
    match made.filter(|_| raw) {
        Some(made) => picture_png(&DynamicImage::ImageRgba8(sprite.clone()).into_rgb8(), made),
        None => sprite_png(sprite, made),
    }
}

/// Encodes a sprite, or with `raw` a model's image, with the record of how it was made.
#[pyfunction]
pub(crate) fn encode_png<'py>(
    py: Python<'py>,
    width: u32,
    height: u32,
    bytes: Vec<u8>,
    made: Option<&str>,
    raw: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let (sprite, made) = (image(py, width, height, bytes)?, provenance(py, made)?);
    let png = py.detach(|| png(&sprite, made.as_ref(), raw)).map_err(|error| exception(py, &error))?;
    Ok(PyBytes::new(py, &png))
}

/// Writes a sprite and its certificate beside it, or a model's image alone, each whole or not at
/// all.
#[pyfunction]
pub(crate) fn save_sprite(
    py: Python<'_>,
    path: PathBuf,
    png: &[u8],
    certificate: Option<&str>,
    force: bool,
) -> PyResult<()> {
    let certificate: Option<Certificate> =
        certificate.map(serde_json::from_str).transpose().map_err(|error| {
            of_kind(py, ErrorKind::Internal, &format!("the certificate is {error}"), None, None)
        })?;
    let path = std::path::absolute(&path).unwrap_or(path);
    py.detach(|| match &certificate {
        Some(certificate) => write_sprite(&path, png, certificate, force),
        None => write_whole(&path, png, force),
    })
    .map_err(|error| exception(py, &error))
}

/// Reads a PNG file of ours: its pixels, the JSON of how it was made, and whether it is a sprite.
#[pyfunction]
pub(crate) fn read_sprite<'py>(
    py: Python<'py>,
    bytes: &[u8],
) -> PyResult<(Pixels<'py>, Option<String>, bool, String)> {
    let InputImage { pixels, .. } = input_image::decode(bytes)
        .map_err(|error| invalid(py, "png", format!("the bytes cannot be used: {error}")))?;
    let made = Made::read(bytes).ok();
    let raw = made.as_ref().is_some_and(|made| made.pixel.is_none());
    let wrap = made.as_ref().and_then(|made| made.pixel.as_ref()).map(PixelOptions::wrap).unwrap_or_default();
    let palette = made.as_ref().and_then(|made| made.pixel.as_ref()).and_then(|it| it.palette.clone());
    let certificate = Certificate::of(&pixels, palette.as_ref().map(Palette::colors), wrap);
    let made = made.as_ref().map(plain_json);
    Ok((rgba(py, &pixels), made, raw, plain_json(&certificate)))
}

fn plain_json(it: &impl serde::Serialize) -> String {
    serde_json::to_string(it).expect("plain data turns into JSON; this is a bug")
}
