//! The models of this machine, and an engine over them.
//!
//! [`LocalModels`] answers which models there are and which is the default, and starts an
//! [`Engine`] that serves them: on libtorch, which is loaded when the first job comes, or with the
//! feature `torch` on the libtorch that the program is linked to. Every door that draws on its own
//! machine stands on it.
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

#[cfg(feature = "torch")]
mod libtorch;
#[cfg(not(feature = "torch"))]
#[path = "loaded.rs"]
mod libtorch;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use self::libtorch::{Folders, Sdxl};
use crate::backend::{
    Backend as _, DeviceMemory, Either, ModelInfo, Models, Sketch, Sketches, Unmetered, Variant,
    refuse_changes,
};
use crate::engine::{Engine, EngineConfig};
use crate::error::Error;
use crate::model::parts::Parts;
use crate::model::search::{self, Found, Note, Place};
use crate::model::{Model, Options};
use crate::request::{GenerateRequest, ModelDefaults};
use crate::{canvas, folders};

/// The name of the built-in model, which needs no files and no libtorch: it paints a figure from
/// the seed.
pub const SKETCH: &str = "sketch";

/// A model of this machine, by what is known without loading it.
///
/// # Example
/// ```
/// use dgx_pixels_core::local::LocalModels;
/// let models = LocalModels::named(&["sketch"])?;
/// let sketch = models.default_model();
/// assert!(sketch.is_sketch() && sketch.draws_pixel_art() && sketch.path.is_none());
/// assert_eq!(sketch.defaults.size.width, 256);
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LocalModel {
    /// The name that a submission asks for it by.
    pub name: String,
    /// The model's folder or file, as it was found; `None` for the sketch.
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

    /// `true` for the built-in sketch, which computes nothing and ignores [`Options`].
    pub fn is_sketch(&self) -> bool {
        self.path.is_none()
    }

    /// `true` if it is made for sprites, and for nothing else: see [`canvas::draws_pixel_art`].
    pub fn draws_pixel_art(&self) -> bool {
        canvas::draws_pixel_art(self.defaults.size)
    }
}

/// A loaded model of [`LocalModels`]: the sketch, or SDXL on libtorch.
pub type LocalBackend = Either<Sketch, Sdxl>;

/// The models that this machine serves; at least one. Copies share what they have read of the
/// files.
///
/// # Example
/// ```
/// use dgx_pixels_core::Submission;
/// use dgx_pixels_core::engine::EngineConfig;
/// use dgx_pixels_core::local::{LocalModels, SKETCH};
///
/// let models = LocalModels::open(Some(SKETCH))?;
/// assert!(models.default_model().is_sketch());
/// let engine = models.start(EngineConfig::default())?;
/// let finished = engine.submit(Submission::of("a key"))?.wait()?;
/// assert_eq!(finished.made.model, "sketch");
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone)]
pub struct LocalModels {
    /// The default is the first.
    models: Vec<LocalModel>,
    notes: Vec<Note>,
    options: Options,
    owns_process: bool,
    /// The models with a folder, as they were opened.
    opened: Vec<(String, Model)>,
    /// The same, ready to be computed; `None` if there are none.
    folders: Option<Arc<Folders>>,
    parts: Arc<Parts>,
}

impl LocalModels {
    /// The model that `model` names, alone: a name in [`search::places`], a folder, or [`SKETCH`].
    /// Without a name all models in these places, with the sketch as the last. The default is then
    /// [`search::DEFAULT`], or the only model that was found.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] if there is no such model, or none that is clearly the default; the
    /// model's own fault if it cannot be opened.
    pub fn open(model: Option<&str>) -> Result<LocalModels, Error> {
        LocalModels::open_in(&search::places(), model)
    }

    /// The model that `model` names, alone, or the default; where it is in a single file, `base`
    /// supplies what the file lacks: a name or a path as well.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Error::Model`] if the model is a folder, which lacks
    /// nothing.
    pub fn open_on(model: Option<&str>, base: &str) -> Result<LocalModels, Error> {
        let places = search::places();
        let base = search::choose(&places, Some(base))?.model?;
        let chosen = search::choose_on(&places, model, Some(&base))?;
        let notes = search::notes(&places, &chosen, model.is_some());
        LocalModels::of_folders(vec![chosen], notes)
    }

    /// Lets requests ask for LoRAs and VAEs by path too, for a door whose callers may read all
    /// files anyway. By default they are files in the model folders, by name.
    pub fn with_files_of_requests(self) -> LocalModels {
        LocalModels { parts: Arc::new(Parts::new(search::places(), true)), ..self }
    }

    /// The files besides models that requests may ask for.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    fn open_in(places: &[Place], model: Option<&str>) -> Result<LocalModels, Error> {
        if model == Some(SKETCH) {
            return Ok(LocalModels::sketch());
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

    /// The models that `names` name, each as in [`open`](Self::open); the first is the default.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`Error::ModelChoice`] if there is no name, or one comes
    /// twice.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::ErrorKind;
    /// use dgx_pixels_core::local::LocalModels;
    ///
    /// assert_eq!(LocalModels::named(&["sketch"])?.all().len(), 1);
    /// let error = LocalModels::named(&["sketch", "sketch"]).err().unwrap();
    /// assert_eq!(error.kind(), ErrorKind::InvalidModel);
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn named(names: &[&str]) -> Result<LocalModels, Error> {
        let places = search::places();
        let (mut models, mut opened) = (LocalModels::sketch(), vec![]);
        models.models.clear();
        for name in names {
            if *name == SKETCH {
                models.models.push(LocalModel::sketch());
                continue;
            }
            let found = search::choose(&places, Some(name))?;
            models.notes.extend(search::notes(&places, &found, true));
            let Found { name, path, model, .. } = found;
            let model = model?;
            models.models.push(LocalModel::of_folder(&name, path, &model));
            opened.push((name, model));
        }
        let mut seen = HashSet::new();
        match models.models.iter().find(|model| !seen.insert(&model.name)) {
            _ if models.models.is_empty() => {
                Err(Error::ModelChoice("`models` is empty; expected the names of one or more".into()))
            }
            Some(twice) => {
                Err(Error::ModelChoice(format!("`models` names `{}` twice; expected each once", twice.name)))
            }
            None => LocalModels { opened, ..models }.ready(),
        }
    }

    /// The model that an image records, alone: one of the model folders by its name, or [`SKETCH`].
    /// The name is never taken for a path, so that no image can choose which folder is opened.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] if no model has this name; the model's own fault if it cannot be
    /// opened.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::local::LocalModels;
    /// assert!(LocalModels::recorded("sketch").is_ok());
    /// // It is no path, even if there is such a folder.
    /// assert!(LocalModels::recorded("/tmp").is_err());
    /// ```
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
        LocalModels {
            models: vec![LocalModel::sketch()],
            notes: vec![],
            options: Options::default(),
            owns_process: false,
            opened: vec![],
            folders: None,
            parts: Arc::new(Parts::new(search::places(), false)),
        }
    }

    fn of_folders(found: Vec<Found>, notes: Vec<Note>) -> Result<LocalModels, Error> {
        let (mut models, mut opened) = (vec![], vec![]);
        for Found { name, path, model, .. } in found {
            let model = model?;
            models.push(LocalModel::of_folder(&name, path, &model));
            opened.push((name, model));
        }
        LocalModels { models, notes, opened, ..LocalModels::sketch() }.ready()
    }

    /// The same models, computed in another way.
    ///
    /// # Errors
    /// [`Error::Model`] if two models have one name.
    pub fn with(self, options: Options) -> Result<LocalModels, Error> {
        LocalModels { options, ..self }.ready()
    }

    /// Lets libtorch change what is global in this process: its allocator of CPU memory, its
    /// threads, its switches and its limit of GPU memory. For programs: they draw faster beside
    /// other work, and keep their budget by refusing allocations. Default: nothing global is
    /// touched, and memory is counted on the engine's own threads.
    ///
    /// # Errors
    /// Those of [`with`](Self::with).
    pub fn owning_process(self) -> Result<LocalModels, Error> {
        LocalModels { owns_process: true, ..self }.ready()
    }

    /// Loads libtorch now, and not when the first job comes. Nothing is done where only the sketch
    /// is served.
    ///
    /// # Errors
    /// [`Error::Libtorch`].
    pub fn preload(&self) -> Result<(), Error> {
        if self.folders.is_none() { Ok(()) } else { libtorch::preload(self.owns_process) }
    }

    fn ready(self) -> Result<LocalModels, Error> {
        let folders = match self.opened.as_slice() {
            [] => None,
            opened => Some(Arc::new(libtorch::folders(opened.to_vec(), self.options, self.owns_process)?)),
        };
        Ok(LocalModels { folders, ..self })
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
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::local::LocalModels;
    /// let models = LocalModels::named(&["sketch"])?;
    /// assert_eq!(models.find(None)?.name, "sketch");
    /// assert!(models.find(Some("no-such-model")).is_err());
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
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

    /// Starts an engine that serves these models on the device of [`Options`]. No model is loaded
    /// before its first job. The engine keeps its memory measurements in [`folders::cache`] unless
    /// `config` names another file.
    ///
    /// # Errors
    /// Those of [`Engine::start`]; [`Error::Device`] if the device is not there.
    pub fn start(&self, config: EngineConfig) -> Result<Engine, Error> {
        let costs = config.costs.or_else(|| Some(folders::cache()?.join("costs.json")));
        Engine::start(self.clone(), self.devices()?, EngineConfig { costs, ..config })
    }

    /// The devices that [`start`](Self::start) would draw on, for an engine that serves these
    /// models beside others.
    ///
    /// # Errors
    /// [`Error::Device`] if the device is not there.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::local::LocalModels;
    /// let devices = LocalModels::named(&["sketch"])?.devices()?;
    /// assert_eq!((devices.len(), devices[0].name()), (1, "cpu"));
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn devices(&self) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
        match &self.folders {
            Some(_) => libtorch::devices(self.options.device, self.owns_process),
            None => Ok(vec![Box::new(Unmetered("cpu".into()))]),
        }
    }

    /// The folders, if `model` is one of them.
    fn folder_of(&self, model: &LocalModel) -> Option<&Folders> {
        self.folders.as_deref().filter(|_| !model.is_sketch())
    }
}

impl Models for LocalModels {
    type Backend = LocalBackend;

    fn describe(&self, model: Option<&str>, device: &str) -> Result<ModelInfo, Error> {
        let model = self.find(model)?;
        match self.folder_of(model) {
            Some(folders) => folders.describe(Some(&model.name), device),
            None => Sketches.describe(None, device),
        }
    }

    fn load(&self, model: &str, device: &str, on_bytes: &mut dyn FnMut(u64)) -> Result<LocalBackend, Error> {
        match self.folder_of(self.find(Some(model))?) {
            Some(folders) => folders.load(model, device, on_bytes).map(Either::Second),
            None => Ok(Either::First(Sketch)),
        }
    }

    fn describe_for(
        &self,
        model: Option<&str>,
        request: &GenerateRequest,
        device: &str,
    ) -> Result<ModelInfo, Error> {
        let model = self.find(model)?;
        let Some(folders) = self.folder_of(model) else {
            refuse_changes(
                request,
                &format!("`{}` computes nothing that another file could change", model.name),
            )?;
            return self.describe(Some(&model.name), device);
        };
        let vae = request.vae.as_deref().map(|name| self.parts.vae(name)).transpose()?;
        let controls = self.parts.controls(request)?;
        let parts = Variant { vae, controls, ..Variant::default() };
        let mut info = folders.describe_changed(&model.name, &parts, device)?;
        let Variant { vae, controls, .. } = parts;
        let loras = request.lora.iter().map(|lora| self.parts.lora(lora)).collect::<Result<Vec<_>, _>>()?;
        if !loras.is_empty() {
            // Weights change nothing in what goes together.
            let hashes = loras.iter().map(|lora| lora.hash.as_str());
            let key = [info.name.as_str()].into_iter().chain(hashes).collect::<Vec<_>>().join(" ");
            self.parts.check_once(&key, || folders.check_loras(&model.name, &loras))?;
        }
        let inversions = match &model.path {
            Some(path) => self.parts.inversions(path, request)?,
            None => vec![],
        };
        info.variant = Variant { loras, vae, controls, inversions, ..info.variant };
        Ok(info)
    }

    fn load_with(
        &self,
        info: &ModelInfo,
        device: &str,
        on_bytes: &mut dyn FnMut(u64),
    ) -> Result<LocalBackend, Error> {
        match self.folder_of(self.find(Some(&info.name))?) {
            Some(folders) => {
                folders.load_changed(&info.name, &info.variant, device, on_bytes).map(Either::Second)
            }
            None => Ok(Either::First(Sketch)),
        }
    }

    fn hash(&self, model: &str) -> Result<Option<String>, Error> {
        match self.folder_of(self.find(Some(model))?) {
            Some(folders) => folders.hash(model),
            None => Ok(None),
        }
    }
}
