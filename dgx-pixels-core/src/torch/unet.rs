//! The denoiser.

use tch::Tensor;

use super::Result;
use super::attention::Transformer2DModel;
use super::blocks::{Conditioning, Context, LevelShape, UpBlock};
use super::down_path::{DownPath, keys_values, resnet_shape, transformer_shape};
use super::layers::Conv2d;
use super::norms::GroupNorm;
use super::resnet::ResnetBlock;
use super::weights::Node;
use crate::error::Error;
use crate::model::config::UNetConfig;

/// `UNet2DConditionModel` with `text_time` conditioning.
///
/// Source: diffusers 0.42.1, `models/unets/unet_2d_condition.py`.
pub(super) struct UNet {
    path: DownPath,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet {
    pub(super) fn load(node: Node, config: &UNetConfig) -> std::result::Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (levels, first) = (channels.len(), channels[0]);
        let path = DownPath::load(&node, config)?;

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
                    resnet: resnet_shape(config),
                    depths: (config.up_block_types[i] == "CrossAttnUpBlock2D").then_some(depths),
                    transformer: transformer_shape(config, level),
                },
                level > 0,
            )?);
        }

        Ok(UNet {
            path,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &node / "conv_norm_out",
                first,
                config.norm_num_groups,
                config.norm_eps,
            )?,
            conv_out: Conv2d::load(&node / "conv_out", first, config.out_channels, config.conv_out_kernel)?,
        })
    }

    /// All that cross-attentions read of `text [b, tokens, cross_attention_dim]` → `[b, width]`, in
    /// the order of the forward pass.
    pub(super) fn keys_values(&self, text: &Tensor) -> Result<Tensor> {
        let up = self.up_blocks.iter().flat_map(|block| &block.attentions);
        keys_values(self.path.attentions().chain(up), text)
    }

    /// All ResNet blocks, in the order of the forward pass.
    fn resnets(&self) -> impl Iterator<Item = &ResnetBlock> {
        self.path.resnets().chain(self.up_blocks.iter().flat_map(|block| &block.resnets))
    }

    /// All that ResNet blocks read of the timesteps, as [`DownPath::embed_time`] makes it.
    pub(super) fn embed_time(
        &self,
        timesteps: &Tensor,
        added: &Tensor,
        guidance: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.path.embed_time(self.resnets(), timesteps, added, guidance)
    }

    /// The part of the time embedding that is the same at every step, as
    /// [`DownPath::embed_added`] makes it.
    pub(super) fn embed_added(&self, pooled: &Tensor, time_ids: &Tensor) -> Result<Tensor> {
        self.path.embed_added(pooled, time_ids)
    }

    /// `sample [rows, in_channels, h, w]`, already scaled for its timestep → the model's answer, of
    /// the same shape, and what the inner levels made of it. `control`: what control nets add to
    /// the skips, in their order, and to what the middle makes.
    pub(super) fn forward(
        &self,
        sample: &Tensor,
        conditioning: &Conditioning,
        control: Option<&[Tensor]>,
    ) -> Result<(Tensor, Tensor)> {
        // 1. down and mid
        let mut context = Context::new(conditioning);
        let first = self.path.conv_in.forward(sample)?;
        let (mut sample, mut skips) = self.path.forward(first, &mut context)?;
        if let Some((mid, down)) = control.and_then(<[Tensor]>::split_last) {
            add(&mut skips, down)?;
            sample = sample.f_add(mid)?;
        }

        // 2. up
        let (last, inner) = self.up_blocks.split_last().expect("a UNet has a level");
        for block in inner {
            sample = block.forward(sample, &mut context, &mut skips)?;
        }
        let deep = sample.shallow_clone();
        sample = last.forward(sample, &mut context, &mut skips)?;

        // 3. out
        Ok((self.read_out(&sample)?, deep))
    }

    /// As [`forward`](UNet::forward), with `deep`, what the inner levels made of another step's
    /// sample, in place of theirs of this. `control`: what is added to the skips of the outermost
    /// level.
    pub(super) fn forward_shallow(
        &self,
        sample: &Tensor,
        conditioning: &Conditioning,
        control: Option<&[Tensor]>,
        deep: &Tensor,
    ) -> Result<Tensor> {
        let mut context = Context::new(conditioning);
        let mut skips = self.path.forward_outer(self.path.conv_in.forward(sample)?, &mut context)?;
        add(&mut skips, control.unwrap_or_default())?;
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
        self.conv_out.forward(&self.conv_norm_out.forward_act(sample, self.path.config.act_fn)?)
    }
}

/// Adds residuals to the skips, of which the first has the first.
fn add(skips: &mut [Tensor], residuals: &[Tensor]) -> Result<()> {
    for (skip, residual) in skips.iter_mut().zip(residuals) {
        // Not in place: the first skip is also what the first level reads.
        *skip = skip.f_add(residual)?;
    }
    Ok(())
}
