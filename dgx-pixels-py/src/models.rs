//! The models of this machine.

use dgx_pixels_core::model::search;
use dgx_pixels_core::one_line;
use pyo3::prelude::*;
use serde_json::json;

/// Returns JSON of every model that is found, broken ones too.
#[pyfunction]
pub(crate) fn models(py: Python<'_>) -> String {
    let found = py.detach(|| search::find(&search::places()));
    let models = found.into_iter().filter(|found| found.shadowed_by.is_none()).map(|found| {
        let (defaults, error) = match &found.model {
            Ok(model) => (Some(model.defaults()), None),
            Err(error) => (None, Some(one_line(error))),
        };
        json!({
            "name": found.name,
            "path": found.path,
            "size": defaults.as_ref().map(|it| [it.size.width, it.size.height]),
            "steps": defaults.as_ref().map(|it| it.steps),
            "guidance_scale": defaults.as_ref().map(|it| it.guidance_scale),
            "scheduler": defaults.as_ref().map(|it| it.scheduler.to_string()),
            "error": error,
        })
    });
    serde_json::Value::from(models.collect::<Vec<_>>()).to_string()
}
