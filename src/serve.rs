//! The engine that the commands draw with.

use dgx_pixels_core::backend::Sketch;
use dgx_pixels_core::engine::{Engine, EngineConfig, Sketches, Unmetered};
use dgx_pixels_core::folders;
#[cfg(feature = "torch")]
use dgx_pixels_core::{
    Model,
    model::search::{self, Found},
    torch,
};

use crate::drawing::TorchArgs;
use crate::failure::Failure;

/// The built-in backend's name; it needs no files and no libtorch.
pub(crate) const SKETCH: &str = "sketch";

/// What to draw with.
pub(crate) enum Choice {
    Sketch,
    #[cfg(feature = "torch")]
    Folder(String, Box<Model>),
}

impl Choice {
    /// What `--model` means.
    ///
    /// # Errors
    /// [`Error::ModelChoice`](dgx_pixels_core::Error::ModelChoice); the model's own fault if it cannot be opened.
    #[cfg(feature = "torch")]
    pub(crate) fn of(wanted: Option<&str>) -> Result<Choice, Failure> {
        if wanted == Some(SKETCH) {
            return Ok(Choice::Sketch);
        }
        let Found { name, model, .. } = search::choose(&search::places(), wanted)?;
        Ok(Choice::Folder(name, Box::new(model?)))
    }

    /// What `--model` means in a build without libtorch: the sketch.
    ///
    /// # Errors
    /// [`Error::ModelChoice`](dgx_pixels_core::Error::ModelChoice) for any other model.
    #[cfg(not(feature = "torch"))]
    pub(crate) fn of(wanted: Option<&str>) -> Result<Choice, Failure> {
        match wanted {
            None | Some(SKETCH) => Ok(Choice::Sketch),
            Some(wanted) => Err(dgx_pixels_core::Error::ModelChoice(format!(
                "`model` is `{wanted}`; expected `{SKETCH}`, as this program is built without libtorch (feature `torch`)"
            ))
            .into()),
        }
    }

    /// The model's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Choice::Sketch => SKETCH,
            #[cfg(feature = "torch")]
            Choice::Folder(name, _) => name,
        }
    }

    /// What both sides of a picture must be multiples of.
    pub(crate) fn multiple(&self) -> u32 {
        match self {
            Choice::Sketch => Sketch::CELL_PX,
            #[cfg(feature = "torch")]
            Choice::Folder(_, model) => model.vae.scale_factor(),
        }
    }

    /// An engine that draws with it. What calls cost in memory is kept in this user's cache.
    ///
    /// # Errors
    /// As [`Engine::start`], and for a device that is not there.
    pub(crate) fn start(self, torch: TorchArgs, config: EngineConfig) -> Result<Engine, Failure> {
        let config = EngineConfig { costs: folders::cache().map(|cache| cache.join("costs.json")), ..config };
        match self {
            Choice::Sketch => {
                let TorchArgs { .. } = torch;
                Ok(Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], config)?)
            }
            #[cfg(feature = "torch")]
            Choice::Folder(name, model) => {
                let TorchArgs { dtype, device, mode, vae_tiling } = torch;
                let devices = torch::devices(&[device])?;
                let options = torch::Options { dtype, mode, vae_tiling, ..Default::default() };
                let models = torch::Checkpoints::new([(name.as_str(), *model)], &name, options)?;
                Ok(Engine::start(models, devices, config)?)
            }
        }
    }
}
