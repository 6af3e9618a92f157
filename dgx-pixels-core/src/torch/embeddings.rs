//! Numbers as vectors of waves: timesteps, sizes, guidance.

use tch::{Device as TchDevice, Kind, Tensor};

use super::Result;
use super::device::place;
use super::layers::Linear;
use super::weights::Node;
use crate::error::Error;
use crate::model::config::Activation;
use crate::request::ResolvedRequest;

/// Sines and cosines of `values [n]` at falling frequencies → `[n, width]`, in `f32`.
///
/// Source: diffusers 0.42.1, `models/embeddings.py`, `get_timestep_embedding`, without its scale
/// and period options.
pub(super) fn timestep_embedding(
    values: &Tensor,
    width: i64,
    flip_sin_to_cos: bool,
    freq_shift: f64,
) -> Result<Tensor> {
    let half = width / 2;
    let exponent = Tensor::f_arange(half, (Kind::Float, values.device()))?
        .f_mul_scalar(-(10000f64.ln()))?
        .f_div_scalar(half as f64 - freq_shift)?;
    let angles = values.f_to_kind(Kind::Float)?.f_unsqueeze(1)?.f_mul(&exponent.f_exp()?.f_unsqueeze(0)?)?;
    let (sin, cos) = (angles.f_sin()?, angles.f_cos()?);
    let waves = if flip_sin_to_cos { [cos, sin] } else { [sin, cos] };
    Tensor::f_cat(&waves, -1)?.f_constant_pad_nd([0, width % 2])
}

/// The guidance scale of a distilled model as a vector `[1, width]`, in `f32`.
///
/// Source: diffusers 0.42.1, `StableDiffusionXLPipeline.get_guidance_scale_embedding`, which feeds
/// it `scale - 1`.
pub(super) fn guidance_embedding(guidance_scale: f64, width: i64, device: TchDevice) -> Result<Tensor> {
    let half = width / 2;
    let step = 10000f64.ln() / (half as f64 - 1.0);
    let frequencies = Tensor::f_arange(half, (Kind::Float, TchDevice::Cpu))?.f_mul_scalar(-step)?.f_exp()?;
    let angles = frequencies.f_mul_scalar((guidance_scale - 1.0) * 1000.0)?;
    let waves = Tensor::f_cat(&[angles.f_sin()?, angles.f_cos()?], 0)?.f_constant_pad_nd([0, width % 2])?;
    place(&waves.f_unsqueeze(0)?, device)
}

/// Two linear layers around an activation. `time_embedding` and `add_embedding` in the checkpoint.
///
/// Source: diffusers 0.42.1, `models/embeddings.py`, `TimestepEmbedding`.
pub(super) struct TimestepEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    cond_proj: Option<Linear>,
    act: Activation,
}

impl TimestepEmbedding {
    /// `cond`: width of a guidance embedding that is added to the input.
    pub(super) fn load(
        node: Node,
        c_in: i64,
        c_out: i64,
        cond: Option<i64>,
        act: Activation,
    ) -> std::result::Result<Self, Error> {
        Ok(TimestepEmbedding {
            linear_1: Linear::load(&node / "linear_1", c_in, c_out)?,
            linear_2: Linear::load(&node / "linear_2", c_out, c_out)?,
            cond_proj: cond
                .map(|width| Linear::load_without_bias(&node / "cond_proj", width, c_in))
                .transpose()?,
            act,
        })
    }

    pub(super) fn forward(&self, input: &Tensor, condition: Option<&Tensor>) -> Result<Tensor> {
        let hidden = match (&self.cond_proj, condition) {
            (Some(proj), Some(condition)) => {
                self.linear_1.forward(&input.f_add(&proj.forward(condition)?)?)?
            }
            _ => self.linear_1.forward(input)?,
        };
        self.linear_2.forward(&self.act.apply_(hidden)?)
    }
}

/// Returns original size, crop and target size in the order of the checkpoint's training: heights
/// first.
pub(super) fn time_ids(request: &ResolvedRequest) -> [i64; 6] {
    let ResolvedRequest { original_size: original, target_size: target, crop, .. } = request;
    [original.height, original.width, crop.top, crop.left, target.height, target.width].map(i64::from)
}
