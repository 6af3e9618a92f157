//! What is asked for, and what comes back.

use std::time::Duration;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::scheduler::SchedulerName;

/// One picture to draw. Everything but the prompt has a default.
///
/// # Example
/// ```
/// use dgx_pixels_core::{GenerateRequest, ImageSize};
/// let request = GenerateRequest {
///     prompt: "a brass key, pixel art".into(),
///     seed: 7,
///     size: Some(ImageSize { width: 512, height: 768 }),
///     ..Default::default()
/// };
/// assert!(request.validate().is_ok());
/// assert!(GenerateRequest { steps: Some(2000), ..request }.validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerateRequest {
    /// What to draw. What lies past the tokenizer's length (77 tokens for SDXL) is dropped, and reported in
    /// [`Generated::dropped_words`].
    pub prompt: String,
    /// What to keep away from, at guidance above 1. `None` is not the empty text: many SDXL models then guide away
    /// from zeros (`force_zeros_for_empty_prompt`).
    pub negative_prompt: Option<String>,
    /// Seed of the request's own generator, which draws as `torch.Generator("cpu").manual_seed(seed)` does.
    pub seed: u64,
    /// Denoising steps, 1 to 1000; `None` is the model's own, or [`DEFAULT_STEPS`]. `heun` evaluates the UNet nearly twice for each.
    pub steps: Option<usize>,
    /// How strongly the prompt steers, 0 to 100; at 1 or below the negative half is not computed. `None` is the model's own,
    /// or [`DEFAULT_GUIDANCE`].
    pub guidance_scale: Option<f64>,
    /// Share of guidance rescale (Lin et al. 2023, section 3.4), 0 to 1. Default 0.
    pub guidance_rescale: f64,
    /// Guidance only between these shares of the steps, 0 to 1, as `[0.1, 0.8]` (Kynkäänniemi et al. 2024): the others take half of the work. `None`
    /// guides at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<[f64; 2]>,
    /// The UNet's inner levels are computed at every so many steps only, 2 to 10, and what they were stands for what they would be at those
    /// between (DeepCache, Ma et al. 2023): much less work, and other details. `None` computes all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deep_cache: Option<usize>,
    /// The noise schedule; `None` is the model's own.
    pub scheduler: Option<SchedulerName>,
    /// Size of the picture in pixels; `None` is the model's own.
    pub size: Option<ImageSize>,
    /// Size conditioning: the size that a training picture had before cropping. Default: `size`.
    pub original_size: Option<ImageSize>,
    /// Size conditioning: where the crop began, as left and top, in pixels. Default 0, 0.
    pub crop: Crop,
    /// Size conditioning: the size that a training picture was cropped to. Default: `size`.
    pub target_size: Option<ImageSize>,
}

impl Default for GenerateRequest {
    fn default() -> Self {
        GenerateRequest {
            prompt: String::new(),
            negative_prompt: None,
            seed: 0,
            steps: None,
            guidance_scale: None,
            guidance_rescale: 0.0,
            guidance_interval: None,
            deep_cache: None,
            scheduler: None,
            size: None,
            original_size: None,
            crop: Crop::default(),
            target_size: None,
        }
    }
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageSize {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// Top left corner of a crop, in pixels of the original picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Crop {
    /// From the left edge.
    pub left: u32,
    /// From the top edge.
    pub top: u32,
}

/// A request that no model can fulfil.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A side of the picture is out of range or does not divide.
    #[error("`{side}` is {value}; expected {}{MIN_SIDE} to {MAX_SIDE}", multiple_of(*multiple))]
    Side {
        /// `width` or `height`.
        side: &'static str,
        /// In pixels.
        value: u32,
        /// What the model's VAE reduces by.
        multiple: u32,
    },
    /// A size for conditioning is out of range.
    #[error("`{field}` is {value}; expected {} to 65535", u8::from(*field != "crop"))]
    Conditioning {
        /// The field.
        field: &'static str,
        /// In pixels.
        value: u32,
    },
    /// Too few or too many steps.
    #[error("`steps` is {steps}; expected 1 to {MAX_STEPS}")]
    Steps {
        /// As asked for.
        steps: usize,
    },
    /// Guidance out of range or not a number.
    #[error("`guidance_scale` is {value}; expected 0 to {MAX_GUIDANCE}")]
    GuidanceScale {
        /// As asked for.
        value: f64,
    },
    /// Guidance rescale out of range or not a number.
    #[error("`guidance_rescale` is {value}; expected 0 to 1")]
    GuidanceRescale {
        /// As asked for.
        value: f64,
    },
    /// No interval.
    #[error("`guidance_interval` is {from} to {to}; expected two numbers from 0 to 1, the smaller first")]
    GuidanceInterval {
        /// As asked for.
        from: f64,
        /// As asked for.
        to: f64,
    },
    /// Too few or too many steps between.
    #[error("`deep_cache` is {steps}; expected 2 to {MAX_DEEP_CACHE}")]
    DeepCache {
        /// As asked for.
        steps: usize,
    },
}

impl RequestError {
    /// The name of the field at fault.
    pub fn field(&self) -> &'static str {
        match self {
            RequestError::Side { side, .. } => side,
            RequestError::Conditioning { field, .. } => field,
            RequestError::Steps { .. } => "steps",
            RequestError::GuidanceScale { .. } => "guidance_scale",
            RequestError::GuidanceRescale { .. } => "guidance_rescale",
            RequestError::GuidanceInterval { .. } => "guidance_interval",
            RequestError::DeepCache { .. } => "deep_cache",
        }
    }
}

fn multiple_of(multiple: u32) -> String {
    if multiple > 1 { format!("a multiple of {multiple}, ") } else { String::new() }
}

/// Most steps that [`GenerateRequest::deep_cache`] goes without the inner levels, and one.
pub(crate) const MAX_DEEP_CACHE: usize = 10;
/// Smallest side of a picture, in pixels.
pub const MIN_SIDE: u32 = 64;
/// Largest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 2048;
/// Most steps of one request.
pub const MAX_STEPS: usize = 1000;
/// Largest guidance scale.
pub const MAX_GUIDANCE: f64 = 100.0;
/// Steps where neither request nor model names any: what diffusers users run SDXL with, and what its benchmarks report.
pub const DEFAULT_STEPS: usize = 30;
/// Guidance where neither request nor model names one. Source: diffusers 0.42.1,
/// `StableDiffusionXLPipeline.__call__`.
pub const DEFAULT_GUIDANCE: f64 = 5.0;

impl GenerateRequest {
    /// Checks everything that can be checked without a model.
    ///
    /// # Errors
    /// Names the field, its value and the range.
    pub fn validate(&self) -> Result<(), RequestError> {
        if !(1..=MAX_STEPS).contains(&self.steps()) {
            return Err(RequestError::Steps { steps: self.steps() });
        }
        if !(0.0..=MAX_GUIDANCE).contains(&self.guidance_scale()) {
            return Err(RequestError::GuidanceScale { value: self.guidance_scale() });
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
        if let Some(size) = self.size {
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

    /// The number of steps, or [`DEFAULT_STEPS`]. In what a backend returns, the steps that were taken.
    pub fn steps(&self) -> usize {
        self.steps.unwrap_or(DEFAULT_STEPS)
    }

    /// The guidance scale, or [`DEFAULT_GUIDANCE`]. In what a backend returns, the one that was used.
    pub fn guidance_scale(&self) -> f64 {
        self.guidance_scale.unwrap_or(DEFAULT_GUIDANCE)
    }
}

impl ImageSize {
    /// Checks both sides against the range and `multiple`.
    ///
    /// # Errors
    /// [`RequestError::Side`], for the first side at fault.
    pub fn validate(self, multiple: u32) -> Result<(), RequestError> {
        for (side, value) in [("width", self.width), ("height", self.height)] {
            if !(MIN_SIDE..=MAX_SIDE).contains(&value) || !value.is_multiple_of(multiple) {
                return Err(RequestError::Side { side, value, multiple });
            }
        }
        Ok(())
    }
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct Generated {
    /// As the VAE gave it.
    pub image: RgbImage,
    /// The request with every default filled in: drawing this again gives the same picture.
    pub request: GenerateRequest,
    /// Words of the prompts that did not fit the tokenizers' length, in the order they stood.
    pub dropped_words: Option<String>,
    /// Where the time went.
    pub timings: Timings,
}

/// Where the time of one picture went. Pictures drawn together each report the whole batch's time.
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
            (GenerateRequest { size: size(63, 64), ..default.clone() }, "`width` is 63; expected 64 to 2048"),
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
                size: Some(ImageSize { width, height }), ..Default::default()
            };
            let fits = (1..=1000).contains(&request.steps())
                && (0.0..=100.0).contains(&request.guidance_scale())
                && (0.0..=1.0).contains(&rescale)
                && (64..=2048).contains(&width) && (64..=2048).contains(&height);
            prop_assert_eq!(request.validate().is_ok(), fits);
        }

        #[test]
        fn a_size_fits_iff_both_sides_divide(width in 64u32..=2048, height in 64u32..=2048, power in 0u32..5) {
            let multiple = 1 << power;
            let divides = width % multiple == 0 && height % multiple == 0;
            prop_assert_eq!(ImageSize { width, height }.validate(multiple).is_ok(), divides);
        }

        #[test]
        fn requests_survive_json(prompt in ".*", seed in any::<u64>(), steps in proptest::option::of(1usize..1000)) {
            let request = GenerateRequest { prompt, seed, steps, ..Default::default() };
            let json = serde_json::to_string(&request).unwrap();
            prop_assert_eq!(serde_json::from_str::<GenerateRequest>(&json).unwrap(), request);
        }
    }
}
