//! Pixels to latents and back.

use tch::Tensor;

use super::Result;
use super::attention::SelfAttention;
use super::device::place;
use super::edges;
use super::layers::Conv2d;
use super::norms::GroupNorm;
use super::resnet::{Downsample, ResnetBlock, ResnetShape, Upsample};
use super::weights::Node;
use crate::error::Error;
use crate::model::config::{Activation, TimeScaleShift, VaeConfig};

/// `AutoencoderKL`. Source: diffusers 0.42.1, `models/autoencoders/autoencoder_kl.py`.
pub(super) struct Vae {
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    decoder: Decoder,
    post_quant_conv: Option<Conv2d>,
    config: VaeConfig,
    tiles: Option<Tiles>,
}

/// Sides of the tiles of tiled decoding and encoding.
///
/// Source: diffusers 0.42.1, `AutoencoderKL.enable_tiling`: tiles of the native size that overlap
/// by a quarter.
#[derive(Clone, Copy)]
struct Tiles {
    sample_min_size: i64,
    latent_min_size: i64,
}

const TILE_OVERLAP_FACTOR: f64 = 0.25;

impl Vae {
    /// With `tiling`, pictures larger than the native size go through in overlapping tiles that are
    /// blended: less memory, and slight differences.
    pub(super) fn load(node: Node, config: &VaeConfig, tiling: bool) -> std::result::Result<Self, Error> {
        let latent = config.latent_channels;
        let sample_min_size = i64::from(*config.sample_size.get(0));
        Ok(Vae {
            encoder: Encoder::load(&node / "encoder", config)?,
            quant_conv: config
                .use_quant_conv
                .then(|| Conv2d::load(&node / "quant_conv", 2 * latent, 2 * latent, 1))
                .transpose()?,
            decoder: Decoder::load(&node / "decoder", config)?,
            post_quant_conv: config
                .use_post_quant_conv
                .then(|| Conv2d::load(&node / "post_quant_conv", latent, latent, 1))
                .transpose()?,
            tiles: tiling.then(|| Tiles {
                sample_min_size,
                latent_min_size: sample_min_size / i64::from(config.scale_factor()),
            }),
            config: config.clone(),
        })
    }

    pub(super) fn latent_channels(&self) -> i64 {
        self.config.latent_channels
    }

    /// Latents as the scheduler leaves them, `[b, latent_channels, h, w]` → pictures in -1..=1,
    /// `[b, 3, H, W]`.
    pub(super) fn decode_scaled(&self, latents: &Tensor) -> Result<Tensor> {
        let factor = self.config.scaling_factor;
        self.decode(&match self.spread(latents)? {
            Some((mean, std)) => latents.f_mul(&std)?.f_div_scalar(factor)?.f_add_(&mean)?,
            None => latents.f_div_scalar(factor)?,
        })
    }

    /// Pictures in -1..=1, `[b, 3, H, W]` → the mean of their latents, as schedulers expect it.
    pub(super) fn encode_scaled(&self, pictures: &Tensor) -> Result<Tensor> {
        let moments = self.encode(pictures)?;
        self.scaled(&moments.f_narrow(1, 0, self.config.latent_channels)?)
    }

    /// Pictures in -1..=1, `[b, 3, H, W]` → a draw of their latents by `noise`, which has the
    /// latents' shape, as schedulers expect it.
    pub(super) fn sample_scaled(&self, pictures: &Tensor, noise: &Tensor) -> Result<Tensor> {
        let channels = self.config.latent_channels;
        let moments = self.encode(pictures)?;
        let (mean, log_variance) =
            (moments.f_narrow(1, 0, channels)?, moments.f_narrow(1, channels, channels)?);
        let deviation = log_variance.f_clamp(-30.0, 20.0)?.f_mul_scalar(0.5)?.f_exp()?;
        self.scaled(&mean.f_add(&deviation.f_mul(noise)?)?)
    }

    /// Latents as the encoder makes them → as schedulers expect them.
    fn scaled(&self, latents: &Tensor) -> Result<Tensor> {
        let factor = self.config.scaling_factor;
        match self.spread(latents)? {
            Some((shift, std)) => latents.f_sub(&shift)?.f_mul_scalar(factor)?.f_div(&std),
            None => latents.f_mul_scalar(factor),
        }
    }

    /// `latents_mean` and `latents_std`, each `[1, latent_channels, 1, 1]`.
    fn spread(&self, like: &Tensor) -> Result<Option<(Tensor, Tensor)>> {
        let of_channels = |values: &[f64]| {
            let values = Tensor::f_from_slice(values)?.f_to_kind(like.kind())?.f_view([1, -1, 1, 1])?;
            place(&values, like.device())
        };
        match (&self.config.latents_mean, &self.config.latents_std) {
            (Some(mean), Some(std)) => Ok(Some((of_channels(mean)?, of_channels(std)?))),
            _ => Ok(None),
        }
    }

    /// `AutoencoderKL.decode`: `latents [b, latent_channels, h, w]` → `[b, 3, H, W]`.
    pub(super) fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = latents.size4()?;
        match self.tiles {
            // A tile of it has no edge of the picture to go on at.
            Some(tiles) if h.max(w) > tiles.latent_min_size && edges::are_closed() => {
                tiled(latents, tiles.latent_min_size, tiles.sample_min_size, |tile| self.decode_whole(tile))
            }
            _ => self.decode_whole(latents),
        }
    }

    /// `AutoencoderKL.encode`: `pictures [b, 3, H, W]` in -1..=1 → mean and log variance of the
    /// latents, side by side, `[b, 2 * latent_channels, h, w]`.
    pub(super) fn encode(&self, pictures: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = pictures.size4()?;
        match self.tiles {
            Some(tiles) if h.max(w) > tiles.sample_min_size && edges::are_closed() => {
                tiled(pictures, tiles.sample_min_size, tiles.latent_min_size, |tile| self.encode_whole(tile))
            }
            _ => self.encode_whole(pictures),
        }
    }

    fn decode_whole(&self, latents: &Tensor) -> Result<Tensor> {
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(latents)?),
            None => self.decoder.forward(latents),
        }
    }

    fn encode_whole(&self, pictures: &Tensor) -> Result<Tensor> {
        let moments = self.encoder.forward(pictures)?;
        match &self.quant_conv {
            Some(conv) => conv.forward(&moments),
            None => Ok(moments),
        }
    }
}

/// Puts `input` through `work` in tiles of `tile_in` that come out as `tile_out`, and blends where
/// they overlap.
fn tiled(
    input: &Tensor,
    tile_in: i64,
    tile_out: i64,
    work: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let stride = (tile_in as f64 * (1.0 - TILE_OVERLAP_FACTOR)) as i64;
    let blend = (tile_out as f64 * TILE_OVERLAP_FACTOR) as i64;
    let keep = tile_out - blend;
    let (_, _, h, w) = input.size4()?;
    let narrow = |tensor: &Tensor, dim: i64, start: i64, len: i64| {
        tensor.f_narrow(dim, start, len.min(tensor.size()[dim as usize] - start))
    };

    let mut rows: Vec<Tensor> = Vec::new();
    let mut above: Vec<Tensor> = Vec::new();
    for top in (0..h).step_by(stride as usize) {
        let strip = narrow(input, 2, top, tile_in)?;
        let mut tiles = Vec::new();
        let mut kept = Vec::new();
        for (i, left) in (0..w).step_by(stride as usize).enumerate() {
            let mut tile = work(&narrow(&strip, 3, left, tile_in)?)?;
            if let Some(above) = above.get(i) {
                tile = blended(above, tile, 2, blend)?;
            }
            if let Some(left) = tiles.last() {
                tile = blended(left, tile, 3, blend)?;
            }
            kept.push(narrow(&narrow(&tile, 2, 0, keep)?, 3, 0, keep)?);
            tiles.push(tile);
        }
        rows.push(Tensor::f_cat(&kept, 3)?);
        above = tiles;
    }
    Tensor::f_cat(&rows, 2)
}

/// `tile`, whose first `extent` rows or columns fade in over the last ones of `before`.
fn blended(before: &Tensor, tile: Tensor, dim: i64, extent: i64) -> Result<Tensor> {
    let (before_len, len) = (before.size()[dim as usize], tile.size()[dim as usize]);
    let extent = extent.min(before_len).min(len);
    let mut shape = [1; 4];
    shape[dim as usize] = extent;
    let share =
        Tensor::f_arange(extent, (tile.kind(), tile.device()))?.f_div_scalar(extent as f64)?.f_view(shape)?;
    let (from, to) = (before.f_narrow(dim, before_len - extent, extent)?, tile.f_narrow(dim, 0, extent)?);
    let faded = from.f_mul(&share.f_neg()?.f_add_scalar(1.0)?)?.f_add_(&to.f_mul(&share)?)?;
    Tensor::f_cat(&[faded, tile.f_narrow(dim, extent, len - extent)?], dim)
}

fn resnet_shape(config: &VaeConfig) -> ResnetShape {
    ResnetShape {
        time: None,
        groups: config.norm_num_groups,
        eps: 1e-6,
        act: config.act_fn,
        time_scale_shift: TimeScaleShift::Default,
        output_scale_factor: 1.0,
        rounds: false,
    }
}

fn resnets(
    node: &Node,
    c_in: i64,
    c_out: i64,
    count: usize,
    config: &VaeConfig,
) -> std::result::Result<Vec<ResnetBlock>, Error> {
    (0..count)
        .map(|i| {
            let c_in = if i == 0 { c_in } else { c_out };
            ResnetBlock::load(node / "resnets" / i, c_in, c_out, resnet_shape(config))
        })
        .collect()
}

/// Pictures to moments. Source: diffusers 0.42.1, `models/autoencoders/vae.py`, `Encoder`.
struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<(Vec<ResnetBlock>, Option<Downsample>)>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    act: Activation,
}

impl Encoder {
    fn load(node: Node, config: &VaeConfig) -> std::result::Result<Self, Error> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let mut down_blocks = Vec::new();
        for (level, &c_out) in channels.iter().enumerate() {
            let node = &node / "down_blocks" / level;
            let c_in = channels[level.saturating_sub(1)];
            let downsampler = (level + 1 < channels.len())
                .then(|| Downsample::load(&node / "downsamplers" / 0, c_out, 0))
                .transpose()?;
            down_blocks.push((resnets(&node, c_in, c_out, config.layers_per_block, config)?, downsampler));
        }
        Ok(Encoder {
            conv_in: Conv2d::load(&node / "conv_in", config.in_channels, first, 3)?,
            down_blocks,
            mid_block: MidBlock::load(&node / "mid_block", last, config)?,
            conv_norm_out: GroupNorm::load(&node / "conv_norm_out", last, config.norm_num_groups, 1e-6)?,
            conv_out: Conv2d::load(&node / "conv_out", last, 2 * config.latent_channels, 3)?,
            act: Activation::Silu,
        })
    }

    fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let mut sample = self.conv_in.forward(pictures)?;
        for (resnets, downsampler) in &self.down_blocks {
            for resnet in resnets {
                sample = resnet.forward(&sample, None, None)?;
            }
            if let Some(downsampler) = downsampler {
                sample = downsampler.forward(&sample)?;
            }
        }
        let sample = self.mid_block.forward(sample)?;
        self.conv_out.forward(&self.conv_norm_out.forward_act(&sample, self.act)?)
    }
}

/// Latents to pictures. Source: diffusers 0.42.1, `models/autoencoders/vae.py`, `Decoder`.
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<(Vec<ResnetBlock>, Option<Upsample>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    act: Activation,
}

impl Decoder {
    fn load(node: Node, config: &VaeConfig) -> std::result::Result<Self, Error> {
        let channels = &config.block_out_channels;
        let levels = channels.len();
        let (first, last) = (channels[0], channels[levels - 1]);
        let mut up_blocks = Vec::new();
        for i in 0..levels {
            let node = &node / "up_blocks" / i;
            let level = levels - 1 - i;
            let c_in = channels[(level + 1).min(levels - 1)];
            let upsampler =
                (level > 0).then(|| Upsample::load(&node / "upsamplers" / 0, channels[level])).transpose()?;
            up_blocks.push((
                resnets(&node, c_in, channels[level], config.layers_per_block + 1, config)?,
                upsampler,
            ));
        }
        Ok(Decoder {
            conv_in: Conv2d::load(&node / "conv_in", config.latent_channels, last, 3)?,
            mid_block: MidBlock::load(&node / "mid_block", last, config)?,
            up_blocks,
            conv_norm_out: GroupNorm::load(&node / "conv_norm_out", first, config.norm_num_groups, 1e-6)?,
            conv_out: Conv2d::load(&node / "conv_out", first, config.out_channels, 3)?,
            act: Activation::Silu,
        })
    }

    fn forward(&self, latents: &Tensor) -> Result<Tensor> {
        let mut sample = self.mid_block.forward(self.conv_in.forward(latents)?)?;
        for (resnets, upsampler) in &self.up_blocks {
            for resnet in resnets {
                sample = resnet.forward(&sample, None, None)?;
            }
            if let Some(upsampler) = upsampler {
                sample = upsampler.forward(&sample, None)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_act(&sample, self.act)?)
    }
}

/// ResNet block, attention over all pixels, ResNet block.
///
/// Source: diffusers 0.42.1, `models/unets/unet_2d_blocks.py`, `UNetMidBlock2D`.
struct MidBlock {
    resnets: Vec<ResnetBlock>,
    attention: Option<(GroupNorm, SelfAttention)>,
}

impl MidBlock {
    fn load(node: Node, channels: i64, config: &VaeConfig) -> std::result::Result<Self, Error> {
        let attention = match config.mid_block_add_attention {
            false => None,
            true => {
                let node = &node / "attentions" / 0;
                let norm = GroupNorm::load(&node / "group_norm", channels, config.norm_num_groups, 1e-6)?;
                Some((norm, SelfAttention::load_with_bias(node, channels, 1)?))
            }
        };
        Ok(MidBlock { resnets: resnets(&node, channels, channels, 2, config)?, attention })
    }

    fn forward(&self, sample: Tensor) -> Result<Tensor> {
        let mut sample = self.resnets[0].forward(&sample, None, None)?;
        if let Some((norm, attention)) = &self.attention {
            let (b, c, h, w) = sample.size4()?;
            let pixels = norm.forward(&sample)?.f_reshape([b, c, h * w])?.f_transpose(1, 2)?;
            let attended = attention.forward(&pixels)?.f_transpose(1, 2)?.f_reshape([b, c, h, w])?;
            sample = attended.f_add(&sample)?;
        }
        self.resnets[1].forward(&sample, None, None)
    }
}
