//! Ways for the fuzz targets to what is private. No part of the interface.

use super::costs::CostFile;
use super::journal::EntryState;
use crate::request::ImageSize;
use crate::stored;
use crate::submission::Submission;

/// Reads what the journal holds of a job's state.
pub fn journal_record(json: &[u8]) {
    let Ok(state) = serde_json::from_slice::<EntryState>(json) else { return };
    let again = serde_json::to_vec(&state).expect("what was read as JSON is written as JSON");
    assert_eq!(serde_json::from_slice::<EntryState>(&again).expect("and read again"), state);
}

/// Reads a submission as the journal keeps it.
pub fn submission(json: &[u8]) -> Option<Submission> {
    serde_json::from_slice::<stored::Submission>(json).ok().map(Submission::from)
}

/// Reads a file of measured costs, and predicts from it.
pub fn costs(json: &[u8]) {
    let Ok(file) = CostFile::parse(json) else { return };
    for costs in file.all() {
        for peaks in [&costs.canvas, &costs.begin, &costs.step, &costs.finish] {
            for (side, rows) in [(64, 1), (1024, 2), (2048, 64)] {
                let _ = peaks.predict(ImageSize { width: side, height: side }, rows);
            }
        }
    }
}
