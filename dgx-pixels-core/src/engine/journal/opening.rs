//! The beginning, locking and reading of a journal's database.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use redb::{Database, ReadOnlyDatabase};

use super::file::{Fault, open_database, sync_folder};
use super::place::Place;
use super::tables::{self, FORMAT_VERSION, Left};

/// A new journal, whole before it has its name.
pub(super) fn begin(path: &Path) -> Result<(), Fault> {
    let unnamed = path.with_extension("redb.new");
    let database = open_database(&unnamed, true)?;
    tables::create(&database)?;
    drop(database);
    let named = fs::rename(&unnamed, path).and_then(|()| sync_folder(path));
    named.map_err(|error| Fault::Other(error.into()))
}

/// The lock of a journal's folder; `None` while another has it.
pub(super) fn lock(folder: &Path) -> io::Result<Option<File>> {
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join("journal.lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn newer_version(newer: u64) -> Fault {
    Fault::Other(
        format!("its format version is {newer}; expected {FORMAT_VERSION}, or a newer program").into(),
    )
}

/// A journal's database, if this program reads its version.
fn open_readable(path: &Path) -> Result<Database, Fault> {
    // A newer journal is left as it is, to the byte; one that was not closed is opened in the usual
    // way.
    let version =
        ReadOnlyDatabase::open(path).ok().and_then(|database| tables::version(&database).ok().flatten());
    if let Some(newer) = version.filter(|version| *version > FORMAT_VERSION) {
        return Err(newer_version(newer));
    }
    let database = open_database(path, false)?;
    match tables::version(&database)? {
        Some(version) if tables::is_readable(version) => Ok(database),
        Some(newer) if newer > FORMAT_VERSION => Err(newer_version(newer)),
        _ => Err(Fault::Corrupt("it has no format version".into())),
    }
}

/// The journal as an earlier run left it, put right, and what was left.
pub(super) fn read(path: &Path, ended_kept: usize) -> Result<(Database, Left), Fault> {
    let database = open_readable(path)?;
    let place = path.parent().and_then(Place::read);
    let left = tables::recover(&database, ended_kept, place.as_ref())?;
    Ok((database, left))
}
