//! The state that all tools share: the models, the engine that draws, the library of assets, and
//! the jobs that fill it.

mod card;
mod config;
mod jobs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dgx_pixels_core::Error;
use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
use dgx_pixels_core::job::JobId;
use dgx_pixels_core::library::{Library, Roots};
use dgx_pixels_core::local::LocalModels;
use dgx_pixels_core::model::Options;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

pub use self::card::ModelCard;
pub use self::config::StudioConfig;
use self::jobs::Jobs;
pub(crate) use self::jobs::{PlannedSprite, Waiting, Work};
use crate::answer::Fault;
use crate::metrics::Metrics;
use crate::pixel_work::{PixelWork, Stop};

/// Servers of this user that may run at once, each with a journal of its own.
const JOURNALS: usize = 64;
/// The part of the queue that a client may fill is one in this many.
const CLIENT_SHARE: usize = 4;
/// The least number of places that a client has, if the queue has them.
const CLIENT_JOBS: usize = 1024;

/// Everything behind the tools. All its copies are the same one.
#[derive(Clone)]
pub struct Studio(Arc<Inner>);

struct Inner {
    config: StudioConfig,
    library: Library,
    roots: Roots,
    models: LocalModels,
    cards: Vec<ModelCard>,
    metrics: Metrics,
    pixel_work: PixelWork,
    stopping: CancellationToken,
    engine: OnceCell<Engine>,
    jobs: Jobs,
}

impl Studio {
    /// Opens the library and looks for models. The engine starts when it is first needed, or by
    /// [`Studio::warm_up`].
    ///
    /// # Errors
    /// [`Error::Library`]; [`Error::NoFile`] for a root that is not there; what is wrong with the
    /// model that is named.
    pub fn open(config: StudioConfig) -> Result<Studio, Error> {
        let library = Library::open(&config.library, config.quota)?;
        let roots = Roots::new(config.roots.iter().map(PathBuf::as_path).chain([library.root()]))?;
        let models = LocalModels::open(config.model.as_deref())?;
        models.notes().iter().for_each(|note| tracing::warn!("{note}"));
        let models = models.with(Options { device: config.device, ..Default::default() })?;
        let models = if config.owns_process { models.owning_process()? } else { models };
        Ok(Studio(Arc::new(Inner {
            jobs: Jobs::new(library.clone()),
            config,
            library,
            roots,
            cards: ModelCard::all(&models),
            models,
            metrics: Metrics::new(),
            pixel_work: PixelWork::new(),
            stopping: CancellationToken::new(),
            engine: OnceCell::new(),
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

    /// Returns the metrics of the server, and of the engine once it runs, as Prometheus reads them.
    pub fn metrics_text(&self) -> String {
        self.0.metrics.measure(&self.0.library);
        let mut families = self.0.metrics.registry.gather();
        families.extend(self.running().map(|engine| engine.metrics().gather()).unwrap_or_default());
        prometheus::TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    pub(crate) fn roots(&self) -> &Roots {
        &self.0.roots
    }

    /// The models there are; at least one.
    pub fn models(&self) -> &[ModelCard] {
        &self.0.cards
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
            engine.recovered().iter().for_each(|job| drop(self.0.jobs.watch(job.clone(), BTreeMap::new())));
            Ok(engine)
        };
        self.0.engine.get_or_try_init(start).await
    }

    /// Starts the engine, so that the first call need not wait for it, and loads libtorch if the
    /// configuration says so. No model is loaded.
    ///
    /// # Errors
    /// Those of [`Studio::engine`]; [`Error::Libtorch`].
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.engine().await?;
        if !self.0.config.preload {
            return Ok(());
        }
        let studio = self.clone();
        let loaded = tokio::task::spawn_blocking(move || studio.0.models.preload());
        loaded.await.unwrap_or(Err(Error::ShutDown))
    }

    /// The engine, if it has been started.
    pub fn running(&self) -> Option<&Engine> {
        self.0.engine.get()
    }

    /// Marks the calls that end from here on as ended by the server. Their clients are informed of
    /// that, and their jobs are not cancelled, but left to the next server. To be called before the
    /// transport is stopped.
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
            works.iter().for_each(Work::cancel_unless_wanted);
        }
    }

    /// Stops at the next step. What is not finished is done when the next server starts, where a
    /// journal is kept.
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
            hang_after: config.hang_after,
            // One place for all journals, as a server takes over those of others.
            inputs: config.journals.as_ref().map(|journals| journals.join("inputs")),
            ..Default::default()
        };
        let models = &self.0.models;
        let Some(journals) = &self.0.config.journals else { return models.start(config) };
        // A server takes the first journal that is free, and what ended servers left in the others.
        let folders: Vec<_> = (0..JOURNALS).map(|n| journals.join(n.to_string())).collect();
        let mut first = None;
        for journal in &folders {
            let (journal, adopt) = (Some(journal.clone()), folders.clone());
            match models.start(EngineConfig { journal, adopt, ..config.clone() }) {
                // Another server of this user has it.
                Err(error @ Error::Journal { .. }) => first = first.or(Some(error)),
                answer => return answer,
            }
        }
        Err(first.unwrap_or(Error::ShutDown))
    }

    /// Hands sprites to the engine, and sees to it that each becomes an asset.
    ///
    /// # Errors
    /// Those of [`Studio::engine`], [`Engine::submit_all`] and [`Library::reserve`]; the fault for
    /// a call that was given up before its turn. Nothing is drawn then.
    pub(crate) async fn submit(&self, planned: Vec<PlannedSprite>, stop: &Stop) -> Result<Vec<Work>, Fault> {
        self.0.jobs.submit(self.engine().await?.clone(), planned, stop).await
    }

    /// The job of this id.
    ///
    /// # Errors
    /// Those of [`Studio::engine`] and [`Engine::find`].
    pub(crate) async fn find(&self, id: JobId) -> Result<Option<Work>, Error> {
        self.0.jobs.find(self.engine().await?.clone(), id).await
    }
}
