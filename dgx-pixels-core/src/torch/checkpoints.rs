//! Model folders by name, as an engine serves them.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::device::libtorch_version;
use super::sdxl::{Options, Sdxl};
use super::weights::is_float;
use crate::backend::{ModelInfo, Models};
use crate::device::Device;
use crate::error::{Cause, Error};
use crate::model::{Component, Model};
use crate::value_error::ValueError;

/// Models in folders, each under a name.
///
/// # Example
/// ```no_run
/// use dgx_pixels_core::backend::Models as _;
/// use dgx_pixels_core::torch::{Checkpoints, Options};
/// let models = Checkpoints::open([("sprite-xl", "models/sprite-xl")], "sprite-xl", Options::default())?;
/// let info = models.describe(None, "cuda:0")?;
/// assert_eq!((info.name.as_str(), info.dtype.as_str()), ("sprite-xl", "bf16"));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub struct Checkpoints {
    models: Vec<Checkpoint>,
    default: String,
    options: Options,
}

struct Checkpoint {
    name: String,
    model: Model,
    /// Numbers in the weights of each component.
    parameters: OnceLock<[u64; Component::ALL.len()]>,
    hash: Mutex<Option<String>>,
}

impl Checkpoints {
    /// `models` by their names; `default` is the one that is taken where none is named. All of `options` holds but the
    /// device, which the engine chooses.
    ///
    /// # Errors
    /// [`Error::Model`] if two have one name, or none is called `default`.
    pub fn new<N: Into<String>>(
        models: impl IntoIterator<Item = (N, Model)>,
        default: &str,
        options: Options,
    ) -> Result<Checkpoints, Error> {
        let mut all = Checkpoints { models: Vec::new(), default: default.to_owned(), options };
        for (name, model) in models {
            let name = name.into();
            if all.find(&name).is_ok() {
                return Err(Error::model(name, "two models have this name; expected one"));
            }
            all.models.push(Checkpoint::new(name, model));
        }
        all.find(default)?;
        Ok(all)
    }

    /// As [`new`](Checkpoints::new), from folders.
    ///
    /// # Errors
    /// As [`new`](Checkpoints::new), and for a folder that is no model.
    pub fn open<N: Into<String>, P: Into<PathBuf>>(
        folders: impl IntoIterator<Item = (N, P)>,
        default: &str,
        options: Options,
    ) -> Result<Checkpoints, Error> {
        let opened = folders.into_iter().map(|(name, path)| Ok((name, Model::open(path.into())?)));
        Checkpoints::new(opened.collect::<Result<Vec<_>, Error>>()?, default, options)
    }

    /// The same models, loaded in another way.
    pub fn with(&self, options: Options) -> Checkpoints {
        let anew = |Checkpoint { name, model, .. }: &Checkpoint| Checkpoint::new(name.clone(), model.clone());
        Checkpoints { models: self.models.iter().map(anew).collect(), default: self.default.clone(), options }
    }

    /// All names, in the order they were given in.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.models.iter().map(|checkpoint| checkpoint.name.as_str())
    }

    fn find(&self, name: &str) -> Result<&Checkpoint, Error> {
        self.models.iter().find(|checkpoint| checkpoint.name == name).ok_or_else(|| {
            let names: Vec<_> = self.names().map(|name| format!("`{name}`")).collect();
            let there_are = if names.is_empty() { "none".into() } else { names.join(", ") };
            Error::model(name, format!("no model has this name; there are {there_are}"))
        })
    }

    fn options(&self, device: &str) -> Result<Options, Error> {
        let parsed = device.parse().map_err(|error: ValueError| Error::device(device, Cause::from(error)))?;
        Ok(Options { device: parsed, ..self.options })
    }
}

impl Checkpoint {
    fn new(name: String, model: Model) -> Checkpoint {
        Checkpoint { name, model, parameters: OnceLock::new(), hash: Mutex::new(None) }
    }

    fn parameters(&self, options: &Options) -> Result<[u64; Component::ALL.len()], Error> {
        if let Some(known) = self.parameters.get() {
            return Ok(*known);
        }
        let mut counts = [0; Component::ALL.len()];
        for (count, component) in counts.iter_mut().zip(Component::ALL) {
            let files = self.model.weights(component, options.prefers_fp16(component, &self.model))?;
            let tensors = files.shards.iter().flat_map(|shard| shard.metadata.tensors().into_values());
            let sizes =
                tensors.filter(|info| is_float(info.dtype)).map(|info| info.shape.iter().product::<usize>());
            *count = sizes.sum::<usize>() as u64;
        }
        Ok(*self.parameters.get_or_init(|| counts))
    }
}

impl Models for Checkpoints {
    type Backend = Sdxl;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        let checkpoint = self.find(model.unwrap_or(&self.default))?;
        let Checkpoint { name, model, .. } = checkpoint;
        let options = self.options(device)?;
        let device = match options.device {
            Device::Auto => options.device.resolve()?,
            named => named,
        };
        let bytes = checkpoint
            .parameters(&options)?
            .into_iter()
            .zip(Component::ALL)
            .map(|(count, component)| count * options.dtype_of(component, model, device).bytes());
        // What was read of the configs: names and versions in them shape nothing.
        let configs = format!("{:?}", (&model.text_encoder, &model.text_encoder_2, &model.unet, &model.vae));
        let mode = options.mode_on(device);
        let configs = format!("{configs}{mode:?}");
        Ok(ModelInfo {
            name: name.clone(),
            architecture: blake3::hash(configs.as_bytes()).to_hex().to_string(),
            dtype: options.dtype(device).to_string(),
            weight_bytes: bytes.sum(),
            defaults: model.defaults(),
            vae_tiling: options.vae_tiling,
            mode: mode.map(|mode| mode.to_string()),
            libtorch: Some(libtorch_version()),
            licence: model.licence.clone(),
        })
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<Sdxl, Error> {
        Sdxl::load_and_tell(&self.find(model)?.model, &self.options(device)?, on_bytes)
    }

    fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        let checkpoint = self.find(model)?;
        // Whoever asks meanwhile waits for this one, and reads nothing.
        let mut hash = checkpoint.hash.lock().unwrap_or_else(PoisonError::into_inner);
        if hash.is_none() {
            let model = &checkpoint.model;
            *hash = Some(model.hash_of(|component| self.options.prefers_fp16(component, model))?);
        }
        Ok(hash.clone())
    }
}
