//! Names of the layout that Stability AI trained SDXL in, and diffusers' names for the same
//! tensors.
//!
//! Both count the same blocks. The layout counts all blocks of one direction in one list; diffusers
//! counts levels, and blocks within a level.

use std::ops::Range;

/// The parts of a ResNet block: the layout's name, and diffusers'.
const RESNET: [(&str, &str); 6] = [
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
];

/// The parts outside of blocks.
const OUTSIDE: [(&str, &str); 7] = [
    ("input_blocks.0.0", "conv_in"),
    ("time_embed.0", "time_embedding.linear_1"),
    ("time_embed.2", "time_embedding.linear_2"),
    ("label_emb.0.0", "add_embedding.linear_1"),
    ("label_emb.0.2", "add_embedding.linear_2"),
    ("out.0", "conv_norm_out"),
    ("out.2", "conv_out"),
];

/// The part of `name` after `prefix` and a dot, with the dot; empty if it is the prefix itself.
fn after<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The first number of `name`, and what follows its dot.
fn number(name: &str) -> Option<(usize, &str)> {
    let (number, rest) = name.split_once('.')?;
    // `+1` and `01` are no numbers of a name.
    let number: usize = number.parse().ok().filter(|parsed: &usize| parsed.to_string() == number)?;
    Some((number, rest))
}

fn translated(name: &str, table: &[(&str, &str)], back: bool) -> Option<String> {
    table.iter().find_map(|(sgm, diffusers)| {
        let (from, to) = if back { (diffusers, sgm) } else { (sgm, diffusers) };
        after(name, from).map(|rest| format!("{to}{rest}"))
    })
}

/// diffusers' name of the UNet's module or tensor `name`. `layers` is the number of ResNet blocks
/// in a level of the way down.
pub(super) fn unet_to_diffusers(name: &str, layers: usize) -> Option<String> {
    if let Some(name) = translated(name, &OUTSIDE, false) {
        return Some(name);
    }
    let resnet = |rest: &str| translated(rest, &RESNET, false);
    if let Some(rest) = name.strip_prefix("input_blocks.") {
        let (n, rest) = number(rest)?;
        let (m, rest) = number(rest)?;
        let n = n.checked_sub(1)?;
        let (i, j) = (n / (layers + 1), n % (layers + 1));
        return match m {
            0 if j == layers => {
                after(rest, "op").map(|rest| format!("down_blocks.{i}.downsamplers.0.conv{rest}"))
            }
            0 => Some(format!("down_blocks.{i}.resnets.{j}.{}", resnet(rest)?)),
            1 if j < layers => Some(format!("down_blocks.{i}.attentions.{j}.{rest}")),
            _ => None,
        };
    }
    if let Some(rest) = name.strip_prefix("middle_block.") {
        let (n, rest) = number(rest)?;
        return match n {
            0 => Some(format!("mid_block.resnets.0.{}", resnet(rest)?)),
            1 => Some(format!("mid_block.attentions.0.{rest}")),
            2 => Some(format!("mid_block.resnets.1.{}", resnet(rest)?)),
            _ => None,
        };
    }
    let (n, rest) = number(name.strip_prefix("output_blocks.")?)?;
    let (m, rest) = number(rest)?;
    let (i, j) = (n / (layers + 1), n % (layers + 1));
    match (m, after(rest, "conv")) {
        (1 | 2, Some(rest)) => Some(format!("up_blocks.{i}.upsamplers.0.conv{rest}")),
        (0, None) => Some(format!("up_blocks.{i}.resnets.{j}.{}", resnet(rest)?)),
        (1, None) => Some(format!("up_blocks.{i}.attentions.{j}.{rest}")),
        _ => None,
    }
}

/// The parts of a control net outside of a UNet's blocks.
const CONTROL: [(&str, &str); 9] = [
    ("middle_block_out.0", "controlnet_mid_block"),
    ("input_hint_block.0", "controlnet_cond_embedding.conv_in"),
    ("input_hint_block.2", "controlnet_cond_embedding.blocks.0"),
    ("input_hint_block.4", "controlnet_cond_embedding.blocks.1"),
    ("input_hint_block.6", "controlnet_cond_embedding.blocks.2"),
    ("input_hint_block.8", "controlnet_cond_embedding.blocks.3"),
    ("input_hint_block.10", "controlnet_cond_embedding.blocks.4"),
    ("input_hint_block.12", "controlnet_cond_embedding.blocks.5"),
    ("input_hint_block.14", "controlnet_cond_embedding.conv_out"),
];

/// diffusers' name of the control net's tensor `name`, as [`unet_to_diffusers`] translates a
/// UNet's.
pub(super) fn control_to_diffusers(name: &str, layers: usize) -> Option<String> {
    if let Some(rest) = name.strip_prefix("zero_convs.") {
        let (n, rest) = number(rest)?;
        return Some(format!("controlnet_down_blocks.{n}{}", rest.strip_prefix('0')?));
    }
    translated(name, &CONTROL, false).or_else(|| unet_to_diffusers(name, layers))
}

/// The layout's name of the UNet's module or tensor that diffusers calls `name`. `attends` says
/// whether a block of the way up has attentions.
#[cfg(any(feature = "engine", feature = "torch", test))]
pub(super) fn unet_from_diffusers(
    name: &str,
    layers: usize,
    attends: impl Fn(usize) -> bool,
) -> Option<String> {
    if let Some(name) = translated(name, &OUTSIDE, true) {
        return Some(name);
    }
    let resnet = |rest: &str| translated(rest, &RESNET, true);
    if let Some(rest) = name.strip_prefix("mid_block.") {
        return if let Some(rest) = rest.strip_prefix("attentions.0.") {
            Some(format!("middle_block.1.{rest}"))
        } else {
            let (j, rest) = number(rest.strip_prefix("resnets.")?)?;
            Some(format!("middle_block.{}.{}", 2 * j, resnet(rest)?))
        };
    }
    let (is_down, rest) = match name.strip_prefix("down_blocks.") {
        Some(rest) => (true, rest),
        None => (false, name.strip_prefix("up_blocks.")?),
    };
    let (i, rest) = number(rest)?;
    let first = i * (layers + 1);
    if let Some(rest) = rest.strip_prefix("downsamplers.0.conv").filter(|_| is_down) {
        return Some(format!("input_blocks.{}.0.op{rest}", first + layers + 1));
    }
    if let Some(rest) = rest.strip_prefix("upsamplers.0.conv").filter(|_| !is_down) {
        let place = if attends(i) { 2 } else { 1 };
        return Some(format!("output_blocks.{}.{place}.conv{rest}", first + layers));
    }
    let (part, rest) = rest.split_once('.')?;
    let (j, rest) = number(rest)?;
    let list = if is_down {
        format!("input_blocks.{}", 1 + first + j)
    } else {
        format!("output_blocks.{}", first + j)
    };
    match part {
        "resnets" => Some(format!("{list}.0.{}", resnet(rest)?)),
        "attentions" => Some(format!("{list}.1.{rest}")),
        _ => None,
    }
}

/// A tensor of the second text encoder: transformers' name, the thirds of its rows that it is, and
/// whether it lies transposed.
pub(super) struct ClipPart {
    pub(super) name: String,
    /// Of the rows, in thirds.
    pub(super) thirds: Range<usize>,
    pub(super) is_transposed: bool,
}

/// transformers' tensors in the OpenCLIP tensor `name`.
pub(super) fn clip_to_transformers(name: &str) -> Vec<ClipPart> {
    let whole = |name: String| vec![ClipPart { name, thirds: 0..3, is_transposed: false }];
    match name {
        "positional_embedding" => return whole("text_model.embeddings.position_embedding.weight".into()),
        "token_embedding.weight" => return whole("text_model.embeddings.token_embedding.weight".into()),
        "ln_final.weight" | "ln_final.bias" => {
            return whole(name.replace("ln_final", "text_model.final_layer_norm"));
        }
        // A linear layer's weight has rows of outputs, and this parameter has rows of inputs.
        "text_projection" => {
            return vec![ClipPart {
                name: "text_projection.weight".into(),
                thirds: 0..3,
                is_transposed: true,
            }];
        }
        "text_projection.weight" => return whole(name.into()),
        _ => {}
    }
    let Some((layer, rest)) = name.strip_prefix("transformer.resblocks.").and_then(number) else {
        return vec![];
    };
    let layer = format!("text_model.encoder.layers.{layer}");
    if let Some(end) = rest.strip_prefix("attn.in_proj_").filter(|end| ["weight", "bias"].contains(end)) {
        let part = |(i, letter)| ClipPart {
            name: format!("{layer}.self_attn.{letter}_proj.{end}"),
            thirds: i..i + 1,
            is_transposed: false,
        };
        return ["q", "k", "v"].into_iter().enumerate().map(part).collect();
    }
    const PARTS: [(&str, &str); 5] = [
        ("ln_1", "layer_norm1"),
        ("ln_2", "layer_norm2"),
        ("mlp.c_fc", "mlp.fc1"),
        ("mlp.c_proj", "mlp.fc2"),
        ("attn.out_proj", "self_attn.out_proj"),
    ];
    translated(rest, &PARTS, false).map_or(vec![], |rest| whole(format!("{layer}.{rest}")))
}

/// diffusers' name of the VAE's tensor `name`. `levels` is the number of its levels.
pub(super) fn vae_to_diffusers(name: &str, levels: usize) -> Option<String> {
    const OUTSIDE: [(&str, &str); 2] = [("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")];
    if let Some(name) = translated(name, &OUTSIDE, false) {
        return Some(name);
    }
    let (part, rest) = name.split_once('.').filter(|(part, _)| ["encoder", "decoder"].contains(part))?;
    const ENDS: [(&str, &str); 10] = [
        ("conv_in", "conv_in"),
        ("conv_out", "conv_out"),
        ("norm_out", "conv_norm_out"),
        ("mid.block_1", "mid_block.resnets.0"),
        ("mid.block_2", "mid_block.resnets.1"),
        ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
        ("mid.attn_1.q", "mid_block.attentions.0.to_q"),
        ("mid.attn_1.k", "mid_block.attentions.0.to_k"),
        ("mid.attn_1.v", "mid_block.attentions.0.to_v"),
        ("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"),
    ];
    // Files that a program of today saved may have diffusers' names for the attention.
    let shortcut = |rest: &str| rest.replacen("nin_shortcut", "conv_shortcut", 1);
    if let Some(rest) = translated(rest, &ENDS, false) {
        return Some(format!("{part}.{}", shortcut(&rest)));
    }
    let (side, rest) = rest.split_once('.')?;
    let (i, rest) = number(rest)?;
    let (list, i, sampler) = match (part, side) {
        ("encoder", "down") => ("down_blocks", i, "downsample"),
        // The layout counts from the inside here.
        ("decoder", "up") => ("up_blocks", levels.checked_sub(i + 1)?, "upsample"),
        _ => return None,
    };
    if let Some(rest) = rest.strip_prefix("block.") {
        let (j, rest) = number(rest)?;
        return Some(format!("{part}.{list}.{i}.resnets.{j}.{}", shortcut(rest)));
    }
    let rest = after(rest.strip_prefix(sampler)?, ".conv")?;
    Some(format!("{part}.{list}.{i}.{sampler}rs.0.conv{rest}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// All tensors of SDXL base, as diffusers' own conversion pairs them:
    /// `tests/fixtures/make_sdxl_names.py`.
    fn pairs(part: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
        let lines = include_str!("../../../tests/fixtures/sdxl_names.txt").lines();
        lines.filter_map(move |line| line.strip_prefix(part)?.strip_prefix(' ')?.split_once(' '))
    }

    #[test]
    fn every_name_of_the_unet_maps_one_to_one_and_back() {
        let attends = |block| block < 2;
        let mut seen = BTreeSet::new();
        for (sgm, diffusers) in pairs("unet") {
            assert_eq!(unet_to_diffusers(sgm, 2).as_deref(), Some(diffusers), "{sgm}");
            assert_eq!(unet_from_diffusers(diffusers, 2, attends).as_deref(), Some(sgm), "{diffusers}");
            assert!(seen.insert(diffusers), "{diffusers}");
        }
        assert_eq!(seen.len(), 1680);
    }

    #[test]
    fn every_name_of_the_vae_maps_one_to_one() {
        let mapped: BTreeSet<_> = pairs("vae")
            .map(|(sgm, diffusers)| {
                assert_eq!(vae_to_diffusers(sgm, 4).as_deref(), Some(diffusers), "{sgm}");
                diffusers
            })
            .collect();
        assert_eq!(mapped.len(), 248);
    }

    #[test]
    fn every_name_of_the_second_text_encoder_maps_one_to_one() {
        let names: BTreeSet<_> = pairs("clip").map(|(open_clip, _)| open_clip).collect();
        let expected: BTreeSet<_> = pairs("clip").map(|(_, name)| name.to_owned()).collect();
        let mut mapped = BTreeSet::new();
        for name in &names {
            for part in clip_to_transformers(name) {
                assert_eq!(part.is_transposed, *name == "text_projection");
                assert!(mapped.insert(part.name));
            }
        }
        assert_eq!((&mapped, mapped.len()), (&expected, 517));
    }

    #[test]
    fn names_that_are_none_are_not_guessed() {
        for name in [
            "input_blocks.x.0.op.weight",
            "input_blocks.4.5.weight",
            "input_blocks.01.0.in_layers.0.weight",
            "output_blocks.99999999999999999999999.0.in_layers.0.weight",
            "middle_block.3.in_layers.0.weight",
            "outer.0",
            "",
        ] {
            assert_eq!(unet_to_diffusers(name, 2), None, "{name}");
        }
        assert_eq!(vae_to_diffusers("decoder.up.9.block.0.conv1.weight", 4), None);
        assert!(clip_to_transformers("transformer.resblocks.0.attn.in_proj_").is_empty());
    }
}
