//! The journal's file: how it is opened and set aside, and which errors mean that it is damaged.
//!
//! The file is a database of redb. One engine has it open at a time. It is checked as a whole when
//! it is opened, since redb may panic later in a file that is damaged.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::Database;
use redb::backends::FileBackend;

use crate::error::{Cause, Reason};

/// The store reads what it needs again; its own default is 1 GiB.
const CACHE_BYTES: usize = 32 << 20;

pub(super) const OPEN_ELSEWHERE: &str =
    "another engine has it open; expected a folder of its own for each engine";

/// The reason why the database failed.
pub(super) enum Fault {
    /// The file is not what was written; another may take its place.
    Corrupt(Reason),
    /// The file may be as it was: a lock, the disk, permissions.
    Other(Reason),
}

impl Fault {
    pub(super) fn reason(self) -> Reason {
        match self {
            Fault::Corrupt(reason) | Fault::Other(reason) => reason,
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Fault {
        use redb::Error as E;
        let is_corrupt = match &error {
            E::DatabaseAlreadyOpen | E::LockProtocolMismatch => {
                return Fault::Other(OPEN_ELSEWHERE.into());
            }
            // Not one of ours: we never wrote `redb`'s older formats, nor tables of other types,
            // and a journal has all its tables from the beginning.
            E::Corrupted(_)
            | E::UpgradeRequired(_)
            | E::TableTypeMismatch { .. }
            | E::TypeDefinitionChanged { .. }
            | E::TableIsMultimap(_)
            | E::TableDoesNotExist(_) => true,
            // A wrong magic number, a file that is too short, a place that no file has. Systems
            // answer so to none of what we ask of them.
            E::Io(io) => matches!(
                io.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
            ),
            _ => false,
        };
        let reason = Cause::from(error).into();
        if is_corrupt { Fault::Corrupt(reason) } else { Fault::Other(reason) }
    }
}

/// `work`, which `redb` may panic in where a file is damaged in a way that it does not expect.
pub(super) fn attempt<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(Fault::Corrupt(format!("reading it panics: {text}").into()))
    })
}

pub(super) fn open_database(path: &Path, new: bool) -> Result<Database, redb::Error> {
    let file = File::options().read(true).write(true).create(new).truncate(new).open(path)?;
    // `redb` takes an empty file for a new one; ours is never empty once it has its name.
    if !new && file.metadata()?.len() == 0 {
        return Err(redb::Error::Corrupted("the file is empty".into()));
    }
    // Checked whole: otherwise `redb` trusts a file that was closed in peace, and panics later.
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(FileBackend::new(file)?)?)
}

pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    for n in 1_u64.. {
        let aside = path.with_extension(format!("redb.corrupt-{n}"));
        if aside.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            fs::rename(path, &aside)?;
            sync_folder(path)?;
            return Ok(aside);
        }
    }
    unreachable!("2^64 files")
}

pub(super) fn sync_folder(file: &Path) -> io::Result<()> {
    File::open(file.parent().expect("a file is in a folder; this is a bug"))?.sync_all()
}
