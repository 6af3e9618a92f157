//! The table of request fields, for every door: flags of a program, lines of JSON, schemas for
//! clients.
//!
//! [`GenerateRequest`] and [`PixelOptions`] are the table: each field has its name, type, range,
//! default, help text and example there, and nowhere else. With the feature `fields` they are flags
//! (`clap::Args`) and have JSON schemas ([`schemars::JsonSchema`]). [`SpriteFields`] puts both
//! together, with the fields of a series of images.
//!
//! # Example
//! ```
//! use dgx_pixels_core::fields::SpriteFields;
//! use serde_json::json;
//!
//! let mut given = json!({ "prompt": "a key", "steps": "8", "size": "16x16", "seed": 7 });
//! let fields = SpriteFields::take(given.as_object_mut().unwrap())?;
//! assert_eq!((fields.request.steps, fields.series.seed), (Some(8), Some(7)));
//! # Ok::<(), dgx_pixels_core::fields::FieldError>(())
//! ```

pub mod flags;
pub mod json;
mod numbers;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::json::Object;
use crate::input_image;
use crate::pixel::{Dither, GridChoice, MaxColors, PixelOptions};
use crate::request::GenerateRequest;
use crate::scheduler::SchedulerName;
use crate::submission::Submission;

/// A field that cannot be used. Its text names the field and its value, and says what would be
/// right.
///
/// # Example
/// ```
/// use dgx_pixels_core::fields::SpriteFields;
/// let mut given = serde_json::json!({ "prompt": "a key", "steps": "many" });
/// let error = SpriteFields::take(given.as_object_mut().unwrap()).unwrap_err();
/// assert_eq!(error.field, "steps");
/// assert!(error.to_string().contains("`steps`") && error.to_string().contains("many"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FieldError {
    /// The name of the field.
    pub field: String,
    text: String,
}

impl FieldError {
    /// An error about `field` with this text.
    pub fn new(field: &str, text: impl Into<String>) -> FieldError {
        FieldError { field: field.to_owned(), text: text.into() }
    }
}

/// The fields that name images.
const IMAGES: [&str; 3] = ["init_image", "mask", "control"];

/// The fields that ask for a sprite.
///
/// # Example
/// ```
/// use clap::{Args, Command, FromArgMatches};
/// use dgx_pixels_core::fields::SpriteFields;
///
/// let command = SpriteFields::augment_args(Command::new("draw").no_binary_name(true));
/// let matches = command.get_matches_from(["--steps", "8", "--size", "16x16", "--seed", "7"]);
/// let fields = SpriteFields::from_arg_matches(&matches).unwrap();
/// assert_eq!((fields.request.steps, fields.series.seed), (Some(8), Some(7)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct SpriteFields {
    /// The image.
    #[command(flatten)]
    pub request: GenerateRequest,

    /// The stages that make a sprite of the image.
    #[command(flatten)]
    pub pixel: PixelOptions,

    /// The images of a series.
    #[command(flatten)]
    pub series: Series,
}

/// The seeds of several images of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::Args, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Series {
    /// The seed of the first image, a whole number from 0. The same seed with the same request
    /// gives the same image. Default: drawn at random and reported; in a batch, derived from the
    /// line's number and prompt.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = flags::whole::<u64>)]
    #[schemars(range(min = 0))]
    pub seed: Option<u64>,

    /// The number of images, 1 to 10000 (to 16 in an MCP call), with seeds from `seed` upwards.
    /// Default: 1.
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true, value_parser = flags::whole::<u64>)]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
}

impl Series {
    /// Returns the seeds of all images, from `first` if the request names no seed.
    ///
    /// # Errors
    /// `count` is not from 1 to `most`, or a seed would be too large.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::Series;
    ///
    /// let series = Series { seed: Some(7), count: Some(3) };
    /// assert_eq!(series.seeds(16, || 0)?, 7..=9);
    /// assert_eq!(Series::default().seeds(16, || 40)?, 40..=40);
    /// assert_eq!(series.seeds(2, || 0).unwrap_err().field, "count");
    /// # Ok::<(), dgx_pixels_core::fields::FieldError>(())
    /// ```
    pub fn seeds(self, most: u64, first: impl FnOnce() -> u64) -> Result<RangeInclusive<u64>, FieldError> {
        let count = self.count.unwrap_or(1);
        if !(1..=most).contains(&count) {
            return Err(FieldError::new("count", format!("`count` is {count}; expected 1 to {most}")));
        }
        let seed = self.seed.unwrap_or_else(first);
        let last = seed.checked_add(count - 1).ok_or_else(|| {
            let largest = u64::MAX - (count - 1);
            FieldError::new(
                "seed",
                format!("`seed` is {seed}; expected at most {largest} for {count} images"),
            )
        })?;
        Ok(seed..=last)
    }
}

/// The schemas of the three parts, and of all fields together.
struct Schemas {
    request: Arc<Object>,
    pixel: Arc<Object>,
    series: Arc<Object>,
    all: Arc<Object>,
}

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let mut request = (*json::schema::<GenerateRequest>()).clone();
    request.insert("required".into(), serde_json::json!(["prompt"]));
    // The seed belongs to the series, which also knows that none is given.
    if let Some(properties) = request.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("seed");
    }
    let (request, pixel) = (Arc::new(request), json::schema::<PixelOptions>());
    let series = json::schema::<Series>();
    let mut all = Object::from_iter([("type".to_owned(), "object".into())]);
    let mut properties = Object::new();
    for part in [&request, &pixel, &series] {
        properties.extend(part.get("properties").and_then(Value::as_object).cloned().unwrap_or_default());
    }
    all.insert("properties".into(), properties.into());
    all.insert("required".into(), serde_json::json!(["prompt"]));
    Schemas { request, pixel, series, all: Arc::new(all) }
});

impl SpriteFields {
    /// Returns the schema of all fields.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    ///
    /// let schema = SpriteFields::schema();
    /// assert_eq!(schema["required"], serde_json::json!(["prompt"]));
    /// assert_eq!(schema["properties"]["steps"]["maximum"], 1000);
    /// ```
    pub fn schema() -> Arc<Object> {
        SCHEMAS.all.clone()
    }

    /// Returns the help text of a field.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    /// assert!(SpriteFields::help("steps").starts_with("Denoising steps, 1 to 1000"));
    /// ```
    pub fn help(name: &str) -> String {
        let text = SCHEMAS.all["properties"][name]["description"].as_str();
        let text = text.map(|text| text.replace('\n', " "));
        text.unwrap_or_else(|| panic!("`{name}` is no field of a sprite; this is a bug"))
    }

    /// Takes the fields of a sprite out of those that are given; the others stay.
    ///
    /// # Errors
    /// The name of the field at fault, its value, and what would be right.
    pub fn take(given: &mut Object) -> Result<SpriteFields, FieldError> {
        Ok(SpriteFields {
            series: json::take(&SCHEMAS.series, given)?,
            request: json::take(&SCHEMAS.request, given)?,
            pixel: json::take(&SCHEMAS.pixel, given)?,
        })
    }

    /// Reads the images that the fields name by path or by their bytes, and puts their pixels in
    /// the place of the names. `read` reads the file at a path, or says why it does not: a door
    /// decides which files a caller may name.
    ///
    /// # Errors
    /// The field at fault, its value, and what would be right.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    /// use serde_json::json;
    ///
    /// let mut given = json!({ "prompt": "a key", "init_image": "key.png", "mask": "alpha" });
    /// let given = given.as_object_mut().unwrap();
    /// let error = SpriteFields::read_images(given, |_| Err("it is not there".into())).unwrap_err();
    /// assert_eq!(error.to_string(), "`init_image` is `key.png`: it is not there");
    /// ```
    pub fn read_images(
        given: &mut Object,
        mut read: impl FnMut(&Path) -> Result<Vec<u8>, String>,
    ) -> Result<(), FieldError> {
        for field in IMAGES {
            let fault = |reason| FieldError::new(field, format!("`{field}` {reason}"));
            match (field, given.get_mut(field)) {
                ("control", Some(Value::Array(controls))) => {
                    for control in controls {
                        let Some(Value::String(image)) = control.get_mut("image") else { continue };
                        *image = input_image::text(image, &mut read)
                            .map_err(|reason| fault(format!("has an image that {reason}")))?;
                    }
                }
                ("mask", Some(Value::String(text))) => {
                    let mask = input_image::mask(text, &mut read).map_err(fault)?;
                    let json = serde_json::to_value(mask).expect("a text turns into JSON; this is a bug");
                    given.insert(field.to_owned(), json);
                }
                ("init_image", Some(Value::String(text))) => {
                    *text = input_image::text(text, &mut read).map_err(fault)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns every field that cannot be read, each with what would be right.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    /// use serde_json::json;
    ///
    /// let given = json!({ "prompt": "a key", "steps": "many", "seed": true });
    /// let faults = SpriteFields::faults(given.as_object().unwrap());
    /// let mut names: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    /// names.sort_unstable();
    /// assert_eq!(names, ["seed", "steps"]);
    /// ```
    pub fn faults(given: &Object) -> Vec<FieldError> {
        [
            json::faults::<GenerateRequest>(&SCHEMAS.request, given),
            json::faults::<PixelOptions>(&SCHEMAS.pixel, given),
            json::faults::<Series>(&SCHEMAS.series, given),
        ]
        .concat()
    }

    /// Returns the fields as JSON, so that others can be put over them before they are
    /// [taken](Self::take).
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    ///
    /// let mut fields = SpriteFields::default();
    /// fields.request.prompt = "a key".into();
    /// let mut json = fields.to_json();
    /// json.insert("steps".into(), 8.into());
    /// let changed = SpriteFields::take(&mut json)?;
    /// assert_eq!((changed.request.prompt.as_str(), changed.request.steps), ("a key", Some(8)));
    /// # Ok::<(), dgx_pixels_core::fields::FieldError>(())
    /// ```
    pub fn to_json(&self) -> Object {
        let parts = [
            serde_json::to_value(&self.request),
            serde_json::to_value(&self.pixel),
            serde_json::to_value(self.series),
        ];
        parts.into_iter().filter_map(|part| part.ok()?.as_object().cloned()).flatten().collect()
    }

    /// Refuses fields that would change nothing although they are not at their defaults, among
    /// those that `is_asked` names.
    ///
    /// # Errors
    /// The field that is given in vain, and what would be right.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    /// let fields = SpriteFields::default();
    /// // Nothing differs from its default, so nothing is in vain.
    /// assert!(fields.check(|_| true).is_ok());
    /// ```
    pub fn check(&self, is_asked: impl Fn(&str) -> bool) -> Result<(), FieldError> {
        let is_given = |name: &str| is_asked(name) && self.differs(name);
        let refuse = |field: &str, text: String| Err(FieldError::new(field, text));
        let GenerateRequest { guidance_scale, preset, timestep_spacing, scheduler, .. } = self.request;
        let scale = guidance_scale.or(preset.map(|preset| preset.guidance_scale));
        if let Some(scale) = scale.filter(|scale| *scale <= 1.0) {
            let by = match preset {
                Some(preset) if guidance_scale.is_none() => format!(" by the preset `{preset}`"),
                _ => String::new(),
            };
            let guiding = ["negative_prompt", "guidance_rescale", "guidance_interval"];
            if let Some(name) = guiding.into_iter().find(|name| is_given(name)) {
                return refuse(
                    name,
                    format!(
                        "`guidance_scale` is {scale}{by}, which turns guidance off, and `{name}` is for guidance; \
                         expected more than 1, or no `{name}`"
                    ),
                );
            }
        }
        if let Some(spacing) = timestep_spacing.filter(|_| is_given("timestep_spacing")) {
            let own =
                [SchedulerName::Lcm, SchedulerName::Tcd, SchedulerName::EdmEuler, SchedulerName::EdmDpmpp2m];
            let scheduler = scheduler.or(preset.map(|preset| preset.scheduler));
            if let Some(scheduler) = scheduler.filter(|scheduler| own.contains(scheduler)) {
                let text = format!(
                    "`timestep_spacing` is `{spacing}` and `scheduler` is `{scheduler}`, which has timesteps of its own; \
                     expected another scheduler, or no `timestep_spacing`"
                );
                return refuse("timestep_spacing", text);
            }
        }
        check_pixel(&self.pixel, is_asked)
    }

    /// `true` if the field of this name is not at its default.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    ///
    /// let mut fields = SpriteFields::default();
    /// assert!(!fields.differs("steps"));
    /// fields.request.steps = Some(8);
    /// assert!(fields.differs("steps"));
    /// ```
    pub fn differs(&self, name: &str) -> bool {
        self.to_json().get(name) != SpriteFields::default().to_json().get(name)
    }

    /// Returns the names of the fields that shape a sprite, and so mean nothing to an image without
    /// pixel stages.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    /// assert!(SpriteFields::pixel_names().any(|name| name == "palette"));
    /// assert!(SpriteFields::pixel_names().all(|name| name != "prompt"));
    /// ```
    pub fn pixel_names() -> impl Iterator<Item = &'static str> {
        let properties = SCHEMAS.pixel.get("properties").and_then(Value::as_object);
        properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// Returns the submission of one image of the series.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::fields::SpriteFields;
    ///
    /// let mut fields = SpriteFields::default();
    /// fields.request.prompt = "a key".into();
    /// let submission = fields.submission(8);
    /// assert_eq!((submission.request.seed, submission.pixel.is_some()), (8, true));
    /// ```
    pub fn submission(&self, seed: u64) -> Submission {
        let request = GenerateRequest { seed, ..self.request.clone() };
        Submission { pixel: Some(self.pixel.clone()), ..request.into() }
    }
}

/// Refuses pixel fields that would change nothing although they are not at their defaults, among
/// those that `is_asked` names.
///
/// # Errors
/// The field that is given in vain, and what would be right.
pub fn check_pixel(options: &PixelOptions, is_asked: impl Fn(&str) -> bool) -> Result<(), FieldError> {
    let is_given = |name: &str| is_asked(name) && pixel_differs(options, name);
    let refuse = |field: &str, text: String| Err(FieldError::new(field, text));
    let PixelOptions { dither, max_colors, anchor, grid, detail, .. } = options;
    let keeps_all = *max_colors == MaxColors::All && options.palette.is_none();
    if is_given("dither") && *dither != Dither::None && keeps_all {
        let expected = "expected a `palette`, or fewer `max_colors`";
        return refuse("dither", format!("`dither` is `{dither}` and all colors are kept; {expected}"));
    }
    if is_given("anchor") && options.size.is_none() {
        let expected = "there is no `size` that it places the sprite in; expected both or neither";
        return refuse("anchor", format!("`anchor` is `{anchor}` and {expected}"));
    }
    if is_given("detail") && *grid != GridChoice::Auto {
        let expected = "it is for images without a grid; expected one of both";
        return refuse("detail", format!("`detail` is `{detail}` and `grid` is `{grid}`, but {expected}"));
    }
    if let (GridChoice::Cells(size), Some(frames)) = (*grid, options.strip.filter(|frames| *frames > 0))
        && size.width % frames != 0
    {
        let columns = size.width;
        let expected = "expected as many columns for each frame";
        return refuse("strip", format!("`grid` has {columns} columns and `strip` is {frames}; {expected}"));
    }
    Ok(())
}

/// `true` if the pixel field of this name is not at its default.
fn pixel_differs(options: &PixelOptions, name: &str) -> bool {
    let json = |options: &PixelOptions| serde_json::to_value(options).unwrap_or_default();
    json(options).get(name) != json(&PixelOptions::default()).get(name)
}
