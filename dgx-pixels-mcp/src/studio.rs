//! What all tools share: the models, the engine that draws, the library of assets, and the jobs that fill it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dgx_pixels_core::backend::Models;
use dgx_pixels_core::engine::{Budget, Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::{Job, JobId};
use dgx_pixels_core::library::{AssetId, Library, Quota, Roots};
use dgx_pixels_core::pixel::Verdict;
use dgx_pixels_core::{Error, ImageSize, ModelDefaults, Submission, canvas, folders, one_line};
use dgx_pixels_manifest::GAME_PORT;
use serde::Serialize;
use tokio::sync::{OnceCell, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::answer::Fault;
use crate::metrics::Metrics;
use crate::pixel_work::{PixelWork, Stop};
use crate::tools::Wanted;

/// Jobs that have ended and are still known by their asset; the engine finds older ones.
const ENDED_KEPT: usize = 1000;
/// Servers of this user that may run at once, each with a journal of its own.
const JOURNALS: usize = 64;
/// A client may fill one part in this many of the queue,
const CLIENT_SHARE: usize = 4;
/// but has this many places where the queue does.
const CLIENT_JOBS: usize = 1024;

/// How a [`Studio`] works.
#[derive(Clone, Debug)]
pub struct StudioConfig {
    /// The folder of assets.
    pub library: PathBuf,
    /// What it may hold.
    pub quota: Quota,
    /// Folders of files that may be read on behalf of a client, beside the library.
    pub roots: Vec<PathBuf>,
    /// A name or a folder; `sketch` is built in. Default: all models that are found.
    pub model: Option<String>,
    /// As `cuda:0`; `auto` is the first GPU if there is one.
    pub device: String,
    /// Memory of the device that may be used.
    pub budget: Budget,
    /// Pictures that go a step together at most.
    pub max_batch: usize,
    /// Pictures that may wait to be drawn.
    pub max_queue: usize,
    /// How long a call waits for its pictures; what is not done by then is told by its job.
    pub wait: Duration,
    /// Where a running game answers on this machine, if a call names no other.
    pub game_port: u16,
    /// The folder of journals; `None` keeps no jobs over the end of the program.
    pub journals: Option<PathBuf>,
}

impl Default for StudioConfig {
    fn default() -> Self {
        StudioConfig {
            library: folders::data().unwrap_or_default().join("assets"),
            quota: Quota::default(),
            roots: vec![],
            model: None,
            device: "auto".into(),
            budget: Budget::default(),
            max_batch: 8,
            max_queue: 10_000,
            wait: Duration::from_secs(45),
            game_port: GAME_PORT,
            journals: folders::state().map(|state| state.join("mcp")),
        }
    }
}

/// A model, as clients are told of it.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct ModelCard {
    /// What `model` is called by.
    pub name: String,
    /// Whether it is taken where no `model` is named.
    pub is_default: bool,
    /// Whether it draws nothing but pixel art: style words are not added to its prompts.
    pub draws_pixel_art: bool,
    /// Width of a sprite where none is asked for, in sprite pixels.
    pub width: u32,
    /// Height of a sprite where none is asked for, in sprite pixels.
    pub height: u32,
    /// Denoising steps where none are asked for.
    pub steps: usize,
    /// Its folder; none for `sketch`.
    pub path: Option<PathBuf>,
    /// The model's values for what a request leaves open.
    #[serde(skip)]
    #[schemars(skip)]
    pub defaults: ModelDefaults,
}

impl ModelCard {
    pub(crate) fn new(name: &str, defaults: ModelDefaults, path: Option<PathBuf>) -> ModelCard {
        let draws_pixel_art = canvas::draws_pixel_art(defaults.size);
        let ImageSize { width, height } = canvas::native_sprite(defaults.size);
        let name = name.into();
        let steps = defaults.steps;
        ModelCard { name, is_default: false, draws_pixel_art, width, height, steps, path, defaults }
    }
}

/// Everything behind the tools. All its copies are the same one.
#[derive(Clone)]
pub struct Studio(Arc<Inner>);

/// Calls that submit at once. They take turns at the library and the journal, and each holds a thread that short calls
/// need as well.
const MAX_SUBMITTING: usize = 2;

struct Inner {
    config: StudioConfig,
    library: Library,
    roots: Roots,
    models: Vec<ModelCard>,
    metrics: Metrics,
    pixel_work: PixelWork,
    stopping: CancellationToken,
    engine: OnceCell<Engine>,
    /// Calls that submit wait here, where one whose client goes has done nothing yet.
    submitting: Arc<Semaphore>,
    jobs: Mutex<Jobs>,
}

#[derive(Default)]
struct Jobs {
    known: HashMap<JobId, Work>,
    ended: VecDeque<JobId>,
}

/// A job and the asset that it becomes.
#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) job: Job,
    pub(crate) asset: AssetId,
    /// Set once the asset is in the library, or is known not to come.
    done: watch::Receiver<Option<Result<(), Error>>>,
    /// Its copies are the calls that wait, and one more.
    waiting: Arc<Waiters>,
}

struct Waiters(Arc<()>);

/// While it lives the job has somebody who waits.
pub(crate) struct Waiting {
    _counted: Arc<()>,
}

impl Work {
    pub(crate) fn wait(&self) -> Waiting {
        Waiting { _counted: self.waiting.0.clone() }
    }

    /// Returns when the asset is in the library.
    ///
    /// # Errors
    /// The job's own; the library's.
    pub(crate) async fn done(&self) -> Result<(), Error> {
        let mut done = self.done.clone();
        match done.wait_for(Option::is_some).await {
            Ok(result) => result.clone().expect("it was waited for"),
            Err(_) => Err(Error::ShutDown),
        }
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&self) -> Option<Result<(), Error>> {
        self.done.borrow().clone()
    }
}

impl Studio {
    /// Opens the library and looks for models. The engine starts when it is first needed, or by [`Studio::warm_up`].
    ///
    /// # Errors
    /// [`Error::Library`]; [`Error::NoFile`] for a root that is not there; what is wrong with the model that is named.
    pub fn open(config: StudioConfig) -> Result<Studio, Error> {
        let library = Library::open(&config.library, config.quota)?;
        let roots = Roots::new(config.roots.iter().map(PathBuf::as_path).chain([library.root()]))?;
        let models = models(config.model.as_deref())?;
        Ok(Studio(Arc::new(Inner {
            config,
            library,
            roots,
            models,
            metrics: Metrics::new(),
            pixel_work: PixelWork::new(),
            stopping: CancellationToken::new(),
            engine: OnceCell::new(),
            submitting: Arc::new(Semaphore::new(MAX_SUBMITTING)),
            jobs: Mutex::default(),
        })))
    }

    /// The assets.
    pub fn library(&self) -> &Library {
        &self.0.library
    }

    pub(crate) fn wait(&self) -> Duration {
        self.0.config.wait
    }

    pub(crate) fn game_port(&self) -> u16 {
        self.0.config.game_port
    }

    pub(crate) fn pixel_work(&self) -> &PixelWork {
        &self.0.pixel_work
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What is measured of the server, and of the engine once it runs, as Prometheus reads it.
    pub fn metrics_text(&self) -> String {
        let mut families = self.0.metrics.registry.gather();
        families.extend(self.running().map(|engine| engine.metrics().gather()).unwrap_or_default());
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.0.roots
    }

    /// The models there are; at least one.
    pub fn models(&self) -> &[ModelCard] {
        &self.0.models
    }

    /// The model of this name, or the one that is taken where none is named.
    ///
    /// # Errors
    /// [`Error::ModelChoice`] with the names there are.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<&ModelCard, Error> {
        let wanted = |model: &&ModelCard| name.map_or(model.is_default, |name| model.name == name);
        self.models().iter().find(wanted).ok_or_else(|| {
            let names: Vec<_> = self.models().iter().map(|model| format!("`{}`", model.name)).collect();
            let name = name.unwrap_or_default();
            let name = dgx_pixels_core::fields::json::cut(name);
            Error::ModelChoice(format!("`model` is `{name}`; there are {}", names.join(", ")))
        })
    }

    /// The engine, started if it is not yet.
    ///
    /// # Errors
    /// As [`Engine::start`]; it is tried again at the next call.
    pub async fn engine(&self) -> Result<&Engine, Error> {
        let start = || async {
            let studio = self.clone();
            let started = tokio::task::spawn_blocking(move || studio.start_engine());
            let engine = started.await.unwrap_or(Err(Error::ShutDown))?;
            engine.recovered().iter().for_each(|job| drop(self.watch(job.clone(), BTreeMap::new())));
            Ok(engine)
        };
        self.0.engine.get_or_try_init(start).await
    }

    /// Starts the engine, so that the first call need not wait for it. No model is loaded.
    ///
    /// # Errors
    /// As [`Studio::engine`].
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.engine().await.map(drop)
    }

    /// The engine, if it has been started.
    pub fn running(&self) -> Option<&Engine> {
        self.0.engine.get()
    }

    /// From here on calls that end are the server's doing: they are told so, and their jobs are not cancelled, but left to the next server.
    /// To be called before the transport is stopped.
    pub fn begin_to_stop(&self) {
        self.0.stopping.cancel();
    }

    /// Set when the server begins to stop.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// A client has given a call up: cancels the jobs that nobody else waits for.
    pub(crate) fn cancel_unless_wanted(&self, works: &[Work]) {
        if !self.0.stopping.is_cancelled() {
            works
                .iter()
                .filter(|work| Arc::strong_count(&work.waiting.0) == 1)
                .for_each(|work| work.job.cancel());
        }
    }

    /// Stops at the next step. What is not finished is done when the next server starts, where a journal is kept.
    pub fn shut_down(&self) {
        if let Some(engine) = self.running() {
            engine.shutdown(Shutdown::NextStep);
        }
    }

    fn start_engine(&self) -> Result<Engine, Error> {
        let config = &self.0.config;
        let config = EngineConfig {
            budget: config.budget,
            max_batch: config.max_batch,
            queue_capacity: config.max_queue,
            client_jobs: (config.max_queue / CLIENT_SHARE).max(CLIENT_JOBS),
            costs: folders::cache().map(|cache| cache.join("costs.json")),
            ..Default::default()
        };
        let Some(journals) = &self.0.config.journals else { return self.start_with(config) };
        // A server takes the first journal that is free, and what ended servers left in the others.
        let folders: Vec<_> = (0..JOURNALS).map(|n| journals.join(n.to_string())).collect();
        let mut first = None;
        for journal in &folders {
            let (journal, adopt) = (Some(journal.clone()), folders.clone());
            match self.start_with(EngineConfig { journal, adopt, ..config.clone() }) {
                // Another server of this user has it.
                Err(error @ Error::Journal { .. }) => first = first.or(Some(error)),
                answer => return answer,
            }
        }
        Err(first.unwrap_or(Error::ShutDown))
    }

    fn start_with(&self, config: EngineConfig) -> Result<Engine, Error> {
        if self.models().iter().all(|model| model.path.is_none()) {
            let devices = vec![Box::new(dgx_pixels_core::backend::Unmetered("cpu".into())) as _];
            return Engine::start(dgx_pixels_core::backend::Sketches, devices, config);
        }
        #[cfg(feature = "torch")]
        {
            use dgx_pixels_core::torch::{Checkpoints, Device, Options, devices};
            use dgx_pixels_core::{Cause, ValueError};
            let name = &self.0.config.device;
            let device: Device =
                name.parse().map_err(|error: ValueError| Error::device(name, Cause::from(error)))?;
            let default = &self.model(None)?.name;
            let folders = self.models().iter().filter_map(|model| Some((&model.name, model.path.as_ref()?)));
            let models = Checkpoints::open(folders, default, Options::default())?;
            dgx_pixels_core::torch::share_processors()?;
            Engine::start(models, devices(&[device])?, config)
        }
        #[cfg(not(feature = "torch"))]
        unreachable!("a build without libtorch has the sketch only")
    }

    /// Takes jobs, and sees to it that each becomes an asset.
    ///
    /// # Errors
    /// As [`Engine::submit`], [`Library::reserve`]; the fault for a call that was given up before its turn. Nothing is
    /// drawn then.
    pub(crate) async fn submit(&self, wanted: Vec<Wanted>, stop: &Stop) -> Result<Vec<Work>, Fault> {
        let engine = self.engine().await?.clone();
        let library = self.library().clone();
        // Clients that go come faster than their calls get a turn, and each call that waits takes 45 KB.
        let turn = tokio::select! {
            biased;
            () = stop.set() => return Err(stop.fault()),
            turn = self.0.submitting.clone().acquire_owned() => turn.map_err(|_| Error::ShutDown)?,
        };
        let submitted = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut places = vec![];
            let mut submissions = vec![];
            for Wanted { name, submission, notes } in wanted {
                match library.reserve(&name) {
                    Ok(reserved) => {
                        submissions.push(Submission { output: Some(reserved.png()), ..submission });
                        places.push((reserved, notes));
                    }
                    Err(error) => return (vec![], Some(error)),
                }
            }
            let mut jobs = vec![];
            let mut first_error = None;
            for (answer, (reserved, notes)) in engine.submit_all(submissions).into_iter().zip(places) {
                match answer {
                    Ok(job) => {
                        reserved.keep();
                        jobs.push((job, notes));
                    }
                    Err(error) => first_error = first_error.or(Some(error)),
                }
            }
            if first_error.is_some() {
                jobs.iter().for_each(|(job, _)| job.cancel());
            }
            (jobs, first_error)
        });
        let (jobs, error) = submitted.await.unwrap_or((vec![], Some(Error::ShutDown)));
        let works = jobs.into_iter().filter_map(|(job, notes)| self.watch(job, notes)).collect();
        error.map_or(Ok(works), |error| Err(error.into()))
    }

    /// The job of this id.
    ///
    /// # Errors
    /// As [`Engine::find`].
    pub(crate) async fn find(&self, id: JobId) -> Result<Option<Work>, Error> {
        if let Some(work) = self.jobs().known.get(&id) {
            return Ok(Some(work.clone()));
        }
        let engine = self.engine().await?.clone();
        let found =
            tokio::task::spawn_blocking(move || engine.find(id)).await.unwrap_or(Err(Error::ShutDown))?;
        Ok(found.and_then(|job| self.watch(job, BTreeMap::new())))
    }

    /// Has the job's picture added to the library when it is there; `None` for a job whose output is elsewhere.
    fn watch(&self, job: Job, notes: BTreeMap<String, String>) -> Option<Work> {
        let output = job.submission().output.clone()?;
        let asset: AssetId = output.file_stem()?.to_str()?.parse().ok()?;
        let (sender, done) = watch::channel(None);
        let work =
            Work { job: job.clone(), asset: asset.clone(), done, waiting: Arc::new(Waiters(Arc::new(()))) };
        let mut jobs = self.jobs();
        if let Some(known) = jobs.known.get(&job.id()) {
            return Some(known.clone());
        }
        jobs.known.insert(job.id(), work.clone());
        drop(jobs);
        let studio = self.clone();
        tokio::spawn(async move {
            let drawn = job.finished().await;
            let library = studio.library().clone();
            let recorded = tokio::task::spawn_blocking(move || match drawn {
                Ok(finished) => add(&library, &asset, finished.verdict, notes),
                // The next server does it.
                Err(Error::ShutDown) => Err(Error::ShutDown),
                Err(error) => {
                    if let Err(error) = library.discard(&asset) {
                        tracing::warn!(%asset, error = one_line(&error), "an id that was not used cannot be given back");
                    }
                    Err(error)
                }
            });
            let _ = sender.send(Some(recorded.await.unwrap_or(Err(Error::ShutDown))));
            let mut jobs = studio.jobs();
            jobs.ended.push_back(job.id());
            while jobs.ended.len() > ENDED_KEPT {
                let Some(id) = jobs.ended.pop_front() else { break };
                jobs.known.remove(&id);
            }
        });
        Some(work)
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(
    library: &Library,
    asset: &AssetId,
    verdict: Option<Verdict>,
    notes: BTreeMap<String, String>,
) -> Result<(), Error> {
    library.add(asset, verdict, notes).map(drop)
}

/// The sketch, or the models that are found, with the default first.
fn models(wanted: Option<&str>) -> Result<Vec<ModelCard>, Error> {
    let sketch = || {
        use dgx_pixels_core::backend::Sketches;
        let info = Sketches.describe(None, "cpu")?;
        Ok(vec![ModelCard { is_default: true, ..ModelCard::new(&info.name, info.defaults.clone(), None) }])
    };
    #[cfg(not(feature = "torch"))]
    match wanted {
        None | Some("sketch") => sketch(),
        Some(name) => Err(Error::ModelChoice(format!(
            "`model` is `{name}`; expected `sketch`, as this program is built without libtorch (feature `torch`)"
        ))),
    }
    #[cfg(feature = "torch")]
    {
        use dgx_pixels_core::model::search::{Found, choose, find, places, shadowed};
        if wanted == Some("sketch") {
            return sketch();
        }
        let places = places();
        let chosen = choose(&places, wanted)?;
        if chosen.is_here {
            tracing::warn!("the model `{}` is this folder's own, `{}`", chosen.name, chosen.path.display());
        }
        for note in shadowed(&places, &chosen).iter().filter_map(Found::shadow_note) {
            tracing::warn!("{note}");
        }
        let Found { name: default, path, model, .. } = chosen;
        let card = |name: &str, path: PathBuf, model: &dgx_pixels_core::Model| {
            let path = path.canonicalize().unwrap_or(path);
            ModelCard::new(name, model.defaults(), Some(path))
        };
        let mut models = vec![ModelCard { is_default: true, ..card(&default, path, &model?) }];
        for found in find(&places).into_iter().filter(|_| wanted.is_none()) {
            if let Ok(model) = &found.model
                && models.iter().all(|known| known.name != found.name)
            {
                models.push(card(&found.name, found.path, model));
            }
        }
        Ok(models)
    }
}

#[cfg(test)]
mod tests;
