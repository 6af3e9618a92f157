//! Control nets: what they make of an image and of the sample is added to a UNet's skips.

use tch::Tensor;

use super::Result;
use super::blocks::{Conditioning, Context};
use super::down_path::{DownPath, keys_values};
use super::layers::Conv2d;
use super::weights::Node;
use crate::error::Error;
use crate::model::config::Activation;
use crate::model::control::ControlConfig;

/// `ControlNetModel` with `text_time` conditioning.
///
/// Source: diffusers 0.42.1, `models/controlnets/controlnet.py`.
pub(super) struct ControlNet {
    path: DownPath,
    embedding: Embedding,
    /// One for each skip, in the order in which skips are made. `controlnet_down_blocks` in the
    /// checkpoint.
    down_outs: Vec<Conv2d>,
    /// `controlnet_mid_block` in the checkpoint.
    mid_out: Conv2d,
    is_bgr: bool,
}

/// An image that a control net follows, as the net has embedded it.
pub(super) struct Followed {
    /// The place of the net.
    pub(super) net: usize,
    /// The strength.
    pub(super) scale: f64,
    /// `[1, channels, h, w]`, from [`ControlNet::embed_image`].
    pub(super) image: Tensor,
}

impl ControlNet {
    pub(super) fn load(node: Node, config: &ControlConfig) -> std::result::Result<Self, Error> {
        let mut channels = config.skips();
        let last = channels.pop().expect("a middle comes after the skips");
        let down_outs = channels
            .iter()
            .enumerate()
            .map(|(i, channels)| Conv2d::load(&node / "controlnet_down_blocks" / i, *channels, *channels, 1));
        Ok(ControlNet {
            path: DownPath::load(&node, &config.net)?,
            embedding: Embedding::load(&node / "controlnet_cond_embedding", config)?,
            down_outs: down_outs.collect::<std::result::Result<_, _>>()?,
            mid_out: Conv2d::load(&node / "controlnet_mid_block", last, last, 1)?,
            is_bgr: config.is_bgr,
        })
    }

    /// All that cross-attentions read of a text, as [`keys_values`] makes it.
    pub(super) fn keys_values(&self, text: &Tensor) -> Result<Tensor> {
        keys_values(self.path.attentions(), text)
    }

    /// All that ResNet blocks read of `timesteps [n]`, in `f32`, with the pooled text
    /// `[1, projection_dim]` and `time_ids [1, 6]` → `[n, time_width]`.
    pub(super) fn embed_time(
        &self,
        timesteps: &Tensor,
        pooled: &Tensor,
        time_ids: &Tensor,
    ) -> Result<Tensor> {
        let added = self.path.embed_added(pooled, time_ids)?;
        self.path.embed_time(self.path.resnets(), timesteps, &added, None)
    }

    /// `image [1, 3, H, W]` in 0..=1 → what is added to the first layer's output,
    /// `[1, channels, h, w]`. It is the same at every step.
    pub(super) fn embed_image(&self, image: &Tensor) -> Result<Tensor> {
        match self.is_bgr {
            true => self.embedding.forward(&image.f_flip([1])?),
            false => self.embedding.forward(image),
        }
    }

    /// `sample [rows, in_channels, h, w]`, already scaled for its timestep, and
    /// `image [rows, channels, h, w]` of [`embed_image`](Self::embed_image) → the residuals for the
    /// UNet's skips and for its middle; `is_shallow`: for the skips of the outermost level alone.
    pub(super) fn forward(
        &self,
        sample: &Tensor,
        image: &Tensor,
        conditioning: &Conditioning,
        is_shallow: bool,
    ) -> Result<Vec<Tensor>> {
        let mut context = Context::new(conditioning);
        let first = self.path.conv_in.forward(sample)?.f_add(image)?;
        let (mid, skips) = match is_shallow {
            true => (None, self.path.forward_outer(first, &mut context)?),
            false => {
                let (mid, skips) = self.path.forward(first, &mut context)?;
                (Some(mid), skips)
            }
        };
        let down = skips.iter().zip(&self.down_outs).map(|(skip, out)| out.forward(skip));
        let mid = mid.iter().map(|mid| self.mid_out.forward(mid));
        down.chain(mid).collect()
    }
}

/// `ControlNetConditioningEmbedding`: convolutions that reduce an image to the size of the latents.
struct Embedding {
    conv_in: Conv2d,
    blocks: Vec<Conv2d>,
    conv_out: Conv2d,
}

impl Embedding {
    fn load(node: Node, config: &ControlConfig) -> std::result::Result<Self, Error> {
        let widths = &config.embedding;
        let (first, last) = (widths[0], widths[widths.len() - 1]);
        let mut blocks = vec![];
        for (i, pair) in widths.windows(2).enumerate() {
            let (from, to) = (pair[0], pair[1]);
            blocks.push(Conv2d::load(&node / "blocks" / (2 * i), from, from, 3)?);
            blocks.push(Conv2d::load_strided(&node / "blocks" / (2 * i + 1), from, to, 3, 2, 1)?);
        }
        let channels = config.net.block_out_channels[0];
        Ok(Embedding {
            conv_in: Conv2d::load(&node / "conv_in", 3, first, 3)?,
            blocks,
            conv_out: Conv2d::load(&node / "conv_out", last, channels, 3)?,
        })
    }

    fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let mut hidden = Activation::Silu.apply_(self.conv_in.forward(image)?)?;
        for block in &self.blocks {
            hidden = Activation::Silu.apply_(block.forward(&hidden)?)?;
        }
        self.conv_out.forward(&hidden)
    }
}
