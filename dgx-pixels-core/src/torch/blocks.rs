//! The blocks of a UNet: the levels of its way down, its middle and its way up.

use tch::Tensor;

use super::Result;
use super::attention::{Texts, Transformer2DModel, TransformerShape};
use super::resnet::{Downsample, ResnetBlock, ResnetShape, Upsample};
use super::weights::Node;
use crate::error::Error;
use crate::model::config::OneOrMany;

/// The inputs of one forward pass besides the noisy sample.
pub(super) struct Conditioning<'a> {
    /// From `embed_time`: `[rows, time_width]`, one for each of the sample's.
    pub(super) time: &'a Tensor,
    /// From `keys_values`, for the last of the sample's rows; the texts of those before are zeros.
    pub(super) texts: &'a Tensor,
    /// The tokens of a text.
    pub(super) tokens: i64,
}

/// The tensors that blocks read besides the sample, each its part, one after the other.
pub(super) struct Context<'a> {
    pub(super) time: &'a Tensor,
    pub(super) next: i64,
    pub(super) texts: Texts<'a>,
}

impl<'a> Context<'a> {
    /// For the beginning of a pass.
    pub(super) fn new(conditioning: &Conditioning<'a>) -> Self {
        let texts = Texts::new(conditioning.texts, conditioning.tokens);
        Context { time: conditioning.time, next: 0, texts }
    }

    /// A ResNet block's part of the embedded time.
    fn time(&mut self, resnet: &ResnetBlock) -> Result<Tensor> {
        let width = resnet.time_width();
        self.next += width;
        self.time.f_narrow(1, self.next - width, width)
    }
}

/// The shape of one level.
pub(super) struct LevelShape<'a> {
    pub(super) resnets: usize,
    pub(super) resnet: ResnetShape,
    /// Transformer blocks of each attention; none in levels without text.
    pub(super) depths: Option<&'a OneOrMany<usize>>,
    pub(super) transformer: TransformerShape,
}

impl LevelShape<'_> {
    fn attentions(
        &self,
        node: &Node,
        channels: i64,
        count: usize,
    ) -> std::result::Result<Vec<Transformer2DModel>, Error> {
        let Some(depths) = self.depths else { return Ok(Vec::new()) };
        (0..count)
            .map(|i| {
                Transformer2DModel::load(node / "attentions" / i, channels, *depths.get(i), self.transformer)
            })
            .collect()
    }
}

/// `DownBlock2D` and `CrossAttnDownBlock2D`: they differ in `attentions` only.
///
/// Source: diffusers 0.42.1, `models/unets/unet_2d_blocks.py`.
pub(super) struct DownBlock {
    pub(super) resnets: Vec<ResnetBlock>,
    pub(super) attentions: Vec<Transformer2DModel>,
    downsampler: Option<Downsample>,
}

impl DownBlock {
    pub(super) fn load(
        node: Node,
        c_in: i64,
        c_out: i64,
        shape: &LevelShape,
        downsample_padding: Option<i64>,
    ) -> std::result::Result<Self, Error> {
        Ok(DownBlock {
            resnets: (0..shape.resnets)
                .map(|i| {
                    let c_in = if i == 0 { c_in } else { c_out };
                    ResnetBlock::load(&node / "resnets" / i, c_in, c_out, shape.resnet)
                })
                .collect::<std::result::Result<_, _>>()?,
            attentions: shape.attentions(&node, c_out, shape.resnets)?,
            downsampler: downsample_padding
                .map(|padding| Downsample::load(&node / "downsamplers" / 0, c_out, padding))
                .transpose()?,
        })
    }

    pub(super) fn forward(
        &self,
        mut sample: Tensor,
        context: &mut Context,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        sample = self.forward_level(sample, context, skips)?;
        if let Some(downsampler) = &self.downsampler {
            sample = downsampler.forward(&sample)?;
            skips.push(sample.shallow_clone());
        }
        Ok(sample)
    }

    /// Without what leads to the next level.
    pub(super) fn forward_level(
        &self,
        mut sample: Tensor,
        context: &mut Context,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            sample = resnet.forward(&sample, None, Some(&context.time(resnet)?))?;
            if let Some(attention) = self.attentions.get(i) {
                sample = attention.forward(sample, &mut context.texts)?;
            }
            skips.push(sample.shallow_clone());
        }
        Ok(sample)
    }
}

/// `UNetMidBlock2DCrossAttn` and `UNetMidBlock2D` without attention.
pub(super) struct MidBlock {
    pub(super) resnets: Vec<ResnetBlock>,
    pub(super) attentions: Vec<Transformer2DModel>,
}

impl MidBlock {
    pub(super) fn load(node: Node, channels: i64, shape: &LevelShape) -> std::result::Result<Self, Error> {
        Ok(MidBlock {
            resnets: (0..shape.resnets)
                .map(|i| ResnetBlock::load(&node / "resnets" / i, channels, channels, shape.resnet))
                .collect::<std::result::Result<_, _>>()?,
            attentions: shape.attentions(&node, channels, shape.resnets - 1)?,
        })
    }

    pub(super) fn forward(&self, mut sample: Tensor, context: &mut Context) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            sample = resnet.forward(&sample, None, Some(&context.time(resnet)?))?;
            if let Some(attention) = self.attentions.get(i) {
                sample = attention.forward(sample, &mut context.texts)?;
            }
        }
        Ok(sample)
    }
}

/// `UpBlock2D` and `CrossAttnUpBlock2D`: they differ in `attentions` only.
pub(super) struct UpBlock {
    pub(super) resnets: Vec<ResnetBlock>,
    pub(super) attentions: Vec<Transformer2DModel>,
    upsampler: Option<Upsample>,
}

impl UpBlock {
    /// `c_before` comes from the block before, `c_next` is the next level's; both decide the skip
    /// paths' widths.
    pub(super) fn load(
        node: Node,
        c_before: i64,
        c_out: i64,
        c_next: i64,
        shape: &LevelShape,
        upsample: bool,
    ) -> std::result::Result<Self, Error> {
        Ok(UpBlock {
            resnets: (0..shape.resnets)
                .map(|i| {
                    let c_in = if i == 0 { c_before } else { c_out };
                    let c_skip = if i + 1 == shape.resnets { c_next } else { c_out };
                    ResnetBlock::load(&node / "resnets" / i, c_in + c_skip, c_out, shape.resnet)
                })
                .collect::<std::result::Result<_, _>>()?,
            attentions: shape.attentions(&node, c_out, shape.resnets)?,
            upsampler: upsample.then(|| Upsample::load(&node / "upsamplers" / 0, c_out)).transpose()?,
        })
    }

    pub(super) fn forward(
        &self,
        mut sample: Tensor,
        context: &mut Context,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for (i, resnet) in self.resnets.iter().enumerate() {
            let skip = skips.pop().expect("each resnet on the way down left one skip");
            sample = resnet.forward(&sample, Some(&skip), Some(&context.time(resnet)?))?;
            if let Some(attention) = self.attentions.get(i) {
                sample = attention.forward(sample, &mut context.texts)?;
            }
        }
        match &self.upsampler {
            None => Ok(sample),
            Some(upsampler) => {
                let (_, _, h, w) = skips.last().expect("outer levels have skips left").size4()?;
                upsampler.forward(&sample, Some((h, w)))
            }
        }
    }
}
