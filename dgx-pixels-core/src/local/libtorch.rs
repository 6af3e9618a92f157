//! Models with a folder, on the libtorch that this program is linked to (feature `torch`).

use crate::backend::DeviceMemory;
use crate::device::Device;
use crate::error::Error;
use crate::model::{Model, Options};
use crate::torch::{self, Checkpoints};
pub(super) use crate::torch::{Checkpoints as Folders, Sdxl};

/// `models` by their names; the first is the default.
pub(super) fn folders(models: Vec<(String, Model)>, options: Options, _: bool) -> Result<Checkpoints, Error> {
    let default = models.first().map_or(String::new(), |(name, _)| name.clone());
    Checkpoints::new(models, &default, options)
}

/// Does nothing, because libtorch is loaded with the program.
pub(super) fn preload(_: bool) -> Result<(), Error> {
    Ok(())
}

pub(super) fn devices(device: Device, owns_process: bool) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
    if owns_process {
        torch::own_process()?;
    }
    torch::devices(&[device])
}
