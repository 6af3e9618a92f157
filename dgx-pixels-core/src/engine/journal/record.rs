//! The journal's record of a job.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::ErrorKind;
use crate::files::{MAX_PICTURE_BYTES, read_regular};
use crate::job::{JobId, JobTimings};
use crate::pixel::{Certificate, Verdict};
use crate::submission::Submission;

/// A job as the journal knows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) submission: Submission,
    pub(crate) state: EntryState,
}

/// The state of a job.
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

/// The count of a job's attempts, if the process died during them. A job that has ended has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attempts {
    /// `true` from before the job is begun until it ends, waits again, or its file is written. A
    /// journal that is opened with it was left by a process that died.
    pub(crate) running: bool,
    /// Deaths of the process while this job ran beside others.
    pub(crate) beside: u32,
    /// Deaths of the process while this job alone ran.
    pub(crate) alone: u32,
    /// The number of the last attempts in a row that ended at the same place.
    pub(crate) repeated: u32,
    /// The place of the job at the last attempt, if it is known.
    pub(crate) place: Option<String>,
}

/// The place of a job for which nothing is done at the moment.
pub(crate) const NOWHERE: &str = "";
/// The place of a job whose model is loaded.
pub(crate) const LOADING: &str = "loading the model";

/// Deaths at one place while a job ran alone after which it is not run again.
const MOST_REPEATED: u32 = 2;
/// Deaths at any places while a job ran alone after which it is not run again.
const MOST_ALONE: u32 = 4;

impl Attempts {
    pub(super) fn deaths(&self) -> u32 {
        self.beside.saturating_add(self.alone)
    }

    /// `true` if it is not run again.
    pub(super) fn is_enough(&self) -> bool {
        self.repeated >= MOST_REPEATED || self.alone >= MOST_ALONE
    }

    /// The process died while it ran beside others.
    pub(super) fn died_beside(&mut self) {
        self.running = false;
        self.beside = self.beside.saturating_add(1);
    }

    /// The process died while it ran alone, and was at `place`. A job that kills its process does
    /// so at one place; one whose process is killed from outside is at another each time.
    pub(super) fn died_alone(&mut self, place: Option<&str>) {
        self.running = false;
        // Between two calls nothing is done for the job.
        if place == Some(NOWHERE) {
            return;
        }
        self.alone = self.alone.saturating_add(1);
        let is_same = self.place.as_deref() == place;
        self.repeated = match place {
            // Loading takes so long that a process that is killed now and then is often at it.
            None | Some(LOADING) => 0,
            Some(_) if is_same => self.repeated.saturating_add(1),
            Some(_) => 1,
        };
        self.place = place.map(str::to_owned);
    }
}

/// A job of an earlier run that it accepted and did not end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unfinished {
    pub(crate) id: JobId,
    pub(crate) submission: Submission,
    /// Deaths of the process while it ran. With one or more it is a suspect, and runs alone.
    pub(crate) deaths: u32,
}

/// A finished job without its picture, which is in the file at `path`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Absolute once it is in the journal, as the next run may start in another folder.
    pub(crate) path: PathBuf,
    /// The BLAKE3 hash of the file, in hexadecimal.
    pub(crate) blake3: String,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) dropped_words: Option<String>,
    /// Times that it was drawn again.
    #[serde(default)]
    pub(crate) redraws: u32,
    pub(crate) timings: JobTimings,
}

impl Record {
    /// `true` if the file exists and has exactly these bytes.
    pub(super) fn is_in_place(&self) -> bool {
        // The path is the record's: a pipe or a device would never end.
        let bytes = read_regular(&self.path, MAX_PICTURE_BYTES);
        bytes.is_ok_and(|bytes| *blake3::hash(&bytes).to_hex() == *self.blake3)
    }
}
