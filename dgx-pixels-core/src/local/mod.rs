//! The models of this machine, and an engine over them.
//!
//! [`LocalModels`] answers which models there are and which is the default, and starts an
//! [`Engine`] that serves them: on libtorch, or without it the built-in sketch alone. Every door
//! that draws on its own machine stands on it.
//!
//! # Example
//! ```
//! use dgx_pixels_core::Submission;
//! use dgx_pixels_core::engine::EngineConfig;
//! use dgx_pixels_core::local::{LocalModels, SKETCH};
//!
//! let models = LocalModels::open(Some(SKETCH))?;
//! assert_eq!(models.default_model().name, "sketch");
//! let engine = models.start(EngineConfig::default())?;
//! let job = engine.submit(Submission::of("a brass key"))?;
//! assert_eq!(job.wait()?.image.dimensions(), (32, 32));
//! # Ok::<(), dgx_pixels_core::Error>(())
//! ```

mod backend;
#[cfg(feature = "torch")]
mod libtorch;
#[cfg(not(feature = "torch"))]
#[path = "no_libtorch.rs"]
mod libtorch;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use self::backend::{LocalBackend, LocalCanvas};
use self::libtorch::Folders;
use crate::backend::{Backend as _, DeviceMemory, ModelInfo, Models, Sketch, Sketches, Unmetered};
use crate::device::{Device, Dtype, Mode};
use crate::engine::{Engine, EngineConfig};
use crate::error::Error;
use crate::model::Model;
use crate::model::search::{self, Found, Note, Place};
use crate::request::ModelDefaults;
use crate::{canvas, folders};

/// The name of the built-in model, which needs no files and no libtorch: it paints a figure from the seed.
pub const SKETCH: &str = "sketch";

/// The way models are computed. The sketch is not affected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalOptions {
    /// The device that draws. Default: [`Device::Auto`].
    pub device: Device,
    /// The precision. Default: `f32` on the CPU, `bf16` on a GPU.
    pub dtype: Option<Dtype>,
    /// How much may differ from diffusers for speed. Default: [`Mode::Fast`].
    pub mode: Mode,
    /// `true` to decode large images in overlapping tiles, which takes less memory. Default: `false`.
    pub vae_tiling: bool,
}

/// A model of this machine, by what is known without loading it.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalModel {
    /// The name that a submission asks for it by.
    pub name: String,
    /// Its folder, as it was found; `None` for the sketch.
    pub path: Option<PathBuf>,
    /// The model's values for what a request leaves open.
    pub defaults: ModelDefaults,
}

impl LocalModel {
    fn sketch() -> LocalModel {
        LocalModel { name: SKETCH.into(), path: None, defaults: Sketch.defaults() }
    }

    fn of_folder(name: &str, path: PathBuf, model: &Model) -> LocalModel {
        LocalModel { name: name.into(), path: Some(path), defaults: model.defaults() }
    }

    /// `true` for the built-in sketch, which computes nothing and ignores [`LocalOptions`].
    pub fn is_sketch(&self) -> bool {
        self.path.is_none()
    }

    /// `true` if it is made for sprites, and for nothing else: see [`canvas::draws_pixel_art`].
    pub fn draws_pixel_art(&self) -> bool {
        canvas::draws_pixel_art(self.defaults.size)
    }
}

/// The models that this machine serves; at least one. Copies share what they have read of the files.
#[derive(Clone)]
pub struct LocalModels {
    /// The default is the first.
    models: Vec<LocalModel>,
    notes: Vec<Note>,
    options: LocalOptions,
    /// Those with a folder, if there are any.
    folders: Option<Folders>,
}

impl LocalModels {
    /// The model that `model` names, alone: a name in [`search::places`], a folder, or [`SKETCH`]. Without a name
    /// all models in these places, with the sketch as the last. The default is then [`search::DEFAULT`], or the only
    /// model that was found. In a build without libtorch there is only the sketch.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] if there is no such model, or none that is clearly the default; the model's own fault if
    /// it cannot be opened.
    pub fn open(model: Option<&str>) -> Result<LocalModels, Error> {
        LocalModels::open_in(&search::places(), model)
    }

    fn open_in(places: &[Place], model: Option<&str>) -> Result<LocalModels, Error> {
        match model {
            Some(SKETCH) => return Ok(LocalModels::sketch()),
            None if !libtorch::IS_BUILT_IN => return Ok(LocalModels::sketch()),
            Some(name) if !libtorch::IS_BUILT_IN => return Err(needs_libtorch(name)),
            _ => {}
        }
        let chosen = search::choose(places, model)?;
        let notes = search::notes(places, &chosen, model.is_some());
        let mut found = vec![chosen];
        if model.is_none() {
            let default = found[0].name.clone();
            found.extend(search::find(places).into_iter().filter(|found| {
                let is_usable = found.model.is_ok() && found.shadowed_by.is_none();
                is_usable && found.name != default && found.name != SKETCH
            }));
        }
        let mut models = LocalModels::of_folders(found, notes)?;
        if model.is_none() && models.find(Some(SKETCH)).is_err() {
            models.models.push(LocalModel::sketch());
        }
        Ok(models)
    }

    /// The model that an image records, alone: one of the model folders by its name, or [`SKETCH`]. The name is never
    /// taken for a path, so that no image can choose which folder is opened.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] if no model has this name; the model's own fault if it cannot be opened.
    pub fn recorded(name: &str) -> Result<LocalModels, Error> {
        if name == SKETCH {
            return Ok(LocalModels::sketch());
        }
        let places = search::places();
        let found = search::named(&places, name)?;
        let notes = search::notes(&places, &found, false);
        LocalModels::of_folders(vec![found], notes)
    }

    fn sketch() -> LocalModels {
        let models = vec![LocalModel::sketch()];
        LocalModels { models, notes: vec![], options: LocalOptions::default(), folders: None }
    }

    fn of_folders(found: Vec<Found>, notes: Vec<Note>) -> Result<LocalModels, Error> {
        let options = LocalOptions::default();
        let (mut models, mut opened) = (vec![], vec![]);
        for Found { name, path, model, .. } in found {
            let model = model?;
            models.push(LocalModel::of_folder(&name, path, &model));
            opened.push((name, model));
        }
        let folders = Some(Folders::new(opened, options)?);
        Ok(LocalModels { models, notes, options, folders })
    }

    /// The same models, computed in another way.
    pub fn with(self, options: LocalOptions) -> LocalModels {
        let folders = self.folders.map(|folders| folders.with(options));
        LocalModels { options, folders, ..self }
    }

    /// All models, the default first.
    pub fn all(&self) -> &[LocalModel] {
        &self.models
    }

    /// The model that draws if a submission names none.
    pub fn default_model(&self) -> &LocalModel {
        &self.models[0]
    }

    /// The model of this name, or the default.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] with the names there are.
    pub fn find(&self, name: Option<&str>) -> Result<&LocalModel, Error> {
        let Some(name) = name else { return Ok(self.default_model()) };
        self.models.iter().find(|model| model.name == name).ok_or_else(|| {
            let names: Vec<_> = self.models.iter().map(|model| format!("`{}`", model.name)).collect();
            Error::ModelChoice(format!("`model` is `{name}`; there are {}", names.join(", ")))
        })
    }

    /// The facts about the choice of the default that the user may not expect.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Starts an engine that serves these models on the device of [`LocalOptions`]. No model is loaded before its
    /// first job. The engine keeps its memory measurements in [`folders::cache`] unless `config` names another file.
    ///
    /// # Errors
    /// Those of [`Engine::start`]; [`Error::Device`] if the device is not there.
    pub fn start(&self, config: EngineConfig) -> Result<Engine, Error> {
        let costs = config.costs.or_else(|| Some(folders::cache()?.join("costs.json")));
        let devices: Vec<Box<dyn DeviceMemory>> = match &self.folders {
            Some(folders) => folders.devices(self.options.device)?,
            None => vec![Box::new(Unmetered("cpu".into()))],
        };
        Engine::start(self.clone(), devices, EngineConfig { costs, ..config })
    }

    /// The folders, if `model` is one of them.
    fn folder_of(&self, model: &LocalModel) -> Option<&Folders> {
        self.folders.as_ref().filter(|_| !model.is_sketch())
    }
}

impl Models for LocalModels {
    type Backend = LocalBackend;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        let model = self.find(model)?;
        match self.folder_of(model) {
            Some(folders) => folders.describe(&model.name, device),
            None => Sketches.describe(None, device),
        }
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<LocalBackend, Error> {
        match self.folder_of(self.find(Some(model))?) {
            Some(folders) => folders.load(model, device, on_bytes).map(LocalBackend::sdxl),
            None => Ok(LocalBackend::sketch()),
        }
    }

    fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        match self.folder_of(self.find(Some(model))?) {
            Some(folders) => folders.hash(model),
            None => Ok(None),
        }
    }
}

fn needs_libtorch(model: &str) -> Error {
    Error::ModelChoice(format!(
        "`model` is `{model}`; expected `{SKETCH}`, as this program is built without libtorch (feature `torch`)"
    ))
}
