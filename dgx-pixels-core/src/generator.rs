//! The trait between those who have images drawn and the executor that draws them.

use crate::error::Error;
use crate::job::{Job, JobId};
use crate::submission::Submission;

/// Takes jobs and draws their images: [`Engine`](crate::engine::Engine) on this machine, others
/// elsewhere.
///
/// The trait has what a client needs of an executor. Starting one, measuring it and ending it are
/// the business of the program that owns it, and of its own type.
///
/// # Example
/// A generator of one's own answers with [`Job::new`] and keeps the
/// [`JobWriter`](crate::job::JobWriter):
/// ```
/// use dgx_pixels_core::job::{Job, JobId};
/// use dgx_pixels_core::{Error, Generator, Submission};
///
/// struct Closed;
///
/// #[async_trait::async_trait]
/// impl Generator for Closed {
///     async fn submit_all(&self, submissions: Vec<Submission>) -> Vec<Result<Job, Error>> {
///         let close = |submission| {
///             let (job, writer) = Job::new(JobId::new(), submission);
///             writer.fail(Error::ShutDown);
///             Ok(job)
///         };
///         submissions.into_iter().map(close).collect()
///     }
///
///     async fn find(&self, _id: &JobId) -> Result<Option<Job>, Error> {
///         Ok(None)
///     }
/// }
///
/// let job = Closed.submit(Submission::of("a brass key"));
/// # let mut job = job;
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # let std::task::Poll::Ready(job) = job.as_mut().poll(&mut context) else { unreachable!() };
/// assert!(matches!(job?.wait(), Err(Error::ShutDown)));
/// # Ok::<(), Error>(())
/// ```
#[async_trait::async_trait]
pub trait Generator: Send + Sync {
    /// Checks `submissions` and takes them, as one unit of work for its journal; an answer for
    /// each, in their order. For a submission with a known idempotency key the answer is the job
    /// that has it.
    ///
    /// # Errors
    /// The fault of the request; [`Error::QueueFull`]; [`Error::QuotaExceeded`];
    /// [`Error::KeyTaken`]; [`Error::ShutDown`].
    async fn submit_all(&self, submissions: Vec<Submission>) -> Vec<Result<Job, Error>>;

    /// Checks one submission and takes it.
    ///
    /// # Errors
    /// Those of [`submit_all`](Generator::submit_all).
    async fn submit(&self, submission: Submission) -> Result<Job, Error> {
        self.submit_all(vec![submission]).await.pop().unwrap_or(Err(Error::ShutDown))
    }

    /// The job of this id, waiting, running or ended; `None` if there was none, or if it is
    /// forgotten.
    ///
    /// # Errors
    /// The fault of the journal, if the job cannot be looked up.
    /// An executor without a journal forgets its jobs with its process.
    async fn find(&self, id: &JobId) -> Result<Option<Job>, Error>;
}
