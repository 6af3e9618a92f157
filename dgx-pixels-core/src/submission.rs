//! A request, and how it is to be served.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::pixel::{PixelError, PixelOptions};
use crate::request::GenerateRequest;
use crate::value_error::ValueError;

/// A request, and how it is to be served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Submission {
    /// What to draw.
    pub request: GenerateRequest,
    /// The model's name; `None` is the generator's own choice.
    pub model: Option<String>,
    /// What makes a sprite of the model's picture; `None` leaves it as it is.
    pub pixel: Option<PixelOptions>,
    /// The PNG file to write; with a sprite, its certificate goes beside it. `None` keeps the picture in memory, and on disk only
    /// where a journal is kept.
    pub output: Option<PathBuf>,
    /// Whether `output` may replace a file.
    pub force: bool,
    /// Who goes first.
    pub priority: Priority,
    /// On whose behalf. Clients share the devices fairly, however many jobs each has.
    pub client: String,
    /// Longest time from submission to the finished picture; past it the job fails.
    pub deadline: Option<Duration>,
    /// Submitting the same again with the same key gives the first job, even after a restart where a journal is kept.
    pub idempotency_key: Option<String>,
    /// Tell of a preview after so many steps each; 0, the default, makes none.
    pub preview_every: usize,
}

/// Pixels of a cell that SDXL models for pixel art aim at: those of a latent.
const LATENT_PX: f64 = 8.0;

impl Default for Submission {
    fn default() -> Self {
        Submission {
            request: GenerateRequest::default(),
            model: None,
            pixel: Some(PixelOptions { expected_step: Some(LATENT_PX), ..Default::default() }),
            output: None,
            force: false,
            priority: Priority::Normal,
            client: String::new(),
            deadline: None,
            idempotency_key: None,
            preview_every: 0,
        }
    }
}

impl Submission {
    /// A submission with the defaults of everything but the prompt.
    pub fn of(prompt: impl Into<String>) -> Self {
        GenerateRequest { prompt: prompt.into(), ..Default::default() }.into()
    }

    /// Checks everything that can be checked without a model: the request and the pixel options.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Pixel`], naming the field, its value and the range.
    pub fn validate(&self) -> Result<(), Error> {
        self.request.validate()?;
        if let Some(pixel) = &self.pixel {
            pixel.validate().map_err(PixelError::from)?;
        }
        Ok(())
    }
}

impl Submission {
    /// Bytes that it takes in memory while it waits, about.
    pub(crate) fn bytes(&self) -> u64 {
        let texts = [
            Some(self.request.prompt.len()),
            self.request.negative_prompt.as_ref().map(String::len),
            self.model.as_ref().map(String::len),
            self.output.as_ref().map(|path| path.as_os_str().len()),
            Some(self.client.len()),
            self.idempotency_key.as_ref().map(String::len),
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

impl From<GenerateRequest> for Submission {
    fn from(request: GenerateRequest) -> Self {
        Submission { request, ..Default::default() }
    }
}

/// Who goes first, from `Urgent` to `Low`. A job that waits rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    Urgent,
    /// Before the usual.
    High,
    /// The usual.
    #[default]
    Normal,
    /// When nothing else waits.
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
