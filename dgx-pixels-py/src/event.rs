//! Events and results of jobs as values of Python.

use dgx_pixels_core::Error;
use dgx_pixels_core::backend::Latents;
use dgx_pixels_core::job::{Finished, JobEvent};
use image::{Rgb, RgbImage, RgbaImage};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};
use serde_json::{Value, json};

use crate::error::exception;

/// Pixels as Python takes them: width, height, and the bytes of each pixel, row by row.
pub(crate) type Pixels<'py> = (u32, u32, Bound<'py, PyByteArray>);

/// Returns a copy of `image` that belongs to Python.
pub(crate) fn rgba<'py>(py: Python<'py>, image: &RgbaImage) -> Pixels<'py> {
    (image.width(), image.height(), PyByteArray::new(py, image.as_raw()))
}

/// Returns a copy of `image`, opaque, that belongs to Python.
fn opaque<'py>(py: Python<'py>, image: &RgbImage) -> Pixels<'py> {
    let bytes: Vec<u8> = image.pixels().flat_map(|Rgb([r, g, b])| [*r, *g, *b, 255]).collect();
    (image.width(), image.height(), PyByteArray::new(py, &bytes))
}

/// A finished image: its pixels, JSON of all else that is known of it, and its latents as channels,
/// height, width and `f32` in the machine's order, if they were asked for.
pub(crate) type Result<'py> = (Pixels<'py>, String, Option<([usize; 3], Bound<'py, PyByteArray>)>);

/// Returns a finished image as Python takes it.
pub(crate) fn finished<'py>(py: Python<'py>, finished: &Finished) -> Result<'py> {
    let Finished { image, made, redraws, verdict, certificate, dropped_words, latents, path, timings } =
        finished;
    let seconds = [
        ("waiting", timings.waiting),
        ("begin", timings.begin),
        ("denoise", timings.denoise),
        ("finish", timings.finish),
        ("pixel", timings.pixel),
        ("total", timings.total),
    ];
    let timings: Value =
        seconds.map(|(name, time)| (name.to_owned(), json!(time.as_secs_f64()))).into_iter().collect();
    let info = json!({
        "provenance": made,
        "certificate": certificate,
        "verdict": verdict,
        "redraws": redraws,
        "dropped_words": dropped_words,
        "path": path,
        "timings": timings,
    });
    let latents = latents.as_ref().map(|Latents { values, shape }| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
        (*shape, PyByteArray::new(py, &bytes))
    });
    (rgba(py, image), info.to_string(), latents)
}

/// Returns the name of an event and its values.
pub(crate) fn event<'py>(py: Python<'py>, event: &JobEvent) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
    let values = PyDict::new(py);
    let name = match event {
        JobEvent::Queued { position, eta } => {
            values.set_item("position", position)?;
            values.set_item("eta", eta.map(|eta| eta.as_secs_f64()))?;
            "Queued"
        }
        JobEvent::Loading { model, bytes_done, bytes } => {
            values.set_item("model", model)?;
            values.set_item("bytes_done", bytes_done)?;
            values.set_item("bytes", bytes)?;
            "Loading"
        }
        JobEvent::Started { device } => {
            values.set_item("device", device)?;
            "Started"
        }
        JobEvent::Step { n, of, step_time, eta } => {
            values.set_item("n", n)?;
            values.set_item("of", of)?;
            values.set_item("step_time", step_time.as_secs_f64())?;
            values.set_item("eta", eta.as_secs_f64())?;
            "Step"
        }
        JobEvent::Preview { n, image } => {
            values.set_item("n", n)?;
            values.set_item("pixels", opaque(py, image))?;
            "Preview"
        }
        JobEvent::Redraw { redraw, seed } => {
            values.set_item("redraw", redraw)?;
            values.set_item("seed", seed)?;
            "Redraw"
        }
        JobEvent::Finished(done) => {
            let (pixels, info, latents) = finished(py, done);
            values.set_item("pixels", pixels)?;
            values.set_item("info", info)?;
            values.set_item("latents", latents)?;
            "Finished"
        }
        JobEvent::Failed(error) => {
            values.set_item("error", exception(py, error))?;
            "Failed"
        }
        JobEvent::Cancelled { steps_done, steps } => {
            let error = Error::Cancelled { steps_done: *steps_done, steps: *steps };
            values.set_item("error", exception(py, &error))?;
            "Cancelled"
        }
        _ => "Event",
    };
    Ok((name, values))
}
