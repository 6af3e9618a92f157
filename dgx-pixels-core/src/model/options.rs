//! The way a model is computed.

use serde::{Deserialize, Serialize};

use super::{Component, Model};
use crate::device::{Device, Dtype, Mode};
use crate::scheduler::PredictionType;
#[cfg(feature = "torch")]
use crate::scheduler::{SchedulerConfig, TimestepSpacing};

/// The way a model is computed.
///
/// # Example
/// ```
/// use dgx_pixels_core::device::{Device, Dtype, Mode};
/// use dgx_pixels_core::model::Options;
/// let options = Options { device: Device::Cuda(1), dtype: Some(Dtype::F16), ..Default::default() };
/// assert_eq!((options.mode, options.vae_tiling), (Mode::Fast, false));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The device that draws. Default: [`Device::Auto`].
    pub device: Device,
    /// The precision. Default: `f32` on the CPU, `bf16` on a GPU.
    pub dtype: Option<Dtype>,
    /// The freedom to differ from diffusers for speed, on a GPU in half precision. Default:
    /// [`Mode::Fast`].
    pub mode: Mode,
    /// `true` to decode images one after the other: less memory, less speed. Default: `false`, as
    /// in diffusers.
    pub vae_slicing: bool,
    /// `true` to decode images above the model's native size in overlapping tiles: much less
    /// memory, slight differences. Default: `false`, as in diffusers.
    pub vae_tiling: bool,
    /// The meaning of the UNet's answer, where the model's files do not say it or say it wrongly.
    /// Default: what the files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prediction_type: Option<PredictionType>,
    /// `true` if the model was trained to begin in pure noise, where its files do not say it or say
    /// it wrongly. Default: what the files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zero_snr: Option<bool>,
    /// `true` to pass over what a LoRA changes and the model does not have. Default: `false`, an
    /// error that names it.
    #[serde(skip_serializing_if = "is_false")]
    pub lenient: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Options {
    /// The precision of everything but the VAE.
    pub(crate) fn dtype(&self, device: Device) -> Dtype {
        self.dtype.unwrap_or(if device == Device::Cpu { Dtype::F32 } else { Dtype::Bf16 })
    }

    /// The [`mode`](Options::mode) where it makes a difference: our kernels are for half precision
    /// on a GPU.
    pub(crate) fn mode_on(&self, device: Device) -> Option<Mode> {
        let is_half = self.dtype(device) != Dtype::F32;
        (matches!(device, Device::Cuda(_)) && is_half).then_some(self.mode)
    }

    /// The noise schedule of a model with what these options say of it. A model that begins in pure
    /// noise is asked for that step, which leading timesteps never come to.
    #[cfg(feature = "torch")]
    pub(crate) fn scheduler(&self, of_model: &SchedulerConfig) -> SchedulerConfig {
        let mut scheduler = of_model.clone();
        scheduler.prediction_type = self.prediction_type.or(scheduler.prediction_type);
        if let Some(zero_snr) = self.zero_snr {
            scheduler.rescale_betas_zero_snr = Some(zero_snr);
            if zero_snr {
                scheduler.timestep_spacing = Some(TimestepSpacing::Trailing);
            }
        }
        scheduler
    }

    /// The precision of one component of `model`.
    pub(crate) fn dtype_of(&self, component: Component, model: &Model, device: Device) -> Dtype {
        match (component, self.dtype(device)) {
            (Component::Vae, Dtype::F16) if model.vae.force_upcast => Dtype::F32,
            (_, dtype) => dtype,
        }
    }

    /// `true` if files in half precision are taken first for `component`. The device's own
    /// precision is never that one.
    pub(crate) fn prefers_fp16(&self, component: Component, model: &Model) -> bool {
        self.dtype_of(component, model, Device::Cpu) == Dtype::F16
    }
}
