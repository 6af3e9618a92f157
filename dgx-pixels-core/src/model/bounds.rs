//! The ranges of a model's configs. Model folders come from anywhere: a number of layers or
//! channels that no model has would ask for terabytes, or divide by zero.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::config::{ClipConfig, OneOrMany, UNetConfig, VaeConfig};

/// Levels of a UNet or VAE. More would also make pictures that no side can hold.
const LEVELS: usize = 8;
/// Blocks of one level, and transformer blocks of one attention. SDXL has up to 10.
const BLOCKS: RangeInclusive<usize> = 1..=64;
/// Channels and widths. SDXL's widest is 5120.
const WIDTHS: RangeInclusive<i64> = 1..=65_536;
/// Sides of a picture or a latent, in its pixels.
const SIDES: RangeInclusive<u32> = 1..=8192;
const HEADS: RangeInclusive<i64> = 1..=1024;
const GROUPS: RangeInclusive<i64> = 1..=1024;
const KERNELS: RangeInclusive<i64> = 1..=15;
const EPSILONS: RangeInclusive<f64> = 0.0..=1.0;
/// Factors that something is divided by.
const FACTORS: RangeInclusive<f64> = 1e-6..=1e6;
/// Means of latents.
const MEANS: RangeInclusive<f64> = -1e6..=1e6;
const VOCABULARIES: RangeInclusive<i64> = 1..=10_000_000;
const POSITIONS: RangeInclusive<i64> = 3..=4096;
/// SDXL reads the last layer but one.
const TEXT_LAYERS: RangeInclusive<usize> = 2..=256;

fn within<T: PartialOrd + Display>(name: &str, value: T, range: &RangeInclusive<T>) -> Result<(), String> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!("`{name}` is {value}; expected {} to {}", range.start(), range.end()))
}

fn all_within<'a, T: PartialOrd + Display + Copy + 'a>(
    name: &str,
    values: impl IntoIterator<Item = &'a T>,
    range: &RangeInclusive<T>,
) -> Result<(), String> {
    values.into_iter().try_for_each(|value| within(name, *value, range))
}

/// A side, or height and width.
fn sides(name: &str, size: &OneOrMany<u32>) -> Result<(), String> {
    if let OneOrMany::Many(sides) = size
        && sides.len() != 2
    {
        return Err(format!(
            "`{name}` has {} entries; expected one number, or height and width",
            sides.len()
        ));
    }
    all_within(name, size.values(), &SIDES)
}

/// Channels of each level, which the groups of a norm divide.
fn channels(channels: &[i64], groups: i64) -> Result<(), String> {
    if channels.is_empty() || channels.len() > LEVELS {
        let found = channels.len();
        return Err(format!(
            "`block_out_channels` has {found} entries; expected the channels of 1 to {LEVELS} levels"
        ));
    }
    all_within("block_out_channels", channels, &WIDTHS)?;
    within("norm_num_groups", groups, &GROUPS)?;
    match channels.iter().find(|channels| *channels % groups != 0) {
        Some(channels) => {
            Err(format!("`block_out_channels` has {channels}, which {groups} groups do not divide"))
        }
        None => Ok(()),
    }
}

impl UNetConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        channels(&self.block_out_channels, self.norm_num_groups)?;
        self.check_levels()?;
        if let Some(size) = &self.sample_size {
            sides("sample_size", size)?;
        }
        for (name, value, range) in [
            ("in_channels", self.in_channels, &WIDTHS),
            ("out_channels", self.out_channels, &WIDTHS),
            ("downsample_padding", self.downsample_padding, &(0..=1)),
            ("addition_time_embed_dim", self.addition_time_embed_dim, &(4..=65_536)),
            ("time_cond_proj_dim", self.time_cond_proj_dim.unwrap_or(4), &(4..=65_536)),
            ("conv_in_kernel", self.conv_in_kernel, &KERNELS),
            ("conv_out_kernel", self.conv_out_kernel, &KERNELS),
            (
                "projection_class_embeddings_input_dim",
                self.projection_class_embeddings_input_dim,
                &(0..=1_000_000),
            ),
        ] {
            within(name, value, range)?;
        }
        for (name, kernel) in
            [("conv_in_kernel", self.conv_in_kernel), ("conv_out_kernel", self.conv_out_kernel)]
        {
            if kernel % 2 == 0 {
                return Err(format!("`{name}` is {kernel}; expected an odd number"));
            }
        }
        for (name, value, range) in [
            ("freq_shift", self.freq_shift, &(0.0..=1.0)),
            ("mid_block_scale_factor", self.mid_block_scale_factor, &FACTORS),
            ("norm_eps", self.norm_eps, &EPSILONS),
        ] {
            within(name, value, range)?;
        }
        Ok(())
    }

    /// What is given level by level.
    fn check_levels(&self) -> Result<(), String> {
        let levels = self.block_out_channels.len();
        for (name, found) in [
            ("down_block_types", self.down_block_types.len()),
            ("up_block_types", self.up_block_types.len()),
            ("layers_per_block", self.layers_per_block.levels(levels)),
            ("cross_attention_dim", self.cross_attention_dim.levels(levels)),
            ("transformer_layers_per_block", self.transformer_layers_per_block.levels(levels)),
            ("attention_head_dim", self.attention_head_dim.levels(levels)),
            (
                "reverse_transformer_layers_per_block",
                self.reverse_transformer_layers_per_block.as_ref().map_or(levels, Vec::len),
            ),
        ] {
            if found != levels {
                return Err(format!(
                    "`{name}` has {found} entries; expected {levels}, as `block_out_channels` has"
                ));
            }
        }
        all_within("layers_per_block", self.layers_per_block.values(), &BLOCKS)?;
        all_within("cross_attention_dim", self.cross_attention_dim.values(), &WIDTHS)?;
        all_within("attention_head_dim", self.attention_head_dim.values(), &HEADS)?;
        for (channels, heads) in self.block_out_channels.iter().zip(self.attention_head_dim.iter(levels)) {
            if channels % heads != 0 {
                return Err(format!(
                    "`block_out_channels` has {channels}, which {} groups and {heads} heads do not divide",
                    self.norm_num_groups
                ));
            }
        }
        let down = self.transformer_layers_per_block.iter(levels).enumerate();
        for (level, depths) in down {
            let attends = self.down_block_types[level] == "CrossAttnDownBlock2D";
            let is_mid =
                level + 1 == levels && self.mid_block_type.as_deref() == Some("UNetMidBlock2DCrossAttn");
            let mirrored = self.reverse_transformer_layers_per_block.is_none()
                && self.up_block_types[levels - 1 - level] == "CrossAttnUpBlock2D";
            let resnets = *self.layers_per_block.get(level);
            let needed = [(attends, resnets), (is_mid, 1), (mirrored, resnets + 1)];
            check_depths("transformer_layers_per_block", depths, &needed)?;
        }
        for (i, depths) in self.reverse_transformer_layers_per_block.iter().flatten().enumerate() {
            let attends = self.up_block_types[i] == "CrossAttnUpBlock2D";
            let resnets = *self.layers_per_block.get(levels - 1 - i) + 1;
            check_depths("reverse_transformer_layers_per_block", depths, &[(attends, resnets)])?;
        }
        Ok(())
    }
}

/// The depths of one level's attentions: those that are listed must be enough for each part that
/// reads them.
fn check_depths(name: &str, depths: &OneOrMany<usize>, needed: &[(bool, usize)]) -> Result<(), String> {
    all_within(name, depths.values(), &BLOCKS)?;
    let needed = needed.iter().filter(|(reads, _)| *reads).map(|(_, count)| *count).max().unwrap_or(0);
    match depths {
        OneOrMany::Many(depths) if depths.len() < needed => Err(format!(
            "`{name}` has {} entries for a level; expected {needed}, one an attention",
            depths.len()
        )),
        OneOrMany::Many(_) | OneOrMany::One(_) => Ok(()),
    }
}

impl VaeConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        channels(&self.block_out_channels, self.norm_num_groups)?;
        within("in_channels", self.in_channels, &WIDTHS)?;
        within("latent_channels", self.latent_channels, &WIDTHS)?;
        within("layers_per_block", self.layers_per_block, &BLOCKS)?;
        within("scaling_factor", self.scaling_factor, &FACTORS)?;
        sides("sample_size", &self.sample_size)?;
        // A tile of fewer latents has no part that overlaps.
        let smallest = 2 * self.scale_factor();
        all_within("sample_size", self.sample_size.values(), &(smallest..=*SIDES.end()))?;
        all_within("latents_mean", self.latents_mean.iter().flatten(), &MEANS)?;
        all_within("latents_std", self.latents_std.iter().flatten(), &FACTORS)?;
        for values in [&self.latents_mean, &self.latents_std].into_iter().flatten() {
            if values.len() as i64 != self.latent_channels {
                return Err(format!(
                    "`latents_mean` and `latents_std` have {} entries; expected `latent_channels`, {}",
                    values.len(),
                    self.latent_channels
                ));
            }
        }
        if self.out_channels != 3 {
            return Err(format!("`out_channels` is {}; expected 3 for red, green, blue", self.out_channels));
        }
        Ok(())
    }
}

impl ClipConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        within("vocab_size", self.vocab_size, &VOCABULARIES)?;
        within("hidden_size", self.hidden_size, &WIDTHS)?;
        within("intermediate_size", self.intermediate_size, &(1..=1_000_000))?;
        within("projection_dim", self.projection_dim, &WIDTHS)?;
        within("num_hidden_layers", self.num_hidden_layers, &TEXT_LAYERS)?;
        within("num_attention_heads", self.num_attention_heads, &HEADS)?;
        within("max_position_embeddings", self.max_position_embeddings, &POSITIONS)?;
        within("layer_norm_eps", self.layer_norm_eps, &EPSILONS)?;
        // Configs may name an end that the vocabulary does not reach, as 49407 with fewer rows.
        within("eos_token_id", self.eos_token_id, &(0..=*VOCABULARIES.end()))?;
        if self.hidden_size % self.num_attention_heads != 0 {
            return Err(format!(
                "`hidden_size` is {}, which {} heads do not divide",
                self.hidden_size, self.num_attention_heads
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::error::{Reason, one_line};

    fn unet() -> Value {
        json!({
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "block_out_channels": [8, 16],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"], "norm_num_groups": 4,
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "attention_head_dim": 2,
            "cross_attention_dim": 32, "projection_class_embeddings_input_dim": 64,
        })
    }

    fn edited<T>(base: &Value, (name, value): (&str, Value), parse: fn(&str) -> Result<T, Reason>) -> String {
        let mut edited = base.clone();
        edited[name] = value;
        let error = parse(&edited.to_string()).err();
        one_line(&error.unwrap_or_else(|| panic!("`{name}` is taken: {edited}")))
    }

    #[test]
    fn numbers_that_no_unet_has_are_refused_with_their_range() {
        assert!(UNetConfig::parse(&unet().to_string()).is_ok());
        for (field, message) in [
            (
                ("block_out_channels", json!([])),
                "`block_out_channels` has 0 entries; expected the channels of 1 to 8 levels",
            ),
            (
                ("block_out_channels", json!(vec![8; 1000])),
                "`block_out_channels` has 1000 entries; expected the channels of 1 to 8 levels",
            ),
            (
                ("block_out_channels", json!([8, 4_000_000_000u32])),
                "`block_out_channels` is 4000000000; expected 1 to 65536",
            ),
            (("block_out_channels", json!([-8, 16])), "`block_out_channels` is -8; expected 1 to 65536"),
            (
                ("layers_per_block", json!(1_000_000_000_000u64)),
                "`layers_per_block` is 1000000000000; expected 1 to 64",
            ),
            (
                ("transformer_layers_per_block", json!(1u64 << 50)),
                "`transformer_layers_per_block` is 1125899906842624; expected 1 to 64",
            ),
            (("norm_num_groups", json!(0)), "`norm_num_groups` is 0; expected 1 to 1024"),
            (("attention_head_dim", json!(0)), "`attention_head_dim` is 0; expected 1 to 1024"),
            (("attention_head_dim", json!([2, -2])), "`attention_head_dim` is -2; expected 1 to 1024"),
            (("sample_size", json!(4_294_967_295u32)), "`sample_size` is 4294967295; expected 1 to 8192"),
            (
                ("sample_size", json!([8])),
                "`sample_size` has 1 entries; expected one number, or height and width",
            ),
            (
                ("cross_attention_dim", json!(i64::MAX)),
                "`cross_attention_dim` is 9223372036854775807; expected 1 to 65536",
            ),
            (
                ("addition_time_embed_dim", json!(i64::MAX)),
                "`addition_time_embed_dim` is 9223372036854775807; expected 4 to 65536",
            ),
            (("conv_in_kernel", json!(2)), "`conv_in_kernel` is 2; expected an odd number"),
            (("norm_eps", json!(-1.0)), "`norm_eps` is -1; expected 0 to 1"),
            (
                ("mid_block_scale_factor", json!(0.0)),
                "`mid_block_scale_factor` is 0; expected 0.000001 to 1000000",
            ),
            (
                ("transformer_layers_per_block", json!([1, [1]])),
                "`transformer_layers_per_block` has 1 entries for a level; expected 3, one an attention",
            ),
            (
                ("reverse_transformer_layers_per_block", json!([[1, 2], 1])),
                "`reverse_transformer_layers_per_block` has 2 entries for a level; expected 3, one an attention",
            ),
        ] {
            assert_eq!(edited(&unet(), field, UNetConfig::parse), message);
        }
    }

    #[test]
    fn numbers_that_no_vae_has_are_refused_with_their_range() {
        let vae = json!({ "block_out_channels": [8, 8, 16], "norm_num_groups": 4 });
        assert!(VaeConfig::parse(&vae.to_string()).is_ok());
        for (field, message) in [
            (
                ("block_out_channels", json!(vec![8; 65])),
                "`block_out_channels` has 65 entries; expected the channels of 1 to 8 levels",
            ),
            (("block_out_channels", json!([9])), "`block_out_channels` has 9, which 4 groups do not divide"),
            (("sample_size", json!(7)), "`sample_size` is 7; expected 8 to 8192"),
            (("scaling_factor", json!(0)), "`scaling_factor` is 0; expected 0.000001 to 1000000"),
            (("latents_std", json!([1, 0, 1, 1])), "`latents_std` is 0; expected 0.000001 to 1000000"),
            (
                ("layers_per_block", json!(u64::MAX)),
                "`layers_per_block` is 18446744073709551615; expected 1 to 64",
            ),
            (("latent_channels", json!(-4)), "`latent_channels` is -4; expected 1 to 65536"),
        ] {
            assert_eq!(edited(&vae, field, VaeConfig::parse), message);
        }
    }

    #[test]
    fn numbers_that_no_text_encoder_has_are_refused_with_their_range() {
        assert!(ClipConfig::parse("{}").is_ok());
        for (field, message) in [
            (("vocab_size", json!(1u64 << 40)), "`vocab_size` is 1099511627776; expected 1 to 10000000"),
            (("hidden_size", json!(0)), "`hidden_size` is 0; expected 1 to 65536"),
            (("num_hidden_layers", json!(1)), "`num_hidden_layers` is 1; expected 2 to 256"),
            (
                ("num_hidden_layers", json!(1u64 << 60)),
                "`num_hidden_layers` is 1152921504606846976; expected 2 to 256",
            ),
            (("num_attention_heads", json!(7)), "`hidden_size` is 512, which 7 heads do not divide"),
            (
                ("max_position_embeddings", json!(1u64 << 40)),
                "`max_position_embeddings` is 1099511627776; expected 3 to 4096",
            ),
            (("max_position_embeddings", json!(-1)), "`max_position_embeddings` is -1; expected 3 to 4096"),
            (("eos_token_id", json!(-1)), "`eos_token_id` is -1; expected 0 to 10000000"),
        ] {
            assert_eq!(edited(&json!({}), field, ClipConfig::parse), message);
        }
    }
}
