//! The engine's durable record of jobs: what was accepted, and what became of it.
//!
//! Whoever changes it gets a [`Pending`], which is done once the change is on the disk. One thread
//! takes all changes that wait and commits them together, so that many jobs share the few times
//! that the disk syncs.

mod adopt;
mod commit;
mod file;
mod opening;
mod place;
mod record;
mod store;
mod tables;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_left;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use prometheus::IntCounterVec;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::commit::Pending;
use self::commit::{Commit, Committer, promise};
use self::place::PlaceFile;
pub(crate) use self::record::{Entry, EntryState, LOADING, NOWHERE, Record, Unfinished};
use self::store::Store;
pub(crate) use self::tables::OPERATIONS;
use self::tables::{Change, Left};
use crate::error::{Error, ErrorKind, Reason};
use crate::job::JobId;
use crate::stored;
use crate::submission::Submission;

/// Ended jobs that are kept; when the journal is opened, older ones are forgotten with their
/// idempotency keys. Their files stay.
const ENDED_KEPT: usize = 100_000;

/// An open journal. All its copies are the same one; dropping the last commits what waits and
/// closes it.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Handle>);

struct Handle {
    store: Arc<Store>,
    results: PathBuf,
    place: PlaceFile,
    committer: Committer,
}

/// The store, and the counter of the changes that it does not take.
struct Counted {
    store: Arc<Store>,
    errors: IntCounterVec,
}

impl Commit for Counted {
    fn commit(
        &mut self,
        revoked: &[JobId],
        changes: &[(JobId, Change)],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.store.commit(revoked, changes).inspect_err(|_| {
            for (_, change) in changes {
                self.errors.with_label_values(&[change.operation()]).inc();
            }
        })
    }
}

/// A journal, and what an earlier run left in it.
pub(crate) struct Opened {
    pub(crate) journal: Journal,
    /// Accepted and not ended, in order of id.
    pub(crate) unfinished: Vec<Unfinished>,
    /// The jobs that failed when the journal was opened, because the process had died too often
    /// while they ran.
    pub(crate) given_up: Vec<JobId>,
    /// The number of records that could not be read. They stay in the file, in a table of their
    /// own.
    pub(crate) unreadable: usize,
    /// The path to which a damaged journal was moved. A new one begins in its place.
    pub(crate) set_aside: Option<PathBuf>,
}

fn journal_error(path: &Path, reason: impl Into<Reason>) -> Error {
    let Reason { words: reason, cause } = reason.into();
    Error::Journal { path: path.to_owned(), reason, cause }
}

impl Journal {
    /// Opens the journal in `folder`, or begins one, as `journal.redb` with the folder `results`
    /// beside it.
    ///
    /// A job whose file was being written is finished if the file is there, and else unfinished
    /// again. The journals in the folders `others` become part of this one, unless an engine has
    /// them open. `errors` counts changes that cannot be written, by their operation.
    ///
    /// # Errors
    /// [`Error::Journal`] if another engine has it open, if a newer version wrote it, or if the
    /// disk or its permissions refuse it. A damaged journal is no error: it is set aside.
    pub(crate) fn open(folder: &Path, others: &[PathBuf], errors: IntCounterVec) -> Result<Opened, Error> {
        Journal::open_keeping(folder, others, errors, ENDED_KEPT)
    }

    fn open_keeping(
        folder: &Path,
        others: &[PathBuf],
        errors: IntCounterVec,
        ended_kept: usize,
    ) -> Result<Opened, Error> {
        let (store, Left { unfinished, given_up, unreadable }, set_aside) =
            Store::open(folder, others, ended_kept)?;
        let results = store.path().with_file_name("results");
        std::fs::create_dir_all(&results).map_err(|error| store.error(error))?;
        let place = PlaceFile::open(folder).map_err(|error| store.error(error))?;
        let store = Arc::new(store);
        let committer = Committer::start(Counted { store: store.clone(), errors });
        let committer = committer.map_err(|error| store.error(error))?;
        let handle = Handle { store, results, place, committer };
        Ok(Opened { journal: Journal(Arc::new(handle)), unfinished, given_up, unreadable, set_aside })
    }

    /// The folder for files of jobs that name none themselves.
    pub(crate) fn results(&self) -> &Path {
        &self.0.results
    }

    /// Keeps jobs, and their idempotency keys with them, in one commit; an answer for each. A job
    /// whose answer is an error is not kept.
    ///
    /// Fails with [`Error::KeyTaken`] for a job whose key another has.
    pub(crate) fn accept<'a>(&self, jobs: impl IntoIterator<Item = (JobId, &'a Submission)>) -> Vec<Pending> {
        let accept = |(id, submission): (JobId, &Submission)| {
            let key = submission.idempotency_key.clone();
            let json = self.json(id, &stored::Submission::from(submission.clone()));
            (id, json.map(|submission| Change::Accept { submission, key }))
        };
        self.change_all(jobs.into_iter().map(accept))
    }

    /// Before jobs are begun, in one commit: if the process dies while they run, the next engine
    /// knows it.
    pub(crate) fn begin(&self, jobs: impl IntoIterator<Item = JobId>) -> Vec<Pending> {
        self.change_all(jobs.into_iter().map(|id| (id, Ok(Change::Begin))))
    }

    /// Before each thing that is done for a job that runs alone: where it is, as in
    /// `denoising, step 3`, and after it [`NOWHERE`]. Nothing waits for the disk.
    pub(crate) fn note_place(&self, id: JobId, at: &str) {
        self.0.place.note(id, at);
    }

    /// A job that was begun waits again, here or for the next engine.
    pub(crate) fn rest(&self, id: JobId) -> Pending {
        self.change(id, Ok(Change::Rest))
    }

    /// Before the job's file is renamed into place: says what will be there.
    pub(crate) fn writing(&self, id: JobId, record: &Record) -> Pending {
        let change = || {
            let path = std::path::absolute(&record.path);
            let path = path.map_err(|error| self.0.store.error((format!("job {id} has no file"), error)))?;
            let state = EntryState::Writing(Record { path, ..record.clone() });
            Ok(Change::Write(self.json(id, &state)?))
        };
        self.change(id, change())
    }

    /// The file that was told of last is in place.
    pub(crate) fn finished(&self, id: JobId) -> Pending {
        self.change(id, Ok(Change::Finish))
    }

    /// It ended without a picture; a cancelled one with [`ErrorKind::Cancelled`].
    pub(crate) fn failed(&self, id: JobId, kind: ErrorKind, message: &str) -> Pending {
        let state = EntryState::Failed { kind, message: message.into() };
        self.change(id, self.json(id, &state).map(Change::Fail))
    }

    /// Finds the entry of this job on the disk.
    ///
    /// # Errors
    /// [`Error::Journal`] if it cannot be read.
    pub(crate) fn find(&self, id: JobId) -> Result<Option<Entry>, Error> {
        self.0.store.find(id)
    }

    /// The job on the disk that has this idempotency key.
    ///
    /// # Errors
    /// [`Error::Journal`] if it cannot be read.
    pub(crate) fn find_key(&self, key: &str) -> Result<Option<JobId>, Error> {
        self.0.store.find_key(key)
    }

    /// `value` as JSON that can be read again: one entry that cannot would make the whole journal a
    /// damaged one.
    fn json<T: Serialize + DeserializeOwned>(&self, id: JobId, value: &T) -> Result<String, Error> {
        let json =
            serde_json::to_string(value).and_then(|json| serde_json::from_str::<T>(&json).map(|_| json));
        json.map_err(|error| self.0.store.error((format!("job {id} cannot be kept as JSON"), error)))
    }

    fn change(&self, id: JobId, change: Result<Change, Error>) -> Pending {
        self.change_all([(id, change)]).pop().expect("an answer for each change; this is a bug")
    }

    fn change_all(&self, changes: impl IntoIterator<Item = (JobId, Result<Change, Error>)>) -> Vec<Pending> {
        let mut wanted = vec![];
        let ask = |(id, change)| {
            let (promise, pending) = promise();
            match change {
                Ok(change) => wanted.push((id, change, promise)),
                Err(error) => promise.keep(Err(error)),
            }
            pending
        };
        let pending = changes.into_iter().map(ask).collect();
        self.0.committer.send(wanted);
        pending
    }
}
