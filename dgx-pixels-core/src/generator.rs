//! The trait that every door is written against.

use crate::error::Error;
use crate::job::{Job, JobId};
use crate::submission::Submission;

/// Takes jobs and makes pictures of them: [`Engine`](crate::engine::Engine) on this machine, others elsewhere.
///
/// # Example
/// A generator of one's own answers with [`Job::new`] and keeps the [`JobWriter`](crate::job::JobWriter):
/// ```
/// use dgx_pixels_core::job::{Job, JobId};
/// use dgx_pixels_core::{Error, Generator, Submission};
///
/// struct Closed;
///
/// #[async_trait::async_trait]
/// impl Generator for Closed {
///     async fn submit(&self, submission: Submission) -> Result<Job, Error> {
///         let (job, writer) = Job::new(JobId::new(), submission);
///         writer.fail(Error::ShutDown);
///         Ok(job)
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
    /// Checks `submission` and takes it. With an idempotency key that is known, the job that has it.
    ///
    /// # Errors
    /// What is wrong with the request; [`Error::QueueFull`]; [`Error::QuotaExceeded`]; [`Error::KeyTaken`];
    /// [`Error::ShutDown`].
    async fn submit(&self, submission: Submission) -> Result<Job, Error>;

    /// The job of this id, waiting, running or ended; `None` if there was none, or if it is forgotten.
    ///
    /// # Errors
    /// If it cannot be looked up.
    async fn find(&self, id: &JobId) -> Result<Option<Job>, Error>;
}
