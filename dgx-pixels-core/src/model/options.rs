//! The way a model is computed.

use serde::{Deserialize, Serialize};

use super::{Component, Model};
use crate::device::{Device, Dtype, Mode};

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
#[serde(deny_unknown_fields)]
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
