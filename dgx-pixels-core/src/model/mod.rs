//! Model folders in diffusers' layout, read without libtorch.

pub mod config;
pub mod files;
pub mod search;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use config::{ClipConfig, GenerationConfig, UNetConfig, VaeConfig, object};
use files::WeightFiles;

use crate::error::Error;
use crate::request::ImageSize;
use crate::scheduler::SchedulerConfig;

/// An SDXL-family model in a folder as `StableDiffusionXLPipeline.save_pretrained` writes it. Opening reads the
/// configs; weights are mapped when asked for.
#[derive(Clone, Debug)]
pub struct Model {
    /// The folder.
    pub path: PathBuf,
    /// Whether a missing negative prompt means zeros instead of an encoded empty text.
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
    /// What the model card, `README.md`, says at its head, as `openrail++`.
    pub licence: Option<String>,
}

/// A part of a model that has weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The first CLIP text encoder.
    TextEncoder,
    /// The second, with projection.
    TextEncoder2,
    /// The denoiser.
    UNet,
    /// Pixels to latents and back.
    Vae,
}

impl Component {
    /// All of them, in the order of a request's way.
    pub const ALL: [Component; 4] =
        [Component::TextEncoder, Component::TextEncoder2, Component::UNet, Component::Vae];

    /// Its folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Component::TextEncoder => "text_encoder",
            Component::TextEncoder2 => "text_encoder_2",
            Component::UNet => "unet",
            Component::Vae => "vae",
        }
    }

    fn stem(self) -> &'static str {
        match self {
            Component::TextEncoder | Component::TextEncoder2 => "model",
            Component::UNet | Component::Vae => "diffusion_pytorch_model",
        }
    }
}

impl Model {
    /// Opens the folder: reads `model_index.json` and each component's config.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file: not a model folder, another pipeline, a component missing, or an option
    /// that changes the arithmetic and that we do not compute.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let index_path = path.join("model_index.json");
        if !index_path.is_file() {
            let reason = if path.is_dir() {
                "it has no `model_index.json`; expected a folder as diffusers' `save_pretrained` writes it"
            } else if path.exists() {
                "it is a file; expected a folder as diffusers' `save_pretrained` writes it"
            } else {
                "it does not exist; expected a folder as diffusers' `save_pretrained` writes it"
            };
            return Err(Error::Model { path: path.to_owned(), reason: reason.into() });
        }
        let index = read(&index_path, object)?;
        let class = index.get("_class_name").and_then(|class| class.as_str()).unwrap_or("none");
        if !class.starts_with("StableDiffusionXL") {
            let reason = format!("`_class_name` is `{class}`; expected `StableDiffusionXLPipeline`");
            return Err(Error::Model { path: index_path, reason });
        }
        for component in ["tokenizer", "tokenizer_2", "scheduler"]
            .into_iter()
            .chain(Component::ALL.into_iter().map(Component::name))
        {
            if !path.join(component).is_dir() {
                let reason =
                    format!("the component `{component}` is missing; expected a folder of that name");
                return Err(Error::Model { path: path.to_owned(), reason });
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
                SchedulerConfig::from_json(text).map_err(|error| error.to_string())
            })?,
            generation: if generation.exists() {
                read(&generation, GenerationConfig::parse)?
            } else {
                GenerationConfig::default()
            },
            licence: std::fs::read_to_string(path.join("README.md")).ok().and_then(|card| licence(&card)),
            path: path.to_owned(),
        };
        model.check_widths()?;
        Ok(model)
    }

    /// The published sizes of SDXL base, to be measured with weights that are drawn at random; tokenizers are those in the folder
    /// `tokenizers`.
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
        }
    }

    /// The folder's name.
    pub fn name(&self) -> String {
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// The size of a picture where the request names none.
    pub fn native_size(&self) -> ImageSize {
        let scale = self.vae.scale_factor();
        let side = |i| self.unet.sample_size.as_ref().map_or(128, |size| *size.get(i)) * scale;
        ImageSize { width: side(1), height: side(0) }
    }

    /// Maps the weights of one component.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file.
    pub fn weights(&self, component: Component, prefer_fp16: bool) -> Result<WeightFiles, Error> {
        WeightFiles::open(&self.path.join(component.name()), component.stem(), prefer_fp16)
    }

    /// BLAKE3 over every file that shapes the picture of a whole request, with its name: configs, tokenizers and weights. Reads all of
    /// them: about a second for each 1 to 3 GB.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file that cannot be read.
    pub fn hash(&self) -> Result<String, Error> {
        let mut names = vec!["model_index.json".to_owned(), "scheduler/scheduler_config.json".to_owned()];
        for folder in ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae"] {
            let dir = self.path.join(folder);
            let listed = std::fs::read_dir(&dir).map_err(|error| fault(&dir, &error))?;
            for entry in listed {
                let name =
                    entry.map_err(|error| fault(&dir, &error))?.file_name().to_string_lossy().into_owned();
                if [".json", ".txt", ".safetensors"].iter().any(|ending| name.ends_with(ending)) {
                    names.push(format!("{folder}/{name}"));
                }
            }
        }
        names.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for name in names {
            let path = self.path.join(&name);
            let file = File::open(&path).map_err(|error| fault(&path, &error))?;
            let mut one = blake3::Hasher::new();
            one.update_reader(BufReader::with_capacity(1 << 20, file))
                .map_err(|error| fault(&path, &error))?;
            hasher.update(name.as_bytes()).update(&[0]).update(one.finalize().as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    fn check_widths(&self) -> Result<(), Error> {
        let fault = |file: &str, reason: String| Error::Model { path: self.path.join(file), reason };
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
        if self.unet.in_channels != self.vae.latent_channels
            || self.unet.out_channels != self.vae.latent_channels
        {
            let reason = format!(
                "`in_channels` is {} and `out_channels` {}; expected the VAE's `latent_channels`, {}",
                self.unet.in_channels, self.unet.out_channels, self.vae.latent_channels
            );
            return Err(fault("unet/config.json", reason));
        }
        Ok(())
    }
}

/// What a model card says between its first two lines `---`.
fn licence(card: &str) -> Option<String> {
    let (head, _) = card.strip_prefix("---\n")?.split_once("\n---")?;
    let said = head.lines().find_map(|line| line.strip_prefix("license:"))?.trim().trim_matches(['"', '\'']);
    (!said.is_empty()).then(|| said.to_owned())
}

fn read<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| fault(path, &error))?;
    parse(&text).map_err(|reason| Error::Model { path: path.to_owned(), reason })
}

fn fault(path: &Path, error: &std::io::Error) -> Error {
    Error::Model { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::licence;

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
