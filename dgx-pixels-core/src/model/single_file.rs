//! One file with all components of a model, as model sites have it. Its tensors are found under the
//! components' own names; nothing is copied.
//!
//! A file has no configs. What its tensors show is read off their names and sides; the rest is
//! SDXL's ([`Model::sdxl_base`]), or that of the model which supplies what the file lacks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::config::{ClipConfig, OneOrMany, UNetConfig, VaeConfig};
use super::files::{Shard, Weight, WeightFiles};
use super::header::{Header, shown};
use super::kind::{DIFFUSERS_PREFIXES, FileKind, UNET_PREFIXES, VAE_PREFIXES, prefix_of};
use super::{Component, Model, marks, scales, sgm};
use crate::error::Error;

/// Width of an attention head, in every model of the family.
pub(super) const HEAD_WIDTH: i64 = 64;

/// Tensors by their names in diffusers.
pub(super) type Tensors = BTreeMap<String, Weight>;

/// A file, and which of its tensors are which component's.
#[derive(Debug)]
pub struct SingleFile {
    file: Arc<Shard>,
    components: [Option<Tensors>; Component::ALL.len()],
    /// The number of tensors that are averages of the UNet's weights over its training, which are
    /// not used.
    pub averages: usize,
    /// The names that belong to no component, in order.
    pub unknown: Vec<String>,
}

impl SingleFile {
    /// The weights of a component, if the file has it.
    pub(super) fn weights(&self, component: Component) -> Option<WeightFiles> {
        let tensors = self.components[component as usize].clone()?;
        Some(WeightFiles::of_file(&self.file, tensors))
    }

    /// `true` if the file has this component.
    pub fn has(&self, component: Component) -> bool {
        self.components[component as usize].is_some()
    }

    /// The notes that the file's author left. They are anybody's text.
    pub fn notes(&self) -> &BTreeMap<Box<str>, Box<str>> {
        &self.file.header.notes
    }
}

/// Opens the model in a file. `base` supplies what the file lacks.
///
/// # Errors
/// [`Error::Model`]: the file is of another format or kind, it lacks a component that no `base`
/// supplies, or its tensors are not those of a model that is computed.
pub(super) fn open(path: &Path, base: Option<&Model>) -> Result<Model, Error> {
    let fault = |reason: String| Error::model(path, reason);
    let file = Arc::new(Shard::open(path.to_owned())?);
    let header = &file.header;
    let kind = FileKind::of(&file);
    let (components, averages, unknown, layers) = match kind {
        FileKind::Sdxl => sorted(header).map_err(fault)?,
        FileKind::SdxlUNet => {
            let (unet, unknown) = named_unet(header).map_err(fault)?;
            ([None, None, Some(unet), None], 0, unknown, 2)
        }
        other => return Err(fault(other.refusal(header))),
    };
    let missing: Vec<_> = Component::ALL
        .into_iter()
        .filter(|component| components[*component as usize].is_none())
        .map(|component| format!("`{}`", component.name()))
        .collect();
    // A request may bring a VAE.
    let lacks_vae_alone = missing == ["`vae`"];
    if base.is_none() && !missing.is_empty() && !lacks_vae_alone {
        let missing = missing.join(" and ");
        return Err(fault(format!("it lacks {missing}; name a model that has what it lacks with `--base`")));
    }

    let mut model = Model::sdxl_base(path);
    for component in Component::ALL {
        let Some(tensors) = &components[component as usize] else {
            // A VAE that a request brings is as SDXL's until it is opened.
            let Some(base) = base else { continue };
            match component {
                Component::TextEncoder => model.text_encoder = base.text_encoder.clone(),
                Component::TextEncoder2 => model.text_encoder_2 = base.text_encoder_2.clone(),
                Component::UNet => model.unet = base.unet.clone(),
                Component::Vae => model.vae = base.vae.clone(),
            }
            continue;
        };
        match component {
            Component::TextEncoder => {
                let seen = clip_config(tensors, &model.text_encoder).map_err(fault)?;
                let of_base = base.map(|base| &base.text_encoder).filter(|base| same_clip(base, &seen));
                model.text_encoder = of_base.cloned().unwrap_or(seen);
            }
            Component::TextEncoder2 => {
                let seen = clip_config(tensors, &model.text_encoder_2).map_err(fault)?;
                let of_base = base.map(|base| &base.text_encoder_2).filter(|base| same_clip(base, &seen));
                model.text_encoder_2 = of_base.cloned().unwrap_or(seen);
            }
            Component::UNet if kind == FileKind::SdxlUNet => {
                let base = base.expect("a UNet alone lacks the rest; this is a bug");
                let in_channels = side(tensors, "conv_in.weight", 1).map_err(fault)?;
                model.unet = UNetConfig { in_channels, ..base.unet.clone() };
            }
            Component::UNet => {
                let seen = unet_config(tensors, layers, &model).map_err(fault)?;
                let of_base = base.map(|base| &base.unet).filter(|base| same_unet(base, &seen));
                let in_channels = seen.in_channels;
                model.unet = of_base.map_or(seen, |base| UNetConfig { in_channels, ..base.clone() });
            }
            Component::Vae => {
                let seen = vae_config(tensors, &model.vae).map_err(fault)?;
                let of_base = base.map(|base| &base.vae).filter(|base| same_vae(base, &seen));
                model.vae = of_base.cloned().unwrap_or(seen);
            }
        }
    }

    // What the base says of the same sides was checked when it was opened.
    model.text_encoder.check().and_then(|()| model.text_encoder_2.check()).map_err(fault)?;
    model.unet.check().and_then(|()| model.vae.check()).map_err(fault)?;

    marks::apply(&file, &mut model).map_err(fault)?;
    let note = header.notes.get("modelspec.license").map(|note| &**note);
    model.licence = note.filter(|text| !text.is_empty()).map(shown);
    model.single = Some(Arc::new(SingleFile { file, components, averages, unknown }));
    model.base = base.cloned().map(Box::new);
    model.check_widths()?;
    Ok(model)
}

/// Sorts the tensors of a whole checkpoint by component. Returns besides the number of averages,
/// the names of unknown tensors, and the ResNet blocks of a level.
#[expect(clippy::type_complexity, reason = "the parts go into one place at once")]
fn sorted(
    header: &Header,
) -> Result<([Option<Tensors>; Component::ALL.len()], usize, Vec<String>, usize), String> {
    let unet = prefix_of(header, &UNET_PREFIXES, "input_blocks.0.0.weight").unwrap_or_default();
    let vae = prefix_of(header, &VAE_PREFIXES, "decoder.conv_in.weight");
    const CLIP: &str = "conditioner.embedders.0.transformer.";
    const CLIP_2: &str = "conditioner.embedders.1.model.";
    let has = |name: &str| header.tensor(name).is_some();

    // Each level ends with the halving of the sides, except the last.
    let is_op = |n: &usize| has(&format!("{unet}input_blocks.{n}.0.op.weight"));
    let Some(first) = (1..100).find(is_op) else {
        return Err("its UNet has one level; expected the levels of an SDXL model".into());
    };
    let layers = first - 1;
    let levels = (0..16)
        .take_while(|i| has(&format!("{}decoder.up.{i}.block.0.norm1.weight", vae.unwrap_or_default())))
        .count();

    let mut parts: [Tensors; Component::ALL.len()] = Default::default();
    let (mut averages, mut unknown) = (0, vec![]);
    for tensor in &header.tensors {
        let name = &*tensor.name;
        if holds_nothing(name) || scales::is_scale(name) {
            continue;
        }
        let mut weight = scales::weight(header, tensor)?;
        if name.starts_with("model_ema.") {
            averages += 1;
            continue;
        }
        let placed = if let Some(name) = name.strip_prefix(CLIP) {
            let is_text = name.starts_with("text_model.");
            is_text.then(|| parts[Component::TextEncoder as usize].insert(name.to_owned(), weight)).is_some()
        } else if let Some(name) = name.strip_prefix(CLIP_2) {
            let found = sgm::clip_to_transformers(name);
            let is_found = !found.is_empty();
            for part in found {
                let mut of_part = third(&weight, part.thirds.clone()).ok_or_else(|| {
                    format!("`{}` has {:?} sides; expected rows in thirds", shown(&tensor.name), tensor.shape)
                })?;
                of_part.is_transposed = part.is_transposed;
                parts[Component::TextEncoder2 as usize].insert(part.name, of_part);
            }
            is_found
        } else if let Some(name) =
            vae.and_then(|vae| name.strip_prefix(vae)).and_then(|name| vae_tensor(name, levels, &mut weight))
        {
            parts[Component::Vae as usize].insert(name, weight);
            true
        } else if let Some(name) =
            name.strip_prefix(unet).and_then(|name| sgm::unet_to_diffusers(name, layers))
        {
            parts[Component::UNet as usize].insert(name, weight);
            true
        } else {
            false
        };
        if !placed {
            unknown.push(name.to_owned());
        }
    }
    if let Some(name) = unknown.iter().find(|name| !unet.is_empty() && name.starts_with(unet)) {
        return Err(format!("its UNet has `{}`, which no SDXL model has", shown(name)));
    }
    // A part is there if what it begins with is.
    let begins = [
        "text_model.final_layer_norm.weight",
        "text_model.final_layer_norm.weight",
        "conv_in.weight",
        "decoder.conv_in.weight",
    ];
    let mut begins = begins.into_iter();
    let parts = parts.map(|tensors| {
        let begins = begins.next().expect("one for each component; this is a bug");
        tensors.contains_key(begins).then_some(tensors)
    });
    Ok((parts, averages, unknown, layers))
}

/// diffusers' name of the VAE's tensor `name`, and its sides there.
pub(super) fn vae_tensor(name: &str, levels: usize, weight: &mut Weight) -> Option<String> {
    let name = sgm::vae_to_diffusers(name, levels)?;
    // The attention's layers are convolutions of single pixels in the layout.
    if name.contains(".attentions.") && weight.shape.len() == 4 && weight.shape[2..] == [1, 1] {
        weight.shape.truncate(2);
    }
    Some(name)
}

/// The UNet under diffusers' names, and the names that are not the UNet's.
fn named_unet(header: &Header) -> Result<(Tensors, Vec<String>), String> {
    let prefix = prefix_of(header, &DIFFUSERS_PREFIXES, "add_embedding.linear_1.weight").unwrap_or_default();
    let (mut unet, mut unknown) = (Tensors::new(), vec![]);
    for tensor in &header.tensors {
        match tensor.name.strip_prefix(prefix) {
            Some(name) if holds_nothing(name) || scales::is_scale(name) => {}
            Some(name) => drop(unet.insert(name.to_owned(), scales::weight(header, tensor)?)),
            None => unknown.push(tensor.name.to_string()),
        }
    }
    Ok((unet, unknown))
}

/// `true` for tensors that hold nothing learned: tables, marks, and what training needed.
pub(super) fn holds_nothing(name: &str) -> bool {
    const NAMES: [&str; 10] = [
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "log_one_minus_alphas_cumprod",
        "posterior_variance",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "denoiser.sigmas",
    ];
    NAMES.contains(&name)
        || marks::NAMES.contains(&name)
        || name.ends_with(".position_ids")
        || name.ends_with(".logit_scale")
        || name.ends_with(".attn_mask")
        || name.starts_with("embedding_manager")
        || name.starts_with("model_ema.decay")
        || name.starts_with("model_ema.num_updates")
}

/// Some thirds of a tensor's rows.
fn third(weight: &Weight, thirds: std::ops::Range<usize>) -> Option<Weight> {
    if thirds == (0..3) {
        return Some(weight.clone());
    }
    let mut part = weight.clone();
    let rows = weight.shape.first()?;
    if !rows.is_multiple_of(3) || !weight.bytes.len().is_multiple_of(3) {
        return None;
    }
    part.shape[0] = rows / 3 * thirds.len();
    if let Some(scale) = part.scale.as_mut().filter(|scale| scale.count > 1) {
        let bytes = scale.bytes.len() / 3;
        scale.count = part.shape[0];
        scale.bytes = scale.bytes.start + thirds.start * bytes..scale.bytes.start + thirds.end * bytes;
    }
    let bytes = weight.bytes.len() / 3;
    part.bytes = weight.bytes.start + thirds.start * bytes..weight.bytes.start + thirds.end * bytes;
    Some(part)
}

/// A side of a tensor.
pub(super) fn side(tensors: &Tensors, name: &str, i: usize) -> Result<i64, String> {
    let weight = tensors.get(name).ok_or_else(|| format!("it has no `{name}`"))?;
    let side =
        weight.shape.get(i).ok_or_else(|| format!("`{name}` has {:?} sides; expected more", weight.shape))?;
    i64::try_from(*side).map_err(|_| format!("`{name}` has a side of {side}"))
}

/// The number of list entries `PREFIX0.`, `PREFIX1.`, … that there are.
pub(super) fn count(tensors: &Tensors, prefix: &str) -> usize {
    let has = |i: &usize| {
        let start = format!("{prefix}{i}.");
        tensors.range(start.clone()..).next().is_some_and(|(name, _)| name.starts_with(&start))
    };
    (0..1000).take_while(has).count()
}

fn unet_config(tensors: &Tensors, layers: usize, model: &Model) -> Result<UNetConfig, String> {
    let levels = count(tensors, "down_blocks.");
    let depths = |block: &str, attentions: usize| -> Vec<usize> {
        (0..attentions)
            .map(|j| count(tensors, &format!("{block}.attentions.{j}.transformer_blocks.")))
            .collect()
    };
    // The same for all attentions of a level is one number, as configs have it.
    let joined = |depths: Vec<usize>| match depths.first() {
        None => OneOrMany::One(1),
        Some(first) if depths.iter().all(|depth| depth == first) => OneOrMany::One(*first),
        Some(_) => OneOrMany::Many(depths),
    };
    let class = |attends: bool, [with, without]: [&str; 2]| (if attends { with } else { without }).to_owned();

    let mut config = UNetConfig {
        block_out_channels: vec![],
        down_block_types: vec![],
        up_block_types: vec![],
        ..model.unet.clone()
    };
    config.layers_per_block = OneOrMany::One(layers);
    let (mut down, mut up) = (vec![], vec![]);
    for i in 0..levels {
        let block = format!("down_blocks.{i}");
        let attentions = count(tensors, &format!("{block}.attentions."));
        config.block_out_channels.push(side(tensors, &format!("{block}.resnets.0.conv1.weight"), 0)?);
        config.down_block_types.push(class(attentions > 0, ["CrossAttnDownBlock2D", "DownBlock2D"]));
        down.push(joined(depths(&block, attentions)));
        let block = format!("up_blocks.{i}");
        let attentions = count(tensors, &format!("{block}.attentions."));
        config.up_block_types.push(class(attentions > 0, ["CrossAttnUpBlock2D", "UpBlock2D"]));
        up.push(joined(depths(&block, attentions)));
    }
    let mid_depth = count(tensors, "mid_block.attentions.0.transformer_blocks.");
    config.mid_block_type = match (count(tensors, "mid_block.resnets."), mid_depth) {
        (0, _) => None,
        (_, 0) => Some("UNetMidBlock2D".into()),
        _ => Some("UNetMidBlock2DCrossAttn".into()),
    };
    if let Some(last) = down.last().filter(|_| mid_depth > 0)
        && *last.get(0) != mid_depth
    {
        let found = *last.get(0);
        return Err(format!(
            "its middle block has {mid_depth} transformer blocks, and the level before {found}; expected the same"
        ));
    }
    let mirrored = down
        .iter()
        .rev()
        .zip(&up)
        .all(|(down, up)| matches!((down, up), (OneOrMany::One(down), OneOrMany::One(up)) if down == up));
    config.reverse_transformer_layers_per_block = (!mirrored).then_some(up);
    config.transformer_layers_per_block = OneOrMany::Many(down);
    let heads = config.block_out_channels.iter().map(|channels| (channels / HEAD_WIDTH).max(1));
    config.attention_head_dim = OneOrMany::Many(heads.collect());

    config.in_channels = side(tensors, "conv_in.weight", 1)?;
    config.out_channels = side(tensors, "conv_out.weight", 0)?;
    let end =
        |suffix: &str| tensors.iter().find(|(name, _)| name.ends_with(suffix)).map(|(name, _)| name.as_str());
    if let Some(to_k) = end(".attn2.to_k.weight") {
        config.cross_attention_dim = OneOrMany::One(side(tensors, to_k, 1)?);
    }
    if let Some(proj) = end(".proj_in.weight") {
        config.use_linear_projection = tensors[proj].shape.len() == 2;
    }
    config.projection_class_embeddings_input_dim = side(tensors, "add_embedding.linear_1.weight", 1)?;
    config.addition_time_embed_dim =
        (config.projection_class_embeddings_input_dim - model.text_encoder_2.projection_dim) / 6;
    config.time_cond_proj_dim = tensors
        .contains_key("time_embedding.cond_proj.weight")
        .then(|| side(tensors, "time_embedding.cond_proj.weight", 1))
        .transpose()?;
    Ok(config)
}

/// The config of a VAE with these tensors; what they do not show is as `like` has it.
pub(super) fn vae_config(tensors: &Tensors, like: &VaeConfig) -> Result<VaeConfig, String> {
    let mut config = like.clone();
    let levels = count(tensors, "encoder.down_blocks.");
    let channels = |i| side(tensors, &format!("encoder.down_blocks.{i}.resnets.0.conv1.weight"), 0);
    config.block_out_channels = (0..levels).map(channels).collect::<Result<_, _>>()?;
    config.layers_per_block = count(tensors, "encoder.down_blocks.0.resnets.");
    config.latent_channels = side(tensors, "decoder.conv_in.weight", 1)?;
    config.use_quant_conv = tensors.contains_key("quant_conv.weight");
    config.use_post_quant_conv = tensors.contains_key("post_quant_conv.weight");
    config.mid_block_add_attention = tensors.contains_key("decoder.mid_block.attentions.0.to_q.weight");
    Ok(config)
}

fn clip_config(tensors: &Tensors, sdxl: &ClipConfig) -> Result<ClipConfig, String> {
    let mut config = sdxl.clone();
    config.vocab_size = side(tensors, "text_model.embeddings.token_embedding.weight", 0)?;
    config.hidden_size = side(tensors, "text_model.embeddings.token_embedding.weight", 1)?;
    config.max_position_embeddings = side(tensors, "text_model.embeddings.position_embedding.weight", 0)?;
    config.num_hidden_layers = count(tensors, "text_model.encoder.layers.");
    config.intermediate_size = side(tensors, "text_model.encoder.layers.0.mlp.fc1.weight", 0)?;
    config.num_attention_heads = (config.hidden_size / HEAD_WIDTH).max(1);
    if tensors.contains_key("text_projection.weight") {
        // A transposed matrix has its outputs as columns.
        let outputs = usize::from(tensors["text_projection.weight"].is_transposed);
        config.projection_dim = side(tensors, "text_projection.weight", outputs)?;
    }
    Ok(config)
}

/// `true` if the sides of all tensors are the same in both, except those of the first layer: a
/// model for inpainting takes more there than its base.
fn same_unet(one: &UNetConfig, other: &UNetConfig) -> bool {
    let shape = |config: &UNetConfig| {
        let levels = config.block_out_channels.len();
        let layers: Vec<_> = config.layers_per_block.iter(levels).copied().collect();
        let text: Vec<_> = config.cross_attention_dim.iter(levels).copied().collect();
        let channels = (config.out_channels, config.block_out_channels.clone());
        let blocks =
            (config.down_block_types.clone(), config.mid_block_type.clone(), config.up_block_types.clone());
        let attends = |classes: &[String], i: usize| classes[i].starts_with("CrossAttn");
        let down = (0..levels).filter(|i| attends(&config.down_block_types, *i));
        let depths =
            |depths: &OneOrMany<usize>, count: usize| depths.iter(count).copied().collect::<Vec<_>>();
        let down: Vec<_> =
            down.map(|i| depths(config.transformer_layers_per_block.get(i), layers[i])).collect();
        let up = (0..levels).filter(|i| attends(&config.up_block_types, *i)).map(|i| {
            let of_level = match &config.reverse_transformer_layers_per_block {
                Some(reversed) => &reversed[i],
                None => config.transformer_layers_per_block.get(levels - 1 - i),
            };
            depths(of_level, layers[levels - 1 - i] + 1)
        });
        let depths = (down, up.collect::<Vec<_>>());
        let added = (
            config.projection_class_embeddings_input_dim,
            config.addition_time_embed_dim,
            config.time_cond_proj_dim,
        );
        (channels, blocks, layers, depths, text, added, config.use_linear_projection)
    };
    shape(one) == shape(other)
}

fn same_vae(one: &VaeConfig, other: &VaeConfig) -> bool {
    let shape = |config: &VaeConfig| {
        let convolutions =
            (config.use_quant_conv, config.use_post_quant_conv, config.mid_block_add_attention);
        (config.block_out_channels.clone(), config.layers_per_block, config.latent_channels, convolutions)
    };
    shape(one) == shape(other)
}

fn same_clip(one: &ClipConfig, other: &ClipConfig) -> bool {
    let shape = |config: &ClipConfig| {
        let widths = (config.hidden_size, config.intermediate_size, config.num_hidden_layers);
        (config.vocab_size, config.max_position_embeddings, widths)
    };
    shape(one) == shape(other)
}
