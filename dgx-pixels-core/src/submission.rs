//! A request, and how it is to be served.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::canvas;
use crate::error::Error;
use crate::pixel::{GridChoice, MaxColors, PixelError, PixelOptions, Transparent};
use crate::request::{GenerateRequest, ModelDefaults, RequestError, ResolvedRequest, SourceImage};
use crate::stored;
use crate::value_error::ValueError;

/// The matte of a model that does not mark what is transparent.
const WHITE: [u8; 3] = [255; 3];

/// A request, and how it is to be served.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use dgx_pixels_core::pixel::PixelOptions;
/// use dgx_pixels_core::{Priority, Submission};
///
/// let submission = Submission {
///     pixel: Some(PixelOptions::default()),
///     priority: Priority::High,
///     client: "editor".into(),
///     deadline: Some(Duration::from_secs(60)),
///     ..Submission::of("a brass key")
/// };
/// submission.validate()?;
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Submission {
    /// The request to draw.
    pub request: GenerateRequest,
    /// The model's name; `None` is the generator's own choice.
    pub model: Option<String>,
    /// The options of the pixel stages, which make a sprite of the model's image; `None` leaves the
    /// image as it is.
    pub pixel: Option<PixelOptions>,
    /// The PNG file to write; with a sprite, its certificate goes beside it. `None` keeps the
    /// picture in memory, and on disk only where a journal is kept.
    pub output: Option<PathBuf>,
    /// `true` if `output` may replace a file.
    pub force: bool,
    /// The priority: the order in which jobs are drawn.
    pub priority: Priority,
    /// The client on whose behalf the job runs. Clients share the devices fairly, however many jobs
    /// each has.
    pub client: String,
    /// Longest time from submission to the finished picture; past it the job fails.
    pub deadline: Option<Duration>,
    /// Submitting the same again with the same key gives the first job, even after a restart where
    /// a journal is kept.
    pub idempotency_key: Option<String>,
    /// Tell of a preview after so many steps each; 0, the default, makes none.
    pub preview_every: usize,
    /// `true` to keep the latents of the finished image for
    /// [`Finished::latents`](crate::job::Finished::latents). They are kept in memory alone: a job
    /// that a journal brings back has none.
    pub latents: bool,
}

impl Default for Submission {
    fn default() -> Self {
        Submission {
            request: GenerateRequest::default(),
            model: None,
            pixel: Some(PixelOptions::default()),
            output: None,
            force: false,
            priority: Priority::Normal,
            client: String::new(),
            deadline: None,
            idempotency_key: None,
            preview_every: 0,
            latents: false,
        }
    }
}

impl Submission {
    /// A submission with the defaults of everything but the prompt.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{Priority, Submission};
    ///
    /// let submission = Submission::of("a brass key");
    /// assert_eq!(submission.request.prompt, "a brass key");
    /// assert_eq!(submission.priority, Priority::Normal);
    /// assert!(submission.pixel.is_some() && submission.output.is_none());
    /// ```
    pub fn of(prompt: impl Into<String>) -> Self {
        GenerateRequest { prompt: prompt.into(), ..Default::default() }.into()
    }

    /// Checks everything that can be checked without a model: the request and the pixel options.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Pixel`], naming the field, its value and the range.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{GenerateRequest, Submission};
    ///
    /// let request = GenerateRequest { steps: Some(0), ..Default::default() };
    /// let error = Submission::from(request).validate().unwrap_err();
    /// assert_eq!(error.to_string(), "`steps` is 0; expected 1 to 1000");
    /// assert_eq!(error.field(), Some("steps"));
    /// ```
    pub fn validate(&self) -> Result<(), Error> {
        self.request.validate()?;
        if let Some(pixel) = &self.pixel {
            pixel.validate().map_err(PixelError::from)?;
        }
        Ok(())
    }

    /// Returns JSON of everything that shapes the sprite, the same in every version of this
    /// library: equal submissions have equal JSON.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{Priority, Submission};
    ///
    /// let key = Submission::of("a key");
    /// let urgent = Submission { priority: Priority::Urgent, ..key.clone() };
    /// assert_eq!(key.content(), urgent.content());
    /// assert_ne!(key.content(), Submission::of("a coin").content());
    /// ```
    pub fn content(&self) -> String {
        let request = stored::Request::from(self.request.clone());
        let pixel = self.pixel.clone().map(stored::Pixel::from);
        serde_json::to_string(&(request, pixel)).expect("plain data turns into JSON; this is a bug")
    }

    /// Checks the submission and fills in every default, by the model that is to draw it.
    ///
    /// This is the one place that decides the image for a sprite of a given size ([`canvas`]), the
    /// number of colors of a generated sprite, and the cells that its model aims at.
    ///
    /// # Errors
    /// As [`validate`](Self::validate) and [`GenerateRequest::resolve`]; [`RequestError::Canvas`]
    /// for a sprite that does not fit the image.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Backend, Sketch};
    /// use dgx_pixels_core::pixel::{GridChoice, MaxColors, PixelOptions};
    /// use dgx_pixels_core::{ImageSize, Submission};
    ///
    /// let size = ImageSize { width: 16, height: 16 };
    /// let pixel = PixelOptions { size: Some(size), ..Default::default() };
    /// let submission = Submission { pixel: Some(pixel), ..Submission::of("a key") };
    /// let resolved = submission.resolve(&Sketch.defaults())?;
    /// assert_eq!(resolved.request.size, ImageSize { width: 128, height: 128 });
    /// let pixel = resolved.pixel.unwrap();
    /// assert_eq!((pixel.grid, pixel.max_colors), (GridChoice::Cells(size), MaxColors::Elbow));
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn resolve(&self, defaults: &ModelDefaults) -> Result<Resolved, Error> {
        self.validate()?;
        // The image to begin from, or else the first that a control net follows, gives its size.
        let followed = self.request.control.first().map(|control| ("control", &control.image));
        let basis = self.request.init_image.as_ref().map(|image| ("init_image", image)).or(followed);
        let own = basis.and_then(|(_, image)| image.size());
        let Some(mut pixel) = self.pixel.clone() else {
            let request = match (self.request.size()?, basis) {
                (None, Some((_, image))) => {
                    self.request.clone().with_size(canvas::for_image(defaults.size, image))
                }
                _ => self.request.clone(),
            };
            let request = request.resolve(defaults)?;
            canvas::check_followed(&self.request, request.size, own)?;
            return Ok(Resolved { request, pixel: None });
        };
        let mut asked = self.request.size()?;
        if let Some(basis) = basis {
            asked = Some(canvas::plan_from(defaults.size, asked, basis, &mut pixel)?);
        }
        let is_open = pixel.grid == GridChoice::Auto;
        let planned =
            canvas::plan(defaults.size, defaults.largest, asked, &mut pixel).map_err(RequestError::from)?;
        let mut request = self.request.clone();
        // The model draws on across the edges that the pixel stages take for neighbors.
        request.wrap.get_or_insert(pixel.wrap());
        let request = match planned {
            Some(size) => request.with_size(size).resolve(defaults)?,
            None => request.resolve(defaults)?,
        };
        canvas::check_followed(&self.request, request.size, own)?;
        // An image of a model lies exactly on its grid, and has more colors than any artist takes.
        if pixel.max_colors == MaxColors::Auto {
            pixel.max_colors = MaxColors::Elbow;
        }
        pixel.transparent = match (pixel.transparent, defaults.matte) {
            // The model says itself what is transparent, inside a sprite and in a texture too.
            (Transparent::Auto, Some(matte)) if matte != WHITE => Transparent::Key(matte),
            // A texture has no background.
            (Transparent::Auto, _) if pixel.tile_x || pixel.tile_y => Transparent::Off,
            (given, _) => given,
        };
        if is_open {
            pixel.expected_step.get_or_insert(f64::from(canvas::CELL_PX));
        }
        Ok(Resolved { request, pixel: Some(pixel) })
    }
}

impl Submission {
    /// Bytes that it takes in memory while it waits, about.
    pub(crate) fn bytes(&self) -> u64 {
        let texts = [
            Some(self.request.prompt.len()),
            self.request.negative_prompt.as_ref().map(String::len),
            self.model.as_ref().map(String::len),
            Some(self.request.lora.iter().map(|lora| lora.name.len() + size_of_val(lora)).sum()),
            self.request.vae.as_ref().map(String::len),
            self.output.as_ref().map(|path| path.as_os_str().len()),
            Some(self.client.len()),
            self.idempotency_key.as_ref().map(String::len),
            Some(self.request.images().map(SourceImage::bytes).sum()),
            Some(self.request.control.iter().map(|one| one.model.len() + size_of_val(one)).sum()),
            self.pixel
                .as_ref()
                .and_then(|pixel| pixel.palette.as_ref())
                .map(|palette| size_of_val(palette.colors())),
        ];
        let texts: usize = texts.into_iter().flatten().sum();
        // The job, its place in the queue and its names in maps.
        (texts + size_of::<Submission>() + 1024) as u64
    }
}

/// A submission with every default filled in: all that shapes its image and its sprite.
///
/// # Example
/// ```
/// use dgx_pixels_core::Submission;
/// use dgx_pixels_core::backend::{Backend, Sketch};
/// let raw = Submission { pixel: None, ..Submission::of("a key") };
/// let resolved = raw.resolve(&Sketch.defaults())?;
/// assert_eq!((resolved.request.steps, resolved.pixel.is_none()), (30, true));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The image.
    pub request: ResolvedRequest,
    /// The stages that make a sprite of the image; `None` leaves it as it is.
    pub pixel: Option<PixelOptions>,
}

impl From<GenerateRequest> for Submission {
    fn from(request: GenerateRequest) -> Self {
        Submission { request, ..Default::default() }
    }
}

/// The priority of a job, from `Urgent` to `Low`. A job that waits rises.
///
/// # Example
/// ```
/// use dgx_pixels_core::Priority;
///
/// assert_eq!("high".parse(), Ok(Priority::High));
/// assert!(Priority::Urgent < Priority::Low);
/// assert_eq!(Priority::default().to_string(), "normal");
/// assert_eq!(
///     "soon".parse::<Priority>().unwrap_err().to_string(),
///     "`priority` is `soon`; expected `urgent`, `high`, `normal` or `low`"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// The job goes before all others.
    Urgent,
    /// The job goes before the usual.
    High,
    /// The usual.
    #[default]
    Normal,
    /// The job goes when no other job waits.
    Low,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Priority; 4] = [Priority::Urgent, Priority::High, Priority::Normal, Priority::Low];

    /// The word, as `normal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Urgent => "urgent",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Priority, ValueError> {
        let found = Priority::ALL.into_iter().find(|priority| priority.as_str() == text);
        found.ok_or_else(|| ValueError::new("priority", text, "`urgent`, `high`, `normal` or `low`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend as _, Sketch};

    #[test]
    fn a_model_that_marks_what_is_transparent_is_believed_in_textures_too() {
        let drawn = |matte: Option<[u8; 3]>, transparent: Transparent, tile_x: bool| {
            let pixel = Some(PixelOptions { transparent, tile_x, ..Default::default() });
            let defaults = ModelDefaults { matte, ..Sketch.defaults() };
            let resolved = Submission { pixel, ..Submission::of("a fence") }.resolve(&defaults).unwrap();
            resolved.pixel.unwrap().transparent
        };
        let (magenta, key) = (Some([255, 0, 255]), Transparent::Key([255, 0, 255]));
        assert_eq!(drawn(magenta, Transparent::Auto, false), key);
        assert_eq!(drawn(magenta, Transparent::Auto, true), key);
        assert_eq!(drawn(magenta, Transparent::Off, true), Transparent::Off);
        for unmarked in [None, Some(WHITE)] {
            assert_eq!(drawn(unmarked, Transparent::Auto, false), Transparent::Auto);
            assert_eq!(drawn(unmarked, Transparent::Auto, true), Transparent::Off);
        }
    }
}
