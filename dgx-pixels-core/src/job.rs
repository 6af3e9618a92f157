//! A job: what is told of it, and how to wait for it, from threads and from tasks alike.

use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use event_listener::{Listener as _, listener};
use image::{RgbImage, RgbaImage};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::backend::Latents;
use crate::error::Error;
use crate::picture_file::Made;
use crate::pixel::{Certificate, Verdict};
use crate::submission::Submission;
use crate::value_error::ValueError;

/// A job's name, unlike all others: a UUID whose order is that of submission.
///
/// # Example
/// ```
/// use dgx_pixels_core::job::JobId;
///
/// let (first, second) = (JobId::new(), JobId::new());
/// assert!(first < second);
/// assert_eq!(first.to_string().parse(), Ok(first));
/// assert!("job 7".parse::<JobId>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new one.
    /// It is a UUID of version 7 (RFC 9562), which begins with the time of its creation.
    #[expect(clippy::new_without_default, reason = "each is another; a default would be the same")]
    pub fn new() -> Self {
        JobId(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<JobId, ValueError> {
        let expected = || format!("an id, for example `{}`", JobId::new());
        Uuid::try_parse(text).map(JobId).map_err(|_| ValueError::new("job", text, expected()))
    }
}

/// The events of a job, in this order. One of the last three ends the job, once. After
/// [`Redraw`](JobEvent::Redraw) the order begins anew.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum JobEvent {
    /// The job waits.
    Queued {
        /// 1 is the next.
        position: usize,
        /// The time until it is finished; `None` while nothing was measured yet.
        eta: Option<Duration>,
    },
    /// The job's model is being loaded.
    Loading {
        /// The model's name.
        model: String,
        /// The bytes of the weights that are loaded so far.
        bytes_done: u64,
        /// The bytes of all weights.
        bytes: u64,
    },
    /// The prompt is encoded, and the first step comes.
    Started {
        /// The name of the device, for example `cuda:0`.
        device: String,
    },
    /// A step is done.
    Step {
        /// Steps done.
        n: usize,
        /// Steps in all.
        of: usize,
        /// The duration of this step, with the others that shared it.
        step_time: Duration,
        /// The time until the image is finished.
        eta: Duration,
    },
    /// The picture as it is after `n` steps, about one pixel for each latent.
    Preview {
        /// Steps done.
        n: usize,
        /// Coarse, and in rough colours.
        image: Arc<RgbImage>,
    },
    /// The sprite had no visible pixel, and is drawn again with another seed.
    Redraw {
        /// 1 for the second draw.
        redraw: u32,
        /// The seed of the draw that comes: [`redraw_seed`](crate::redraw_seed) of the request's
        /// seed.
        seed: u64,
    },
    /// The job is done; where a file was asked for, the file is there.
    Finished(Arc<Finished>),
    /// The job failed, with the error that says why.
    Failed(Error),
    /// The job was stopped on request.
    Cancelled {
        /// Steps that were done.
        steps_done: usize,
        /// Steps that were asked for.
        steps: usize,
    },
}

impl JobEvent {
    /// `true` if no event comes after this one.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Error;
    /// use dgx_pixels_core::job::JobEvent;
    ///
    /// assert!(!JobEvent::Queued { position: 1, eta: None }.is_end());
    /// assert!(JobEvent::Failed(Error::ShutDown).is_end());
    /// assert!(JobEvent::Cancelled { steps_done: 3, steps: 30 }.is_end());
    /// ```
    pub fn is_end(&self) -> bool {
        matches!(self, JobEvent::Finished(_) | JobEvent::Failed(_) | JobEvent::Cancelled { .. })
    }
}

/// A finished picture.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The sprite; or the model's picture, with alpha 255, where no pixel stages were asked for.
    pub image: RgbaImage,
    /// The provenance of the image: drawing this again gives the same image. After redraws its seed
    /// is that of the last one.
    pub made: Made,
    /// Times that it was drawn again, as the sprite had no visible pixel; the seed of each is
    /// [`redraw_seed`](crate::redraw_seed) of the submission's.
    pub redraws: u32,
    /// The verdict on the grid; `None` without pixel stages.
    pub verdict: Option<Verdict>,
    /// The properties that the sprite keeps to; `None` without pixel stages.
    pub certificate: Option<Certificate>,
    /// Words of the prompts that did not fit the tokenizers' length.
    pub dropped_words: Option<String>,
    /// The latents, if the submission asks for them.
    pub latents: Option<Latents>,
    /// The file, if one was written.
    pub path: Option<PathBuf>,
    /// The time that each part of the job took.
    pub timings: JobTimings,
}

/// The time that each part of one job took. Work that is shared with other jobs is reported whole.
///
/// A stage that the job did not need is zero. `total` is larger than the sum of the
/// others if the job waited between two stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTimings {
    /// The time from submission to the first work on the job.
    pub waiting: Duration,
    /// Tokenizing, text encoders, first noise.
    pub begin: Duration,
    /// The time from the first step to the last, pauses included.
    pub denoise: Duration,
    /// VAE decode, to pixels in memory, and waiting for it.
    pub finish: Duration,
    /// Pixel stages.
    pub pixel: Duration,
    /// The time from submission to the finished file.
    pub total: Duration,
}

/// A job that was submitted. Dropping it cancels nothing; see [`Job::cancel_on_drop`].
///
/// All its copies are the same job. It can be waited for by a thread ([`wait`](Job::wait)), awaited
/// ([`finished`](Job::finished)) and watched ([`events`](Job::events)), without any particular
/// runtime.
#[derive(Clone)]
pub struct Job(Arc<Shared>);

struct Shared {
    id: JobId,
    submission: Submission,
    submitted: Instant,
    state: Mutex<State>,
    changed: event_listener::Event,
    cancel_asked: AtomicBool,
    on_cancel: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// [`Events`] that exist, so that nothing is worked out for nobody.
    watchers: AtomicUsize,
}

/// A function that is called once, after an event.
struct Reaction {
    waits_for_end: bool,
    react: Box<dyn FnOnce() + Send>,
}

/// The newest event of each kind, by number: whoever reads slowly misses some, and makes nothing
/// wait or grow.
#[derive(Default)]
struct State {
    told: u64,
    newest: Vec<(u64, JobEvent)>,
    reactions: Vec<Reaction>,
}

impl State {
    fn end(&self) -> Option<&JobEvent> {
        self.newest.last().map(|(_, event)| event).filter(|event| event.is_end())
    }
}

impl Job {
    /// A job, and the end that tells of it: for those who implement
    /// [`Generator`](crate::Generator).
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobEvent, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// assert!(writer.tell(JobEvent::Started { device: "cpu".into() }));
    /// assert!(writer.fail(Error::ShutDown));
    /// assert!(matches!(job.wait(), Err(Error::ShutDown)));
    /// ```
    pub fn new(id: JobId, submission: Submission) -> (Job, JobWriter) {
        Job::submitted_at(id, submission, Instant::now())
    }

    /// Returns the same as [`new`](Job::new), for a job that was submitted earlier.
    pub(crate) fn submitted_at(id: JobId, submission: Submission, submitted: Instant) -> (Job, JobWriter) {
        let shared = Arc::new(Shared {
            id,
            submission,
            submitted,
            state: Mutex::default(),
            changed: event_listener::Event::new(),
            cancel_asked: AtomicBool::new(false),
            on_cancel: OnceLock::new(),
            watchers: AtomicUsize::new(0),
        });
        (Job(shared.clone()), JobWriter(shared))
    }

    /// Returns the job's id.
    pub fn id(&self) -> JobId {
        self.0.id
    }

    /// Returns the submission as it was handed in.
    /// The engine's defaults are not filled in. Those are in [`Finished::made`].
    pub fn submission(&self) -> &Submission {
        &self.0.submission
    }

    /// Returns the newest event; `None` before the first one.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::job::{Job, JobEvent, JobId};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// assert!(job.latest().is_none());
    /// writer.tell(JobEvent::Queued { position: 2, eta: None });
    /// assert!(matches!(job.latest(), Some(JobEvent::Queued { position: 2, .. })));
    /// ```
    pub fn latest(&self) -> Option<JobEvent> {
        self.0.lock().newest.last().map(|(_, event)| event.clone())
    }

    /// Returns the events from now on, after the newest of each kind that was reported already.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobEvent, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let mut events = job.events();
    /// writer.tell(JobEvent::Queued { position: 2, eta: None });
    /// writer.tell(JobEvent::Queued { position: 1, eta: None });
    /// // The reader was slow: of each kind it gets the newest.
    /// assert!(matches!(events.next_blocking(), Some(JobEvent::Queued { position: 1, .. })));
    /// writer.fail(Error::ShutDown);
    /// assert!(matches!(events.next_blocking(), Some(JobEvent::Failed(Error::ShutDown))));
    /// assert!(events.next_blocking().is_none());
    /// ```
    pub fn events(&self) -> Events {
        self.0.watchers.fetch_add(1, Ordering::Relaxed);
        Events { job: self.clone(), seen: 0 }
    }

    /// Waits, blocking this thread.
    ///
    /// # Errors
    /// Why there is no picture; [`Error::Cancelled`] if it was cancelled.
    pub fn wait(&self) -> Result<Arc<Finished>, Error> {
        loop {
            listener!(self.0.changed => changed);
            if let Some(result) = self.result() {
                return result;
            }
            changed.wait();
        }
    }

    /// Waits as [`wait`](Job::wait) does, for at most `time`; `None` if the job has not ended by
    /// then.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::job::{Job, JobId};
    ///
    /// let (job, _writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// assert!(job.wait_for(Duration::from_millis(1)).is_none());
    /// ```
    pub fn wait_for(&self, time: Duration) -> Option<Result<Arc<Finished>, Error>> {
        let until = Instant::now() + time;
        loop {
            listener!(self.0.changed => changed);
            if let Some(result) = self.result() {
                return Some(result);
            }
            changed.wait_deadline(until)?;
        }
    }

    /// Waits, as a future of any runtime.
    ///
    /// # Errors
    /// As [`wait`](Job::wait).
    pub async fn finished(&self) -> Result<Arc<Finished>, Error> {
        loop {
            listener!(self.0.changed => changed);
            if let Some(result) = self.result() {
                return result;
            }
            changed.await;
        }
    }

    /// Calls `react` once, after the job has ended: at once if it has, otherwise on the thread that
    /// ends it, which `react` must not hold up. For callers with an event loop of their own.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// job.on_end(move || sender.send(()).unwrap());
    /// assert!(receiver.try_recv().is_err());
    /// writer.fail(Error::ShutDown);
    /// assert!(receiver.try_recv().is_ok());
    /// ```
    pub fn on_end(&self, react: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        if state.end().is_none() {
            state.reactions.push(Reaction { waits_for_end: true, react: Box::new(react) });
        } else {
            drop(state);
            react();
        }
    }

    /// The result, if it has ended.
    pub fn result(&self) -> Option<Result<Arc<Finished>, Error>> {
        match self.0.lock().end()? {
            JobEvent::Finished(finished) => Some(Ok(finished.clone())),
            JobEvent::Failed(error) => Some(Err(error.clone())),
            JobEvent::Cancelled { steps_done, steps } => {
                Some(Err(Error::Cancelled { steps_done: *steps_done, steps: *steps }))
            }
            _ => None,
        }
    }

    /// Asks to stop, which happens before the next step. Nothing happens to a job that has ended.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::job::{Job, JobId};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// assert!(!writer.cancel_asked());
    /// job.cancel();
    /// assert!(writer.cancel_asked());
    /// // The job ends when its executor reports it.
    /// assert!(job.result().is_none());
    /// ```
    pub fn cancel(&self) {
        self.0.cancel_asked.store(true, Ordering::SeqCst);
        if let Some(on_cancel) = self.0.on_cancel.get() {
            on_cancel();
        }
    }

    /// Returns this job, which is cancelled if the answer is dropped before the job ended.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::job::{Job, JobId};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// drop(job.cancel_on_drop());
    /// assert!(writer.cancel_asked());
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop {
        CancelOnDrop(self)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id()).field("latest", &self.latest()).finish_non_exhaustive()
    }
}

/// A [`Job`] that is cancelled when this is dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Job);

impl std::ops::Deref for CancelOnDrop {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.0
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if self.0.result().is_none() {
            self.0.cancel();
        }
    }
}

/// The events of one job. A slow reader skips to the newest of each kind; the end is never skipped.
pub struct Events {
    job: Job,
    seen: u64,
}

impl Events {
    /// The next event, blocking this thread; `None` after the end.
    pub fn next_blocking(&mut self) -> Option<JobEvent> {
        let job = self.job.clone();
        loop {
            listener!(job.0.changed => changed);
            if let Some(next) = self.unseen() {
                return next;
            }
            changed.wait();
        }
    }

    /// The next event, as a future of any runtime; `None` after the end.
    pub async fn next(&mut self) -> Option<JobEvent> {
        let job = self.job.clone();
        loop {
            listener!(job.0.changed => changed);
            if let Some(next) = self.unseen() {
                return next;
            }
            changed.await;
        }
    }

    /// The next event if there is one now: `None` to wait for, `Some(None)` after the end.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobEvent, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let mut events = job.events();
    /// assert!(events.unseen().is_none());
    /// writer.fail(Error::ShutDown);
    /// assert!(matches!(events.unseen(), Some(Some(JobEvent::Failed(_)))));
    /// assert!(matches!(events.unseen(), Some(None)));
    /// ```
    pub fn unseen(&mut self) -> Option<Option<JobEvent>> {
        let state = self.job.0.lock();
        match state.newest.iter().find(|(number, _)| *number > self.seen) {
            Some((number, event)) => {
                self.seen = *number;
                Some(Some(event.clone()))
            }
            None => state.end().map(|_| None),
        }
    }
}

impl Events {
    /// Calls `react` once, when [`unseen`](Self::unseen) has something to return: at once if it has
    /// now, otherwise on the thread that reports it, which `react` must not hold up.
    pub fn on_unseen(&self, react: impl FnOnce() + Send + 'static) {
        let mut state = self.job.0.lock();
        let is_there = state.newest.iter().any(|(number, _)| *number > self.seen) || state.end().is_some();
        if is_there {
            drop(state);
            react();
        } else {
            state.reactions.push(Reaction { waits_for_end: false, react: Box::new(react) });
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.job.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The end of a job that tells of it. Dropped without an end told, the job fails as an internal
/// error.
///
/// # Example
/// ```
/// use dgx_pixels_core::job::{Job, JobId};
/// use dgx_pixels_core::{ErrorKind, Submission};
///
/// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
/// drop(writer);
/// assert_eq!(job.wait().unwrap_err().kind(), ErrorKind::Internal);
/// ```
pub struct JobWriter(Arc<Shared>);

impl JobWriter {
    /// The job it tells of.
    pub fn job(&self) -> Job {
        Job(self.0.clone())
    }

    /// Returns the time at which its submission began.
    pub fn submitted(&self) -> Instant {
        self.0.submitted
    }

    /// `true` if [`Job::cancel`] was called.
    pub fn cancel_asked(&self) -> bool {
        self.0.cancel_asked.load(Ordering::SeqCst)
    }

    /// `true` if any [`Events`] of this job exist.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::job::{Job, JobId};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let events = job.events();
    /// assert!(writer.is_watched());
    /// drop(events);
    /// assert!(!writer.is_watched());
    /// ```
    pub fn is_watched(&self) -> bool {
        self.0.watchers.load(Ordering::Relaxed) > 0
    }

    /// Has `react` called at each [`Job::cancel`], on the thread that calls it. The first `react`
    /// stays.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Submission;
    /// use dgx_pixels_core::job::{Job, JobId};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// writer.on_cancel(move || sender.send(()).unwrap());
    /// job.cancel();
    /// assert!(receiver.try_recv().is_ok());
    /// ```
    pub fn on_cancel(&self, react: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.on_cancel.set(Box::new(react));
    }

    /// Tells. After an end nothing is told any more; `false` then.
    pub fn tell(&self, event: JobEvent) -> bool {
        self.0.tell(event)
    }

    /// Ends it with a picture; `false` if it had ended.
    pub fn finish(&self, finished: Finished) -> bool {
        self.tell(JobEvent::Finished(Arc::new(finished)))
    }

    /// Ends it with an error, or as cancelled for [`Error::Cancelled`]; `false` if it had ended.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobEvent, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// assert!(writer.fail(Error::Cancelled { steps_done: 3, steps: 30 }));
    /// assert!(matches!(job.latest(), Some(JobEvent::Cancelled { steps_done: 3, steps: 30 })));
    /// assert!(!writer.fail(Error::ShutDown));
    /// ```
    pub fn fail(&self, error: Error) -> bool {
        self.tell(match error {
            Error::Cancelled { steps_done, steps } => JobEvent::Cancelled { steps_done, steps },
            error => JobEvent::Failed(error),
        })
    }
}

impl Drop for JobWriter {
    fn drop(&mut self) {
        self.fail(Error::internal("serving a job", "its generator forgot it"));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: JobEvent) -> bool {
        let mut state = self.lock();
        if state.end().is_some() {
            return false;
        }
        state.told += 1;
        let number = state.told;
        state.newest.retain(|(_, known)| mem::discriminant(known) != mem::discriminant(&event));
        let is_end = event.is_end();
        state.newest.push((number, event));
        let (now, later): (Vec<_>, Vec<_>) = mem::take(&mut state.reactions)
            .into_iter()
            .partition(|reaction| is_end || !reaction.waits_for_end);
        state.reactions = later;
        drop(state);
        self.changed.notify(usize::MAX);
        for Reaction { react, .. } in now {
            react();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn step(n: usize) -> JobEvent {
        JobEvent::Step { n, of: 9, step_time: Duration::ZERO, eta: Duration::ZERO }
    }

    fn new() -> (Job, JobWriter) {
        Job::new(JobId::new(), Submission::of("a key"))
    }

    #[test]
    fn ids_are_read_back_and_others_refused() {
        let id = JobId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        let error = "7".parse::<JobId>().unwrap_err().to_string();
        assert!(error.starts_with("`job` is `7`; expected an id, for example `0"), "{error}");
    }

    #[test]
    fn reactions_come_once_each_after_what_they_wait_for() {
        let (job, writer) = new();
        let calls = Arc::new(Mutex::new(vec![]));
        let call = |name| {
            let calls = calls.clone();
            move || calls.lock().unwrap().push(name)
        };
        let taken = || mem::take(&mut *calls.lock().unwrap());
        let mut events = job.events();
        job.on_end(call("end"));
        events.on_unseen(call("unseen"));
        assert_eq!(taken(), [""; 0]);
        writer.tell(step(1));
        assert_eq!(taken(), ["unseen"]);
        events.on_unseen(call("there already"));
        assert_eq!(taken(), ["there already"]);
        assert!(events.unseen().is_some());
        events.on_unseen(call("the end is unseen"));
        writer.fail(Error::ShutDown);
        assert_eq!(taken(), ["end", "the end is unseen"]);
        job.on_end(call("ended"));
        assert_eq!(taken(), ["ended"]);
    }

    #[test]
    fn a_slow_reader_gets_the_newest_of_each_kind_and_the_end() {
        let (job, writer) = new();
        let mut events = job.events();
        writer.tell(JobEvent::Queued { position: 1, eta: None });
        (1..=1000).for_each(|n| assert!(writer.tell(step(n))));
        assert!(writer.fail(Error::ShutDown));
        assert!(!writer.tell(step(7)), "nothing comes after the end");
        assert_eq!(job.0.lock().newest.len(), 3);
        assert!(matches!(events.next_blocking(), Some(JobEvent::Queued { position: 1, .. })));
        assert!(matches!(events.next_blocking(), Some(JobEvent::Step { n: 1000, .. })));
        assert!(matches!(events.next_blocking(), Some(JobEvent::Failed(Error::ShutDown))));
        assert!(events.next_blocking().is_none());
    }

    #[test]
    fn many_threads_wait_for_one_end() {
        let (job, writer) = new();
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| job.wait())).collect();
            assert!(job.wait_for(Duration::from_millis(5)).is_none());
            writer.tell(step(1));
            writer.fail(Error::Cancelled { steps_done: 1, steps: 9 });
            for thread in waiting {
                let error = thread.join().unwrap().unwrap_err();
                assert_eq!(error.to_string(), "cancelled after 1 of 9 steps");
            }
        });
    }

    #[test]
    fn a_forgotten_job_fails_instead_of_waiting_for_ever() {
        let (job, writer) = new();
        drop(writer);
        assert_eq!(job.wait().unwrap_err().kind(), crate::ErrorKind::Internal);
    }

    #[test]
    fn dropping_a_job_cancels_it_only_if_asked() {
        let (job, writer) = new();
        drop(job.clone());
        assert!(!writer.cancel_asked());
        drop(job.cancel_on_drop());
        assert!(writer.cancel_asked());
    }
}
