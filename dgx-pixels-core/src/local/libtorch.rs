//! Models with a folder, on libtorch.

use std::sync::Arc;

use super::LocalOptions;
use crate::backend::{DeviceMemory, ModelInfo, Models as _};
use crate::device::Device;
use crate::error::Error;
use crate::model::Model;
use crate::torch::{self, Checkpoints, Options};
pub(super) use crate::torch::{Sdxl, SdxlCanvas};

pub(super) const IS_BUILT_IN: bool = true;

/// Model folders by their names.
#[derive(Clone)]
pub(super) struct Folders(Arc<Checkpoints>);

impl Folders {
    pub(super) fn new(models: Vec<(String, Model)>, options: LocalOptions) -> Result<Folders, Error> {
        let default = models.first().map_or(String::new(), |(name, _)| name.clone());
        Ok(Folders(Arc::new(Checkpoints::new(models, &default, options.into())?)))
    }

    pub(super) fn with(self, options: LocalOptions) -> Folders {
        Folders(Arc::new(self.0.with(options.into())))
    }

    /// The device, after libtorch's threads are fitted to a machine that does other work too.
    pub(super) fn devices(&self, device: Device) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
        torch::share_processors()?;
        torch::devices(&[device])
    }

    pub(super) fn describe(&self, model: &str, device: &str) -> Result<ModelInfo, Error> {
        self.0.describe(Some(model), device)
    }

    pub(super) fn load(
        &self,
        model: &str,
        device: &str,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<Sdxl, Error> {
        self.0.load(model, device, on_bytes)
    }

    pub(super) fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        self.0.hash(model)
    }
}

impl From<LocalOptions> for Options {
    fn from(options: LocalOptions) -> Options {
        let LocalOptions { device, dtype, mode, vae_tiling } = options;
        Options { device, dtype, mode, vae_tiling, ..Default::default() }
    }
}
