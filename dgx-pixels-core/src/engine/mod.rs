//! Serving: many requests share a device, step by step.
//!
//! An [`Engine`] takes [`Submission`]s and gives back [`Job`]s that can be waited for, awaited, watched, cancelled and found
//! again by id. One thread for each device owns models and canvases; all devices share one queue.
//!
//! - **Batching by the step.** The denoising step is the unit of work: between two of them canvases join, leave, pause for a more
//!   urgent one, and share a forward pass with all that have their size, whatever their prompts, steps and guidance. Decoding is placed between
//!   steps, so that it holds others up by no more than about one, and the device has the next step to do while its pictures are taken.
//! - **Fair.** [`Priority`](crate::Priority) first, which rises while a job waits; clients take turns within it.
//! - **A budget that holds.** What calls cost in memory is measured when a model is loaded and whenever it runs, fitted to sizes not
//!   seen yet, and kept on disk. A job joins only while weights, canvases and the dearest call fit into the [`Budget`]; the device refuses
//!   allocations past it. A call that runs out of memory all the same is made again in halves: no canvas is lost.
//! - **Jobs survive.** With [`EngineConfig::journal`] an accepted job is on disk before `submit` returns, and a
//!   result before anybody is told; after a crash the next engine runs what was not finished, and finds by id what was.
//! - **Faults stay with their job.** A backend that panics is loaded anew, one that gives values that are not finite fails that job alone, one
//!   that hangs is given up after [`EngineConfig::hang_after`].
//!
//! # Example
//! A program that draws a hundred keys, eight at once:
//! ```
//! use dgx_pixels_core::engine::{Engine, EngineConfig, Shutdown, Sketches, Unmetered};
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
//! In async code [`Job::finished`](crate::job::Job::finished) and [`Events::next`](crate::job::Events::next) are futures of any runtime, and
//! [`Generator`] is the trait to be written against. Models on libtorch come from `torch::Checkpoints` and `torch::devices`.

mod budget;
mod costs;
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod journal;
mod pace;
mod post;
mod queue;
mod residence;
mod round;
mod shared;
mod watchdog;
mod worker;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use prometheus::Registry;

pub use budget::Budget;
pub use host::{Device, Memory, ModelInfo, Models, Sketches, Unmetered};

use self::journal::{Entry, EntryState, Journal, Opened, Pending, Unfinished};
use self::post::Hashes;
use self::queue::Full;
use self::shared::{Course, Shared, Task};
use self::worker::Worker;
use crate::error::{Error, ErrorKind};
use crate::generator::{Generator, Submission};
use crate::job::{Job, JobId};
use crate::metrics::Metrics;
use crate::picture_file::sidecar;
use crate::request::GenerateRequest;

/// Threads that make sprites and write files.
const WRITERS: usize = 2;

/// How an engine serves.
///
/// # Example
/// ```
/// use dgx_pixels_core::engine::{Budget, EngineConfig};
/// let config = EngineConfig { budget: Budget::Leave(4 << 30), max_batch: 4, ..Default::default() };
/// assert_eq!(config.queue_capacity, 10_000);
/// ```
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Memory that may be used, of each device, by tensors and what the allocator keeps for them; the program itself, CUDA's context and
    /// libraries come on top. Default `90%` of what the device has.
    pub budget: Budget,
    /// Jobs that may wait. Default 10,000.
    pub queue_capacity: usize,
    /// Jobs of one client that may wait, so that it leaves places in the queue to others. Default 10,000.
    pub client_jobs: usize,
    /// Bytes that the waiting jobs of one client may take: prompts, other texts and palettes, and about 1.5 KB for each job.
    /// Default 256 MiB.
    pub client_bytes: u64,
    /// Pictures that go a step in one round, at most; 1 or more. Default 8. It takes fewer where more would gain next to nothing, but one of each
    /// client; live canvases beyond these pause.
    pub max_batch: usize,
    /// How long the oldest job may wait for company before it runs with fewer than `max_batch`. Default 0: others join it at the next
    /// step anyway.
    pub max_wait: Duration,
    /// A job that has waited so long goes as if it were a priority higher; twice, two. Default 30 s.
    pub ageing: Duration,
    /// A call of a backend that takes longer is given up, and its jobs with it. Default 10 min.
    pub hang_after: Duration,
    /// A folder, made if absent, that holds the journal of jobs and the results of those without an output of their own. It remembers the last
    /// 100,000 that ended; results are never deleted. Default: none, and jobs are lost with the program.
    pub journal: Option<PathBuf>,
    /// Folders of journals that this engine takes over when it starts, unless another engine has them open: it does their unfinished
    /// jobs, and finds those that ended. Default: none.
    pub adopt: Vec<PathBuf>,
    /// A file that keeps what calls cost in memory, from run to run. Default: none, and it is measured each time.
    pub costs: Option<PathBuf>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            budget: Budget::default(),
            queue_capacity: 10_000,
            client_jobs: 10_000,
            client_bytes: 256 << 20,
            max_batch: 8,
            max_wait: Duration::ZERO,
            ageing: Duration::from_secs(30),
            hang_after: Duration::from_secs(600),
            journal: None,
            adopt: vec![],
            costs: None,
        }
    }
}

/// How an engine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// All jobs that were accepted are done first.
    Drain,
    /// At the next step. What is not finished fails as [`Error::ShutDown`]; where a journal is kept, the next engine does it.
    NextStep,
}

/// Serves requests on the devices of this machine. Copies are the same engine; dropping the last ends it at the next step.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    describe: Describe,
    recovered: Vec<Job>,
    set_aside: Option<PathBuf>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

type Describe = Box<dyn Fn(Option<&str>) -> Result<ModelInfo, Error> + Send + Sync>;

enum Checked {
    /// The job that has the submission's key.
    Known(Job),
    /// It passed all checks, and has a place in the queue.
    New(Arc<Task>),
}

impl Engine {
    /// Opens the journal, takes up what an earlier run left, and serves `models` on `devices`. No model is loaded before its first job.
    ///
    /// # Errors
    /// [`Error::Journal`] if the journal cannot be opened, as when another engine has it; a corrupt one is no error, see
    /// [`set_aside`](Engine::set_aside). [`Error::Device`] without any device.
    pub fn start<M: Models>(
        models: M,
        devices: Vec<Box<dyn Device>>,
        config: EngineConfig,
    ) -> Result<Engine, Error> {
        if devices.is_empty() {
            return Err(Error::Device {
                device: String::new(),
                reason: "an engine needs at least one".into(),
            });
        }
        let config = EngineConfig { max_batch: config.max_batch.max(1), ..config };
        let (journal, unfinished, given_up, set_aside) = match &config.journal {
            Some(folder) => {
                let opened = Journal::open(folder, &config.adopt)?;
                let Opened { journal, unfinished, given_up, set_aside } = opened;
                (Some(journal), unfinished, given_up, set_aside)
            }
            None => (None, vec![], vec![], None),
        };
        let metrics = Metrics::new();
        metrics.queue_capacity.set(config.queue_capacity as i64);
        let names: Vec<Arc<str>> = devices.iter().map(|device| device.name().into()).collect();
        let (sender, receiver) = mpsc::channel();
        let shared = Arc::new(Shared::new(config, metrics, journal, sender, names.clone()));
        let models = Arc::new(models);

        let mut threads = vec![];
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..WRITERS {
            let (shared, models, receiver) = (shared.clone(), models.clone(), receiver.clone());
            let hashes: Hashes = Arc::new(move |model| models.hash(model));
            threads.push(thread::spawn(move || post::run(&shared, &hashes, &receiver)));
        }
        let first = names[0].clone();
        let (described, described_on) = (models.clone(), first.clone());
        let describe: Describe = Box::new(move |model| described.describe(model, &described_on));
        let mut recovered = recover(&shared, &describe, unfinished);
        recovered.extend(given_up_jobs(&shared, given_up)?);
        for (index, (device, name)) in devices.into_iter().zip(names).enumerate() {
            let mut worker = Worker {
                shared: shared.clone(),
                models: models.clone(),
                budget: None,
                device,
                name,
                index,
                loaded: vec![],
                loading: None,
                loading_for: None,
                taken: vec![],
                round: Duration::ZERO,
                finish_each: Duration::ZERO,
            };
            worker.set_budget();
            let builder = thread::Builder::new().name(format!("dgx-pixels {}", worker.name));
            threads.push(builder.spawn(move || worker.run()).map_err(|error| Error::Internal {
                doing: "starting a device's thread",
                message: error.to_string(),
            })?);
        }
        let watched = shared.clone();
        thread::spawn(move || watchdog::run(watched));
        Ok(Engine(Arc::new(Inner { shared, describe, recovered, set_aside, threads: Mutex::new(threads) })))
    }

    /// Checks `submission` and takes it; blocks for no longer than the journal takes to sync. With an idempotency key that is known,
    /// the job that has it.
    ///
    /// # Errors
    /// What is wrong with the request; [`Error::Exists`] or [`Error::Output`] for its output; [`Error::QueueFull`];
    /// [`Error::QuotaExceeded`]; [`Error::KeyTaken`]; [`Error::ShutDown`]; [`Error::Journal`]. Nothing was taken then.
    pub fn submit(&self, submission: Submission) -> Result<Job, Error> {
        self.submit_all([submission]).pop().unwrap_or(Err(Error::ShutDown))
    }

    /// As [`submit`](Engine::submit), of many that share one sync of the journal; an answer for each, in their order. All wait from the
    /// moment of this call on.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::engine::{Engine, EngineConfig, Sketches, Unmetered};
    ///
    /// let devices = vec![Box::new(Unmetered("cpu".into())) as _];
    /// let engine = Engine::start(Sketches, devices, EngineConfig::default())?;
    /// let jobs = engine.submit_all(["a brass key", "a frog"].map(Submission::of));
    /// for job in jobs {
    ///     assert_eq!(job?.wait()?.image.dimensions(), (32, 32));
    /// }
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn submit_all(&self, submissions: impl IntoIterator<Item = Submission>) -> Vec<Result<Job, Error>> {
        let began = Instant::now();
        let checked: Vec<_> =
            submissions.into_iter().map(|submission| self.check(submission, began)).collect();
        let durable = self.keep(&checked);
        let mut durable = durable.into_iter().map(Pending::wait);
        let answers = checked.into_iter().map(|checked| match checked {
            Ok(Checked::Known(job)) => Ok(job),
            Ok(Checked::New(task)) => self.enqueue(task, durable.next().unwrap_or(Ok(()))),
            Err(error) => Err(error),
        });
        answers.map(|answer| self.counted(answer)).collect()
    }

    /// Hands those that are new to the journal, if there is one; an answer for each of them.
    fn keep(&self, checked: &[Result<Checked, Error>]) -> Vec<Pending> {
        let Some(journal) = self.0.shared.journal() else { return vec![] };
        let jobs: Vec<Job> = checked
            .iter()
            .filter_map(|checked| match checked {
                Ok(Checked::New(task)) => Some(task.writer.job()),
                _ => None,
            })
            .collect();
        journal.accept(jobs.iter().map(|job| (job.id(), job.submission())))
    }

    /// The job of this id: waiting, running, or ended. Ended ones are known for as long as the journal keeps them; without a journal, while
    /// some 64 MiB of newer pictures have not displaced them.
    ///
    /// # Errors
    /// [`Error::Journal`] if it cannot be looked up.
    pub fn find(&self, id: JobId) -> Result<Option<Job>, Error> {
        if let Some(job) = self.0.shared.lock().job(id) {
            return Ok(Some(job));
        }
        let Some(journal) = self.0.shared.journal() else { return Ok(None) };
        Ok(journal.find(id)?.map(|entry| restored(id, entry)))
    }

    /// Jobs of an earlier run that it had accepted and not finished. They are done now, but for those that failed as
    /// [`Error::ProcessDied`] when this engine started.
    pub fn recovered(&self) -> &[Job] {
        &self.0.recovered
    }

    /// Where a corrupt journal was moved to, if there was one. A new one was begun.
    pub fn set_aside(&self) -> Option<&Path> {
        self.0.set_aside.as_deref()
    }

    /// What is measured, for Prometheus: register it, or gather and encode it.
    pub fn metrics(&self) -> &Registry {
        self.0.shared.measure_queue();
        &self.0.shared.metrics.registry
    }

    /// Takes no more jobs, and ends; returns when all threads have, and the journal is free for another engine. A device that hangs is not
    /// waited for.
    pub fn shutdown(&self, how: Shutdown) {
        let course = match how {
            Shutdown::Drain => Course::Drain,
            Shutdown::NextStep => Course::Stop,
        };
        self.0.shutdown(course);
    }

    /// Everything that can be said before the job is durable.
    fn check(&self, submission: Submission, began: Instant) -> Result<Checked, Error> {
        let shared = &self.0.shared;
        // 1. the request
        submission.validate()?;
        let info = (self.0.describe)(submission.model.as_deref())?;
        let size = submission.request.size.unwrap_or(info.native_size);
        size.validate(info.multiple)?;

        // 2. its key: the same again is the same job
        if let Some(known) = self.known(&submission)? {
            return Ok(Checked::Known(known));
        }
        if let Some(path) = &submission.output {
            check_output(path, &submission)?;
        }

        // 3. a place
        let mut state = shared.lock();
        if let Some(error) = state.gone() {
            return Err(error);
        }
        if state.course != Course::Serve {
            return Err(Error::ShutDown);
        }
        // Two may have brought one key at the same time.
        if let Some(known) = submission.idempotency_key.as_deref().and_then(|key| state.job_of_key(key)) {
            return same(known, &submission).map(Checked::Known);
        }
        let id = JobId::new();
        let (client, bytes) = (submission.client.as_str().into(), submission.bytes());
        if let Err(full) = state.queue.reserve(&client, bytes) {
            let work = f64::from(size.width) * f64::from(size.height) * 2.0;
            let eta = state.eta(info.steps, work, 0, 0.0, shared.config.max_batch);
            let retry_after = eta.unwrap_or(Duration::from_secs(1)) / shared.config.max_batch as u32;
            return Err(self.refusal(full, state.queue.len(), &client, retry_after));
        }
        let task = Arc::new(task(shared, info, id, submission, began, Earlier::None));
        state.know(&task.writer.job());
        Ok(Checked::New(task))
    }

    fn refusal(&self, full: Full, waiting: usize, client: &str, retry_after: Duration) -> Error {
        let config = &self.0.shared.config;
        let (used, allowed, unit) = match full {
            Full::Queue => {
                return Error::QueueFull { waiting, capacity: config.queue_capacity, retry_after };
            }
            Full::ClientJobs(jobs) => (jobs as u64, config.client_jobs as u64, "jobs"),
            Full::ClientBytes(bytes) => (bytes, config.client_bytes, "bytes"),
        };
        Error::QuotaExceeded { client: client.into(), used, allowed, unit, retry_after }
    }

    /// The job that has the submission's key.
    fn known(&self, submission: &Submission) -> Result<Option<Job>, Error> {
        let Some(key) = &submission.idempotency_key else { return Ok(None) };
        let shared = &self.0.shared;
        let live = shared.lock().job_of_key(key);
        let known = match (live, shared.journal()) {
            (None, Some(journal)) => match journal.find_key(key)? {
                Some(id) => self.find(id)?,
                None => None,
            },
            (live, _) => live,
        };
        known.map(|job| same(job, submission)).transpose()
    }

    /// Into the queue, if the journal has it.
    fn enqueue(&self, task: Arc<Task>, durable: Result<(), Error>) -> Result<Job, Error> {
        let (shared, job) = (&self.0.shared, task.writer.job());
        let mut state = shared.lock();
        state.queue.release(&task.client, task.bytes);
        if let Err(error) = durable {
            state.forget(job.id());
            drop(state);
            task.writer.fail(error.clone());
            return Err(error);
        }
        shared.metrics.submitted(job.submission().priority);
        tracing::info!(job = %job.id(), model = &*task.model, client = &*task.client, "accepted");
        push(shared, &mut state, task);
        drop(state);
        shared.wake.notify_all();
        Ok(job)
    }

    fn counted(&self, answer: Result<Job, Error>) -> Result<Job, Error> {
        if let Err(error) = &answer {
            self.0.shared.metrics.rejected(error.kind().as_str());
        }
        answer
    }
}

#[async_trait::async_trait]
impl Generator for Engine {
    async fn submit(&self, submission: Submission) -> Result<Job, Error> {
        let checked = [self.check(submission, Instant::now())];
        let durable = match self.keep(&checked).pop() {
            Some(pending) => pending.done().await,
            None => Ok(()),
        };
        let [checked] = checked;
        let answer = checked.and_then(|checked| match checked {
            Checked::Known(job) => Ok(job),
            Checked::New(task) => self.enqueue(task, durable),
        });
        self.counted(answer)
    }

    async fn find(&self, id: &JobId) -> Result<Option<Job>, Error> {
        Engine::find(self, *id)
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
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let (writers, workers) =
            threads.into_iter().enumerate().partition::<Vec<_>, _>(|(i, _)| *i < WRITERS);
        for (index, (_, worker)) in workers.into_iter().enumerate() {
            while !worker.is_finished() && !self.hangs(index) {
                thread::sleep(Duration::from_millis(1));
            }
            if worker.is_finished() {
                let _ = worker.join();
            }
        }
        // Ended only now: the workers' last words are posted.
        self.shared.close_posts();
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

/// What an earlier run did with a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Earlier {
    None,
    /// It accepted it, and ended before the job was done.
    Accepted,
    /// The process died while the job ran.
    Died,
}

/// What a job needs on its way.
fn task(
    shared: &Shared,
    info: ModelInfo,
    id: JobId,
    submission: Submission,
    submitted: Instant,
    earlier: Earlier,
) -> Task {
    let request = GenerateRequest {
        steps: Some(submission.request.steps.unwrap_or(info.steps)),
        size: Some(submission.request.size.unwrap_or(info.native_size)),
        ..submission.request.clone()
    };
    let results = shared.journal().map(|journal| journal.results().join(format!("{id}.png")));
    let output = submission.output.clone().or(results);
    let (client, model) = (submission.client.as_str().into(), info.name.as_str().into());
    let bytes = submission.bytes();
    let (_, writer) = Job::submitted_at(id, submission, submitted);
    Task {
        writer,
        bytes,
        info: Arc::new(info),
        request,
        output,
        client,
        model,
        recovered: earlier != Earlier::None,
        suspect: earlier == Earlier::Died,
        marks: AtomicUsize::new(0),
        alone: AtomicBool::new(false),
        attempts: AtomicUsize::new(0),
        steps_done: AtomicUsize::new(0),
        redraws: AtomicU32::new(0),
    }
}

/// Lets a task wait, and its job be cancelled while it does.
fn push(shared: &Arc<Shared>, state: &mut shared::State, task: Arc<Task>) {
    let number = state.queue.push(task.waiting());
    let weak = Arc::downgrade(shared);
    task.writer.on_cancel(move || {
        let Some(shared) = weak.upgrade() else { return };
        let waiting = shared.lock().queue.remove(number);
        match waiting {
            Some(waiting) => {
                let steps = waiting.item.request.steps();
                shared.fail(waiting.item, Error::Cancelled { steps_done: 0, steps });
            }
            None => shared.wake.notify_all(),
        }
    });
    state.tell_place(number, &task, shared.config.max_batch);
}

/// Takes up what an earlier run accepted and did not finish.
fn recover(shared: &Arc<Shared>, describe: &Describe, unfinished: Vec<Unfinished>) -> Vec<Job> {
    let mut jobs = vec![];
    for Unfinished { id, submission, deaths } in unfinished {
        // A journal is a file: what it asks for passes the same door as a caller's request.
        let described = submission.validate().and_then(|()| describe(submission.model.as_deref()));
        let job = match described {
            Ok(info) => {
                let earlier = if deaths > 0 { Earlier::Died } else { Earlier::Accepted };
                let task = Arc::new(task(shared, info, id, submission, Instant::now(), earlier));
                let job = task.writer.job();
                let mut state = shared.lock();
                if task.suspect {
                    tracing::warn!(job = %id, deaths, "the process died while this job ran; it runs alone now");
                    state.suspects += 1;
                }
                state.know(&job);
                push(shared, &mut state, task);
                job
            }
            // Its model may be there in another run: it stays accepted.
            Err(error) => {
                tracing::warn!(job = %id, %error, "a job of an earlier run cannot be done in this one");
                let (job, writer) = Job::new(id, submission);
                writer.fail(error);
                job
            }
        };
        shared.metrics.recovered.inc();
        jobs.push(job);
    }
    jobs
}

/// The jobs that failed as the engine started.
fn given_up_jobs(shared: &Shared, given_up: Vec<JobId>) -> Result<Vec<Job>, Error> {
    let mut jobs = vec![];
    let Some(journal) = shared.journal() else { return Ok(jobs) };
    for id in given_up {
        let Some(entry) = journal.find(id)? else { continue };
        let job = restored(id, entry);
        if let Some(Err(error)) = job.result() {
            tracing::error!(job = %id, %error, "failed");
            shared.metrics.ended("failed", error.kind().as_str());
        }
        jobs.push(job);
    }
    Ok(jobs)
}

/// A job that ended in an earlier run, or was displaced from memory.
fn restored(id: JobId, entry: Entry) -> Job {
    let (job, writer) = Job::new(id, entry.submission);
    match entry.state {
        EntryState::Finished(record) => match post::read_back(record) {
            Ok(finished) => writer.finish(finished),
            Err(error) => writer.fail(error),
        },
        EntryState::Failed { kind: ErrorKind::Cancelled, .. } => {
            let steps = job.submission().request.steps();
            writer.fail(Error::Cancelled { steps_done: 0, steps })
        }
        EntryState::Failed { kind, message } => writer.fail(Error::Told { kind, message }),
        EntryState::Accepted | EntryState::Writing(_) => writer.fail(Error::ShutDown),
    };
    job
}

/// The same request again, or a key that stands for another.
fn same(job: Job, submission: &Submission) -> Result<Job, Error> {
    if job.submission() == submission {
        return Ok(job);
    }
    let key = submission.idempotency_key.clone().unwrap_or_default();
    Err(Error::KeyTaken { key, id: job.id().to_string() })
}

/// Whether a job's file can be written, as far as can be told now.
fn check_output(path: &Path, submission: &Submission) -> Result<(), Error> {
    let fault = |reason: &str| Error::Output { path: path.to_owned(), reason: reason.into() };
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        return Err(fault("pictures are written as PNG; expected a name that ends in `.png`"));
    }
    let beside = submission.pixel.is_some().then(|| sidecar(path));
    for path in [path.to_owned()].into_iter().chain(beside) {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let reason = "it is a folder; expected a file or a free name".into();
                return Err(Error::Output { path, reason });
            }
            Ok(_) if !submission.force => return Err(Error::Exists { path }),
            _ => {}
        }
    }
    Ok(())
}
