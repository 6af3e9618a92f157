//! The place where a job is that runs alone: the last thing that a process says before it dies.
//!
//! It is one write without a sync, so that it may precede every call. It outlives the process and
//! not the machine; a file that is old, torn or gone tells of no job that ran, or of none at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::files::read_regular;
use crate::job::JobId;

const LEN: usize = 128;

/// The place in a job's work that the process noted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: JobId,
    /// The name of the place, for example `denoising, step 3`; empty between two calls.
    pub(super) at: String,
}

/// The file of a journal that is open.
pub(super) struct PlaceFile(File);

impl PlaceFile {
    pub(super) fn open(folder: &Path) -> io::Result<PlaceFile> {
        let path = folder.join("place");
        Ok(PlaceFile(File::options().create(true).truncate(false).write(true).open(path)?))
    }

    pub(super) fn note(&self, id: JobId, at: &str) {
        let mut bytes = format!("{id}\n{at}").into_bytes();
        bytes.resize(LEN, b'\n');
        // If it fails, a death at this place is one at an unknown place.
        let _ = self.0.write_all_at(&bytes, 0);
    }
}

impl Place {
    /// Reads the last note of a process in `folder`, if it is readable.
    pub(super) fn read(folder: &Path) -> Option<Place> {
        let path = folder.join("place");
        let text = String::from_utf8(read_regular(&path, LEN as u64).ok()?).ok()?;
        let mut lines = text.lines();
        Some(Place { id: lines.next()?.parse().ok()?, at: lines.next()?.into() })
    }
}
