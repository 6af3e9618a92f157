//! The end of a job that its events are read from.

use super::{Job, JobEvent, Reaction};
use crate::sync::Listener as _;
use crate::sync::atomic::Ordering;

/// The events of one job. A slow reader skips to the newest of each kind; the end is never skipped.
pub struct Events {
    pub(super) job: Job,
    pub(super) seen: u64,
}

impl Events {
    /// The next event, blocking this thread; `None` after the end.
    pub fn next_blocking(&mut self) -> Option<JobEvent> {
        let job = self.job.clone();
        loop {
            let changed = job.0.changed.listen();
            if let Some(next) = self.unseen() {
                return next;
            }
            changed.wait();
        }
    }

    /// The next event, as a future of any runtime; `None` after the end.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let mut events = job.events();
    /// writer.fail(Error::ShutDown);
    /// while let Some(event) = events.next().await {
    ///     assert!(event.is_end());
    /// }
    /// # });
    /// ```
    pub async fn next(&mut self) -> Option<JobEvent> {
        let job = self.job.clone();
        loop {
            let changed = job.0.changed.listen();
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
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::job::{Job, JobId};
    /// use dgx_pixels_core::{Error, Submission};
    ///
    /// let (job, writer) = Job::new(JobId::new(), Submission::of("a key"));
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// let events = job.events();
    /// events.on_unseen(move || sender.send(()).unwrap());
    /// assert!(receiver.try_recv().is_err());
    /// writer.fail(Error::ShutDown);
    /// assert!(receiver.try_recv().is_ok());
    /// ```
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
