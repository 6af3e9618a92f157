//! The reason of an error: our own words, the error that caused it, or both.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;

/// The error that caused another. Its type is kept, and copies share it.
///
/// # Example
/// ```
/// use dgx_pixels_core::Cause;
/// let cause = Cause::from(std::io::Error::from(std::io::ErrorKind::NotFound));
/// assert_eq!(cause.to_string(), "entity not found");
/// assert!(cause.is::<std::io::Error>());
/// ```
#[derive(Clone, Debug)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

// `Cause` is no error itself, so that `source()` returns the error in it, which can be downcast.
impl<E: StdError + Send + Sync + 'static> From<E> for Cause {
    fn from(error: E) -> Cause {
        Cause(Arc::new(error))
    }
}

impl Cause {
    /// An error whose type is not known here.
    pub fn boxed(error: Box<dyn StdError + Send + Sync>) -> Cause {
        Cause(Arc::from(error))
    }
}

impl Deref for Cause {
    type Target = dyn StdError + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// The reason of an error: our own words, the error that caused it, or both.
///
/// # Example
/// ```
/// use std::{error::Error as _, io};
/// use dgx_pixels_core::{Error, Reason, one_line};
///
/// let disk = io::Error::from(io::ErrorKind::StorageFull);
/// let error = Error::output("key.png", Reason::from(("it cannot be synced", disk)));
/// assert_eq!(error.to_string(), "cannot write `key.png`: it cannot be synced");
/// assert_eq!(one_line(&error), "cannot write `key.png`: it cannot be synced: no storage space");
/// let cause: &io::Error = error.source().unwrap().downcast_ref().unwrap();
/// assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reason {
    /// Our own words; empty where the cause says everything.
    pub words: String,
    /// The error that caused it.
    pub cause: Option<Cause>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.cause, self.words.as_str()) {
            (Some(cause), "") => fmt::Display::fmt(&**cause, f),
            (_, words) => f.write_str(words),
        }
    }
}

impl StdError for Reason {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let cause: &(dyn StdError + 'static) = &**self.cause.as_ref()?;
        // Without words of ours the text is the cause's, so what follows is the cause's cause.
        if self.words.is_empty() { cause.source() } else { Some(cause) }
    }
}

impl From<&str> for Reason {
    fn from(words: &str) -> Reason {
        Reason { words: words.into(), cause: None }
    }
}

impl From<String> for Reason {
    fn from(words: String) -> Reason {
        Reason { words, cause: None }
    }
}

impl From<Cause> for Reason {
    fn from(cause: Cause) -> Reason {
        Reason { words: String::new(), cause: Some(cause) }
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Reason {
        Cause::from(error).into()
    }
}

impl From<serde_json::Error> for Reason {
    fn from(error: serde_json::Error) -> Reason {
        Cause::from(error).into()
    }
}

impl<W: Into<String>, C: Into<Cause>> From<(W, C)> for Reason {
    fn from((words, cause): (W, C)) -> Reason {
        Reason { words: words.into(), cause: Some(cause.into()) }
    }
}

impl Error {
    /// An [`Error::Model`].
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{Error, ErrorKind};
    /// let error = Error::model("models/tiny", "no weights; expected `model.safetensors`");
    /// assert_eq!(error.kind(), ErrorKind::InvalidModel);
    /// assert_eq!(
    ///     error.to_string(),
    ///     "cannot load the model in `models/tiny`: no weights; expected `model.safetensors`"
    /// );
    /// ```
    pub fn model(path: impl Into<PathBuf>, reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::Model { path: path.into(), reason, cause }
    }

    /// An [`Error::Device`].
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::{Error, ErrorKind};
    /// let error = Error::device("cuda:1", "expected `cuda:0`");
    /// assert_eq!(error.kind(), ErrorKind::DeviceUnavailable);
    /// assert_eq!(error.to_string(), "device `cuda:1` is not available: expected `cuda:0`");
    /// ```
    pub fn device(device: impl Into<String>, reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::Device { device: device.into(), reason, cause }
    }

    /// An [`Error::Libtorch`].
    pub fn libtorch(reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::Libtorch { reason, cause }
    }

    /// An [`Error::Output`].
    pub fn output(path: impl Into<PathBuf>, reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::Output { path: path.into(), reason, cause }
    }

    /// An [`Error::NoFile`].
    pub fn no_file(path: impl Into<PathBuf>, reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::NoFile { path: path.into(), reason, cause }
    }

    /// An [`Error::Internal`].
    pub fn internal(doing: &'static str, reason: impl Into<Reason>) -> Error {
        let Reason { words: message, cause } = reason.into();
        Error::Internal { doing, message, cause }
    }
}

/// Returns an error and its causes in one line, joined by `: `. A cause that the text before it
/// ends with, as errors of some libraries do, is not repeated.
///
/// # Example
/// ```
/// use dgx_pixels_core::{Error, one_line};
/// let error = Error::internal("encoding", std::io::Error::other("the disk\nis full"));
/// assert_eq!(one_line(&error), "failed while encoding: the disk is full");
/// ```
pub fn one_line(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text += ": ";
            text += &words;
        }
        cause = error.source();
    }
    text.replace(['\n', '\r'], " ")
}
