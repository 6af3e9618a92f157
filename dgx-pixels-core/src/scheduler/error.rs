//! The reasons why a schedule cannot be made.

use serde_json::Value;

use super::SchedulerName;

/// A name, option or number of steps that no schedule can be made from.
///
/// # Example
/// ```
/// use dgx_pixels_core::scheduler::{SchedulerConfig, SchedulerError, SchedulerName};
/// let error = SchedulerConfig::new(SchedulerName::Euler).build(0).err().unwrap();
/// assert!(matches!(error, SchedulerError::Steps { steps: 0, .. }));
/// assert_eq!(error.field(), Some("steps"));
/// assert!(matches!("plms".parse::<SchedulerName>(), Err(SchedulerError::Name { .. })));
/// ```
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SchedulerError {
    /// There is no scheduler of this name.
    #[error("`scheduler` is `{name}`; expected one of {}", listed(SchedulerName::ALL.map(SchedulerName::as_str)))]
    Name {
        /// The name that was asked for.
        name: String,
    },
    /// `_class_name` is none of those we have.
    #[error("`_class_name` is `{class}`; expected one of {}", listed(SchedulerName::ALL.map(SchedulerName::class)))]
    Class {
        /// The class in the config.
        class: String,
    },
    /// The config is not an object in JSON.
    #[error("the scheduler's config is not a JSON object: {reason}")]
    Json {
        /// The place where reading stopped, and the reason.
        reason: String,
    },
    /// An option has a value that its scheduler does not take, or that we do not compute.
    #[error("`{option}` is {value}; expected {expected}")]
    Option {
        /// The key of the option.
        option: &'static str,
        /// The value of the option, words in backticks.
        value: String,
        /// The values that would be right.
        expected: String,
    },
    /// Too few or too many steps.
    #[error("`steps` is {steps}; expected {expected}")]
    Steps {
        /// The number of steps that was asked for.
        steps: usize,
        /// The numbers that would be right.
        expected: String,
    },
    /// The options contradict each other, so that diffusers would make NaN of every picture.
    #[error(
        "`{scheduler}` divides by zero at step {step} of {steps} with these options; expected fewer steps, or other \
         values of `timestep_spacing`, `final_sigmas_type`, `lower_order_final`, `rescale_betas_zero_snr` or \
         `prediction_type`"
    )]
    NotFinite {
        /// The scheduler of the schedule.
        scheduler: SchedulerName,
        /// UNet evaluation, from 1.
        step: usize,
        /// UNet evaluations in all.
        steps: usize,
    },
}

impl SchedulerError {
    /// The name of the field at fault, if the error is about one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            SchedulerError::Name { .. } => Some("scheduler"),
            SchedulerError::Class { .. } => Some("_class_name"),
            SchedulerError::Option { option, .. } => Some(option),
            SchedulerError::Steps { .. } => Some("steps"),
            SchedulerError::Json { .. } | SchedulerError::NotFinite { .. } => None,
        }
    }

    /// [`SchedulerError::Option`] with the value as text.
    pub(super) fn option(option: &'static str, value: impl Into<Value>, expected: impl Into<String>) -> Self {
        let value = match value.into() {
            Value::String(word) => format!("`{word}`"),
            other => other.to_string(),
        };
        SchedulerError::Option { option, value, expected: expected.into() }
    }
}

/// Each word once, in backticks.
fn listed<const N: usize>(words: [&str; N]) -> String {
    let mut quoted = words.map(|word| format!("`{word}`")).to_vec();
    quoted.dedup();
    quoted.join(", ")
}
