//! A job: the reports about it, and the ways to wait for it, from threads and from tasks alike.
//!
//! Its executor holds the [`JobWriter`], and its caller the [`Job`]. Both ends may be in different
//! threads, and neither waits for the other.

mod event;
mod events;
mod id;
mod writer;

use std::fmt;
use std::mem;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub use self::event::{Finished, JobEvent, JobTimings};
pub use self::events::Events;
pub use self::id::JobId;
pub use self::writer::JobWriter;
use crate::error::Error;
use crate::submission::Submission;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Event, Listener as _, Mutex, MutexGuard};

/// A job that was submitted. Dropping it cancels nothing; see [`Job::cancel_on_drop`].
///
/// All its copies are the same job. It can be waited for by a thread ([`wait`](Job::wait)), awaited
/// ([`finished`](Job::finished)) and watched ([`events`](Job::events)), without any particular
/// runtime.
///
/// # Example
/// ```
/// use dgx_pixels_core::Submission;
/// use dgx_pixels_core::backend::{Sketches, Unmetered};
/// use dgx_pixels_core::engine::{Engine, EngineConfig};
///
/// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
/// let job = engine.submit(Submission::of("a brass key"))?;
/// let same = job.clone();
/// let waiting = std::thread::spawn(move || same.wait().map(|finished| finished.image.dimensions()));
/// assert_eq!(waiting.join().unwrap()?, job.wait()?.image.dimensions());
/// assert!(job.result().is_some());
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Job(Arc<Shared>);

struct Shared {
    id: JobId,
    submission: Submission,
    submitted: Instant,
    state: Mutex<State>,
    changed: Event,
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
            changed: Event::new(),
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
            let changed = self.0.changed.listen();
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
            let changed = self.0.changed.listen();
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
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// std::thread::spawn(move || writer.fail(Error::ShutDown));
    /// assert!(matches!(job.finished().await, Err(Error::ShutDown)));
    /// # });
    /// ```
    pub async fn finished(&self) -> Result<Arc<Finished>, Error> {
        loop {
            let changed = self.0.changed.listen();
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

#[cfg(all(test, shuttle))]
mod schedules;
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
