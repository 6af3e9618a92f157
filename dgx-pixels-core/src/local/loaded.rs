//! Models with a folder, on the libtorch that is loaded when the first job comes.

use crate::backend::DeviceMemory;
use crate::device::Device;
use crate::error::Error;
use crate::loaded::{self, LoadedDevice};
pub(super) use crate::loaded::{LoadedModel as Sdxl, LoadedModels as Folders};
use crate::model::{Model, Options};

/// `models` by their names; the first is the default.
pub(super) fn folders(
    models: Vec<(String, Model)>,
    options: Options,
    owns_process: bool,
) -> Result<Folders, Error> {
    Ok(Folders::new(models, options, owns_process))
}

pub(super) fn preload(owns_process: bool) -> Result<(), Error> {
    loaded::Libtorch::load(owns_process).map(drop)
}

pub(super) fn devices(device: Device, owns_process: bool) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
    Ok(vec![Box::new(LoadedDevice::new(loaded::resolve(device)?, owns_process))])
}
