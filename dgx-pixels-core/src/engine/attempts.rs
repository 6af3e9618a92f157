//! The answer to a call of a backend that fails.
//!
//! | end of the call | answer |
//! |---|---|
//! | an error with several jobs | each half is called again, since no canvas has moved |
//! | [`Error::OutOfMemory`] with one job | it waits for memory, and is begun three times at most |
//! | another error with one job | the job fails |
//! | a panic | the model is dropped, and its jobs begin anew, those of the call alone |
//!
//! Only a lack of memory is worth another attempt: other jobs leave, and their memory is then free.
//! Any other error of a job that was alone in its call is that job's own. The watchdog fails the
//! jobs of a call that does not return.

use crate::error::Error;

/// The number of times that a job is begun before it fails for want of memory.
const MOST_ATTEMPTS: usize = 3;

/// The answer to an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The call is made again with each half of its jobs.
    Halves,
    /// The job waits in the queue again.
    Again,
    /// The job fails.
    Fail,
}

/// The answer to the error of a call with so many jobs. `attempts` are those of the first of them,
/// with the one that failed.
pub(super) fn answer(error: &Error, jobs: usize, attempts: usize) -> Answer {
    match error {
        _ if jobs > 1 => Answer::Halves,
        Error::OutOfMemory { .. } if attempts < MOST_ATTEMPTS => Answer::Again,
        _ => Answer::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_runs_out_of_memory_is_begun_three_times_and_any_other_once() {
        let out_of_memory = Error::OutOfMemory { device: "rig".into(), doing: "denoising".into() };
        let not_finite = Error::NotFinite { what: "the decoded picture", dtype: "f32" };
        for attempts in 1..6 {
            let expected = if attempts < 3 { Answer::Again } else { Answer::Fail };
            assert_eq!(answer(&out_of_memory, 1, attempts), expected, "{attempts} attempts");
            assert_eq!(answer(&not_finite, 1, attempts), Answer::Fail);
        }
    }

    #[test]
    fn a_call_with_several_jobs_is_made_again_in_halves() {
        let not_finite = Error::NotFinite { what: "the decoded picture", dtype: "f32" };
        for jobs in 2..6 {
            assert_eq!(answer(&not_finite, jobs, 9), Answer::Halves, "{jobs} jobs");
        }
    }
}
