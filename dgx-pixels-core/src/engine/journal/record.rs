//! What the journal holds of a job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::files::{MAX_PICTURE_BYTES, read_regular};
use crate::generator::Submission;
use crate::job::JobTimings;
use crate::pixel::{Certificate, Verdict};

/// A job as the journal knows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) submission: Submission,
    pub(crate) state: EntryState,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum EntryState {
    /// It waits or is being drawn; after a restart it is drawn from the beginning.
    Accepted,
    /// Its file is about to be renamed into place, or just was.
    Writing(Record),
    /// Its file was in place.
    Finished(Record),
    /// It ended without a picture.
    Failed { kind: ErrorKind, message: String },
}

/// A finished job without its picture, which is in the file at `path`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Absolute once it is in the journal, as the next run may start in another folder.
    pub(crate) path: PathBuf,
    /// Of the file, in hexadecimal.
    pub(crate) blake3: String,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) dropped_words: Option<String>,
    pub(crate) timings: JobTimings,
}

impl Record {
    /// Whether the file is there, with these very bytes.
    pub(super) fn is_in_place(&self) -> bool {
        // The path is the record's: a pipe or a device would never end.
        let bytes = read_regular(&self.path, MAX_PICTURE_BYTES);
        bytes.is_ok_and(|bytes| *blake3::hash(&bytes).to_hex() == *self.blake3)
    }
}
