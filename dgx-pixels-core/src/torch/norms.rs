//! The norms of channel groups and of the last dimension, with what a GPU fuses with them.

use std::sync::Arc;

use tch::Tensor;

use super::Result;
use super::cuda::{Fp8, Fp8Picture, Kernels, Parts};
use super::rows::{Lack, Rows, mixed};
use super::weights::Node;
use crate::error::Error;
use crate::model::config::Activation;

/// Normalises groups of channels: `[b, c, ..]` → the same.
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
    kernels: Option<Arc<Kernels>>,
}

impl GroupNorm {
    pub(super) fn load(node: Node, channels: i64, groups: i64, eps: f64) -> std::result::Result<Self, Error> {
        let (weight, bias) = (node.tensor("weight", &[channels])?, node.tensor("bias", &[channels])?);
        Ok(GroupNorm { weight, bias, groups, eps, kernels: node.kernels() })
    }

    pub(super) fn forward<'a>(&self, sample: impl Into<Parts<'a>>) -> Result<Tensor> {
        self.normed(sample.into(), None)
    }

    /// The norm and what always follows it in convolution blocks.
    pub(super) fn forward_act<'a>(&self, sample: impl Into<Parts<'a>>, act: Activation) -> Result<Tensor> {
        self.normed(sample.into(), Some(act))
    }

    /// Of 8-bit floats, the largest that a group can be expected to have: what 8-bit floats say at
    /// most is this many times as large. A group's numbers are a few deviations large, and their
    /// range goes down to 1/28,000 of the largest.
    pub(super) fn fp8_scale(&self) -> Result<f64> {
        const DEVIATIONS: f64 = 32.0;
        let largest = |tensor: &Tensor| -> Result<f64> {
            tensor.f_abs()?.f_max()?.f_to_kind(tch::Kind::Float)?.f_double_value(&[])
        };
        let most = DEVIATIONS * largest(&self.weight)? + largest(&self.bias)?;
        Ok(most.max(1e-12) / Fp8::LARGEST)
    }

    /// The norm and SiLU, divided by `scale`.
    pub(super) fn forward_silu_fp8(&self, sample: Parts, scale: f64) -> Result<Fp8Picture> {
        let kernels = self.kernels.as_ref().ok_or_else(mixed)?;
        let affine = (&self.weight, &self.bias);
        let normed = kernels.group_norm_fp8(sample, affine, self.groups, self.eps, true, scale)?;
        normed.ok_or_else(mixed)
    }

    fn normed(&self, sample: Parts, act: Option<Activation>) -> Result<Tensor> {
        let affine = (&self.weight, &self.bias);
        let silu = act == Some(Activation::Silu);
        let rest = act.filter(|_| !silu);
        if let Some(kernels) = &self.kernels
            && let Some(normed) = kernels.group_norm(sample, affine, self.groups, self.eps, silu)?
        {
            return rest.map_or_else(|| Ok(normed.shallow_clone()), |act| act.apply_(normed.shallow_clone()));
        }
        let normed = sample.whole()?.f_group_norm(
            self.groups,
            Some(&self.weight),
            Some(&self.bias),
            self.eps,
            true,
        )?;
        match act {
            Some(act) => act.apply_(normed),
            None => Ok(normed),
        }
    }
}

/// Normalises the last dimension.
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    width: i64,
    eps: f64,
    kernels: Option<Arc<Kernels>>,
}

impl LayerNorm {
    pub(super) fn load(node: Node, width: i64, eps: f64) -> std::result::Result<Self, Error> {
        let (weight, bias) = (node.tensor("weight", &[width])?, node.tensor("bias", &[width])?);
        Ok(LayerNorm { weight, bias, width, eps, kernels: node.kernels() })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        if let Some(kernels) = &self.kernels
            && let Some(normed) =
                kernels.layer_norm(input, None, None, (&self.weight, &self.bias), self.eps)?
        {
            return Ok(normed);
        }
        input.f_layer_norm([self.width], Some(&self.weight), Some(&self.bias), self.eps, true)
    }

    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// Adds what `input [b, n, width]` still lacks, in its place, and norms the sum; `fp8`: for
    /// layers that are rounded.
    pub(super) fn forward_sum(&self, input: &Tensor, lacks: &Lack, fp8: bool) -> Result<Rows> {
        let (_, n, _) = input.size3()?;
        if let Some(kernels) = &self.kernels {
            let early = lacks.early.as_ref().map(|(rows, bias)| (rows * n, bias));
            let (late, affine) = (lacks.late.as_ref(), (&self.weight, &self.bias));
            let normed = match fp8 {
                true => kernels.layer_norm_fp8(input, late, early, affine, self.eps)?.map(Rows::Fp8),
                false => kernels.layer_norm(input, late, early, affine, self.eps)?.map(Rows::Whole),
            };
            if let Some(normed) = normed {
                return Ok(normed);
            }
        }
        lacks.settle(input)?;
        Ok(Rows::Whole(self.forward(input)?))
    }
}
