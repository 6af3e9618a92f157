//! SDXL in Rust, equal to diffusers, one denoising step at a time.
//!
//! A request's life is the reading order: [`GenerateRequest`] is validated, a [`Model`] folder in
//! diffusers' layout is opened, a [`Backend`](backend::Backend) begins a canvas for each request,
//! steps all canvases together and decodes them. [`backend::paint`] is that loop for one batch;
//! [`engine`] is the one for many callers, and [`Generator`] the trait in front of it; [`library`]
//! keeps what was made. [`local`] finds the models of this machine and starts an engine over them.
//!
//! Feature `engine` brings serving; feature `torch` the module `torch`: SDXL on libtorch 2.11.
//! Without `torch` nothing of libtorch is built, and [`loaded`] draws with the object that has it.
//! The other features are for programs: `fields`, `deploy`, `monitor` and `telemetry`. `doc-only`
//! documents `torch` without libtorch.
//!
//! # Example
//! ```
//! use std::ops::ControlFlow;
//! use dgx_pixels_core::{GenerateRequest, backend::{Sketch, paint}};
//!
//! let request = GenerateRequest { prompt: "a brass key, pixel art".into(), seed: 7, ..Default::default() };
//! let drawn = paint(&mut Sketch, &[request], |_| ControlFlow::Continue(()))?;
//! assert_eq!(drawn[0].image.dimensions(), (256, 256));
//! # Ok::<(), dgx_pixels_core::Error>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "engine", feature = "torch"))]
pub mod abi;
#[cfg(feature = "deploy")]
pub mod asset;
pub mod backend;
pub mod canvas;
pub mod device;
#[cfg(feature = "engine")]
pub mod engine;
mod error;
#[cfg(feature = "fields")]
pub mod fields;
mod file_kind;
pub mod files;
pub mod folders;
#[cfg(feature = "engine")]
mod generator;
#[cfg(any(feature = "engine", feature = "torch"))]
pub mod gpu;
#[cfg(feature = "engine")]
pub mod input_image;
#[cfg(feature = "engine")]
pub mod job;
#[cfg(feature = "engine")]
pub mod library;
#[cfg(feature = "engine")]
pub mod loaded;
#[cfg(feature = "engine")]
pub mod local;
#[cfg(feature = "engine")]
pub mod metrics;
pub mod model;
#[cfg(feature = "monitor")]
pub mod monitor;
#[cfg(feature = "engine")]
pub mod picture_file;
pub mod pixel;
pub mod printable;
pub mod prompt;
mod redraw;
mod request;
pub mod scheduler;
#[cfg(feature = "engine")]
mod stored;
#[cfg(feature = "engine")]
mod submission;
#[cfg(feature = "engine")]
mod sync;
#[cfg(feature = "telemetry")]
pub mod telemetry;
#[cfg(feature = "torch")]
pub mod torch;
mod value_error;
mod words;

pub use error::{Cause, Error, ErrorKind, Reason, one_line};
#[cfg(feature = "engine")]
pub use generator::Generator;
pub use model::Model;
pub use prompt::PromptSyntax;
pub use redraw::{MOST_REDRAWS, redraw_seed};
pub use request::{
    Area, ControlChoice, Crop, DEFAULT_GUIDANCE, DEFAULT_STEPS, GenerateRequest, Generated, ImageSize,
    LoraChoice, LoraError, MAX_GUIDANCE, MAX_SIDE, MAX_SOURCE_PIXELS, MAX_STEPS, MIN_SIDE, Mask,
    ModelDefaults, Prepared, Preprocess, Preset, RequestError, ResolvedRequest, SizeError, SourceError,
    SourceImage, Timings,
};
#[cfg(feature = "engine")]
pub use submission::{Priority, Resolved, Submission};
pub use value_error::ValueError;
