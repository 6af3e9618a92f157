//! The end of a job whose calls fail.
//!
//! Only a lack of memory is worth another attempt: other jobs leave, and their memory is then free.
//! Any other error of a job that was alone in its call is that job's own.

use crate::error::Error;

/// The number of times that a job is begun before it fails for want of memory.
const MOST_ATTEMPTS: usize = 3;

/// `true` if a job that failed alone in a call is begun anew: memory may be there once others have
/// left. `attempts` counts the one that failed.
pub(super) fn is_tried_again(error: &Error, attempts: usize) -> bool {
    matches!(error, Error::OutOfMemory { .. }) && attempts < MOST_ATTEMPTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_runs_out_of_memory_is_begun_three_times_and_any_other_once() {
        let out_of_memory = Error::OutOfMemory { device: "rig".into(), doing: "denoising".into() };
        let not_finite = Error::NotFinite { what: "the decoded picture", dtype: "f32" };
        for attempts in 1..6 {
            assert_eq!(is_tried_again(&out_of_memory, attempts), attempts < 3, "{attempts} attempts");
            assert!(!is_tried_again(&not_finite, attempts));
        }
    }
}
