//! The denoiser.

use tch::Tensor;

use super::Result;
use super::attention::{Texts, Transformer2DModel, TransformerShape};
use super::embeddings::{TimestepEmbedding, timestep_embedding};
use super::layers::Conv2d;
use super::norms::GroupNorm;
use super::resnet::{Downsample, ResnetBlock, ResnetShape, Upsample};
use super::weights::Node;
use crate::error::Error;
use crate::model::config::{Activation, OneOrMany, UNetConfig};

/// `UNet2DConditionModel` with `text_time` conditioning.
///
/// Source: diffusers 0.42.1, `models/unets/unet_2d_condition.py`.
pub(super) struct UNet {
    conv_in: Conv2d,
    time_embedding: TimestepEmbedding,
    add_embedding: TimestepEmbedding,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    config: UNetConfig,
}

/// What one forward pass is told besides the noisy sample.
pub(super) struct Conditioning<'a> {
    /// From [`UNet::embed_time`]: `[rows, time_width]`, one for each of the sample's.
    pub(super) time: &'a Tensor,
    /// From [`UNet::keys_values`], for the last of the sample's rows; the texts of those before are
    /// zeros.
    pub(super) texts: &'a Tensor,
    /// Of a text.
    pub(super) tokens: i64,
}

impl UNet {
    pub(super) fn load(node: Node, config: &UNetConfig) -> std::result::Result<Self, Error> {
        let channels = &config.block_out_channels;
        let levels = channels.len();
        let (first, last) = (channels[0], channels[levels - 1]);
        let time = 4 * first;
        let resnet = ResnetShape {
            time: Some(time),
            groups: config.norm_num_groups,
            eps: config.norm_eps,
            act: config.act_fn,
            time_scale_shift: config.resnet_time_scale_shift,
            output_scale_factor: 1.0,
            // Skips are parts of what is normed, and so are to fit as well.
            rounds: channels.iter().all(|channels| channels % 8 == 0),
        };
        let transformer = |level: usize| TransformerShape {
            heads: *config.attention_head_dim.get(level),
            text_width: *config.cross_attention_dim.get(level),
            groups: config.norm_num_groups,
            linear: config.use_linear_projection,
        };

        let mut down_blocks = Vec::new();
        for level in 0..levels {
            down_blocks.push(DownBlock::load(
                &node / "down_blocks" / level,
                channels[level.saturating_sub(1)],
                channels[level],
                &LevelShape {
                    resnets: *config.layers_per_block.get(level),
                    resnet,
                    depths: (config.down_block_types[level] == "CrossAttnDownBlock2D")
                        .then(|| config.transformer_layers_per_block.get(level)),
                    transformer: transformer(level),
                },
                (level + 1 < levels).then_some(config.downsample_padding),
            )?);
        }

        let mid_block = match config.mid_block_type.as_deref() {
            None => None,
            Some(class) => Some(MidBlock::load(
                &node / "mid_block",
                last,
                &LevelShape {
                    resnets: if class == "UNetMidBlock2DCrossAttn" { 2 } else { 1 },
                    resnet: ResnetShape { output_scale_factor: config.mid_block_scale_factor, ..resnet },
                    depths: (class == "UNetMidBlock2DCrossAttn")
                        .then(|| config.transformer_layers_per_block.get(levels - 1)),
                    transformer: transformer(levels - 1),
                },
            )?),
        };

        let mut up_blocks = Vec::new();
        for i in 0..levels {
            let level = levels - 1 - i;
            let depths = match &config.reverse_transformer_layers_per_block {
                Some(reversed) => &reversed[i],
                None => config.transformer_layers_per_block.get(level),
            };
            up_blocks.push(UpBlock::load(
                &node / "up_blocks" / i,
                channels[(level + 1).min(levels - 1)],
                channels[level],
                channels[level.saturating_sub(1)],
                &LevelShape {
                    resnets: *config.layers_per_block.get(level) + 1,
                    resnet,
                    depths: (config.up_block_types[i] == "CrossAttnUpBlock2D").then_some(depths),
                    transformer: transformer(level),
                },
                level > 0,
            )?);
        }

        Ok(UNet {
            conv_in: Conv2d::load(&node / "conv_in", config.in_channels, first, config.conv_in_kernel)?,
            time_embedding: TimestepEmbedding::load(
                &node / "time_embedding",
                first,
                time,
                config.time_cond_proj_dim,
                config.act_fn,
            )?,
            add_embedding: TimestepEmbedding::load(
                &node / "add_embedding",
                config.projection_class_embeddings_input_dim,
                time,
                None,
                Activation::Silu,
            )?,
            down_blocks,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &node / "conv_norm_out",
                first,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(&node / "conv_out", first, config.out_channels, config.conv_out_kernel)?,
            config: config.clone(),
        })
    }

    /// What all cross-attentions read of `text [b, tokens, cross_attention_dim]` → `[b, width]`, in
    /// the order of the forward pass.
    pub(super) fn keys_values(&self, text: &Tensor) -> Result<Tensor> {
        let mut all = Vec::new();
        let down = self.down_blocks.iter().flat_map(|block| &block.attentions);
        let mid = self.mid_block.iter().flat_map(|block| &block.attentions);
        let up = self.up_blocks.iter().flat_map(|block| &block.attentions);
        for attention in down.chain(mid).chain(up) {
            attention.keys_values(text, &mut all)?;
        }
        match all.is_empty() {
            true => text.f_narrow(1, 0, 0)?.f_flatten(1, -1),
            false => Tensor::f_cat(&all, 1),
        }
    }

    /// All ResNet blocks, in the order of the forward pass.
    fn resnets(&self) -> impl Iterator<Item = &ResnetBlock> {
        let down = self.down_blocks.iter().flat_map(|block| &block.resnets);
        let mid = self.mid_block.iter().flat_map(|block| &block.resnets);
        let up = self.up_blocks.iter().flat_map(|block| &block.resnets);
        down.chain(mid).chain(up)
    }

    /// What all ResNet blocks read of `timesteps [n]`, in `f32`, with `added [1, c_time]` of
    /// [`embed_added`](UNet::embed_added) and, for models that have it,
    /// `guidance [1, time_cond_proj_dim]` → `[n, time_width]`, in the order of the forward pass. It
    /// depends on the schedule and the prompt alone, so all of a picture's steps are embedded at
    /// once.
    pub(super) fn embed_time(
        &self,
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
        let parts = self.resnets().filter_map(|resnet| resnet.project_time(&time).transpose());
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

    /// `sample [rows, in_channels, h, w]`, already scaled for its timestep → the model's answer, of
    /// the same shape, and what the inner levels made of it.
    pub(super) fn forward(&self, sample: &Tensor, conditioning: &Conditioning) -> Result<(Tensor, Tensor)> {
        // 1. what goes to every block
        let mut context = Context {
            time: conditioning.time,
            next: 0,
            texts: Texts::new(conditioning.texts, conditioning.tokens),
        };

        // 2. down
        let mut sample = self.conv_in.forward(sample)?;
        let mut skips = vec![sample.shallow_clone()];
        for block in &self.down_blocks {
            sample = block.forward(sample, &mut context, &mut skips)?;
        }

        // 3. mid
        if let Some(block) = &self.mid_block {
            sample = block.forward(sample, &mut context)?;
        }

        // 4. up
        let (last, inner) = self.up_blocks.split_last().expect("a UNet has a level");
        for block in inner {
            sample = block.forward(sample, &mut context, &mut skips)?;
        }
        let deep = sample.shallow_clone();
        sample = last.forward(sample, &mut context, &mut skips)?;

        // 5. out
        Ok((self.read_out(&sample)?, deep))
    }

    /// As [`forward`](UNet::forward), with `deep`, what the inner levels made of another step's
    /// sample, in place of theirs of this.
    pub(super) fn forward_shallow(
        &self,
        sample: &Tensor,
        conditioning: &Conditioning,
        deep: &Tensor,
    ) -> Result<Tensor> {
        let mut context = Context {
            time: conditioning.time,
            next: 0,
            texts: Texts::new(conditioning.texts, conditioning.tokens),
        };
        let sample = self.conv_in.forward(sample)?;
        let mut skips = vec![sample.shallow_clone()];
        let _ = self.down_blocks[0].forward_level(sample, &mut context, &mut skips)?;
        let last = self.up_blocks.last().expect("a UNet has a level");
        context.next = self.time_width() - last.resnets.iter().map(ResnetBlock::time_width).sum::<i64>();
        context.texts.skip_to_last(last.attentions.iter().map(Transformer2DModel::text_width).sum());
        self.read_out(&last.forward(deep.shallow_clone(), &mut context, &mut skips)?)
    }

    /// Of all that [`embed_time`](UNet::embed_time) makes.
    fn time_width(&self) -> i64 {
        self.resnets().map(ResnetBlock::time_width).sum()
    }

    fn read_out(&self, sample: &Tensor) -> Result<Tensor> {
        self.conv_out.forward(&self.conv_norm_out.forward_act(sample, self.config.act_fn)?)
    }
}

/// What blocks read besides the sample, each its part, one after the other.
struct Context<'a> {
    time: &'a Tensor,
    next: i64,
    texts: Texts<'a>,
}

impl Context<'_> {
    /// A ResNet block's part of the embedded time.
    fn time(&mut self, resnet: &ResnetBlock) -> Result<Tensor> {
        let width = resnet.time_width();
        self.next += width;
        self.time.f_narrow(1, self.next - width, width)
    }
}

/// What the parts of one level are made from.
struct LevelShape<'a> {
    resnets: usize,
    resnet: ResnetShape,
    /// Transformer blocks of each attention; none in levels without text.
    depths: Option<&'a OneOrMany<usize>>,
    transformer: TransformerShape,
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
struct DownBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Transformer2DModel>,
    downsampler: Option<Downsample>,
}

impl DownBlock {
    fn load(
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

    fn forward(&self, mut sample: Tensor, context: &mut Context, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        sample = self.forward_level(sample, context, skips)?;
        if let Some(downsampler) = &self.downsampler {
            sample = downsampler.forward(&sample)?;
            skips.push(sample.shallow_clone());
        }
        Ok(sample)
    }

    /// Without what leads to the next level.
    fn forward_level(
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
struct MidBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Transformer2DModel>,
}

impl MidBlock {
    fn load(node: Node, channels: i64, shape: &LevelShape) -> std::result::Result<Self, Error> {
        Ok(MidBlock {
            resnets: (0..shape.resnets)
                .map(|i| ResnetBlock::load(&node / "resnets" / i, channels, channels, shape.resnet))
                .collect::<std::result::Result<_, _>>()?,
            attentions: shape.attentions(&node, channels, shape.resnets - 1)?,
        })
    }

    fn forward(&self, mut sample: Tensor, context: &mut Context) -> Result<Tensor> {
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
struct UpBlock {
    resnets: Vec<ResnetBlock>,
    attentions: Vec<Transformer2DModel>,
    upsampler: Option<Upsample>,
}

impl UpBlock {
    /// `c_before` comes from the block before, `c_next` is the next level's; both decide the skip
    /// paths' widths.
    fn load(
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

    fn forward(&self, mut sample: Tensor, context: &mut Context, skips: &mut Vec<Tensor>) -> Result<Tensor> {
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
