//! The end of a job that reports its events.

use std::sync::Arc;
use std::time::Instant;

use super::{Finished, Job, JobEvent, Shared};
use crate::error::Error;
use crate::sync::atomic::Ordering;

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
pub struct JobWriter(pub(super) Arc<Shared>);

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

    /// `true` if any [`Events`](super::Events) of this job exist.
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
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobEvent, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (_job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// assert!(writer.tell(JobEvent::Started { device: "cpu".into() }));
    /// assert!(writer.tell(JobEvent::Failed(Error::ShutDown)));
    /// assert!(!writer.tell(JobEvent::Started { device: "cpu".into() }));
    /// ```
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
