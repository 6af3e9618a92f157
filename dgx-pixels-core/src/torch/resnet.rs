//! Convolution blocks, and the layers that halve and double a picture's sides.

use std::sync::Arc;

use tch::{TchError, Tensor};

use super::Result;
use super::cuda::{Doubling, Kernels, Parts};
use super::edges;
use super::layers::{Conv2d, Linear, Shortcut, add_open};
use super::norms::GroupNorm;
use super::weights::Node;
use crate::error::Error;
use crate::model::config::{Activation, TimeScaleShift};

/// Two convolutions around a skip path. `resnets.N` in the checkpoint.
///
/// `sample [b, c_in, h, w]` → `[b, c_out, h, w]`, in the weights' dtype.
/// Source: diffusers 0.42.1, `models/resnet.py`, `ResnetBlock2D`.
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Shortcut>,
    shape: ResnetShape,
    kernels: Option<Arc<Kernels>>,
}

/// What the blocks of one model share.
#[derive(Clone, Copy)]
pub(super) struct ResnetShape {
    /// Width of the time embedding; the VAE has none.
    pub(super) time: Option<i64>,
    pub(super) groups: i64,
    pub(super) eps: f64,
    pub(super) act: Activation,
    pub(super) time_scale_shift: TimeScaleShift,
    /// The sum of both paths is divided by this.
    pub(super) output_scale_factor: f64,
    /// Whether convolutions may be of 8-bit floats.
    pub(super) rounds: bool,
}

impl ResnetShape {
    /// Whether a block of these widths has convolutions of 8-bit floats.
    fn rounded(&self, kernels: Option<&Kernels>, c_in: i64, c_out: i64) -> bool {
        self.rounds
            && self.act == Activation::Silu
            && self.time_scale_shift == TimeScaleShift::Default
            && kernels.is_some_and(|kernels| kernels.convolves_fp8(c_in, c_out, self.groups))
    }
}

impl ResnetBlock {
    pub(super) fn load(
        node: Node,
        c_in: i64,
        c_out: i64,
        shape: ResnetShape,
    ) -> std::result::Result<Self, Error> {
        let c_time = match shape.time_scale_shift {
            TimeScaleShift::Default => c_out,
            TimeScaleShift::ScaleShift => 2 * c_out,
        };
        let norm1 = GroupNorm::load(&node / "norm1", c_in, shape.groups, shape.eps)?;
        let mut conv1 = Conv2d::load(&node / "conv1", c_in, c_out, 3)?;
        let norm2 = GroupNorm::load(&node / "norm2", c_out, shape.groups, shape.eps)?;
        let mut conv2 = Conv2d::load(&node / "conv2", c_out, c_out, 3)?;
        if shape.rounded(node.kernels().as_deref(), c_in, c_out) {
            (conv1, conv2) = (conv1.rounded(&norm1)?, conv2.rounded(&norm2)?);
        }
        Ok(ResnetBlock {
            norm1,
            conv1,
            time_emb_proj: shape
                .time
                .map(|time| Linear::load(&node / "time_emb_proj", time, c_time))
                .transpose()?,
            norm2,
            conv_shortcut: (c_in != c_out)
                .then(|| Shortcut::load(&node / "conv_shortcut", c_in, c_out, &conv2))
                .transpose()?,
            conv2,
            shape,
            kernels: node.kernels(),
        })
    }

    /// `skip`: more channels of the sample. `time [b, c_time]` is this block's part of
    /// [`UNet::embed_time`](super::unet::UNet::embed_time).
    pub(super) fn forward(
        &self,
        sample: &Tensor,
        skip: Option<&Tensor>,
        time: Option<&Tensor>,
    ) -> Result<Tensor> {
        let scales_time = self.shape.time_scale_shift == TimeScaleShift::ScaleShift;
        if self.conv1.adds() && self.conv2.adds() && !scales_time {
            return self.forward_added(sample, skip, time);
        }
        let act = self.shape.act;
        // Without kernels the parts are joined once, for both that read them.
        let joined = match (skip, &self.kernels) {
            (Some(skip), None) => Some(Tensor::f_cat(&[sample, skip], 1)?),
            _ => None,
        };
        let (sample, skip) = match &joined {
            Some(joined) => (joined, None),
            None => (sample, skip),
        };
        // 1. first convolution
        let hidden = self.norm1.forward_act(Parts { b: skip, ..sample.into() }, act)?;
        let (hidden, bias) = self.conv1.forward_open(&hidden)?;
        // 2. time
        let open = Parts { bias, ..(&hidden).into() };
        let hidden = match (self.shape.time_scale_shift, time) {
            (TimeScaleShift::Default, time) => self.norm2.forward_act(Parts { time, ..open }, act)?,
            (TimeScaleShift::ScaleShift, None) => self.norm2.forward_act(open, act)?,
            (TimeScaleShift::ScaleShift, Some(time)) => {
                let [scale, shift]: [Tensor; 2] = time
                    .f_unsqueeze(-1)?
                    .f_unsqueeze(-1)?
                    .f_chunk(2, 1)?
                    .try_into()
                    .map_err(|_| TchError::Shape("two chunks of an even width".into()))?;
                let normed = self.norm2.forward(open)?;
                act.apply_(normed.f_mul(&scale.f_add_scalar(1.0)?)?.f_add_(&shift)?)?
            }
        };
        // 3. second convolution and skip path
        let hidden = self.conv2.forward_open(&hidden)?;
        let sum = match &self.conv_shortcut {
            Some(conv) => conv.forward_into(hidden, sample, skip)?,
            None => add_open(self.kernels.as_deref(), hidden, sample)?,
        };
        self.scaled(sum)
    }

    /// With convolutions that add time and skip path themselves.
    fn forward_added(&self, sample: &Tensor, skip: Option<&Tensor>, time: Option<&Tensor>) -> Result<Tensor> {
        let act = self.shape.act;
        let parts = Parts { b: skip, ..sample.into() };
        let hidden = self.conv1.forward_normed((&self.norm1, act), parts, time, None)?;
        let of_norm2 = (&self.norm2, act);
        let sum = match &self.conv_shortcut {
            None => self.conv2.forward_normed(of_norm2, (&hidden).into(), None, Some(sample))?,
            Some(conv) => {
                let hidden = self.conv2.forward_normed(of_norm2, (&hidden).into(), None, None)?;
                conv.forward_into((hidden, None), sample, skip)?
            }
        };
        self.scaled(sum)
    }

    fn scaled(&self, sum: Tensor) -> Result<Tensor> {
        match self.shape.output_scale_factor {
            1.0 => Ok(sum),
            factor => sum.f_div_scalar(factor),
        }
    }

    /// Width of its part of the embedded time.
    pub(super) fn time_width(&self) -> i64 {
        self.time_emb_proj.as_ref().and_then(Linear::bias).map_or(0, |bias| bias.size()[0])
    }

    /// `activated [n, c_time]` → its part of the embedded time.
    pub(super) fn project_time(&self, activated: &Tensor) -> Result<Option<Tensor>> {
        self.time_emb_proj.as_ref().map(|proj| proj.forward(activated)).transpose()
    }
}

/// A strided convolution: `[b, c, h, w]` → `[b, c, h/2, w/2]`. `downsamplers.0` in the checkpoint.
///
/// Source: diffusers 0.42.1, `models/downsampling.py`, `Downsample2D`.
pub(super) struct Downsample {
    conv: Conv2d,
    padding: i64,
}

impl Downsample {
    pub(super) fn load(node: Node, channels: i64, padding: i64) -> std::result::Result<Self, Error> {
        Ok(Downsample {
            conv: Conv2d::load_strided(node / "conv", channels, channels, 3, 2, padding)?,
            padding,
        })
    }

    pub(super) fn forward(&self, sample: &Tensor) -> Result<Tensor> {
        match self.padding {
            // Without padding of its own, one row and column more at the far edges.
            0 => self.conv.forward(&edges::extended(sample)?),
            _ => self.conv.forward(sample),
        }
    }
}

/// Nearest neighbours, then a convolution: `[b, c, h, w]` → `[b, c, 2h, 2w]`. `upsamplers.0` in the
/// checkpoint.
///
/// Source: diffusers 0.42.1, `models/upsampling.py`, `Upsample2D`.
pub(super) struct Upsample {
    conv: Conv2d,
    doubling: Option<Doubling>,
    kernels: Option<Arc<Kernels>>,
}

impl Upsample {
    pub(super) fn load(node: Node, channels: i64) -> std::result::Result<Self, Error> {
        let kernels = node.kernels();
        let conv = Conv2d::load(node / "conv", channels, channels, 3)?;
        Ok(Upsample { doubling: conv.doubling()?, conv, kernels })
    }

    /// `size`: height and width wanted, where doubling would miss those of the skip path by a
    /// rounded halving.
    pub(super) fn forward(&self, sample: &Tensor, size: Option<(i64, i64)>) -> Result<Tensor> {
        let (_, _, h, w) = sample.size4()?;
        let doubles = size.is_none_or(|size| size == (2 * h, 2 * w));
        if let Some(doubling) = self.doubling.as_ref().filter(|_| doubles && edges::are_closed())
            && let Some(output) = self.conv.forward_doubled(sample, doubling)?
        {
            return Ok(output);
        }
        if let Some(kernels) = self.kernels.as_ref().filter(|_| doubles)
            && let Some(doubled) = kernels.upsample(sample)?
        {
            return self.conv.forward(&doubled);
        }
        let doubled = match size {
            None => sample.f_upsample_nearest2d([2 * h, 2 * w], 2.0, 2.0)?,
            Some((h, w)) => sample.f_upsample_nearest2d([h, w], None, None)?,
        };
        self.conv.forward(&doubled)
    }
}
