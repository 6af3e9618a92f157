//! The way down of a UNet and its middle, which a control net has as well.

use tch::Tensor;

use super::Result;
use super::attention::{Transformer2DModel, TransformerShape};
use super::blocks::{Context, DownBlock, LevelShape, MidBlock};
use super::embeddings::{TimestepEmbedding, timestep_embedding};
use super::layers::Conv2d;
use super::resnet::{ResnetBlock, ResnetShape};
use super::weights::Node;
use crate::error::Error;
use crate::model::config::{Activation, UNetConfig};

/// The first layer, the embeddings of time and sizes, the levels of the way down, and the middle.
///
/// Source: diffusers 0.42.1, `models/unets/unet_2d_condition.py` and
/// `models/controlnets/controlnet.py`.
pub(super) struct DownPath {
    pub(super) conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: TimestepEmbedding,
    pub(super) down_blocks: Vec<DownBlock>,
    pub(super) mid_block: Option<MidBlock>,
    pub(super) config: UNetConfig,
}

/// The shape of the ResNet blocks of a UNet.
pub(super) fn resnet_shape(config: &UNetConfig) -> ResnetShape {
    let channels = &config.block_out_channels;
    ResnetShape {
        time: Some(4 * channels[0]),
        groups: config.norm_num_groups,
        eps: config.norm_eps,
        act: config.act_fn,
        time_scale_shift: config.resnet_time_scale_shift,
        output_scale_factor: 1.0,
        // Skips are parts of what is normed, and so are to fit as well.
        rounds: channels.iter().all(|channels| channels % 8 == 0),
    }
}

/// The shape of the transformers of a level of a UNet.
pub(super) fn transformer_shape(config: &UNetConfig, level: usize) -> TransformerShape {
    TransformerShape {
        heads: *config.attention_head_dim.get(level),
        text_width: *config.cross_attention_dim.get(level),
        groups: config.norm_num_groups,
        linear: config.use_linear_projection,
    }
}

impl DownPath {
    pub(super) fn load(node: &Node, config: &UNetConfig) -> std::result::Result<Self, Error> {
        let channels = &config.block_out_channels;
        let levels = channels.len();
        let (first, last) = (channels[0], channels[levels - 1]);
        let resnet = resnet_shape(config);

        let mut down_blocks = Vec::new();
        for level in 0..levels {
            down_blocks.push(DownBlock::load(
                node / "down_blocks" / level,
                channels[level.saturating_sub(1)],
                channels[level],
                &LevelShape {
                    resnets: *config.layers_per_block.get(level),
                    resnet,
                    depths: (config.down_block_types[level] == "CrossAttnDownBlock2D")
                        .then(|| config.transformer_layers_per_block.get(level)),
                    transformer: transformer_shape(config, level),
                },
                (level + 1 < levels).then_some(config.downsample_padding),
            )?);
        }

        let mid_block = match config.mid_block_type.as_deref() {
            None => None,
            Some(class) => Some(MidBlock::load(
                node / "mid_block",
                last,
                &LevelShape {
                    resnets: if class == "UNetMidBlock2DCrossAttn" { 2 } else { 1 },
                    resnet: ResnetShape { output_scale_factor: config.mid_block_scale_factor, ..resnet },
                    depths: (class == "UNetMidBlock2DCrossAttn")
                        .then(|| config.transformer_layers_per_block.get(levels - 1)),
                    transformer: transformer_shape(config, levels - 1),
                },
            )?),
        };

        Ok(DownPath {
            conv_in: Conv2d::load(node / "conv_in", config.in_channels, first, config.conv_in_kernel)?,
            time_embedding: TimestepEmbedding::load(
                node / "time_embedding",
                first,
                4 * first,
                config.time_cond_proj_dim,
                config.act_fn,
            )?,
            add_embedding: TimestepEmbedding::load(
                node / "add_embedding",
                config.projection_class_embeddings_input_dim,
                4 * first,
                None,
                Activation::Silu,
            )?,
            down_blocks,
            mid_block,
            config: config.clone(),
        })
    }

    /// All transformers, in the order of the forward pass.
    pub(super) fn attentions(&self) -> impl Iterator<Item = &Transformer2DModel> {
        let down = self.down_blocks.iter().flat_map(|block| &block.attentions);
        down.chain(self.mid_block.iter().flat_map(|block| &block.attentions))
    }

    /// All ResNet blocks, in the order of the forward pass.
    pub(super) fn resnets(&self) -> impl Iterator<Item = &ResnetBlock> {
        let down = self.down_blocks.iter().flat_map(|block| &block.resnets);
        down.chain(self.mid_block.iter().flat_map(|block| &block.resnets))
    }

    /// All that `resnets` read of `timesteps [n]`, in `f32`, with `added [1, c_time]` of
    /// [`embed_added`](Self::embed_added) and, for models that have it,
    /// `guidance [1, time_cond_proj_dim]` → `[n, time_width]`, in their order. It depends on the
    /// schedule and the prompt alone, so all of a picture's steps are embedded at once.
    pub(super) fn embed_time<'a>(
        &self,
        resnets: impl Iterator<Item = &'a ResnetBlock>,
        timesteps: &Tensor,
        added: &Tensor,
        guidance: Option<&Tensor>,
    ) -> Result<Tensor> {
        let config = &self.config;
        let waves = timestep_embedding(
            timesteps,
            config.block_out_channels[0],
            config.flip_sin_to_cos,
            config.freq_shift,
        )?;
        let time = self.time_embedding.forward(&waves.f_to_kind(added.kind())?, guidance)?;
        let time = config.act_fn.apply_(time.f_add(added)?)?;
        let parts = resnets.filter_map(|resnet| resnet.project_time(&time).transpose());
        Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 1)
    }

    /// The part of the time embedding that is the same at every step: `pooled [b, projection_dim]`
    /// and `time_ids [b, 6]` → `[b, c_time]`.
    pub(super) fn embed_added(&self, pooled: &Tensor, time_ids: &Tensor) -> Result<Tensor> {
        let config = &self.config;
        let (width, flip, shift) =
            (config.addition_time_embed_dim, config.flip_sin_to_cos, config.freq_shift);
        let sizes = timestep_embedding(&time_ids.f_flatten(0, -1)?, width, flip, shift)?;
        let sizes = sizes.f_reshape([pooled.size()[0], -1])?.f_to_kind(pooled.kind())?;
        self.add_embedding.forward(&Tensor::f_cat(&[pooled, &sizes], -1)?, None)
    }

    /// The way down and the middle, from what the first layer made of the sample → what the middle
    /// makes, and the skips in the order in which they were made.
    pub(super) fn forward(&self, mut sample: Tensor, context: &mut Context) -> Result<(Tensor, Vec<Tensor>)> {
        let mut skips = vec![sample.shallow_clone()];
        for block in &self.down_blocks {
            sample = block.forward(sample, context, &mut skips)?;
        }
        if let Some(block) = &self.mid_block {
            sample = block.forward(sample, context)?;
        }
        Ok((sample, skips))
    }

    /// The outermost level alone, without what leads to the next → its skips.
    pub(super) fn forward_outer(&self, sample: Tensor, context: &mut Context) -> Result<Vec<Tensor>> {
        let mut skips = vec![sample.shallow_clone()];
        let _ = self.down_blocks[0].forward_level(sample, context, &mut skips)?;
        Ok(skips)
    }
}

/// All that cross-attentions read of `text [b, tokens, cross_attention_dim]` → `[b, width]`, in
/// their order.
pub(super) fn keys_values<'a>(
    attentions: impl Iterator<Item = &'a Transformer2DModel>,
    text: &Tensor,
) -> Result<Tensor> {
    let mut all = Vec::new();
    for attention in attentions {
        attention.keys_values(text, &mut all)?;
    }
    match all.is_empty() {
        true => text.f_narrow(1, 0, 0)?.f_flatten(1, -1),
        false => Tensor::f_cat(&all, 1),
    }
}
