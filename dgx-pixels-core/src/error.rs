//! What can go wrong, each with one word ([`ErrorKind`]) that every door uses.

use std::path::PathBuf;

use crate::pixel::PixelError;
use crate::request::RequestError;
use crate::scheduler::SchedulerError;

/// Everything this library reports. Causes are in [`source`](std::error::Error::source), not in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request asks for what no model does.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The picture cannot be made into the sprite that was asked for.
    #[error(transparent)]
    Pixel(#[from] PixelError),
    /// The noise schedule cannot be made.
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    /// The model's folder, a component or a weight file is not what it should be.
    #[error("cannot load the model in `{}`: {reason}", path.display())]
    Model {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// The device asked for is not there.
    #[error("device `{device}` is not available: {reason}")]
    Device {
        /// As it was asked for.
        device: String,
        /// Why, and which devices there are.
        reason: String,
    },
    /// The device refused an allocation.
    #[error("out of memory on `{device}` while {doing}")]
    OutOfMemory {
        /// Where.
        device: String,
        /// The stage of the request.
        doing: &'static str,
    },
    /// A result holds NaN or infinity, so that a picture would be black.
    #[error(
        "values that are not finite in {what}, computed in `{dtype}`; try `bf16` or `f32`, which have more range"
    )]
    NotFinite {
        /// The tensor.
        what: &'static str,
        /// The precision it was computed in.
        dtype: &'static str,
    },
    /// The caller asked to stop; nothing was finished.
    #[error("cancelled after {steps_done} of {steps} steps")]
    Cancelled {
        /// Steps that every image had done.
        steps_done: usize,
        /// Steps that were asked for.
        steps: usize,
    },
    /// libtorch refused a call; a fault of ours or of the installation.
    #[error("libtorch failed while {doing}: {message}")]
    Internal {
        /// The stage of the request.
        doing: &'static str,
        /// libtorch's own words, first line.
        message: String,
    },
}

/// The one word for an error: metric label, MCP error, Python exception, exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is at fault.
    InvalidRequest,
    /// The model's files are at fault.
    InvalidModel,
    /// The device asked for is not there.
    DeviceUnavailable,
    /// The device's memory did not suffice.
    OutOfMemory,
    /// The arithmetic left the number range.
    NotFinite,
    /// The caller stopped it.
    Cancelled,
    /// Our fault, or the installation's.
    Internal,
}

impl Error {
    /// The one word for this error.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{Error, ErrorKind, GenerateRequest};
    /// let request = GenerateRequest { steps: Some(0), ..Default::default() };
    /// let error = Error::from(request.validate().unwrap_err());
    /// assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    /// assert_eq!(error.to_string(), "`steps` is 0; expected 1 to 1000");
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            // A model whose own scheduler cannot be read is an `Error::Model` already.
            Error::Request(_) | Error::Pixel(_) | Error::Scheduler(_) => ErrorKind::InvalidRequest,
            Error::Model { .. } => ErrorKind::InvalidModel,
            Error::Device { .. } => ErrorKind::DeviceUnavailable,
            Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Error::NotFinite { .. } => ErrorKind::NotFinite,
            Error::Cancelled { .. } => ErrorKind::Cancelled,
            Error::Internal { .. } => ErrorKind::Internal,
        }
    }
}

impl ErrorKind {
    /// The word, as in `invalid_request`.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::InvalidRequest => "invalid_request",
            ErrorKind::InvalidModel => "invalid_model",
            ErrorKind::DeviceUnavailable => "device_unavailable",
            ErrorKind::OutOfMemory => "out_of_memory",
            ErrorKind::NotFinite => "not_finite",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Internal => "internal",
        }
    }
}
