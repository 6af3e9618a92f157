//! The way from a submission to a place in the queue: checks, keys, quotas and the journal.
//!
//! A submission is checked in this order: the request, against the model's defaults; its
//! idempotency key; its output; the engine's state; and the limits of the client and of the queue.
//! The journal hears of it after that. A known key is answered with the job that has it, or with
//! [`Error::KeyTaken`](crate::Error::KeyTaken) if the content differs.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Engine;
use super::journal::Pending;
use super::queue::Full;
use super::recover::{Earlier, push, task};
use super::shared::Course;
use super::task::Task;
use crate::error::Error;
use crate::generator::Generator;
use crate::job::{Job, JobId};
use crate::picture_file::sidecar;
use crate::submission::Submission;

enum Checked {
    /// The job that has the submission's key.
    Known(Job),
    /// It passed all checks, and has a place in the queue.
    New(Arc<Task>),
}

impl Engine {
    /// Checks `submission` and takes it; blocks for no longer than the journal takes to sync. With
    /// an idempotency key that is known, the job that has it.
    ///
    /// # Errors
    /// The fault of the request; [`Error::Exists`] or [`Error::Output`] for its output and
    /// its images;
    /// [`Error::QueueFull`]; [`Error::QuotaExceeded`]; [`Error::KeyTaken`]; [`Error::ShutDown`];
    /// [`Error::Journal`]. Nothing was taken then.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::backend::{Sketches, Unmetered};
    /// use dgx_pixels_core::engine::{Engine, EngineConfig};
    /// use dgx_pixels_core::{ErrorKind, GenerateRequest, Submission};
    ///
    /// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
    /// let once = Submission { idempotency_key: Some("order 7".into()), ..Submission::of("a key") };
    /// let job = engine.submit(once.clone())?;
    /// assert_eq!(engine.submit(once)?.id(), job.id());
    ///
    /// let endless = GenerateRequest { steps: Some(1_000_000), ..Default::default() };
    /// assert_eq!(engine.submit(endless.into()).unwrap_err().kind(), ErrorKind::InvalidRequest);
    /// # Ok::<(), dgx_pixels_core::Error>(())
    /// ```
    pub fn submit(&self, submission: Submission) -> Result<Job, Error> {
        self.submit_all([submission]).pop().unwrap_or(Err(Error::ShutDown))
    }

    /// Submits many as [`submit`](Engine::submit) does, with one sync of the journal for all.
    /// Returns an answer for each, in their order. All wait from the moment of this call on.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::backend::{Sketches, Unmetered};
    /// use dgx_pixels_core::engine::{Engine, EngineConfig};
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
        self.enqueue_all(checked, durable.into_iter().map(Pending::wait))
    }

    /// Puts the new jobs into the queue, if the journal has them: `durable` is its answer for each.
    fn enqueue_all(
        &self,
        checked: Vec<Result<Checked, Error>>,
        mut durable: impl Iterator<Item = Result<(), Error>>,
    ) -> Vec<Result<Job, Error>> {
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

    /// Everything that can be said before the job is durable.
    fn check(&self, mut submission: Submission, began: Instant) -> Result<Checked, Error> {
        let shared = &self.0.shared;
        // 1. the request, with the images that are kept
        if let Some(inputs) = &shared.inputs {
            inputs.fill(&mut submission.request);
        }
        submission.validate()?;
        let info = (self.0.describe)(submission.model.as_deref(), &submission.request)?;
        let resolved = submission.resolve(&info.defaults)?;

        // 2. its key: the same again is the same job
        if let Some(known) = self.known(&submission)? {
            return Ok(Checked::Known(known));
        }
        if let Some(path) = &submission.output {
            check_output(path, &submission)?;
        }

        // 3. its images, which another run needs
        if let Some(inputs) = &shared.inputs {
            inputs.keep(&submission.request)?;
        }

        // 4. a place
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
            let size = resolved.request.size;
            let work = f64::from(size.width) * f64::from(size.height) * 2.0;
            let eta = state.eta(resolved.request.drawn_steps(), work, 0, 0.0, shared.config.max_batch);
            let retry_after = eta.unwrap_or(Duration::from_secs(1)) / shared.config.max_batch as u32;
            return Err(self.refusal(full, state.queue.taken(), &client, retry_after));
        }
        let task = Arc::new(task(shared, info, id, submission, resolved, began, Earlier::None));
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
    async fn submit_all(&self, submissions: Vec<Submission>) -> Vec<Result<Job, Error>> {
        let began = Instant::now();
        let checked: Vec<_> =
            submissions.into_iter().map(|submission| self.check(submission, began)).collect();
        let mut durable = vec![];
        for pending in self.keep(&checked) {
            durable.push(pending.done().await);
        }
        self.enqueue_all(checked, durable.into_iter())
    }

    async fn find(&self, id: &JobId) -> Result<Option<Job>, Error> {
        Engine::find(self, *id)
    }
}

/// The same request again, or a key that stands for another.
fn same(job: Job, submission: &Submission) -> Result<Job, Error> {
    if job.submission() == submission {
        return Ok(job);
    }
    let key = submission.idempotency_key.clone().unwrap_or_default();
    Err(Error::KeyTaken { key, id: job.id().to_string() })
}

/// Checks that a job's file can be written, as far as that is known now.
fn check_output(path: &Path, submission: &Submission) -> Result<(), Error> {
    if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
        return Err(Error::output(path, "pictures are written as PNG; expected a name that ends in `.png`"));
    }
    let beside = submission.pixel.is_some().then(|| sidecar(path));
    for path in [path.to_owned()].into_iter().chain(beside) {
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(Error::output(path, "it is a folder; expected a file or a free name"));
            }
            Ok(_) if !submission.force => return Err(Error::Exists { path }),
            _ => {}
        }
    }
    Ok(())
}
