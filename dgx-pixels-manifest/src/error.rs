//! The errors of a manifest and of the names in it.

use std::sync::Arc;

use crate::format::MANIFEST_VERSION;

/// The reason why a text is not a manifest, or not a name in one.
///
/// Each text is whole: it holds the cause too, because the log of a game shows nothing else.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is not a manifest, or it was cut off. The error of `serde_json` says where.
    #[error("the manifest cannot be read: {0}")]
    Json(Arc<serde_json::Error>),
    /// The manifest has another version than [`MANIFEST_VERSION`].
    #[error(
        "the manifest cannot be read: `version` is {0}; expected {MANIFEST_VERSION}, as this program knows no other"
    )]
    Version(u32),
    /// The text is not the name of a sprite. A long one is cut.
    #[error(
        "`name` is `{0}`; expected two to five words of `a-z`, `0-9` and `-`, joined by `_`, the first its category, at most 64 characters, as `enemy_slime` or `tile_grass_2`"
    )]
    Name(String),
    /// The text is not a category. A long one is cut.
    #[error("`category` is `{0}`; expected a word of `a-z`, `0-9` and `-`, as `enemy`")]
    Category(String),
}

impl ManifestError {
    /// The name of the field at fault, if the error is about one.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_manifest::SpriteName;
    /// let error = SpriteName::new("Big Enemy", "slime").unwrap_err();
    /// assert_eq!(error.field(), Some("category"));
    /// ```
    pub fn field(&self) -> Option<&'static str> {
        match self {
            ManifestError::Json(_) => None,
            ManifestError::Version(_) => Some("version"),
            ManifestError::Name(_) => Some("name"),
            ManifestError::Category(_) => Some("category"),
        }
    }
}

impl From<serde_json::Error> for ManifestError {
    fn from(error: serde_json::Error) -> ManifestError {
        ManifestError::Json(Arc::new(error))
    }
}

/// A contradiction in a manifest, with the way to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct ManifestFault {
    /// The path of the field at fault, for example `sprites.item_key.frames[1].rect`.
    pub field: String,
    /// The rest of the sentence: what is wrong, and what would be right.
    pub reason: String,
}
