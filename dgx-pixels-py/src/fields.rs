//! The fields of a submission: those of the table, and how the job is served.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use dgx_pixels_core::fields::json::{self, Object};
use dgx_pixels_core::fields::{FieldError, SpriteFields};
use dgx_pixels_core::pixel::Palette;
use dgx_pixels_core::{Error, ErrorKind, Submission, input_image};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::error::{self, exception};

/// The fields that say how a job is served. Their comments are their help in Python.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Serving {
    /// The name of one of the engine's models. Default: the engine's first.
    model: Option<String>,
    /// A file that ends in `.png`, which the engine writes; the certificate of a sprite goes beside
    /// it as `NAME.json`. Default: none.
    output: Option<PathBuf>,
    /// `True` to replace a file that exists. Default: `False`.
    force: bool,
    /// `urgent`, `high`, `normal` or `low`. A job that waits rises. Default: `normal`.
    priority: Option<String>,
    /// The name of the caller that the job is for. Callers share the device fairly. Default: none.
    client: String,
    /// The longest time from the submission to the finished image, in seconds. Default: none.
    #[schemars(range(min = 0))]
    deadline: Option<f64>,
    /// Submitting the same again with the same key gives the first job, after a restart too where
    /// the engine has a journal. Default: none.
    idempotency_key: Option<String>,
    /// Report a preview after every Nth step. Default: 0, which reports none.
    #[schemars(range(min = 0))]
    preview_every: usize,
    /// `True` to return the model's image as it is, without the stages that make a sprite of it.
    /// Default: `False`.
    raw: bool,
    /// `True` to keep the latents for `Sprite.latents`, for a model that has any. Default: `False`.
    latents: bool,
}

static SERVING: LazyLock<Arc<Object>> = LazyLock::new(json::schema::<Serving>);

/// Returns the submission that the fields ask for, with a seed at random if none is given.
pub(crate) fn submission(py: Python<'_>, given: &Bound<'_, PyDict>) -> PyResult<Submission> {
    let mut given = crate::json::object(given)?;
    read_palette(py, &mut given)?;
    let read = |path: &Path| input_image::read_file(path).map_err(|error| error.to_string());
    SpriteFields::read_images(&mut given, read).map_err(|fault| error::of_field(py, &fault))?;
    let is_asked: Vec<_> =
        given.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect();
    let parse = || -> Result<Submission, FieldError> {
        let serving: Serving = json::take(&SERVING, &mut given)?;
        let fields = SpriteFields::take(&mut given)?;
        // Nothing is left but names that no field has.
        json::parse::<Nothing>(&known(), Some(given))?;
        let is_asked = |name: &str| is_asked.iter().any(|asked| asked == name);
        if serving.raw
            && let Some(name) =
                SpriteFields::pixel_names().find(|name| is_asked(name) && fields.differs(name))
        {
            return Err(FieldError::new(name, format!("`{name}` does not go with `raw`")));
        }
        fields.check(is_asked)?;
        if let Some(count) = fields.series.count.filter(|count| *count != 1) {
            let expected = "expected 1 for one job; `generate` and `map` draw several";
            return Err(FieldError::new("count", format!("`count` is {count}; {expected}")));
        }
        let seed = fields.series.seed.unwrap_or_else(|| fastrand::u32(..).into());
        let submission = fields.submission(seed);
        let priority = serving.priority.as_deref().unwrap_or("normal");
        let fault = |error: Error| FieldError::new(error.field().unwrap_or_default(), error.to_string());
        Ok(Submission {
            model: serving.model,
            pixel: submission.pixel.filter(|_| !serving.raw),
            output: serving.output.map(absolute).transpose()?,
            force: serving.force,
            priority: priority.parse().map_err(|error| fault(Error::Value(error)))?,
            client: serving.client,
            deadline: serving.deadline.map(seconds).transpose()?,
            idempotency_key: serving.idempotency_key,
            preview_every: serving.preview_every,
            latents: serving.latents,
            ..submission
        })
    };
    parse().map_err(|fault| error::of_field(py, &fault))
}

/// Puts the colors of a palette in the place of its name, file or list: a caller in Python is the
/// user, who may read files.
pub(crate) fn read_palette(py: Python<'_>, given: &mut Object) -> PyResult<()> {
    let Some(palette) = given.get_mut("palette") else { return Ok(()) };
    let hex = |[r, g, b]: [u8; 3]| format!("#{r:02x}{g:02x}{b:02x}");
    let text = match &*palette {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(colors) => {
            let color = |color: &serde_json::Value| match color.as_str() {
                Some(text) => text.to_owned(),
                None => serde_json::from_value(color.clone()).map_or_else(|_| color.to_string(), hex),
            };
            colors.iter().map(color).collect::<Vec<_>>().join(",")
        }
        _ => return Ok(()),
    };
    let read = Palette::load(&text).map_err(|error| exception(py, &Error::Pixel(error.into())))?;
    let colors: Vec<_> = read.colors().iter().copied().map(hex).collect();
    *palette = colors.join(",").into();
    Ok(())
}

/// No field at all.
#[derive(Deserialize)]
struct Nothing {}

/// The schema of all fields, none of them required: for the error about an unknown one.
fn known() -> Object {
    let properties = |schema: &Object| schema["properties"].as_object().cloned().unwrap_or_default();
    let mut all = properties(&SpriteFields::schema());
    all.extend(properties(&SERVING));
    Object::from_iter([("properties".to_owned(), all.into())])
}

/// A path that stays the same if the process changes its folder.
fn absolute(path: PathBuf) -> Result<PathBuf, FieldError> {
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        let text = format!("`output` is `{}`; expected a file that ends in `.png`", path.display());
        return Err(FieldError::new("output", text));
    }
    std::path::absolute(&path)
        .map_err(|error| FieldError::new("output", format!("`output` is `{}`: {error}", path.display())))
}

/// A time of at least 0 and at most 100 years.
fn seconds(given: f64) -> Result<Duration, FieldError> {
    Duration::try_from_secs_f64(given).ok().filter(|time| time.as_secs() < 100 * 365 * 86_400).ok_or_else(
        || FieldError::new("deadline", format!("`deadline` is {given}; expected seconds, 0 or more")),
    )
}

/// Returns JSON of every field's schema, in three parts: `request`, `pixel` and `serving`.
#[pyfunction]
pub(crate) fn field_schema() -> String {
    let properties = |schema: &Object| schema["properties"].as_object().cloned().unwrap_or_default();
    let is_pixel = |name: &String| SpriteFields::pixel_names().any(|pixel| pixel == name);
    let (pixel, request): (Object, Object) =
        properties(&SpriteFields::schema()).into_iter().partition(|(name, _)| is_pixel(name));
    let serving = properties(&SERVING);
    serde_json::json!({ "request": request, "pixel": pixel, "serving": serving }).to_string()
}

/// Returns the words of all kinds of errors.
#[pyfunction]
pub(crate) fn kinds() -> Vec<&'static str> {
    ErrorKind::ALL.iter().map(|kind| kind.as_str()).collect()
}
