//! Serving: many requests share a device, step by step.
//!
//! An [`Engine`] takes [`Submission`](crate::Submission)s and gives back [`Job`]s that can be
//! waited for, awaited, watched, cancelled and found again by id. One thread for each device owns
//! models and canvases; all devices share one queue.
//!
//! - **Batching by the step.** The denoising step is the unit of work: between two of them canvases
//!   join, leave, pause for a more urgent one, and share a forward pass with all that have their
//!   size, whatever their prompts, steps and guidance. Decoding is placed between steps, so that it
//!   holds others up by no more than about one, and the device has the next step to do while its
//!   pictures are taken.
//! - **Fair.** [`Priority`](crate::Priority) first, which rises while a job waits; clients take
//!   turns within it.
//! - **A budget that holds.** What calls cost in memory is measured when a model is loaded and
//!   whenever it runs, fitted to sizes not seen yet, and kept on disk. A job joins only while
//!   weights, canvases and the dearest call fit into the [`Budget`]; the device refuses allocations
//!   past it. A call that runs out of memory all the same is made again in halves: no canvas is
//!   lost.
//! - **Jobs survive.** With [`EngineConfig::journal`] an accepted job is on disk before `submit`
//!   returns, and a result before anybody is told; after a crash the next engine runs what was not
//!   finished, and finds by id what was.
//! - **Faults stay with their job.** A backend that panics is loaded anew, one that gives values
//!   that are not finite fails that job alone, one that hangs is given up after
//!   [`EngineConfig::hang_after`].
//!
//! # Example
//! A program that draws a hundred keys, eight at once:
//! ```
//! use dgx_pixels_core::backend::{Sketches, Unmetered};
//! use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
//! use dgx_pixels_core::{GenerateRequest, Submission, job::JobEvent};
//!
//! let devices = vec![Box::new(Unmetered("cpu".into())) as _];
//! let engine = Engine::start(Sketches, devices, EngineConfig { max_batch: 8, ..Default::default() })?;
//! let jobs = (0..100).map(|seed| {
//!     let request = GenerateRequest { prompt: "a brass key".into(), seed, steps: Some(4), ..Default::default() };
//!     engine.submit(Submission::from(request))
//! });
//! let jobs = jobs.collect::<Result<Vec<_>, _>>()?;
//!
//! // Watch one …
//! let mut events = jobs[99].events();
//! while let Some(event) = events.next_blocking() {
//!     if let JobEvent::Step { n, of, eta, .. } = event {
//!         println!("step {n} of {of}, {eta:?} left");
//!     }
//! }
//! // … and wait for all.
//! for job in &jobs {
//!     assert_eq!(job.wait()?.image.dimensions(), (32, 32));
//! }
//! engine.shutdown(Shutdown::Drain);
//! # Ok::<(), dgx_pixels_core::Error>(())
//! ```
//! In async code [`Job::finished`](crate::job::Job::finished) and
//! [`Events::next`](crate::job::Events::next) are futures of any runtime, and
//! [`Generator`](crate::Generator) is the trait for clients of any executor.
//! [`LocalModels`](crate::local::LocalModels) finds the models of this machine and starts an engine
//! over them.

mod attempts;
mod budget;
mod canvas;
mod config;
mod costs;
mod drawing;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod handover;
mod host;
mod journal;
mod metrics;
mod pace;
mod plan;
mod post;
mod queue;
mod recover;
mod residence;
mod shared;
mod submit;
mod task;
mod trace;
mod watchdog;
mod worker;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use prometheus::Registry;

pub use budget::Budget;
pub use config::{EngineConfig, Shutdown};

use self::host::Host;
use self::journal::{Journal, Opened};
use self::metrics::Metrics;
use self::post::Hashes;
use self::recover::{given_up_jobs, recover, restored};
use self::shared::{Course, Shared};
use self::worker::Worker;
use crate::backend::{DeviceMemory, ModelInfo, Models};
use crate::error::Error;
use crate::job::{Job, JobId};
use crate::request::GenerateRequest;

/// Threads that make sprites and write files.
const WRITERS: usize = 2;

/// Serves requests on the devices of this machine. Copies are the same engine; dropping the last
/// ends it at the next step.
///
/// # Example
/// ```
/// use dgx_pixels_core::Submission;
/// use dgx_pixels_core::backend::{Sketches, Unmetered};
/// use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
///
/// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
/// let job = engine.submit(Submission::of("a brass key"))?;
/// assert_eq!(job.wait()?.made.device, "cpu");
/// engine.shutdown(Shutdown::Drain);
/// assert!(engine.submit(Submission::of("a coin")).is_err());
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    describe: Describe,
    recovered: Vec<Job>,
    unreadable: usize,
    set_aside: Option<PathBuf>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

type Describe = Box<dyn Fn(Option<&str>, &GenerateRequest) -> Result<ModelInfo, Error> + Send + Sync>;

impl Engine {
    /// Opens the journal, takes up what an earlier run left, and serves `models` on `devices`. No
    /// model is loaded before its first job.
    ///
    /// # Errors
    /// [`Error::Journal`] if the journal cannot be opened, as when another engine has it; a corrupt
    /// one is no error, see [`set_aside`](Engine::set_aside). [`Error::Device`] without any device.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::ErrorKind;
    /// use dgx_pixels_core::backend::{Sketches, Unmetered};
    /// use dgx_pixels_core::engine::{Engine, EngineConfig};
    /// # let folder = tempfile::tempdir()?;
    /// let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    /// let device = || vec![Box::new(Unmetered("cpu".into())) as _];
    /// let first = Engine::start(Sketches, device(), config.clone())?;
    /// // One engine at a time has a journal.
    /// let second = Engine::start(Sketches, device(), config.clone());
    /// assert_eq!(second.err().unwrap().kind(), ErrorKind::Internal);
    /// drop(first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start<M: Models>(
        models: M,
        devices: Vec<Box<dyn DeviceMemory>>,
        config: EngineConfig,
    ) -> Result<Engine, Error> {
        if devices.is_empty() {
            return Err(Error::device("", "an engine needs at least one"));
        }
        let config = EngineConfig { max_batch: config.max_batch.max(1), ..config };
        let metrics = Metrics::new();
        let (journal, unfinished, given_up, unreadable, set_aside) = match &config.journal {
            Some(folder) => {
                let opened = Journal::open(folder, &config.adopt, metrics.journal_errors.clone())?;
                let Opened { journal, unfinished, given_up, unreadable, set_aside } = opened;
                (Some(journal), unfinished, given_up, unreadable, set_aside)
            }
            None => (None, vec![], vec![], 0, None),
        };
        metrics.queue_capacity.set(config.queue_capacity as i64);
        let names: Vec<Arc<str>> = devices.iter().map(|device| device.name().into()).collect();
        let shared = Arc::new(Shared::new(config, metrics, journal, names.clone()));
        let models = Arc::new(models);

        let mut threads = vec![];
        for _ in 0..WRITERS {
            let (shared, models) = (shared.clone(), models.clone());
            let hashes: Hashes = Arc::new(move |model| models.hash(model));
            threads.push(thread::spawn(move || post::run(&shared, &hashes)));
        }
        let first = names[0].clone();
        let (described, described_on) = (models.clone(), first.clone());
        let describe: Describe =
            Box::new(move |model, request| described.describe_for(model, request, &described_on));
        let mut recovered = recover(&shared, &describe, unfinished);
        recovered.extend(given_up_jobs(&shared, given_up)?);
        for (index, (device, name)) in devices.into_iter().zip(names).enumerate() {
            shared.metrics.opened(&name);
            let builder = thread::Builder::new().name(format!("dgx-pixels {name}"));
            let host = Host::new(shared.clone(), models.clone(), device, name, index);
            let worker = Worker::new(shared.clone(), host);
            threads.push(
                builder
                    .spawn(move || worker.run())
                    .map_err(|error| Error::internal("starting a device's thread", error))?,
            );
        }
        let watched = shared.clone();
        thread::spawn(move || watchdog::run(watched));
        Ok(Engine(Arc::new(Inner {
            shared,
            describe,
            recovered,
            unreadable,
            set_aside,
            threads: Mutex::new(threads),
        })))
    }

    /// The job of this id: waiting, running, or ended. Ended ones are known for as long as the
    /// journal keeps them; without a journal, while some 64 MiB of newer pictures have not
    /// displaced them.
    ///
    /// # Errors
    /// [`Error::Journal`] if it cannot be looked up.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::backend::{Sketches, Unmetered};
    /// use dgx_pixels_core::engine::{Engine, EngineConfig};
    /// use dgx_pixels_core::job::JobId;
    ///
    /// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
    /// let job = engine.submit(Submission::of("a brass key"))?;
    /// assert_eq!(engine.find(job.id())?.map(|found| found.id()), Some(job.id()));
    /// assert!(engine.find(JobId::new())?.is_none());
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn find(&self, id: JobId) -> Result<Option<Job>, Error> {
        if let Some(job) = self.0.shared.lock().job(id) {
            return Ok(Some(job));
        }
        let Some(journal) = self.0.shared.journal() else { return Ok(None) };
        Ok(journal.find(id)?.map(|entry| restored(id, entry)))
    }

    /// Jobs of an earlier run that it had accepted and not finished. They are done now, but for
    /// those that failed as [`Error::ProcessDied`] when this engine started.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Sketches, Unmetered};
    /// use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown};
    /// use dgx_pixels_core::{GenerateRequest, Submission};
    /// # let folder = tempfile::tempdir()?;
    /// let config = EngineConfig { journal: Some(folder.path().into()), ..Default::default() };
    /// let start = || Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], config.clone());
    /// let engine = start()?;
    /// let jobs = engine.submit_all((0..50).map(|seed| {
    ///     Submission::from(GenerateRequest { seed, steps: Some(1000), ..Default::default() })
    /// }));
    /// engine.shutdown(Shutdown::NextStep);
    /// let left = jobs.iter().flatten().filter(|job| job.wait().is_err()).count();
    /// drop(engine);
    /// // The next engine with the same journal does them.
    /// let engine = start()?;
    /// assert_eq!(engine.recovered().len(), left);
    /// # engine.recovered().iter().for_each(|job| job.cancel());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recovered(&self) -> &[Job] {
        &self.0.recovered
    }

    /// The number of jobs that the journal could not read when this engine started. They are lost;
    /// their records stay in the journal's file, in the table `unreadable`.
    pub fn unreadable(&self) -> usize {
        self.0.unreadable
    }

    /// Returns the path that a corrupt journal was moved to, if there was one. The engine began a
    /// new journal.
    pub fn set_aside(&self) -> Option<&Path> {
        self.0.set_aside.as_deref()
    }

    /// Returns the registry of the engine's metrics, for Prometheus: register it, or gather and
    /// encode it.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::backend::{Sketches, Unmetered};
    /// use dgx_pixels_core::engine::{Engine, EngineConfig};
    ///
    /// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
    /// engine.submit(Submission::of("a brass key"))?.wait()?;
    /// let families = engine.metrics().gather();
    /// assert!(families.iter().any(|family| family.name() == "dgx_pixels_jobs_submitted_total"));
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn metrics(&self) -> &Registry {
        self.0.shared.measure_queue();
        &self.0.shared.metrics.registry
    }

    /// Takes no more jobs, and ends; returns when all threads have, and the journal is free for
    /// another engine. A device that hangs is not waited for.
    /// Asked again it does nothing. Copies of the engine refuse submissions with
    /// [`Error::ShutDown`] afterwards.
    pub fn shutdown(&self, how: Shutdown) {
        let course = match how {
            Shutdown::Drain => Course::Drain,
            Shutdown::NextStep => Course::Stop,
        };
        self.0.shutdown(course);
    }
}

impl Inner {
    fn shutdown(&self, course: Course) {
        {
            let mut state = self.shared.lock();
            if state.course != Course::Stop {
                state.course = course;
            }
        }
        self.shared.wake.notify_all();
        // Held to the end, so that a second call returns when the first has ended everything.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let (writers, workers) = threads.drain(..).enumerate().partition::<Vec<_>, _>(|(i, _)| *i < WRITERS);
        for (index, (_, worker)) in workers.into_iter().enumerate() {
            while !worker.is_finished() && !self.hangs(index) {
                thread::sleep(Duration::from_millis(1));
            }
            if worker.is_finished() {
                let _ = worker.join();
            }
        }
        // Ended only now: the workers' last words are posted.
        self.shared.posts.close();
        writers.into_iter().for_each(|(_, writer)| drop(writer.join()));
        self.shared.close_journal();
    }

    fn hangs(&self, index: usize) -> bool {
        let state = self.shared.lock();
        !state.devices[index].up && state.devices[index].busy.is_some()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shutdown(Course::Stop);
    }
}
