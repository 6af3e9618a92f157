//! Model folders by name, as an engine serves them.

use std::path::PathBuf;

use super::sdxl::Sdxl;
use crate::backend::{ModelInfo, Models, Variant};
use crate::device::Device;
use crate::error::{Cause, Error};
use crate::model::checkpoint::{Checkpoint, changed};
use crate::model::lora::LoraUse;
use crate::model::{Model, Options};
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

impl Checkpoints {
    /// `models` by their names; `default` is the one that is taken where none is named. All of
    /// `options` holds but the device, which the engine chooses.
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

    /// Opens the models in these folders, and returns the same as [`new`](Checkpoints::new).
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

impl Checkpoints {
    /// The options with a concrete device.
    fn resolved(&self, device: &str) -> Result<Options, Error> {
        let options = self.options(device)?;
        let device = if options.device == Device::Auto { options.device.resolve()? } else { options.device };
        Ok(Options { device, ..options })
    }

    /// Loads a model as the files in `variant` change it.
    ///
    /// # Errors
    /// Those of [`Models::load`], and [`Error::Model`] for a file that is for another model.
    pub fn load_changed(
        &self,
        model: &str,
        variant: &Variant,
        device: &str,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Sdxl, Error> {
        let (model, options) = (changed(self.find(model)?.model.clone(), variant)?, self.options(device)?);
        Sdxl::load_merged(&model, &options, &variant.loras, on_bytes)
    }

    /// The facts of a model with the VAE and the control nets in `variant`, as
    /// [`Models::describe`] has them.
    ///
    /// # Errors
    /// Those of [`Models::describe`], and [`Error::Model`] for a file that is for another model.
    pub fn describe_changed(&self, model: &str, variant: &Variant, device: &str) -> Result<ModelInfo, Error> {
        self.find(model)?.describe_changed(variant, &self.resolved(device)?)
    }

    /// Checks that LoRAs are for a model, by the headers of all files.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file and the module at fault.
    pub fn check_loras(&self, model: &str, loras: &[LoraUse]) -> Result<(), Error> {
        self.find(model)?.check_loras(loras, &self.options)
    }
}

impl Models for Checkpoints {
    type Backend = Sdxl;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        let checkpoint = self.find(model.unwrap_or(&self.default))?;
        checkpoint.describe(&self.resolved(device)?)
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<Sdxl, Error> {
        Sdxl::load_and_tell(&self.find(model)?.model, &self.options(device)?, on_bytes)
    }

    fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        self.find(model)?.hash(&self.options).map(Some)
    }
}
