//! Errors of the library as exceptions of `dgx_pixels.errors`.

use dgx_pixels_core::fields::FieldError;
use dgx_pixels_core::{Error, ErrorKind, one_line};
use pyo3::prelude::*;

/// Returns the exception for `error`.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    let retry_after = error.retry_after().map(|time| time.as_secs_f64());
    of_kind(py, error.kind(), &one_line(error), error.field(), retry_after)
}

/// Returns the exception for a field that cannot be used.
pub(crate) fn of_field(py: Python<'_>, error: &FieldError) -> PyErr {
    of_kind(py, ErrorKind::InvalidRequest, &error.to_string(), Some(&error.field), None)
}

/// Returns the exception for a value that its field does not take.
pub(crate) fn invalid(py: Python<'_>, field: &str, text: String) -> PyErr {
    of_field(py, &FieldError::new(field, text))
}

/// Returns the exception for an error of this kind.
pub(crate) fn of_kind(
    py: Python<'_>,
    kind: ErrorKind,
    message: &str,
    field: Option<&str>,
    retry_after: Option<f64>,
) -> PyErr {
    let arguments = (kind.as_str(), message, field, retry_after);
    let made = py.import("dgx_pixels.errors").and_then(|errors| errors.call_method1("_of_kind", arguments));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}
