//! Control nets beside a model: a folder in diffusers' layout, or a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::config::{OneOrMany, UNetConfig, VaeConfig, object, only, typed};
use super::files::{Shard, WeightFiles};
use super::header::{Header, shown};
use super::kind::{FileKind, prefix_of};
use super::single_file::{HEAD_WIDTH, Tensors, count, holds_nothing, side};
use super::vae::Source;
#[cfg(any(feature = "engine", feature = "torch"))]
use super::vae::hash_in;
use super::{read, scales, sgm};
use crate::error::{Error, Reason};

/// `config.json` of a `ControlNetModel`. Source: diffusers 0.42.1,
/// `models/controlnets/controlnet.py`.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// The way down and the middle, which are those of a UNet.
    pub net: UNetConfig,
    /// Channels of the layers that reduce the image, the first at its full size.
    pub embedding: Vec<i64>,
    /// `true` if the net sees blue, green and red, in this order.
    pub is_bgr: bool,
}

/// The beginnings that names of a control net may have in a file.
const PREFIXES: [&str; 3] = ["", "control_model.", "controlnet."];
/// The widest layer that reduces the image, and the most of them.
const MAX_WIDTH: i64 = 4096;
const MAX_LAYERS: usize = 8;

impl ControlConfig {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// Names the option, its value and what would be right.
    fn parse(text: &str) -> Result<ControlConfig, Reason> {
        #[derive(Deserialize)]
        #[serde(default)]
        struct Own {
            conditioning_embedding_out_channels: Vec<i64>,
            controlnet_conditioning_channel_order: String,
        }
        impl Default for Own {
            fn default() -> Self {
                Own {
                    conditioning_embedding_out_channels: vec![16, 32, 96, 256],
                    controlnet_conditioning_channel_order: "rgb".into(),
                }
            }
        }
        let mut map = object(text)?;
        only(&map, "_class_name", &["ControlNetModel".into()])?;
        only(&map, "conditioning_channels", &[3.into()])?;
        only(&map, "global_pool_conditions", &[false.into()])?;
        only(&map, "controlnet_conditioning_channel_order", &["rgb".into(), "bgr".into()])?;
        map.remove("_class_name");
        // A way up is in no control net; the one that fits is checked with the rest.
        let down: Vec<String> =
            map.get("down_block_types").cloned().map_or(Ok(vec![]), serde_json::from_value)?;
        if !down.is_empty() {
            map.insert("up_block_types".into(), up_of(&down).into());
        }
        let own: Own = typed(map.clone())?;
        let config = ControlConfig {
            net: UNetConfig::of_map(map)?,
            embedding: own.conditioning_embedding_out_channels,
            is_bgr: own.controlnet_conditioning_channel_order == "bgr",
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let is_right = |width: &i64| (1..=MAX_WIDTH).contains(width);
        if !(1..=MAX_LAYERS).contains(&self.embedding.len()) || !self.embedding.iter().all(is_right) {
            return Err(format!(
                "`conditioning_embedding_out_channels` is {:?}; expected 1 to {MAX_LAYERS} numbers from 1 to \
                 {MAX_WIDTH}",
                self.embedding
            ));
        }
        if self.net.mid_block_type.is_none() {
            let expected = "`UNetMidBlock2DCrossAttn` or `UNetMidBlock2D`";
            return Err(format!("`mid_block_type` is null; expected {expected}"));
        }
        Ok(())
    }

    /// The config of a control net with these tensors; what they do not show is as the UNet `like`
    /// has it.
    fn of_tensors(tensors: &Tensors, like: &UNetConfig) -> Result<ControlConfig, String> {
        let levels = count(tensors, "down_blocks.");
        let (mut channels, mut down, mut depths) = (vec![], vec![], vec![]);
        for i in 0..levels {
            let block = format!("down_blocks.{i}");
            channels.push(side(tensors, &format!("{block}.resnets.0.conv1.weight"), 0)?);
            let attentions = count(tensors, &format!("{block}.attentions."));
            let class = if attentions > 0 { "CrossAttnDownBlock2D" } else { "DownBlock2D" };
            down.push(class.to_owned());
            let of = |j| count(tensors, &format!("{block}.attentions.{j}.transformer_blocks."));
            depths.push(match attentions {
                0 => OneOrMany::One(1),
                _ => OneOrMany::Many((0..attentions).map(of).collect()),
            });
        }
        let mid = count(tensors, "mid_block.attentions.0.transformer_blocks.");
        if let Some(last) = depths.last_mut().filter(|_| mid > 0) {
            if *last.get(0) != mid && down.last().is_some_and(|class| class.starts_with("Cross")) {
                let found = *last.get(0);
                return Err(format!(
                    "its middle block has {mid} transformer blocks, and the level before {found}; expected the same"
                ));
            }
            *last = OneOrMany::One(mid);
        }
        let heads = match channels == like.block_out_channels {
            true => like.attention_head_dim.clone(),
            false => OneOrMany::Many(channels.iter().map(|width| (width / HEAD_WIDTH).max(1)).collect()),
        };
        let to_k = tensors.keys().find(|name| name.ends_with(".attn2.to_k.weight"));
        let proj = tensors.keys().find(|name| name.ends_with(".proj_in.weight"));
        let layers = count(tensors, "down_blocks.0.resnets.");
        let net = UNetConfig {
            in_channels: side(tensors, "conv_in.weight", 1)?,
            conv_in_kernel: side(tensors, "conv_in.weight", 2)?,
            up_block_types: up_of(&down),
            down_block_types: down,
            mid_block_type: Some(
                if mid > 0 { "UNetMidBlock2DCrossAttn" } else { "UNetMidBlock2D" }.to_owned(),
            ),
            block_out_channels: channels,
            layers_per_block: OneOrMany::One(layers),
            transformer_layers_per_block: OneOrMany::Many(padded(depths, layers)),
            reverse_transformer_layers_per_block: None,
            attention_head_dim: heads,
            cross_attention_dim: match to_k {
                Some(name) => OneOrMany::One(side(tensors, name, 1)?),
                None => like.cross_attention_dim.clone(),
            },
            use_linear_projection: match proj {
                Some(name) => tensors[name].shape.len() == 2,
                None => like.use_linear_projection,
            },
            projection_class_embeddings_input_dim: side(tensors, "add_embedding.linear_1.weight", 1)?,
            time_cond_proj_dim: None,
            ..like.clone()
        };
        net.check()?;
        // The layers of each size but the last are two, of which the second reduces.
        let blocks = count(tensors, "controlnet_cond_embedding.blocks.");
        let mut embedding = vec![side(tensors, "controlnet_cond_embedding.conv_in.weight", 0)?];
        for i in (1..blocks).step_by(2) {
            embedding.push(side(tensors, &format!("controlnet_cond_embedding.blocks.{i}.weight"), 0)?);
        }
        let config = ControlConfig { net, embedding, is_bgr: false };
        config.check()?;
        Ok(config)
    }

    /// The channels of all skips of the way down, in the order in which they are made, and of the
    /// middle.
    pub fn skips(&self) -> Vec<i64> {
        skips(&self.net)
    }
}

/// The channels of a UNet's skips and of its middle.
fn skips(config: &UNetConfig) -> Vec<i64> {
    let channels = &config.block_out_channels;
    let mut all = vec![channels[0]];
    for (level, width) in channels.iter().enumerate() {
        let halves = usize::from(level + 1 < channels.len());
        all.extend(vec![*width; config.layers_per_block.get(level) + halves]);
    }
    all.push(channels[channels.len() - 1]);
    all
}

/// The depths of each level, with one more for a way up that a config is checked with.
fn padded(depths: Vec<OneOrMany<usize>>, layers: usize) -> Vec<OneOrMany<usize>> {
    let padded = |depths: OneOrMany<usize>| match depths {
        OneOrMany::Many(mut depths) if depths.len() == layers => {
            depths.push(1);
            OneOrMany::Many(depths)
        }
        depths => depths,
    };
    depths.into_iter().map(padded).collect()
}

/// The way up that mirrors a way down.
fn up_of(down: &[String]) -> Vec<String> {
    down.iter().rev().map(|class| class.replace("Down", "Up")).collect()
}

/// A control net that was opened for a model.
#[derive(Clone, Debug)]
pub struct Control {
    source: Source,
    /// The shapes of its layers.
    pub config: ControlConfig,
}

impl Control {
    /// Opens the control net in `path` for a model: a folder with `config.json` and weights, or a
    /// file. A file has no config, so what its tensors do not show is as the model's UNet has it.
    ///
    /// # Errors
    /// [`Error::Model`]: it is no control net, or it is for another base.
    pub(super) fn open(path: &Path, unet: &UNetConfig, vae: &VaeConfig) -> Result<Control, Error> {
        let fault = |reason: String| Error::model(path, reason);
        let control = if path.is_dir() {
            let folder = folder(path)?;
            let config = read(&folder.join("config.json"), ControlConfig::parse)?;
            Control { source: Source::Folder(folder), config }
        } else {
            let file = Arc::new(Shard::open(path.to_owned())?);
            let tensors = tensors(&file.header, FileKind::of(&file)).map_err(fault)?;
            let config = ControlConfig::of_tensors(&tensors, unet).map_err(fault)?;
            Control { source: Source::File(file, tensors), config }
        };
        fits(&control.config, unet, vae).map_err(fault)?;
        Ok(control)
    }

    /// Maps its weights. Of a folder the files of half precision are passed over, so that one hash
    /// names what is used.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: none found, a shard missing, truncated or corrupt.
    pub fn weights(&self) -> Result<WeightFiles, Error> {
        self.source.weights()
    }
}

fn folder(path: &Path) -> Result<PathBuf, Error> {
    match path.join("config.json").is_file() {
        true => Ok(path.to_owned()),
        false => Err(Error::model(
            path,
            "it has no `config.json`; expected the folder of a `ControlNetModel` in diffusers' layout, or a \
             `.safetensors` file with one",
        )),
    }
}

/// BLAKE3 of the control net in `path`: of the file, or of the config and the weights of a folder
/// with their names. `hash` is that of one file.
///
/// # Errors
/// [`Error::Model`] naming the file that is missing or cannot be read.
#[cfg(any(feature = "engine", feature = "torch"))]
pub(crate) fn hash_of(
    path: &Path,
    mut hash: impl FnMut(&Path) -> Result<String, Error>,
) -> Result<String, Error> {
    match path.is_dir() {
        true => hash_in(&folder(path)?, hash),
        false => hash(path),
    }
}

/// The tensors of the control net in a file, under diffusers' names.
fn tensors(header: &Header, kind: FileKind) -> Result<Tensors, String> {
    const EXPECTED: &str = "expected a ControlNet of the SDXL family";
    if kind != FileKind::ControlNet {
        return Err(format!("it is {kind}; {EXPECTED}"));
    }
    let named = prefix_of(header, &PREFIXES, "controlnet_cond_embedding.conv_in.weight");
    let prefix = match named.or_else(|| prefix_of(header, &PREFIXES, "input_hint_block.0.weight")) {
        Some(prefix) => prefix,
        None => return Err(format!("none of its names begins as those of a ControlNet do; {EXPECTED}")),
    };
    let has = |name: &str| header.tensor(&format!("{prefix}{name}")).is_some();
    let is_op = |n: &usize| has(&format!("input_blocks.{n}.0.op.weight"));
    let layers = (1..100).find(is_op).map_or(1, |first| first - 1);
    let mut tensors = Tensors::new();
    for tensor in &header.tensors {
        let Some(name) = tensor.name.strip_prefix(prefix) else { continue };
        if holds_nothing(name) || scales::is_scale(name) {
            continue;
        }
        let weight = scales::weight(header, tensor)?;
        let found =
            if named.is_some() { Some(name.to_owned()) } else { sgm::control_to_diffusers(name, layers) };
        let found = found.ok_or_else(|| {
            format!(
                "it has `{}`, which no ControlNet of the SDXL family has; {EXPECTED}",
                shown(&tensor.name)
            )
        })?;
        tensors.insert(found, weight);
    }
    if !tensors.contains_key("add_embedding.linear_1.weight") {
        return Err(format!(
            "it has no `add_embedding.linear_1.weight`, as those of Stable Diffusion 1 and 2 have none; {EXPECTED}"
        ));
    }
    Ok(tensors)
}

/// Checks that a control net is for this model.
fn fits(control: &ControlConfig, unet: &UNetConfig, vae: &VaeConfig) -> Result<(), String> {
    let wrong = |what: &str, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
        Err(format!("it is for another base: {what} is {found:?}; expected {expected:?}, as the model has"))
    };
    let ControlConfig { net, embedding, .. } = control;
    let (found, expected) = (skips(net), skips(unet));
    if found != expected {
        return wrong(
            "the list of channels of `controlnet_down_blocks` and `controlnet_mid_block`",
            &found,
            &expected,
        );
    }
    for (name, found, expected) in [
        ("the input of `conv_in.weight`", net.in_channels, vae.latent_channels),
        (
            "the input of `add_embedding.linear_1.weight`",
            net.projection_class_embeddings_input_dim,
            unet.projection_class_embeddings_input_dim,
        ),
        ("`addition_time_embed_dim`", net.addition_time_embed_dim, unet.addition_time_embed_dim),
        ("`downsample_padding`", net.downsample_padding, unet.downsample_padding),
    ] {
        if found != expected {
            return wrong(name, &found, &expected);
        }
    }
    for level in 0..net.block_out_channels.len() {
        let (found, expected) = (net.cross_attention_dim.get(level), unet.cross_attention_dim.get(level));
        if found != expected {
            return wrong("the input of `attn2.to_k.weight`", found, expected);
        }
    }
    let (found, expected) = (1_u32 << (embedding.len() - 1), vae.scale_factor());
    if found != expected {
        return wrong("the factor by which `controlnet_cond_embedding` reduces", &found, &expected);
    }
    Ok(())
}
