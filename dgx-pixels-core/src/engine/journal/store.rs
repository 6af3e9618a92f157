//! The journal's open database: one at a time, opened again after a failure, replaced where it is
//! damaged.
//!
//! A failure to write, for example on a full disk, closes the database. The next change opens it
//! again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::Database;

use super::adopt::{merge_adopted, take};
use super::file::{Fault, OPEN_ELSEWHERE, attempt, open_database, put_aside};
use super::journal_error;
use super::opening::{begin, lock, read};
use super::record::Entry;
use super::tables::{self, Change, Left};
use crate::error::{Error, Reason, one_line};
use crate::job::JobId;

/// The one open database of a folder.
pub(super) struct Store {
    path: PathBuf,
    /// `None` after a failure, until it can be opened again.
    database: RwLock<Option<Database>>,
    /// Held from before the database is first opened: `redb` has a lock of its own, but not while
    /// the file is set aside or opened again.
    lock: File,
}

impl Store {
    pub(super) fn open(
        folder: &Path,
        others: &[PathBuf],
        ended_kept: usize,
    ) -> Result<(Store, Left, Option<PathBuf>), Error> {
        let fault = |error: io::Error| journal_error(&folder.join("journal.redb"), error);
        let folder = std::path::absolute(folder).map_err(fault)?;
        fs::create_dir_all(&folder).map_err(fault)?;
        let Some(lock) = lock(&folder).map_err(fault)? else {
            return Err(journal_error(&folder.join("journal.redb"), OPEN_ELSEWHERE));
        };
        let given_up = take(&folder, others);
        let mut store = Store { path: folder.join("journal.redb"), database: RwLock::default(), lock };

        let mut set_aside = None;
        loop {
            if !store.path.try_exists().map_err(fault)? {
                attempt(|| begin(&store.path)).map_err(|fault| store.error(fault.reason()))?;
            }
            match attempt(|| read(&store.path, ended_kept)) {
                Ok((database, mut left)) => {
                    merge_adopted(&folder, &database, &mut left, &given_up);
                    store.database = RwLock::new(Some(database));
                    return Ok((store, left, set_aside));
                }
                Err(Fault::Corrupt(reason)) if set_aside.is_none() => {
                    let aside = put_aside(&store.path).map_err(fault)?;
                    let (journal, aside_to) = (store.path.display(), aside.display());
                    tracing::warn!(%journal, %aside_to, reason = one_line(&reason), "the journal is damaged; a new one begins");
                    set_aside = Some(aside);
                }
                Err(fault) => return Err(store.error(fault.reason())),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn error(&self, reason: impl Into<Reason>) -> Error {
        journal_error(&self.path, reason)
    }

    /// Commits the changes with [`tables::commit`].
    pub(super) fn commit(
        &self,
        revoked: &[JobId],
        changes: &[(JobId, Change)],
    ) -> Result<Vec<Result<(), Error>>, Error> {
        self.with(|database| tables::commit(database, &self.path, revoked, changes))
    }

    pub(super) fn find(&self, id: JobId) -> Result<Option<Entry>, Error> {
        self.with(|database| tables::find(database, id))
    }

    pub(super) fn find_key(&self, key: &str) -> Result<Option<JobId>, Error> {
        self.with(|database| tables::find_key(database, key))
    }

    /// After an error `redb` takes no more changes until it is opened again, so that is done.
    fn with<T>(&self, work: impl Fn(&Database) -> Result<T, redb::Error>) -> Result<T, Error> {
        let read = || self.database.read().unwrap_or_else(PoisonError::into_inner);
        if read().is_none() {
            self.reopen()?;
        }
        let worked = match &*read() {
            Some(database) => attempt(|| Ok(work(database)?)),
            None => Err(Fault::Other("it cannot be opened again".into())),
        };
        worked.map_err(|fault| {
            if let Err(error) = self.reopen() {
                tracing::warn!(error = one_line(&error), "the journal cannot be opened again for now");
            }
            self.error(fault.reason())
        })
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let _ = attempt(|| {
            database.take();
            Ok(())
        });
        let opened = attempt(|| Ok(open_database(&self.path, false)?));
        *database = Some(opened.map_err(|fault| self.error(fault.reason()))?);
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let database = self.database.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = attempt(|| {
            database.take();
            Ok(())
        });
        // Closing alone keeps it where a process that is being started has a copy.
        let _ = self.lock.unlock();
    }
}
