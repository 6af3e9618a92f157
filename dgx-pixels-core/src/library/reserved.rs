//! An id that a job will fill.

use std::path::PathBuf;

use super::{AssetId, Library};
use crate::error::one_line;

/// An id that is taken, and the folder for its picture. Dropped, the folder goes unless something
/// is in it.
///
/// # Example
/// ```
/// use dgx_pixels_core::library::{AssetName, Library, Quota};
/// # let folder = tempfile::tempdir()?;
/// let library = Library::open(folder.path(), Quota::default())?;
/// let reserved = library.reserve(&AssetName::from_prompt("a key"))?;
/// assert!(reserved.png().starts_with(library.root()));
/// assert_eq!(library.usage()?.unfinished, 1);
/// drop(reserved);
/// assert_eq!(library.usage()?.unfinished, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropped, it gives the id back"]
#[derive(Debug)]
pub struct Reserved {
    pub(super) library: Library,
    pub(super) id: AssetId,
    pub(super) is_kept: bool,
}

impl Reserved {
    /// The id.
    pub fn id(&self) -> &AssetId {
        &self.id
    }

    /// Returns the path to write the image to, for
    /// [`Submission::output`](crate::Submission::output).
    pub fn png(&self) -> PathBuf {
        self.library.path(&self.id)
    }

    /// Keeps the id for a job that outlives this, to be [added](Library::add) or
    /// [discarded](Library::discard) at its end.
    pub fn keep(mut self) -> AssetId {
        self.is_kept = true;
        self.id.clone()
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.is_kept
            && let Err(error) = self.library.discard(&self.id)
        {
            tracing::warn!(asset = %self.id, error = one_line(&error), "an id cannot be given back");
        }
    }
}
