//! A request for an image, and the answer to it.

mod bounds;
mod control;
mod control_image;
mod error;
mod images;
mod lora;
mod prepared;
mod preset;
mod resolved;
mod size;
mod source;

use std::time::Duration;

use image::RgbImage;
use serde::{Deserialize, Serialize};

pub use self::control::{ControlChoice, Preprocess};
pub use self::error::{Conflict, RequestError};
pub use self::lora::{LoraChoice, LoraError};
use self::lora::{MAX_LORAS, MAX_WEIGHT};
pub use self::prepared::Prepared;
pub use self::preset::Preset;
pub use self::resolved::{ModelDefaults, ResolvedRequest};
pub use self::size::{Crop, ImageSize, MAX_SIDE, MIN_SIDE, SizeError};
pub use self::source::{Area, MAX_SOURCE_PIXELS, Mask, SourceError, SourceImage};
#[cfg(feature = "fields")]
use crate::fields::flags;
use crate::pixel::Wrap;
use crate::prompt::{self, PromptSyntax};
use crate::scheduler::{SchedulerName, Steps, TimestepSpacing};

/// One image to draw. Every field but the prompt has a default.
///
/// These are the first half of the table of request fields; the second is
/// [`PixelOptions`](crate::pixel::PixelOptions). The doc comment of each field is its help text at
/// every door, so it gives the range, the unit and the default. [`resolve`](Self::resolve) fills in
/// the model's defaults.
///
/// # Example
/// ```
/// use dgx_pixels_core::GenerateRequest;
/// let request = GenerateRequest {
///     prompt: "a brass key, pixel art".into(),
///     seed: 7,
///     width: Some(512),
///     height: Some(768),
///     ..Default::default()
/// };
/// assert!(request.validate().is_ok());
/// assert!(GenerateRequest { steps: Some(2000), ..request }.validate().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "fields", derive(clap::Args, schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct GenerateRequest {
    /// The subject, in English, with its colors, for example "a green slime". Brackets weigh words,
    /// for example `(brass:1.3)`, and `BREAK` ends a chunk (see `prompt_syntax`). A word
    /// `embedding:NAME` stands for a textual inversion. A text longer than the model's length, 77
    /// tokens for SDXL, takes more chunks, up to 8; words past them are dropped, with a warning.
    #[cfg_attr(feature = "fields", arg(skip))]
    pub prompt: String,

    /// The seed of the image, a whole number from 0. The same seed with the same request gives the
    /// same image.
    #[cfg_attr(feature = "fields", arg(skip), schemars(range(min = 0)))]
    pub seed: u64,

    /// Text that describes what the image should not show. It acts at a guidance scale above 1.
    /// Default: none, and many SDXL models then guide away from zeros
    /// (`force_zeros_for_empty_prompt`), not from the empty text.
    #[cfg_attr(feature = "fields", arg(long, value_name = "TEXT", allow_hyphen_values = true))]
    pub negative_prompt: Option<String>,

    /// The rule for brackets, `BREAK` and long texts in both prompts: `comfyui`, `a1111`, or
    /// `plain`, which takes every character for itself and drops words past the model's length, as
    /// diffusers does. Default: `comfyui`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "NAME", value_parser = flags::words(PromptSyntax::ALL, PromptSyntax::as_str))
    )]
    pub prompt_syntax: Option<PromptSyntax>,

    /// The last layers of the text encoders that the prompt skips, 1 or 2, as diffusers counts
    /// them: beyond the one that SDXL always skips. Default: none.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "N", allow_negative_numbers = true, value_parser = flags::whole::<u8>),
        schemars(range(min = 1, max = 2))
    )]
    pub clip_skip: Option<u8>,

    /// The settings that a few-step model or LoRA was trained for: `steps`, `guidance_scale`,
    /// `scheduler`, `timestep_spacing`, `timesteps` and `eta`. A field that is given wins. Default:
    /// none.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "NAME", value_parser = flags::words(Preset::ALL, |preset| preset.name))
    )]
    pub preset: Option<Preset>,

    /// LoRAs that change the model, at most 16, each `NAME:WEIGHT` with a weight from -10 to 10,
    /// for example `pixel-art:1.2`. `NAME` alone has the weight 1; `NAME:WEIGHT:TEXT_WEIGHT` has
    /// another weight in the text encoders. The name is that of a file in the model folders; the
    /// program and Python also take a path. Default: none.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "NAME[:WEIGHT]"),
        schemars(with = "Vec<String>", length(max = 16))
    )]
    pub lora: Vec<LoraChoice>,

    /// The VAE that decodes in place of the model's own, for a checkpoint without one or with a bad
    /// one, for example `sdxl-vae`. The name is that of a file or a folder in the folders `vae` of
    /// the model folders; the program and Python also take a path. Default: the model's own.
    #[cfg_attr(feature = "fields", arg(long, value_name = "NAME|FOLDER|FILE"))]
    pub vae: Option<String>,

    /// Control nets (ControlNets) that have the image follow others, at most 8, each with the
    /// `image` that it follows, a path, an asset_id in an MCP call, or bytes as `init_image` takes
    /// them. At the command line `NAME:IMAGE`, then scale, start, end and preprocessing if wanted,
    /// for example `canny:sword.png:0.8:0:0.6:edges`; or a JSON object as in a batch. Default:
    /// none.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "NAME:IMAGE[:SCALE]", value_parser = flags::control),
        schemars(length(max = 8))
    )]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub control: Vec<ControlChoice>,

    /// The image to begin from: a path, an asset_id in an MCP call, or the bytes of a file as
    /// `data:image/png;base64,...`. PNG, JPEG, WebP, GIF or BMP, of at most 16 megapixels, not
    /// animated. A sprite keeps its size, a larger image is reduced. Default: none, and the image
    /// begins from noise.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "PATH", value_parser = flags::image, allow_hyphen_values = true),
        schemars(with = "Option<String>")
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_image: Option<SourceImage>,

    /// The part of `init_image` that is drawn anew: rectangles of its pixels as
    /// `LEFT,TOP,WIDTHxHEIGHT`, for example `4,4,8x8;20,0,2x6`; `alpha` for its transparent pixels;
    /// or an image of the same size, white there and black elsewhere. All other pixels of a sprite
    /// stay byte for byte. Default: all of it may change.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "AREAS|alpha|PATH", value_parser = flags::mask, allow_hyphen_values = true),
        schemars(with = "Option<String>")
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Mask>,

    /// The share of the steps that `init_image` goes through, more than 0 and at most 1. A small
    /// one keeps the shapes, 1 keeps next to nothing. Default: 0.6, and 1 with a `mask`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "X", allow_negative_numbers = true, value_parser = flags::number),
        schemars(range(min = 0, max = 1))
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,

    /// Denoising steps, 1 to 1000; more steps take longer. Default: the model's own, or 30.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "N", allow_negative_numbers = true, value_parser = flags::whole::<usize>),
        schemars(range(min = 1, max = 1000))
    )]
    pub steps: Option<usize>,

    /// The strength of the prompt, 0 to 100. At 1 or less nothing guides. Default: the model's own,
    /// or 5.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "X", allow_negative_numbers = true, value_parser = flags::number),
        schemars(range(min = 0, max = 100))
    )]
    pub guidance_scale: Option<f64>,

    /// The share of guidance rescale, 0 to 1, against washed-out images at strong guidance.
    /// Default: 0.
    // Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed",
    // section 3.4.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "X", default_value_t = 0.0, hide_default_value = true, allow_negative_numbers = true,
            value_parser = flags::number),
        schemars(range(min = 0, max = 1))
    )]
    pub guidance_rescale: f64,

    /// The part of the schedule with guidance, two shares from 0 to 1, for example `0.1,0.8` for 10
    /// % to 80 %. Faster, but it changes the image. Default: all steps.
    // Source: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample
    // and Distribution Quality".
    #[cfg_attr(feature = "fields", arg(long, value_name = "FROM,TO", value_parser = flags::interval))]
    pub guidance_interval: Option<[f64; 2]>,

    /// Compute the UNet's inner levels at every Nth step only, 2 to 10. Much faster, but it changes
    /// details. Default: at every step.
    // Source: Ma et al. 2023, "DeepCache: Accelerating Diffusion Models for Free".
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "N", allow_negative_numbers = true, value_parser = flags::whole::<usize>),
        schemars(range(min = 2, max = 10))
    )]
    pub deep_cache: Option<usize>,

    /// The noise schedule. Default: the model's own.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "NAME", value_parser = flags::words(SchedulerName::ALL, SchedulerName::as_str))
    )]
    pub scheduler: Option<SchedulerName>,

    /// The spread of the timesteps over the schedule: `linspace`, `leading` or `trailing`. Few-step
    /// models need `trailing`. Default: the model's own.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "NAME", value_parser = flags::words(TimestepSpacing::ALL, TimestepSpacing::as_str))
    )]
    pub timestep_spacing: Option<TimestepSpacing>,

    /// The timesteps of training to draw at, falling, in place of `steps`, for example
    /// `999,749,499,249`. For `euler`, `heun`, `dpmpp_2m`, `dpmpp_2m_sde`, `lcm` and `tcd`.
    /// Default: those that the schedule spreads.
    #[cfg_attr(feature = "fields", arg(long, value_name = "T,...", value_parser = flags::list::<u32>))]
    pub timesteps: Option<Timesteps>,

    /// The noise levels to draw at, falling, in place of `steps`, for example `14.6,4.1,0.9,0`. The
    /// last is what the last step leaves. For `euler`. Default: those of the schedule.
    #[cfg_attr(feature = "fields", arg(long, value_name = "X,...", value_parser = flags::list::<f64>))]
    pub sigmas: Option<Sigmas>,

    /// The share of fresh noise in a step of `tcd`, 0 to 1. Default: 0.3.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "X", allow_negative_numbers = true, value_parser = flags::number),
        schemars(range(min = 0, max = 1))
    )]
    pub eta: Option<f64>,

    /// The width of the image that the model draws, in pixels, 64 to 2048; most models need a
    /// multiple of 8. It goes with `height`. Default: the width that fits `size`, or the model's
    /// own.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "N", requires = "height", allow_negative_numbers = true,
            value_parser = flags::whole::<u32>),
        schemars(range(min = 64, max = 2048))
    )]
    pub width: Option<u32>,

    /// The height of the image that the model draws, in pixels, 64 to 2048. It goes with `width`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "N", requires = "width", allow_negative_numbers = true,
            value_parser = flags::whole::<u32>),
        schemars(range(min = 64, max = 2048))
    )]
    pub height: Option<u32>,

    /// Size conditioning: the size of a training image before it was cropped, for example
    /// `1024x1024`. Sides: 1 to 65535. Default: the image's own size.
    #[cfg_attr(feature = "fields", arg(long, value_name = "WxH"))]
    pub original_size: Option<ImageSize>,

    /// Size conditioning: the left top corner of the crop, in pixels from 0 to 65535. Default:
    /// `0,0`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "LEFT,TOP", default_value_t, hide_default_value = true)
    )]
    pub crop: Crop,

    /// Size conditioning: the size that a training image was cropped to, for example `1024x1024`.
    /// Sides: 1 to 65535. Default: the image's own size.
    #[cfg_attr(feature = "fields", arg(long, value_name = "WxH"))]
    pub target_size: Option<ImageSize>,

    /// The edges that meet in what the model draws: the image goes on at the opposite side.
    /// Default: those of `tile_x` and `tile_y`, so it is no field of its own at a door.
    #[cfg_attr(feature = "fields", arg(skip), schemars(skip))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrap: Option<Wrap>,
}

/// Timesteps of training. The flag takes them in one value, which clap would not do for a `Vec`.
pub(crate) type Timesteps = Vec<u32>;
/// Noise levels, as [`Timesteps`].
pub(crate) type Sigmas = Vec<f64>;

/// Most steps that [`GenerateRequest::deep_cache`] goes without the inner levels, and one.
pub(crate) const MAX_DEEP_CACHE: usize = 10;
/// The most layers that [`GenerateRequest::clip_skip`] skips.
const MAX_CLIP_SKIP: u8 = 2;
/// The strength where a request with an image names none.
pub(crate) const DEFAULT_STRENGTH: f64 = 0.6;
/// The most steps of one request.
pub const MAX_STEPS: usize = 1000;
/// Largest guidance scale.
pub const MAX_GUIDANCE: f64 = 100.0;
/// Steps where neither request nor model names any: what diffusers users run SDXL with, and what
/// its benchmarks report.
pub const DEFAULT_STEPS: usize = 30;
/// Guidance where neither request nor model names one. Source: diffusers 0.42.1,
/// `StableDiffusionXLPipeline.__call__`.
pub const DEFAULT_GUIDANCE: f64 = 5.0;

impl GenerateRequest {
    /// Checks everything that can be checked without a model.
    ///
    /// # Errors
    /// Names the field, its value and the range.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::GenerateRequest;
    /// let request = GenerateRequest { deep_cache: Some(11), ..Default::default() };
    /// assert!(request.validate().unwrap_err().to_string().starts_with("`deep_cache` is 11; expected 2 to 10"));
    /// ```
    pub fn validate(&self) -> Result<(), RequestError> {
        self.without_preset()?.check()
    }

    /// Checks a request without a preset.
    fn check(&self) -> Result<(), RequestError> {
        let syntax = self.prompt_syntax.unwrap_or_default();
        let prompts = [("prompt", Some(&self.prompt)), ("negative_prompt", self.negative_prompt.as_ref())];
        for (field, text) in prompts.into_iter().filter_map(|(field, text)| Some((field, text?))) {
            prompt::parse(text, syntax).map_err(|fault| RequestError::Prompt { field, fault })?;
        }
        self.list_of_steps()?;
        if let Some(value) = self.eta.filter(|value| !(0.0..=1.0).contains(value)) {
            return Err(RequestError::Eta { value });
        }
        self.check_images()?;
        if let Some(layers) = self.clip_skip.filter(|layers| !(1..=MAX_CLIP_SKIP).contains(layers)) {
            return Err(RequestError::ClipSkip { layers, most: MAX_CLIP_SKIP });
        }
        if self.lora.len() > MAX_LORAS {
            return Err(RequestError::Loras { count: self.lora.len() });
        }
        for (i, lora) in self.lora.iter().enumerate() {
            let name = || lora.name.clone();
            for weight in [lora.weight, lora.text_weight()] {
                if !(-MAX_WEIGHT..=MAX_WEIGHT).contains(&weight) {
                    return Err(RequestError::LoraWeight { name: name(), weight });
                }
            }
            if self.lora[..i].iter().any(|other| other.name == lora.name) {
                return Err(RequestError::LoraTwice { name: name() });
            }
        }
        if let Some(steps) = self.steps.filter(|steps| !(1..=MAX_STEPS).contains(steps)) {
            return Err(RequestError::Steps { steps });
        }
        if let Some(value) = self.guidance_scale.filter(|value| !(0.0..=MAX_GUIDANCE).contains(value)) {
            return Err(RequestError::GuidanceScale { value });
        }
        if !(0.0..=1.0).contains(&self.guidance_rescale) {
            return Err(RequestError::GuidanceRescale { value: self.guidance_rescale });
        }
        if let Some([from, to]) = self.guidance_interval
            && !(0.0 <= from && from <= to && to <= 1.0)
        {
            return Err(RequestError::GuidanceInterval { from, to });
        }
        if let Some(steps) = self.deep_cache
            && !(2..=MAX_DEEP_CACHE).contains(&steps)
        {
            return Err(RequestError::DeepCache { steps });
        }
        if let Some(size) = self.size()? {
            size.validate(1)?;
        }
        for (field, size) in [("original_size", self.original_size), ("target_size", self.target_size)] {
            for value in size.into_iter().flat_map(|size| [size.width, size.height]) {
                if !(1..=65535).contains(&value) {
                    return Err(RequestError::Conditioning { field, value });
                }
            }
        }
        for value in [self.crop.left, self.crop.top] {
            if value > 65535 {
                return Err(RequestError::Conditioning { field: "crop", value });
            }
        }
        Ok(())
    }

    /// Returns the steps that the request lists, if it does.
    fn list_of_steps(&self) -> Result<Option<Steps>, RequestError> {
        let (list, steps) = match (&self.timesteps, &self.sigmas) {
            (None, None) => return Ok(None),
            (Some(timesteps), None) => ("timesteps", Steps::Timesteps(timesteps.clone())),
            (None, Some(sigmas)) => ("sigmas", Steps::Sigmas(sigmas.clone())),
            (Some(timesteps), Some(sigmas)) => {
                return Err(RequestError::TwoLists { timesteps: timesteps.len(), sigmas: sigmas.len() });
            }
        };
        steps.check()?;
        let listed = steps.number();
        if listed > MAX_STEPS {
            return Err(RequestError::Steps { steps: listed });
        }
        match self.steps.filter(|steps| *steps != listed) {
            Some(steps) => Err(RequestError::StepsOfList { steps, list, listed }),
            None => Ok(Some(steps)),
        }
    }

    /// Returns the size of the image, if the request names one.
    ///
    /// # Errors
    /// [`RequestError::Alone`] for one side without the other.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{GenerateRequest, ImageSize};
    /// let size = ImageSize { width: 512, height: 768 };
    /// let request = GenerateRequest::default();
    /// assert_eq!(request.size()?, None);
    /// assert_eq!(request.with_size(size).size()?, Some(size));
    /// # Ok::<(), dgx_pixels_core::RequestError>(())
    /// ```
    pub fn size(&self) -> Result<Option<ImageSize>, RequestError> {
        match (self.width, self.height) {
            (Some(width), Some(height)) => Ok(Some(ImageSize { width, height })),
            (None, None) => Ok(None),
            (Some(value), None) => Err(RequestError::Alone { given: "width", value, missing: "height" }),
            (None, Some(value)) => Err(RequestError::Alone { given: "height", value, missing: "width" }),
        }
    }

    /// Returns the request for an image of this size.
    pub fn with_size(self, ImageSize { width, height }: ImageSize) -> Self {
        GenerateRequest { width: Some(width), height: Some(height), ..self }
    }
}

/// A finished image.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The image as the VAE decoded it.
    pub image: RgbImage,
    /// The request with every default filled in: drawing it again gives the same image.
    pub request: ResolvedRequest,
    /// Words of the prompts that did not fit the tokenizers' length, in the order they stood.
    pub dropped_words: Option<String>,
    /// The time that each part of the drawing took.
    pub timings: Timings,
}

/// The time that each part of drawing one image took. Images drawn together each report the whole
/// batch's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Tokenizing, text encoders, first noise.
    pub begin: Duration,
    /// All steps.
    pub denoise: Duration,
    /// VAE decode, to pixels in memory.
    pub finish: Duration,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_request_is_valid() {
        assert_eq!(GenerateRequest::default().validate(), Ok(()));
    }

    #[test]
    fn each_bad_field_is_named_with_its_value_and_range() {
        let size = |width, height| Some(ImageSize { width, height });
        let default = GenerateRequest::default();
        let cases = [
            (GenerateRequest { steps: Some(0), ..default.clone() }, "`steps` is 0; expected 1 to 1000"),
            (
                GenerateRequest { guidance_scale: Some(f64::NAN), ..default.clone() },
                "`guidance_scale` is NaN; expected 0 to 100",
            ),
            (
                GenerateRequest { timesteps: Some(vec![3, 3]), ..default.clone() },
                "`timesteps` is 3 after 3; expected falling numbers",
            ),
            (
                GenerateRequest { timesteps: Some(vec![3, 1]), steps: Some(8), ..default.clone() },
                "`steps` is 8 and `timesteps` has 2; expected only one of both",
            ),
            (
                GenerateRequest { timesteps: Some(vec![3]), sigmas: Some(vec![3.0, 0.0]), ..default.clone() },
                "`timesteps` is a list of 1 and `sigmas` is a list of 2; expected only one of both",
            ),
            (
                GenerateRequest { sigmas: Some(vec![f64::INFINITY, 0.0]), ..default.clone() },
                "`sigmas` is inf; expected numbers from 0 to 1000000",
            ),
            (
                GenerateRequest { timesteps: Some((0..1001).rev().collect()), ..default.clone() },
                "`steps` is 1001; expected 1 to 1000",
            ),
            (GenerateRequest { eta: Some(1.5), ..default.clone() }, "`eta` is 1.5; expected 0 to 1"),
            (
                GenerateRequest { prompt: "a (key:1e9)".into(), ..default.clone() },
                "`prompt` gives `key` the weight 1000000000; expected -10 to 10",
            ),
            (
                GenerateRequest {
                    negative_prompt: Some("(".repeat(65) + "fog" + &")".repeat(65)),
                    ..default.clone()
                },
                "`negative_prompt` has brackets nested 65 deep; expected at most 64",
            ),
            (
                GenerateRequest { guidance_interval: Some([0.8, 0.1]), ..default.clone() },
                "`guidance_interval` is 0.8 to 0.1; expected two numbers from 0 to 1, the smaller first",
            ),
            (
                GenerateRequest { guidance_interval: Some([0.1, f64::NAN]), ..default.clone() },
                "`guidance_interval` is 0.1 to NaN; expected two numbers from 0 to 1, the smaller first",
            ),
            (
                GenerateRequest { deep_cache: Some(1), ..default.clone() },
                "`deep_cache` is 1; expected 2 to 10",
            ),
            (
                GenerateRequest { guidance_rescale: -0.5, ..default.clone() },
                "`guidance_rescale` is -0.5; expected 0 to 1",
            ),
            (
                GenerateRequest { width: Some(63), height: Some(64), ..default.clone() },
                "`width` is 63; expected 64 to 2048",
            ),
            (
                GenerateRequest { height: Some(64), ..default.clone() },
                "`height` is 64 and `width` is missing; expected both or neither",
            ),
            (
                GenerateRequest { original_size: size(64, 0), ..default.clone() },
                "`original_size` is 0; expected 1 to 65535",
            ),
            (
                GenerateRequest { crop: Crop { left: 70000, top: 0 }, ..default },
                "`crop` is 70000; expected 0 to 65535",
            ),
        ];
        for (request, message) in cases {
            assert_eq!(request.validate().unwrap_err().to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn validation_never_panics_and_accepts_only_the_documented_ranges(
            steps in any::<Option<usize>>(), guidance in any::<Option<f64>>(), rescale in any::<f64>(),
            width in any::<u32>(), height in 0u32..4096,
        ) {
            let request = GenerateRequest {
                steps, guidance_scale: guidance, guidance_rescale: rescale,
                width: Some(width), height: Some(height), ..Default::default()
            };
            let fits = steps.is_none_or(|steps| (1..=1000).contains(&steps))
                && guidance.is_none_or(|guidance| (0.0..=100.0).contains(&guidance))
                && (0.0..=1.0).contains(&rescale)
                && (64..=2048).contains(&width) && (64..=2048).contains(&height);
            prop_assert_eq!(request.validate().is_ok(), fits);
        }

        #[test]
        fn requests_survive_json(prompt in ".*", seed in any::<u64>(), steps in proptest::option::of(1usize..1000)) {
            let request = GenerateRequest { prompt, seed, steps, ..Default::default() };
            let json = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(serde_json::from_str::<GenerateRequest>(&json).unwrap(), request);
        }
    }
}
