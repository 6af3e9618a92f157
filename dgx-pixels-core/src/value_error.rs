//! The error for a value that a field does not take.

use std::borrow::Cow;

/// A value that a field, a flag or an option does not take.
///
/// # Example
/// ```
/// use dgx_pixels_core::ValueError;
/// let error = ValueError::new("limit", 0, "1 to 1000");
/// assert_eq!(error.to_string(), "`limit` is `0`; expected 1 to 1000");
/// assert_eq!(error.of("max_count").to_string(), "`max_count` is `0`; expected 1 to 1000");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is `{value}`; expected {expected}")]
pub struct ValueError {
    /// The name of the field.
    pub field: Cow<'static, str>,
    /// The value as it was given; a long one is cut.
    pub value: String,
    /// The values that would be right.
    pub expected: Cow<'static, str>,
}

impl ValueError {
    /// An error for `value`, as its text is.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        value: impl ToString,
        expected: impl Into<Cow<'static, str>>,
    ) -> ValueError {
        ValueError { field: field.into(), value: value.to_string(), expected: expected.into() }
    }

    /// The same error for a field with another name, for example that of a tool's argument.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::Priority;
    /// let error = "soon".parse::<Priority>().unwrap_err().of("job_priority");
    /// assert!(error.to_string().starts_with("`job_priority` is `soon`"));
    /// ```
    pub fn of(self, field: impl Into<Cow<'static, str>>) -> ValueError {
        ValueError { field: field.into(), ..self }
    }
}
