//! The native module of the Python package `dgx_pixels`.
//!
//! It has the engine, jobs, pixel stages and deploys of `dgx-pixels-core`, and no libtorch: the
//! engine loads `libdgx_pixels_torch.so` when it draws. Values cross in plain Python: fields as a
//! `dict`, pixels as a `bytearray`, everything else as JSON. The package's Python files make
//! dataclasses, images and exceptions of them.

mod assets;
mod backend;
mod engine;
mod error;
mod event;
mod fields;
mod json;
mod models;
mod notifier;
mod pixels;

use std::time::Duration;

use pyo3::prelude::*;

/// The functions and classes that the package's Python files stand on.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::assets::{deploy, sheet, validate};
    #[pymodule_export]
    use crate::engine::{Engine, Events, Job};
    #[pymodule_export]
    use crate::fields::{field_schema, kinds};
    #[pymodule_export]
    use crate::models::models;
    #[pymodule_export]
    use crate::pixels::{encode_png, pixelize, read_image, read_sprite, save_sprite};
}

/// The time between two looks at Python's signals while a thread waits.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// The function that lets a wait be interrupted: it runs Python's signal handlers.
fn check_signals() -> PyResult<()> {
    Python::attach(|py| py.check_signals())
}
