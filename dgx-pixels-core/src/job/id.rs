//! The ids of jobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::value_error::ValueError;

/// A job's name, unlike all others: a UUID whose order is that of submission.
///
/// # Example
/// ```
/// use dgx_pixels_core::job::JobId;
///
/// let (first, second) = (JobId::new(), JobId::new());
/// assert!(first < second);
/// assert_eq!(first.to_string().parse(), Ok(first));
/// assert!("job 7".parse::<JobId>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// A new one.
    /// It is a UUID of version 7 (RFC 9562), which begins with the time of its creation.
    #[expect(clippy::new_without_default, reason = "each is another; a default would be the same")]
    pub fn new() -> Self {
        JobId(Uuid::now_v7())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<JobId, ValueError> {
        let expected = || format!("an id, for example `{}`", JobId::new());
        Uuid::try_parse(text).map(JobId).map_err(|_| ValueError::new("job", text, expected()))
    }
}
