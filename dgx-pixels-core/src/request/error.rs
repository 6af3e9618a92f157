//! The reasons why a request cannot be fulfilled.

use super::lora::{MAX_LORAS, MAX_WEIGHT};
use super::size::{ImageSize, MAX_SIDE, MIN_SIDE};
use super::{MAX_DEEP_CACHE, MAX_GUIDANCE, MAX_STEPS};
use crate::prompt::PromptError;
use crate::scheduler::SchedulerError;

/// A request that no model can fulfil.
///
/// # Example
/// ```
/// use dgx_pixels_core::{GenerateRequest, RequestError};
/// let request = GenerateRequest { width: Some(512), ..Default::default() };
/// let error = request.validate().unwrap_err();
/// assert!(matches!(error, RequestError::Alone { given: "width", missing: "height", .. }));
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A side of the picture is out of range or does not divide.
    #[error("`{side}` is {value}; expected {}{MIN_SIDE} to {MAX_SIDE}", multiple_of(*multiple))]
    Side {
        /// `width` or `height`.
        side: &'static str,
        /// The side in pixels.
        value: u32,
        /// The factor that the model's VAE reduces by.
        multiple: u32,
    },
    /// A width without a height, or the other way round.
    #[error("`{given}` is {value} and `{missing}` is missing; expected both or neither")]
    Alone {
        /// `width` or `height`.
        given: &'static str,
        /// The side in pixels.
        value: u32,
        /// The other one.
        missing: &'static str,
    },
    /// The sprite does not fit the image that is to be drawn.
    #[error(transparent)]
    Canvas(#[from] Conflict),
    /// A size for conditioning is out of range.
    #[error("`{field}` is {value}; expected {} to 65535", u8::from(*field != "crop"))]
    Conditioning {
        /// The field.
        field: &'static str,
        /// The size in pixels.
        value: u32,
    },
    /// Too few or too many layers are skipped.
    #[error("`clip_skip` is {layers}; expected 1 to {most}")]
    ClipSkip {
        /// The number of layers that was asked for.
        layers: u8,
        /// The most that can be skipped.
        most: u8,
    },
    /// A strength out of range or not a number.
    #[error("`lora` has `{name}` with the weight {weight}; expected -{MAX_WEIGHT} to {MAX_WEIGHT}")]
    LoraWeight {
        /// The name of the LoRA.
        name: String,
        /// The weight that was asked for.
        weight: f64,
    },
    /// One LoRA is asked for twice.
    #[error("`lora` has `{name}` twice; expected each once")]
    LoraTwice {
        /// The name of the LoRA.
        name: String,
    },
    /// Too many LoRAs.
    #[error("`lora` has {count} entries; expected at most {MAX_LORAS}")]
    Loras {
        /// The number that was asked for.
        count: usize,
    },
    /// Too few or too many steps.
    #[error("`steps` is {steps}; expected 1 to {MAX_STEPS}")]
    Steps {
        /// The number of steps that was asked for.
        steps: usize,
    },
    /// Guidance out of range or not a number.
    #[error("`guidance_scale` is {value}; expected 0 to {MAX_GUIDANCE}")]
    GuidanceScale {
        /// The guidance scale that was asked for.
        value: f64,
    },
    /// Guidance rescale out of range or not a number.
    #[error("`guidance_rescale` is {value}; expected 0 to 1")]
    GuidanceRescale {
        /// The guidance rescale that was asked for.
        value: f64,
    },
    /// No interval.
    #[error("`guidance_interval` is {from} to {to}; expected two numbers from 0 to 1, the smaller first")]
    GuidanceInterval {
        /// The beginning that was asked for.
        from: f64,
        /// The end that was asked for.
        to: f64,
    },
    /// A prompt cannot be read.
    #[error("`{field}` {fault}")]
    Prompt {
        /// `prompt` or `negative_prompt`.
        field: &'static str,
        /// The fault in it.
        fault: PromptError,
    },
    /// Edges are to meet, and the model's convolutions cannot go on at the opposite side.
    #[error("`{field}` is true; expected false in the mode `fp8`, whose convolutions end at the edges")]
    Wrap {
        /// `tile_x` or `tile_y`.
        field: &'static str,
    },
    /// An image or a field of one is at fault.
    #[error("`{field}` {reason}")]
    Image {
        /// `init_image`, `mask`, `strength` or `control`.
        field: &'static str,
        /// The value, and what would be right.
        reason: String,
    },
    /// The schedule cannot be made so.
    #[error(transparent)]
    Schedule(#[from] SchedulerError),
    /// The number of steps is not that of the list of steps.
    #[error("`steps` is {steps} and `{list}` has {listed}; expected only one of both")]
    StepsOfList {
        /// The number of steps that was asked for.
        steps: usize,
        /// `timesteps` or `sigmas`.
        list: &'static str,
        /// The steps of that list.
        listed: usize,
    },
    /// Timesteps and noise levels.
    #[error(
        "`timesteps` is a list of {timesteps} and `sigmas` is a list of {sigmas}; expected only one of both"
    )]
    TwoLists {
        /// The length of `timesteps`.
        timesteps: usize,
        /// The length of `sigmas`.
        sigmas: usize,
    },
    /// `eta` is out of range.
    #[error("`eta` is {value}; expected 0 to 1")]
    Eta {
        /// The share that was asked for.
        value: f64,
    },
    /// A field contradicts the timesteps of the preset.
    #[error("`{field}` is {value} and the preset `{preset}` has timesteps of its own; expected {expected}")]
    Preset {
        /// `steps` or `scheduler`.
        field: &'static str,
        /// The value of that field.
        value: String,
        /// The preset that was asked for.
        preset: &'static str,
        /// The values that would be right.
        expected: String,
    },
    /// Too few or too many steps between.
    #[error("`deep_cache` is {steps}; expected 2 to {MAX_DEEP_CACHE}")]
    DeepCache {
        /// The number of steps that was asked for.
        steps: usize,
    },
}

impl RequestError {
    /// An error about an image.
    pub(crate) fn image(field: &'static str, reason: impl Into<String>) -> RequestError {
        RequestError::Image { field, reason: reason.into() }
    }

    /// The name of the field at fault.
    pub fn field(&self) -> &'static str {
        match self {
            RequestError::Side { side, .. } => side,
            RequestError::Conditioning { field, .. } => field,
            RequestError::Alone { missing, .. } => missing,
            RequestError::Canvas(_) => "size",
            RequestError::ClipSkip { .. } => "clip_skip",
            RequestError::LoraWeight { .. } | RequestError::LoraTwice { .. } | RequestError::Loras { .. } => {
                "lora"
            }
            RequestError::Steps { .. } => "steps",
            RequestError::GuidanceScale { .. } => "guidance_scale",
            RequestError::GuidanceRescale { .. } => "guidance_rescale",
            RequestError::GuidanceInterval { .. } => "guidance_interval",
            RequestError::DeepCache { .. } => "deep_cache",
            RequestError::Prompt { field, .. } | RequestError::Preset { field, .. } => field,
            RequestError::Schedule(error) => error.field().unwrap_or("scheduler"),
            RequestError::StepsOfList { .. } => "steps",
            RequestError::TwoLists { .. } => "sigmas",
            RequestError::Eta { .. } => "eta",
            RequestError::Wrap { field } | RequestError::Image { field, .. } => field,
        }
    }
}

/// A canvas and a sprite's size that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`size` is {}x{}, and an image of {}x{} becomes a sprite of {}x{}; expected `width` {} and \
     `height` {}, or neither",
    size.width, size.height, canvas.width, canvas.height, cells.width, cells.height,
    fitting.width, fitting.height
)]
pub struct Conflict {
    /// The sprite, as asked for.
    pub size: ImageSize,
    /// The image, as asked for.
    pub canvas: ImageSize,
    /// The sprite that the image becomes.
    pub cells: ImageSize,
    /// The image that would fit.
    pub fitting: ImageSize,
}

fn multiple_of(multiple: u32) -> String {
    if multiple > 1 { format!("a multiple of {multiple}, ") } else { String::new() }
}
