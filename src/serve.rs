//! The engine that the commands draw with.

use dgx_pixels_core::ModelDefaults;
#[cfg(feature = "torch")]
use dgx_pixels_core::backend::Models as _;
use dgx_pixels_core::backend::{Backend as _, Sketch};
use dgx_pixels_core::backend::{Sketches, Unmetered};
use dgx_pixels_core::engine::{Engine, EngineConfig};
use dgx_pixels_core::folders;
use dgx_pixels_core::model::search::{self, Found, Place};
#[cfg(feature = "torch")]
use dgx_pixels_core::{Model, torch};

use crate::drawing::TorchArgs;
use crate::failure::Failure;
use crate::output;

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
        let places = search::places();
        Choice::of_found(&places, search::choose(&places, wanted)?, wanted.is_some())
    }

    #[cfg(feature = "torch")]
    fn of_found(places: &[Place], found: Found, is_asked_for: bool) -> Result<Choice, Failure> {
        tell_choice(places, &found, is_asked_for);
        let Found { name, model, .. } = found;
        Ok(Choice::Folder(name, Box::new(model?)))
    }

    #[cfg(not(feature = "torch"))]
    fn of_found(_: &[Place], Found { name, .. }: Found, _: bool) -> Result<Choice, Failure> {
        Choice::of(Some(&name))
    }

    /// The model that a picture names: one of the model folders, by its name alone.
    ///
    /// # Errors
    /// [`Error::ModelChoice`](dgx_pixels_core::Error::ModelChoice) if there is none of this name; the model's own fault if it cannot be
    /// opened.
    pub(crate) fn recorded(name: &str) -> Result<Choice, Failure> {
        if name == SKETCH {
            return Ok(Choice::Sketch);
        }
        let places = search::places();
        Choice::of_found(&places, search::named(&places, name)?, false)
    }

    /// BLAKE3 of the files that it would draw from; `None` for the sketch.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub(crate) fn hash(&self, torch: TorchArgs) -> Result<Option<String>, Failure> {
        let TorchArgs { .. } = torch;
        match self {
            Choice::Sketch => Ok(None),
            #[cfg(feature = "torch")]
            Choice::Folder(name, model) => {
                let options = torch::Options { dtype: torch.dtype, ..Default::default() };
                let models = torch::Checkpoints::new([(name.as_str(), (**model).clone())], name, options)?;
                Ok(models.hash(name)?)
            }
        }
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

    /// Its values for what a request leaves open.
    pub(crate) fn defaults(&self) -> ModelDefaults {
        match self {
            Choice::Sketch => Sketch.defaults(),
            #[cfg(feature = "torch")]
            Choice::Folder(_, model) => model.defaults(),
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
                torch.check_sketch()?;
                Ok(Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], config)?)
            }
            #[cfg(feature = "torch")]
            Choice::Folder(name, model) => {
                let TorchArgs { dtype, device, mode, vae_tiling } = torch;
                torch::share_processors()?;
                let devices = torch::devices(&[device])?;
                let options = torch::Options { dtype, mode, vae_tiling, ..Default::default() };
                let models = torch::Checkpoints::new([(name.as_str(), *model)], &name, options)?;
                Ok(Engine::start(models, devices, config)?)
            }
        }
    }
}

/// Says where a model is from that the user may not have meant: the current folder's own that nobody
/// asked for by name, or another than the current folder's of the same name.
pub(crate) fn tell_choice(places: &[Place], chosen: &Found, is_asked_for: bool) {
    if chosen.is_here && !is_asked_for {
        let path = chosen.path.display();
        output::note(format_args!("warning: the model `{}` is this folder's own, `{path}`", chosen.name));
    }
    for note in search::shadowed(places, chosen).iter().filter_map(Found::shadow_note) {
        output::note(format_args!("warning: {note}"));
    }
}
