//! The report of a failure: one line for people, and one of JSON for scripts.

use std::process::ExitCode;

use dgx_pixels_core::ErrorKind;
use serde_json::json;

use crate::failure::{Failure, FailureKind, one_line};
use crate::{interrupt, output};

/// Says on stderr why `failure` ends the program, with `json` on stdout too, and returns its exit
/// code.
pub(crate) fn report(failure: &Failure, json: bool) -> ExitCode {
    let (kind, message) = (failure.kind(), one_line(failure));
    output::note(format_args!("error: {message}"));
    if json {
        // No reader is left to learn that stdout does not take it.
        let _ = output::say_json(&json!({ "error": { "kind": kind.as_str(), "message": message } }));
    }
    if kind == FailureKind::Core(ErrorKind::Cancelled) {
        interrupt::exit_now();
    }
    ExitCode::from(kind.exit_code())
}
