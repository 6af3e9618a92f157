//! The thread that commits the changes of a journal, all that wait in one commit.

use std::iter;
use std::sync::{Arc, OnceLock};

use super::tables::Change;
use crate::error::{Error, one_line};
use crate::job::JobId;
use crate::sync::mpsc::{self, Receiver, Sender};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Event, Listener as _};

/// A change of one job, and the end that reports that it is on the disk.
pub(super) type Wanted = (JobId, Change, Promise);

/// The place that changes are committed to.
pub(super) trait Commit: Send + 'static {
    /// Commits `changes`, and takes back what an earlier commit that failed may have left of the
    /// `revoked` jobs. Returns an answer for each change.
    ///
    /// # Errors
    /// [`Error::Journal`]: nothing is changed, as far as is known.
    fn commit(
        &mut self,
        revoked: &[JobId],
        changes: &[(JobId, Change)],
    ) -> Result<Vec<Result<(), Error>>, Error>;
}

/// The thread, and the way to it. Dropped, it commits what waits, and ends.
pub(super) struct Committer {
    changes: Option<Sender<Vec<Wanted>>>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, if it starts no thread.
    pub(super) fn start(mut store: impl Commit) -> std::io::Result<Committer> {
        let (changes, received) = mpsc::channel();
        let thread = thread::Builder::new().name("journal".into());
        let thread = thread.spawn(move || commit_all(&mut store, &received))?;
        Ok(Committer { changes: Some(changes), thread: Some(thread) })
    }

    /// Hands changes to the thread. Those that cannot be sent are dropped, and so answered.
    pub(super) fn send(&self, wanted: Vec<Wanted>) {
        let sender = self.changes.as_ref().expect("taken when it is dropped; this is a bug");
        let _ = sender.send(wanted);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread, until no change comes any more.
fn commit_all(store: &mut impl Commit, changes: &Receiver<Vec<Wanted>>) {
    // A commit that fails may be on the disk nevertheless; its jobs were refused, so they must not
    // be found later.
    let mut revoked = Vec::new();
    while let Ok(first) = changes.recv() {
        let mut batch = Vec::new();
        let mut promises = Vec::new();
        for (id, change, promise) in iter::once(first).chain(changes.try_iter()).flatten() {
            batch.push((id, change));
            promises.push(promise);
        }
        match store.commit(&revoked, &batch) {
            Ok(results) => {
                revoked.clear();
                promises.into_iter().zip(results).for_each(|(promise, result)| promise.keep(result));
            }
            Err(error) => {
                let accepted =
                    |(id, change): &(JobId, Change)| matches!(change, Change::Accept { .. }).then_some(*id);
                revoked.extend(batch.iter().filter_map(accepted));
                promises.into_iter().for_each(|promise| promise.keep(Err(error.clone())));
            }
        }
    }
    if !revoked.is_empty()
        && let Err(error) = store.commit(&revoked, &[])
    {
        tracing::warn!(
            error = one_line(&error),
            jobs = revoked.len(),
            "jobs that were refused may run after the next start"
        );
    }
}

/// A change that is promised, and the end that keeps the promise.
pub(super) fn promise() -> (Promise, Pending) {
    let answer = Arc::new(Answer::default());
    (Promise(answer.clone()), Pending(answer))
}

/// A change on its way to the disk. Dropping it takes nothing back.
#[must_use = "the change is durable only once this is done"]
pub(crate) struct Pending(Arc<Answer>);

#[derive(Default)]
struct Answer {
    result: OnceLock<Result<(), Error>>,
    given: Event,
}

impl Pending {
    /// Waits, blocking this thread.
    ///
    /// # Errors
    /// [`Error::Journal`] for a full disk and the like: nothing is changed, and the next change may
    /// succeed.
    pub(crate) fn wait(self) -> Result<(), Error> {
        loop {
            let given = self.0.given.listen();
            if let Some(result) = self.0.result.get() {
                return result.clone();
            }
            given.wait();
        }
    }

    /// Waits, as a future of any runtime.
    ///
    /// # Errors
    /// Those of [`wait`](Pending::wait).
    pub(crate) async fn done(self) -> Result<(), Error> {
        loop {
            let given = self.0.given.listen();
            if let Some(result) = self.0.result.get() {
                return result.clone();
            }
            given.await;
        }
    }
}

/// The end of a [`Pending`] that answers. Dropped without an answer, it is an internal error.
pub(super) struct Promise(Arc<Answer>);

impl Promise {
    pub(super) fn keep(self, result: Result<(), Error>) {
        let _ = self.0.result.set(result);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let _ = self.0.result.set(Err(Error::internal("writing the journal", "its thread ended")));
        self.0.given.notify(usize::MAX);
    }
}

#[cfg(all(test, shuttle))]
mod schedules;
