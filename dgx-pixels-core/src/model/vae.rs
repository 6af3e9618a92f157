//! A VAE in place of a model's own: a folder in diffusers' layout, or a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::VaeConfig;
#[cfg(any(feature = "engine", feature = "torch"))]
use super::files::WeightPaths;
use super::files::{Shard, WeightFiles};
use super::header::{Header, shown};
use super::kind::{FileKind, VAE_PREFIXES, prefix_of};
use super::single_file::{Tensors, holds_nothing, vae_config, vae_tensor};
use super::{Component, read, scales};
use crate::error::Error;

/// A VAE that was opened to take the place of a model's own.
#[derive(Clone, Debug)]
pub(super) struct Vae {
    source: Source,
    pub(super) config: VaeConfig,
}

/// The place of a part's weights.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Folder(PathBuf),
    File(Arc<Shard>, Tensors),
}

impl Vae {
    /// Opens the VAE in `path` for a model whose own is `own`: a folder with `config.json` and
    /// weights, a model's folder, whose VAE is taken, or a file that has a VAE. A file has no
    /// config, so what its tensors do not show is as `own` has it.
    ///
    /// # Errors
    /// [`Error::Model`]: it is no VAE, or its latents are not those of the model.
    pub(super) fn open(path: &Path, own: &VaeConfig) -> Result<Vae, Error> {
        let fault = |reason: String| Error::model(path, reason);
        let vae = if path.is_dir() {
            let folder = folder(path)?;
            let config = read(&folder.join("config.json"), VaeConfig::parse)?;
            Vae { source: Source::Folder(folder), config }
        } else {
            let file = Arc::new(Shard::open(path.to_owned())?);
            let tensors = tensors(&file.header, FileKind::of(&file)).map_err(fault)?;
            let config = vae_config(&tensors, own).map_err(fault)?;
            config.check().map_err(fault)?;
            Vae { source: Source::File(file, tensors), config }
        };
        fits(&vae.config, own).map_err(fault)?;
        Ok(vae)
    }

    /// Maps its weights. Of a folder the files of half precision are passed over, so that one hash
    /// names what is used.
    pub(super) fn weights(&self) -> Result<WeightFiles, Error> {
        self.source.weights()
    }
}

impl Source {
    /// Maps the weights. Of a folder the files of half precision are passed over.
    pub(super) fn weights(&self) -> Result<WeightFiles, Error> {
        match self {
            Source::Folder(folder) => WeightFiles::open(folder, Component::Vae.stem(), false),
            Source::File(file, tensors) => Ok(WeightFiles::of_file(file, tensors.clone())),
        }
    }
}

/// The folder of the VAE in `path`, which may be a model's.
fn folder(path: &Path) -> Result<PathBuf, Error> {
    let folder = if path.join("model_index.json").is_file() { path.join("vae") } else { path.to_owned() };
    match folder.join("config.json").is_file() {
        true => Ok(folder),
        false => Err(Error::model(
            path,
            "it has no `config.json`; expected the folder of a VAE or of a model in diffusers' layout, or a \
             `.safetensors` file with a VAE",
        )),
    }
}

/// BLAKE3 of the VAE in `path`: of the file, or of the config and the weights of a folder with
/// their names. `hash` is that of one file.
///
/// # Errors
/// [`Error::Model`] naming the file that is missing or cannot be read.
#[cfg(any(feature = "engine", feature = "torch"))]
pub(crate) fn hash_of(
    path: &Path,
    mut hash: impl FnMut(&Path) -> Result<String, Error>,
) -> Result<String, Error> {
    if !path.is_dir() {
        return hash(path);
    }
    hash_in(&folder(path)?, hash)
}

/// BLAKE3 of the config and the weights in a folder, with their names.
#[cfg(any(feature = "engine", feature = "torch"))]
pub(super) fn hash_in(
    folder: &Path,
    mut hash: impl FnMut(&Path) -> Result<String, Error>,
) -> Result<String, Error> {
    let WeightPaths { index, shards } = WeightPaths::find(folder, Component::Vae.stem(), false)?;
    let mut hasher = blake3::Hasher::new();
    for file in [folder.join("config.json")].iter().chain(&index).chain(&shards) {
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        hasher.update(name).update(&[0]).update(hash(file)?.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// The tensors of the VAE in a file, under diffusers' names.
fn tensors(header: &Header, kind: FileKind) -> Result<Tensors, String> {
    const EXPECTED: &str = "expected a VAE of the SDXL family";
    if !matches!(kind, FileKind::Vae | FileKind::Sdxl) {
        return Err(format!("it is {kind}; {EXPECTED}"));
    }
    let Some(prefix) = prefix_of(header, &VAE_PREFIXES, "decoder.conv_in.weight") else {
        return Err(format!("it is {kind} without a VAE; {EXPECTED}"));
    };
    let has = |name: &str| header.tensor(&format!("{prefix}{name}")).is_some();
    let is_named = has("decoder.mid_block.resnets.0.norm1.weight");
    let levels = (0..16).take_while(|i| has(&format!("decoder.up.{i}.block.0.norm1.weight"))).count();
    let mut tensors = Tensors::new();
    for tensor in &header.tensors {
        let Some(name) = tensor.name.strip_prefix(prefix) else { continue };
        // What trained it is beside it in some files.
        let is_of_training = name.starts_with("loss.") || name.starts_with("model_ema.");
        if holds_nothing(name) || scales::is_scale(name) || is_of_training {
            continue;
        }
        let mut weight = scales::weight(header, tensor)?;
        let found = if is_named { Some(name.to_owned()) } else { vae_tensor(name, levels, &mut weight) };
        let found = found.ok_or_else(|| {
            format!("it has `{}`, which no VAE of the SDXL family has; {EXPECTED}", shown(&tensor.name))
        })?;
        tensors.insert(found, weight);
    }
    Ok(tensors)
}

/// Checks that a VAE's latents are those that the model draws.
fn fits(vae: &VaeConfig, own: &VaeConfig) -> Result<(), String> {
    let wrong = |what: &str, found: String, expected: String| {
        Err(format!("its {what} is {found}; expected {expected}, as the model draws latents for it"))
    };
    if vae.latent_channels != own.latent_channels {
        return wrong(
            "number of latent channels",
            vae.latent_channels.to_string(),
            own.latent_channels.to_string(),
        );
    }
    if vae.scale_factor() != own.scale_factor() {
        let pixels = |vae: &VaeConfig| format!("{} pixels", vae.scale_factor());
        return wrong("side of a latent", pixels(vae), pixels(own));
    }
    if vae.scaling_factor != own.scaling_factor {
        return wrong("`scaling_factor`", vae.scaling_factor.to_string(), own.scaling_factor.to_string());
    }
    for (what, found, expected) in [
        ("`latents_mean`", &vae.latents_mean, &own.latents_mean),
        ("`latents_std`", &vae.latents_std, &own.latents_std),
    ] {
        if found != expected {
            let shown =
                |list: &Option<Vec<f64>>| list.as_ref().map_or("none".into(), |list| format!("{list:?}"));
            return wrong(what, shown(found), shown(expected));
        }
    }
    Ok(())
}
