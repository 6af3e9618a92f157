//! Model folders by name, and the devices that compute them.

use super::{Libtorch, LoadedModel, find};
use crate::backend::{ModelInfo, Models, Variant};
use crate::device::Device;
use crate::error::{Cause, Error};
use crate::gpu;
use crate::model::checkpoint::Checkpoint;
use crate::model::lora::LoraUse;
use crate::model::{Model, Options};
use crate::value_error::ValueError;

/// Model folders, each under a name, that the loaded libtorch computes. Facts and hashes are read
/// without it.
pub struct LoadedModels {
    models: Vec<Checkpoint>,
    options: Options,
    owns_process: bool,
}

impl LoadedModels {
    /// `models` by their names; the first is the default. The engine chooses the device; the rest
    /// of `options` holds. See [`Libtorch::load`] for `owns_process`.
    pub fn new(
        models: impl IntoIterator<Item = (String, Model)>,
        options: Options,
        owns_process: bool,
    ) -> LoadedModels {
        let models = models.into_iter().map(|(name, model)| Checkpoint::new(name, model)).collect();
        LoadedModels { models, options, owns_process }
    }

    fn find(&self, name: Option<&str>) -> Result<&Checkpoint, Error> {
        let found = match name {
            Some(name) => self.models.iter().find(|checkpoint| checkpoint.name == name),
            None => self.models.first(),
        };
        found.ok_or_else(|| {
            let names: Vec<_> = self.models.iter().map(|one| format!("`{}`", one.name)).collect();
            let there_are = if names.is_empty() { "none".into() } else { names.join(", ") };
            Error::model(name.unwrap_or_default(), format!("no model has this name; there are {there_are}"))
        })
    }

    /// The options with a concrete device. Whether it is there is seen when it is opened.
    fn options_on(&self, device: &str) -> Result<Options, Error> {
        let parsed = device.parse().map_err(|error: ValueError| Error::device(device, Cause::from(error)))?;
        let device = if parsed == Device::Auto { resolve(parsed)? } else { parsed };
        Ok(Options { device, ..self.options })
    }
}

impl LoadedModels {
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
    ) -> Result<LoadedModel, Error> {
        let (checkpoint, options) = (self.find(Some(model))?, self.options_on(device)?);
        let libtorch = Libtorch::load(self.owns_process)?;
        LoadedModel::load_changed(libtorch, &checkpoint.model, &options, variant, on_bytes)
    }

    /// The facts of a model with the VAE and the control nets in `variant`, as
    /// [`Models::describe`] has them.
    ///
    /// # Errors
    /// Those of [`Models::describe`], and [`Error::Model`] for a file that is for another model.
    pub fn describe_changed(&self, model: &str, variant: &Variant, device: &str) -> Result<ModelInfo, Error> {
        self.find(Some(model))?.describe_changed(variant, &self.options_on(device)?)
    }

    /// Checks that LoRAs are for a model, by the headers of all files.
    ///
    /// # Errors
    /// [`Error::Model`] naming the file and the module at fault.
    pub fn check_loras(&self, model: &str, loras: &[LoraUse]) -> Result<(), Error> {
        self.find(Some(model))?.check_loras(loras, &self.options)
    }
}

impl Models for LoadedModels {
    type Backend = LoadedModel;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        self.find(model)?.describe(&self.options_on(device)?)
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<LoadedModel, Error> {
        self.load_changed(model, &Variant::default(), device, on_bytes)
    }

    fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        self.find(Some(model))?.hash(&self.options).map(Some)
    }
}

/// Makes `auto` concrete and checks that the device is there, by the driver and by files alone.
///
/// # Errors
/// [`Error::Device`], with the devices that there are or the reason why CUDA is not available.
pub fn resolve(device: Device) -> Result<Device, Error> {
    let unavailable = |reason: String| Error::device(device.to_string(), reason);
    match device {
        Device::Cpu => Ok(Device::Cpu),
        Device::Auto => {
            let has_gpu = gpu::gpus().is_ok_and(|gpus| !gpus.is_empty());
            Ok(if has_gpu && find::report().has_cuda { Device::Cuda(0) } else { Device::Cpu })
        }
        Device::Cuda(index) => {
            let count = gpu::gpus().map_err(unavailable)?.len();
            if index >= count {
                return Err(unavailable(gpu::range(count)));
            }
            let report = find::report();
            match report.libtorch {
                Ok((folder, _)) if !report.has_cuda => Err(unavailable(format!(
                    "the libtorch in `{}` is built without CUDA; `dgx-pixels setup --cuda` fetches one with it",
                    folder.display()
                ))),
                _ => Ok(device),
            }
        }
    }
}
