//! Models in folders and single files, read without libtorch.

mod bounds;
#[cfg(any(feature = "engine", feature = "torch"))]
pub(crate) mod checkpoint;
mod component;
pub mod config;
pub mod control;
pub mod files;
pub mod header;
pub mod hub;
pub mod kind;
#[cfg(any(feature = "engine", feature = "torch"))]
pub mod lora;
mod marks;
#[cfg(any(feature = "engine", feature = "torch"))]
mod options;
#[cfg(any(feature = "engine", feature = "torch"))]
pub mod parts;
pub(crate) mod scales;
pub mod search;
mod sgm;
mod single_file;
mod vae;
mod variant;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use component::Component;
use config::{ClipConfig, GenerationConfig, UNetConfig, VaeConfig, object};
use files::{WeightFiles, WeightPaths};
#[cfg(any(feature = "engine", feature = "torch"))]
pub use options::Options;
pub use single_file::SingleFile;
pub use variant::{ControlUse, InversionUse, LoraUse, VaeUse};

use crate::error::{Cause, Error, Reason};
use crate::files::{MAX_TEXT_BYTES, read_regular};
use crate::request::{ImageSize, ModelDefaults};
use crate::scheduler::SchedulerConfig;

/// An SDXL-family model in a folder as `StableDiffusionXLPipeline.save_pretrained` writes it, or in
/// one file as model sites have it. Opening reads the configs or the file's header; weights are
/// mapped when asked for.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ErrorKind, Model};
/// # let folder = tempfile::tempdir()?;
/// // A folder without `model_index.json` is no model.
/// let error = Model::open(folder.path()).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidModel);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    /// The folder or the file.
    pub path: PathBuf,
    /// `true` if a missing negative prompt means zeros instead of an encoded empty text.
    pub force_zeros_for_empty_prompt: bool,
    /// `text_encoder/config.json`.
    pub text_encoder: ClipConfig,
    /// `text_encoder_2/config.json`.
    pub text_encoder_2: ClipConfig,
    /// `unet/config.json`.
    pub unet: UNetConfig,
    /// `vae/config.json`.
    pub vae: VaeConfig,
    /// `scheduler/scheduler_config.json`.
    pub scheduler: SchedulerConfig,
    /// `generation_config.json`.
    pub generation: GenerationConfig,
    /// The license at the head of the model card, `README.md`, for example `openrail++`.
    pub licence: Option<String>,
    /// The file, if the model is in one.
    single: Option<Arc<SingleFile>>,
    /// The model that supplies what the file lacks.
    base: Option<Box<Model>>,
    /// The VAE in place of its own.
    other_vae: Option<Arc<vae::Vae>>,
    /// The control nets beside it, by their names.
    controls: Vec<(String, Arc<control::Control>)>,
}

impl Model {
    /// Opens a folder, of which it reads `model_index.json` and each component's config, or a
    /// single file, of which it reads the header.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: not a model, another pipeline, a component missing, or an
    /// option that changes the arithmetic and that we do not compute.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Model::open_on(path, None)
    }

    /// Opens as [`open`](Model::open) does; `base` supplies what a single file lacks: text
    /// encoders, VAE, tokenizers.
    ///
    /// # Errors
    /// As [`open`](Model::open), and if `path` is a folder, which lacks nothing.
    pub fn open_on(path: impl AsRef<Path>, base: Option<&Model>) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.is_file() {
            return single_file::open(path, base);
        }
        if base.is_some() && path.is_dir() {
            return Err(Error::model(
                path,
                "it is a folder, and `base` is for what a single file lacks; leave it out",
            ));
        }
        let index_path = path.join("model_index.json");
        if !index_path.is_file() {
            let reason = if path.is_dir() {
                "it has no `model_index.json`; expected a folder as diffusers' `save_pretrained` writes it"
            } else if path.exists() {
                "it is no regular file; expected a `.safetensors` file, or a folder as diffusers' `save_pretrained` writes it"
            } else {
                "it does not exist; expected a `.safetensors` file, or a folder as diffusers' `save_pretrained` writes it"
            };
            return Err(Error::model(path, reason));
        }
        let index = read(&index_path, object)?;
        let class = index.get("_class_name").and_then(|class| class.as_str()).unwrap_or("none");
        if !class.starts_with("StableDiffusionXL") {
            let reason = format!("`_class_name` is `{class}`; expected `StableDiffusionXLPipeline`");
            return Err(Error::model(index_path, reason));
        }
        for component in ["tokenizer", "tokenizer_2", "scheduler"]
            .into_iter()
            .chain(Component::ALL.into_iter().map(Component::name))
        {
            if !path.join(component).is_dir() {
                let reason =
                    format!("the component `{component}` is missing; expected a folder of that name");
                return Err(Error::model(path, reason));
            }
        }
        let force_zeros = index.get("force_zeros_for_empty_prompt").and_then(|value| value.as_bool());
        let generation = path.join("generation_config.json");
        let model = Model {
            force_zeros_for_empty_prompt: force_zeros.unwrap_or(true),
            text_encoder: read(&path.join("text_encoder/config.json"), ClipConfig::parse)?,
            text_encoder_2: read(&path.join("text_encoder_2/config.json"), ClipConfig::parse)?,
            unet: read(&path.join("unet/config.json"), UNetConfig::parse)?,
            vae: read(&path.join("vae/config.json"), VaeConfig::parse)?,
            scheduler: read(&path.join("scheduler/scheduler_config.json"), |text| {
                SchedulerConfig::from_json(text).map_err(|error| Cause::from(error).into())
            })?,
            generation: if generation.exists() {
                read(&generation, GenerationConfig::parse)?
            } else {
                GenerationConfig::default()
            },
            licence: read_text(&path.join("README.md")).ok().and_then(|card| licence(&card)),
            path: path.to_owned(),
            single: None,
            base: None,
            other_vae: None,
            controls: vec![],
        };
        model.check_widths()?;
        Ok(model)
    }

    /// Takes the VAE in `path` in place of the model's own: a folder in diffusers' layout, or a
    /// file that has a VAE. [`hash`](Self::hash) stays that of the model.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: it is no VAE, or one whose latents are not the model's.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Model;
    /// let folder = tempfile::tempdir()?;
    /// let error = Model::sdxl_base("tokenizers").with_vae(folder.path()).unwrap_err();
    /// assert!(error.to_string().contains("it has no `config.json`"), "{error}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_vae(self, path: &Path) -> Result<Model, Error> {
        let vae = vae::Vae::open(path, &self.vae)?;
        Ok(Model { vae: vae.config.clone(), other_vae: Some(Arc::new(vae)), ..self })
    }

    /// Takes control nets beside the model, each name once. Each is a folder in diffusers' layout,
    /// or a file. [`hash`](Self::hash) stays that of the model.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: it is no control net, or one for another base.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Model;
    /// use dgx_pixels_core::model::ControlUse;
    /// let folder = tempfile::tempdir()?;
    /// let control = ControlUse { name: "canny".into(), path: folder.path().into(), hash: String::new() };
    /// let error = Model::sdxl_base("tokenizers").with_controls(&[control]).unwrap_err();
    /// assert!(error.to_string().contains("it has no `config.json`"), "{error}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_controls(self, controls: &[ControlUse]) -> Result<Model, Error> {
        let by_name: BTreeMap<_, _> = controls.iter().map(|one| (&one.name, &one.path)).collect();
        let open = |(name, path): (&String, &PathBuf)| {
            let opened = control::Control::open(path, &self.unet, &self.vae)?;
            Ok((name.clone(), Arc::new(opened)))
        };
        let controls = by_name.into_iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Model { controls, ..self })
    }

    /// The control nets beside the model, by their names.
    pub fn controls(&self) -> &[(String, Arc<control::Control>)] {
        &self.controls
    }

    /// The published sizes of SDXL base, to be measured with weights that are drawn at random;
    /// tokenizers are those in the folder `tokenizers`.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{ImageSize, Model};
    /// let model = Model::sdxl_base("models/sprite-xl");
    /// assert_eq!(model.native_size(), ImageSize { width: 1024, height: 1024 });
    /// ```
    // Source: the config.json files of stabilityai/stable-diffusion-xl-base-1.0.
    pub fn sdxl_base(tokenizers: impl Into<PathBuf>) -> Model {
        let all: serde_json::Value = serde_json::from_str(include_str!("sdxl_base.json"))
            .expect("a file of ours is JSON; this is a bug");
        let text = |name: &str| all[name].to_string();
        const VALID: &str = "the published configs are ones that we compute; this is a bug";
        Model {
            path: tokenizers.into(),
            force_zeros_for_empty_prompt: true,
            text_encoder: ClipConfig::parse(&text("text_encoder")).expect(VALID),
            text_encoder_2: ClipConfig::parse(&text("text_encoder_2")).expect(VALID),
            unet: UNetConfig::parse(&text("unet")).expect(VALID),
            vae: VaeConfig::parse(&text("vae")).expect(VALID),
            scheduler: SchedulerConfig::from_json(&text("scheduler")).expect(VALID),
            generation: GenerationConfig::default(),
            licence: None,
            single: None,
            base: None,
            other_vae: None,
            controls: vec![],
        }
    }

    /// The folder's name, or the file's without its ending.
    pub fn name(&self) -> String {
        // A file may be a link to one with another name, as in the hub's cache.
        let path = match self.single {
            Some(_) => self.path.clone(),
            None => self.path.canonicalize().unwrap_or_else(|_| self.path.clone()),
        };
        let name = if self.single.is_some() { path.file_stem() } else { path.file_name() };
        name.unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The file, if the model is in one.
    pub fn single_file(&self) -> Option<&SingleFile> {
        self.single.as_deref()
    }

    /// The path of the model that supplies what the file lacks.
    pub fn base_path(&self) -> Option<&Path> {
        self.base.as_ref().map(|base| &*base.path)
    }

    /// The folder of a tokenizer, `tokenizer` or `tokenizer_2`; `None` for the one that this
    /// library has.
    #[cfg(feature = "torch")]
    pub(crate) fn tokenizer_folder(&self, name: &str) -> Option<PathBuf> {
        match (&self.single, &self.base) {
            (None, _) => Some(self.path.join(name)),
            (Some(_), Some(base)) => base.tokenizer_folder(name),
            (Some(_), None) => None,
        }
    }

    /// Returns the model's values for what a request leaves open.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Model;
    /// let defaults = Model::sdxl_base("tokenizers").defaults();
    /// assert_eq!((defaults.size.width, defaults.multiple, defaults.steps), (1024, 8, 30));
    /// assert_eq!((defaults.guidance_scale, defaults.is_distilled), (5.0, false));
    /// ```
    pub fn defaults(&self) -> ModelDefaults {
        ModelDefaults {
            size: self.native_size(),
            largest: self.largest_size(),
            multiple: self.vae.scale_factor(),
            steps: self.generation.num_inference_steps,
            guidance_scale: self.generation.guidance_scale,
            scheduler: self.scheduler.name(),
            is_distilled: self.unet.time_cond_proj_dim.is_some(),
            matte: Some(self.generation.matte),
            needs_mask: self.is_for_inpainting(),
        }
    }

    /// The size of a picture where the request names none.
    /// It is the UNet's `sample_size` times the VAE's [`scale_factor`](VaeConfig::scale_factor).
    pub fn native_size(&self) -> ImageSize {
        let scale = self.vae.scale_factor();
        let side = |i| self.unet.sample_size.as_ref().map_or(128, |size| *size.get(i)) * scale;
        ImageSize { width: side(1), height: side(0) }
    }

    /// The size of the largest image for a sprite: `max_image_size` of `generation_config.json`, or
    /// the [`native_size`](Model::native_size).
    fn largest_size(&self) -> ImageSize {
        let native = self.native_size();
        let most = self.generation.max_image_size.unwrap_or(0);
        ImageSize { width: native.width.max(most), height: native.height.max(most) }
    }

    /// Maps the weights of one component.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file.
    pub fn weights(&self, component: Component, prefer_fp16: bool) -> Result<WeightFiles, Error> {
        if let Some(vae) = self.other_vae.as_ref().filter(|_| component == Component::Vae) {
            return vae.weights();
        }
        if let Some(file) = &self.single {
            return match (file.weights(component), &self.base) {
                (Some(weights), _) => Ok(weights),
                (None, Some(base)) => base.weights(component, prefer_fp16),
                // A file that lacks more is not opened without a base.
                (None, None) => Err(Error::model(
                    &self.path,
                    "it lacks `vae`; name a VAE with `--vae`, or a model that has one with `--base`",
                )),
            };
        }
        WeightFiles::open(&self.path.join(component.name()), component.stem(), prefer_fp16)
    }

    /// BLAKE3 over every file that shapes the picture of a whole request, with its name: configs,
    /// tokenizers and the weights that are used where `fp16` files are not preferred. Files of
    /// weights that no component uses change nothing. Reads all of them: about a second for each 1
    /// to 3 GB.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file that is missing or cannot be read.
    pub fn hash(&self) -> Result<String, Error> {
        self.hash_of(|_| false)
    }

    /// Returns the same as [`hash`](Model::hash), with the `fp16` weight files of the components
    /// that prefer them.
    ///
    /// # Errors
    /// As [`hash`](Model::hash).
    pub fn hash_of(&self, prefers_fp16: impl Fn(Component) -> bool) -> Result<String, Error> {
        if self.single.is_some() {
            let mut hasher = blake3::Hasher::new();
            hasher.update(hash_file(&self.path)?.as_bytes());
            if let Some(base) = &self.base {
                hasher.update(base.hash_of(prefers_fp16)?.as_bytes());
            }
            return Ok(hasher.finalize().to_hex().to_string());
        }
        let mut names = vec!["model_index.json".to_owned(), "scheduler/scheduler_config.json".to_owned()];
        for folder in ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae"] {
            let dir = self.path.join(folder);
            let listed = std::fs::read_dir(&dir).map_err(|error| Error::model(&dir, error))?;
            for entry in listed {
                let entry = entry.map_err(|error| Error::model(&dir, error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let is_index = name.ends_with(".json") && name.contains(".index.");
                let is_text = [".json", ".txt"].iter().any(|ending| name.ends_with(ending));
                if is_text && !is_index && entry.path().is_file() {
                    names.push(format!("{folder}/{name}"));
                }
            }
        }
        for component in Component::ALL {
            let dir = self.path.join(component.name());
            let WeightPaths { index, shards } =
                WeightPaths::find(&dir, component.stem(), prefers_fp16(component))?;
            let paths = index.iter().chain(&shards).filter_map(|path| path.file_name());
            names.extend(paths.map(|name| format!("{}/{}", component.name(), name.to_string_lossy())));
        }
        names.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for name in names {
            let one = hash_file(&self.path.join(&name))?;
            hasher.update(name.as_bytes()).update(&[0]).update(one.as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn check_widths(&self) -> Result<(), Error> {
        let fault = |file: &str, reason: String| match self.single {
            Some(_) => Error::model(&self.path, reason),
            None => Error::model(self.path.join(file), reason),
        };
        let text = self.text_encoder.hidden_size + self.text_encoder_2.hidden_size;
        for i in 0..self.unet.block_out_channels.len() {
            let expects = *self.unet.cross_attention_dim.get(i);
            if expects != text {
                let reason = format!(
                    "`cross_attention_dim` is {expects}; expected {text}, both text encoders' widths"
                );
                return Err(fault("unet/config.json", reason));
            }
        }
        let sizes = 6 * self.unet.addition_time_embed_dim;
        let expected = self.text_encoder_2.projection_dim + sizes;
        if self.unet.projection_class_embeddings_input_dim != expected {
            let reason = format!(
                "`projection_class_embeddings_input_dim` is {}; expected {expected}, the pooled text's width and six \
                 embedded sizes",
                self.unet.projection_class_embeddings_input_dim
            );
            return Err(fault("unet/config.json", reason));
        }
        let UNetConfig { in_channels, out_channels, .. } = self.unet;
        let latent = self.vae.latent_channels;
        let is_right = in_channels == latent || self.is_for_inpainting();
        if !is_right || out_channels != latent {
            let reason = format!(
                "`in_channels` is {in_channels} and `out_channels` {out_channels}; expected the VAE's \
                 `latent_channels`, {latent} and {latent}, or {} and {latent} for inpainting",
                2 * latent + 1
            );
            return Err(fault("unet/config.json", reason));
        }
        Ok(())
    }

    /// `true` for a model whose UNet takes a mask and the latents of the masked image beside those
    /// of the sample: 9 channels for SDXL.
    fn is_for_inpainting(&self) -> bool {
        self.unet.in_channels == 2 * self.vae.latent_channels + 1
    }
}

/// BLAKE3 of one file's bytes.
pub(crate) fn hash_file(path: &Path) -> Result<blake3::Hash, Error> {
    let file = File::open(path).map_err(|error| Error::model(path, error))?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(BufReader::with_capacity(1 << 20, file))
        .map_err(|error| Error::model(path, error))?;
    Ok(hasher.finalize())
}

/// What a model card says between its first two lines `---`.
fn licence(card: &str) -> Option<String> {
    let (head, _) = card.strip_prefix("---\n")?.split_once("\n---")?;
    let said = head.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    (!said.is_empty()).then(|| said.to_owned())
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Reason>) -> Result<T, Error> {
    let text = read_text(path).map_err(|error| Error::model(path, error))?;
    parse(&text).map_err(|reason| Error::model(path, reason))
}

/// A file that describes a model. Model folders come from elsewhere: a pipe or a file without end
/// is refused.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_regular(path, MAX_TEXT_BYTES)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::one_line;

    #[test]
    fn files_that_no_component_uses_do_not_change_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny_sdxl_a");
        copy(&tiny, folder.path());
        let model = Model::open(folder.path()).unwrap();
        let (hash, hash_of_halves) = (model.hash().unwrap(), model.hash_of(|_| true).unwrap());
        assert_eq!(hash, hash_of_halves);
        let unet = folder.path().join("unet");
        for unused in [
            "diffusion_pytorch_model.bin",
            "diffusion_pytorch_model.ckpt",
            "model.onnx",
            "other.safetensors",
            "diffusion_pytorch_model.fp16.safetensors",
            "diffusion_pytorch_model.bin.index.json",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
        ] {
            fs::write(unet.join(unused), "no weights").unwrap();
            assert_eq!(model.hash().unwrap(), hash, "{unused}");
        }
        std::os::unix::fs::symlink("absent", unet.join("dangling.json")).unwrap();
        assert_eq!(model.hash().unwrap(), hash);
        let other = model.hash_of(|component| component == Component::UNet).unwrap();
        assert_ne!(other, hash, "the files of half precision are used now");
        fs::write(unet.join("diffusion_pytorch_model.safetensors"), "other weights").unwrap();
        assert_ne!(model.hash().unwrap(), hash);
    }

    #[test]
    fn a_config_that_is_a_pipe_or_no_text_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model_index.json");
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(one_line(&Model::open(folder.path()).unwrap_err()).contains("utf-8"));
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        assert!(Model::open(folder.path()).is_err());
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }

    #[test]
    fn a_licence_stands_at_the_head_of_the_model_card() {
        assert_eq!(licence("---\nlicense: openrail++\ntags:\n- a\n---\n# A").as_deref(), Some("openrail++"));
        assert_eq!(
            licence("---\nlicense: \"MIT OR Apache-2.0\"\n---\n").as_deref(),
            Some("MIT OR Apache-2.0")
        );
        for card in [
            "",
            "# A\nlicense: mit",
            "---\ntags: a\n---\nlicense: mit",
            "---\nlicense:\n---\n",
            "---\nlicense: mit",
        ] {
            assert_eq!(licence(card), None, "{card}");
        }
    }
}
