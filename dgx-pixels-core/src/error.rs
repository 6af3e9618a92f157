//! The errors of the library, each with one word ([`ErrorKind`]) that every door uses.

mod kind;
mod reason;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

pub use self::kind::ErrorKind;
pub use self::reason::{Cause, Reason, one_line};
use crate::pixel::PixelError;
use crate::request::RequestError;
use crate::scheduler::SchedulerError;
use crate::value_error::ValueError;

/// Everything this library reports. A cause is in [`source`](std::error::Error::source) and not in
/// the text; [`one_line`] joins both.
///
/// # Example
/// ```
/// use std::error::Error as _;
/// use dgx_pixels_core::{Error, ErrorKind, one_line};
///
/// let error = Error::output("key.png", std::io::Error::from(std::io::ErrorKind::StorageFull));
/// assert_eq!(error.kind(), ErrorKind::Output);
/// assert_eq!(error.to_string(), "cannot write `key.png`");
/// assert!(error.source().is_some());
/// assert_eq!(one_line(&error), "cannot write `key.png`: no storage space");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
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
    #[error("cannot load the model in `{}`{}", path.display(), because(reason))]
    Model {
        /// The file or folder at fault.
        path: PathBuf,
        /// The reason, and what would be right.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// No model, not the one that was asked for, or several to choose from. The text is whole: it
    /// says what there is.
    #[error("{0}")]
    ModelChoice(String),
    /// The device asked for is not there.
    #[error("device `{device}` is not available{}", because(reason))]
    Device {
        /// The device that was asked for.
        device: String,
        /// The reason, and the devices that there are.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// The device refused an allocation.
    #[error("out of memory on `{device}` while {doing}")]
    OutOfMemory {
        /// The device that refused it.
        device: String,
        /// The stage of the request.
        doing: Cow<'static, str>,
    },
    /// The job alone needs more than the engine may use.
    #[error(
        "the job needs {needs_bytes} bytes on `{device}`, and the budget is {budget_bytes}; expected a smaller `width` and `height`, or a larger budget"
    )]
    OverBudget {
        /// The device that the job was to run on.
        device: String,
        /// Predicted, the model's weights included.
        needs_bytes: u64,
        /// The number of bytes that may be used.
        budget_bytes: u64,
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
    /// The queue is full. No job was taken; nothing is lost by trying again.
    #[error("the queue is full: {waiting} jobs wait, capacity {capacity}; try again in {} s", retry_after.as_secs().max(1))]
    QueueFull {
        /// Jobs that wait.
        waiting: usize,
        /// The number of jobs that may wait.
        capacity: usize,
        /// The time after which a place is likely to be free.
        retry_after: Duration,
    },
    /// The jobs of one client that wait have reached their limit. The job was not taken; nothing is
    /// lost by trying again.
    #[error(
        "the client `{client}` has {used} {unit} waiting, and {allowed} may; try again in {} s",
        retry_after.as_secs().max(1)
    )]
    QuotaExceeded {
        /// The client's name.
        client: String,
        /// Jobs or bytes of this client that wait, this job included.
        used: u64,
        /// The number of jobs or bytes that may wait.
        allowed: u64,
        /// `jobs` or `bytes`.
        unit: &'static str,
        /// The time after which there is likely to be room.
        retry_after: Duration,
    },
    /// The job was not finished in the time that it was given.
    #[error("the deadline of {} s passed after {steps_done} of {steps} steps", deadline.as_secs_f64())]
    DeadlineExceeded {
        /// The time that the job had, from the submission on.
        deadline: Duration,
        /// Steps that were done.
        steps_done: usize,
        /// Steps that were asked for.
        steps: usize,
    },
    /// The idempotency key stands for another job.
    #[error(
        "`idempotency_key` is `{key}`, which stands for job {id}, another request; expected a key of its own"
    )]
    KeyTaken {
        /// The key that was given.
        key: String,
        /// The job that has it.
        id: String,
    },
    /// The process died each time that this job ran.
    #[error(
        "the process died {deaths} times while this job ran, {alone} of them with no other job beside it{}; it is not run again. A smaller `width` and `height` need less memory",
        place.as_ref().map(|place| format!(", the last time while {place}")).unwrap_or_default()
    )]
    ProcessDied {
        /// Times in all.
        deaths: u32,
        /// Times that no other job ran.
        alone: u32,
        /// The place that the job had reached the last time, if that is known, for example
        /// `denoising, step 3`.
        place: Option<String>,
    },
    /// A sprite has no visible pixel, whichever seed was tried.
    #[error("{}", nothing_visible(seeds))]
    EmptySprite {
        /// The seeds of all draws, the request's own first; none for a sprite that was made of a
        /// given image.
        seeds: Vec<u64>,
    },
    /// The engine takes no jobs any more, or stopped before this one was done.
    #[error("the engine is shut down; the job was not done")]
    ShutDown,
    /// A result's file cannot be written, or not read again.
    #[error("cannot write `{}`{}", path.display(), because(reason))]
    Output {
        /// The file or folder at fault.
        path: PathBuf,
        /// The reason.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// A file is there already, and may not be replaced.
    #[error("`{}` already exists", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A value is not one that its field takes.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A game's project is not one that sprites can be deployed into.
    #[error("`{}` cannot be deployed into{}", path.display(), because(reason))]
    Project {
        /// The folder or file at fault.
        path: PathBuf,
        /// The reason, and what helps.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// No game answers, or not as ours do.
    #[error("no game answers at port {port}{}", because(reason))]
    Game {
        /// The port of this machine.
        port: u16,
        /// The reason, and what helps.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// A manifest of sprites, or a name in one, cannot be used.
    #[cfg(feature = "deploy")]
    #[error(transparent)]
    Manifest(#[from] dgx_pixels_manifest::ManifestError),
    /// The asset library has no such asset.
    #[error("there is no asset `{id}`; expected an id that a list of the library names")]
    NoAsset {
        /// The id that was asked for.
        id: String,
    },
    /// An asset's files are not what was recorded of them.
    #[error("asset `{id}` cannot be used: `{}` {reason}", path.display())]
    BrokenAsset {
        /// The asset.
        id: String,
        /// The file at fault.
        path: PathBuf,
        /// The reason, and what helps.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// The library is full: it keeps as many assets or bytes as it may.
    #[error(
        "the library `{}` is full: {used}, and {allowed} may be kept; remove what is not needed any more, or allow more",
        root.display()
    )]
    LibraryFull {
        /// The library's folder.
        root: PathBuf,
        /// The amount that is kept.
        used: String,
        /// The amount that may be kept.
        allowed: String,
    },
    /// The asset library's folder cannot be read or written.
    #[error("the library fails at `{}`{}", path.display(), because(reason))]
    Library {
        /// The file or folder at fault.
        path: PathBuf,
        /// The reason.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// A path leads out of the folders that may be used, or to what is no plain file.
    #[error(
        "`{}` may not be used: {reason}; expected a path in {}, or start with its folder allowed",
        path.display(), quoted(roots)
    )]
    ForbiddenPath {
        /// The path that was given.
        path: PathBuf,
        /// The reason.
        reason: String,
        /// The folders that may be used.
        roots: Vec<PathBuf>,
    },
    /// A path in the folders that may be used leads to nothing that can be.
    #[error("`{}` cannot be used{}", path.display(), because(reason))]
    NoFile {
        /// The path that was given.
        path: PathBuf,
        /// The reason.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// The journal of jobs cannot be read or written.
    #[error("the journal `{}` fails{}", path.display(), because(reason))]
    Journal {
        /// The journal's file.
        path: PathBuf,
        /// The store's own words.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// An error of an earlier run, which the journal keeps, or of the loaded libtorch: what is
    /// known of it is its kind and its text.
    #[error("{message}")]
    Reported {
        /// The kind of the error.
        kind: ErrorKind,
        /// The name of the field at fault, if the error is about one.
        field: Option<String>,
        /// The text of the error and its causes.
        message: String,
    },
    /// The shared library of libtorch, or the object that computes with it, cannot be loaded.
    #[error("libtorch cannot be loaded{}", because(reason))]
    Libtorch {
        /// The file at fault, what is wrong with it, and the next step.
        reason: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
    /// A call that must not fail did; a fault of ours or of the installation.
    #[error("failed while {doing}{}", because(message))]
    Internal {
        /// The stage of the request.
        doing: &'static str,
        /// The first line of the failure's own text.
        message: String,
        /// The error that caused it, if another did.
        #[source]
        cause: Option<Cause>,
    },
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
            Error::Pixel(PixelError::Unsure { .. }) => ErrorKind::Unsure,
            // A model whose own scheduler cannot be read is an `Error::Model` already.
            Error::Request(_)
            | Error::Pixel(_)
            | Error::Scheduler(_)
            | Error::KeyTaken { .. }
            | Error::Project { .. }
            | Error::Value(_) => ErrorKind::InvalidRequest,
            #[cfg(feature = "deploy")]
            Error::Manifest(_) => ErrorKind::InvalidRequest,
            Error::Model { .. } | Error::ModelChoice(_) => ErrorKind::InvalidModel,
            Error::Device { .. } => ErrorKind::DeviceUnavailable,
            Error::OutOfMemory { .. } | Error::OverBudget { .. } => ErrorKind::OutOfMemory,
            Error::NotFinite { .. } => ErrorKind::NotFinite,
            Error::Cancelled { .. } => ErrorKind::Cancelled,
            Error::QueueFull { .. } => ErrorKind::QueueFull,
            Error::QuotaExceeded { .. } => ErrorKind::QuotaExceeded,
            Error::DeadlineExceeded { .. } => ErrorKind::DeadlineExceeded,
            Error::ProcessDied { .. } => ErrorKind::ProcessDied,
            Error::EmptySprite { .. } => ErrorKind::EmptySprite,
            Error::ShutDown => ErrorKind::ShutDown,
            Error::Output { .. } | Error::Exists { .. } | Error::Library { .. } => ErrorKind::Output,
            Error::NoAsset { .. } | Error::BrokenAsset { .. } | Error::NoFile { .. } => ErrorKind::NotFound,
            Error::ForbiddenPath { .. } => ErrorKind::ForbiddenPath,
            Error::LibraryFull { .. } => ErrorKind::LibraryFull,
            Error::Game { .. } => ErrorKind::GameUnavailable,
            Error::Reported { kind, .. } => *kind,
            Error::Libtorch { .. } => ErrorKind::LibtorchUnavailable,
            Error::Journal { .. } | Error::Internal { .. } => ErrorKind::Internal,
        }
    }
}

impl Error {
    /// The name of the field at fault, if the error is about one.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{Error, ImageSize};
    /// let error = Error::from(ImageSize { width: 7, height: 64 }.validate(1).unwrap_err());
    /// assert_eq!(error.field(), Some("width"));
    /// ```
    pub fn field(&self) -> Option<&str> {
        match self {
            Error::Request(error) => Some(error.field()),
            Error::Pixel(error) => error.field(),
            Error::Scheduler(error) => error.field(),
            Error::Value(error) => Some(&error.field),
            #[cfg(feature = "deploy")]
            Error::Manifest(error) => error.field(),
            Error::ModelChoice(_) => Some("model"),
            Error::KeyTaken { .. } => Some("idempotency_key"),
            Error::Reported { field, .. } => field.as_deref(),
            _ => None,
        }
    }

    /// Returns the time after which the same submission is likely to be taken; `None` where waiting
    /// does not help.
    ///
    /// # Example
    /// ```
    /// use std::time::Duration;
    /// use dgx_pixels_core::Error;
    ///
    /// let retry_after = Duration::from_secs(3);
    /// let full = Error::QueueFull { waiting: 8, capacity: 8, retry_after };
    /// assert_eq!(full.retry_after(), Some(retry_after));
    /// assert_eq!(Error::ShutDown.retry_after(), None);
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Error::QueueFull { retry_after, .. } | Error::QuotaExceeded { retry_after, .. } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }
}

/// The words of a reason after a colon; nothing where the cause says everything.
pub(crate) fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

fn nothing_visible(seeds: &[u64]) -> String {
    if seeds.is_empty() {
        return "all of the image was taken for background, so that the sprite has no visible pixel; \
                `transparent` as `off` keeps it"
            .into();
    }
    let listed: Vec<_> = seeds.iter().map(u64::to_string).collect();
    format!(
        "none of {} draws gave a sprite with a visible pixel; their seeds were {}. Another prompt, or \
         `transparent` as `off`, may help",
        seeds.len(),
        listed.join(", ")
    )
}

/// Each in backticks, joined by `or`.
fn quoted(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "an allowed folder, of which there is none".into();
    }
    let paths: Vec<_> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    paths.join(" or ")
}
