//! Names on the Hugging Face hub, and the place of each in the cache that Python's
//! `huggingface_hub` shares. Nothing here uses the network.
//!
//! ```text
//! models--ORG--NAME/
//!   blobs/ETAG                  the bytes of a file
//!   refs/REVISION               the commit that a branch or a tag stood for
//!   snapshots/COMMIT/FILE       a link to the bytes
//! ```

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::read_text;
use crate::folders;
use crate::value_error::ValueError;

/// The revision that is meant where none is named.
pub const DEFAULT_REVISION: &str = "main";
/// The most characters of `ORG/NAME`, as on the hub.
const MAX_NAME: usize = 96;
/// The most characters of a revision.
const MAX_REVISION: usize = 200;
const EXPECTED: &str = "`ORG/NAME` or `ORG/NAME@REVISION`, as on the hub's pages";

/// The name of a repository of models on the hub, `ORG/NAME`, with a revision if one is named.
///
/// The characters are the hub's own, so no name leads out of the cache.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::hub::HubName;
/// let name: HubName = "org/frog-xl@v1.0".parse()?;
/// assert_eq!((name.repository(), name.revision()), ("org/frog-xl", "v1.0"));
/// assert_eq!("org/frog-xl".parse::<HubName>()?.revision(), "main");
/// assert!("../frog".parse::<HubName>().is_err());
/// # Ok::<(), dgx_pixels_core::ValueError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubName {
    repository: String,
    revision: Option<String>,
}

impl HubName {
    /// The repository, `ORG/NAME`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, the tag or the commit; `main` where none is named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// The folder of this repository in the cache, whether it is there or not.
    ///
    /// # Example
    /// ```
    /// use std::path::Path;
    /// use dgx_pixels_core::model::hub::HubName;
    /// let name: HubName = "org/frog-xl@v1.0".parse()?;
    /// assert_eq!(name.folder_in(Path::new("hub")), Path::new("hub/models--org--frog-xl"));
    /// # Ok::<(), dgx_pixels_core::ValueError>(())
    /// ```
    pub fn folder_in(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.repository.replace('/', "--")))
    }

    /// The snapshot in the cache that this name stands for: the commit that its revision stood for
    /// when it was fetched, or the commit itself. `None` if it was not fetched.
    pub fn snapshot_in(&self, cache: &Path) -> Option<PathBuf> {
        let folder = self.folder_in(cache);
        let written = read_text(&folder.join("refs").join(self.revision())).ok();
        let commit = written.as_deref().map_or(self.revision(), str::trim);
        if !is_part(commit) {
            return None;
        }
        Some(folder.join("snapshots").join(commit)).filter(|path| path.is_dir())
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

impl FromStr for HubName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<HubName, ValueError> {
        let fault = || ValueError::new("name", text, EXPECTED);
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (text, None),
        };
        let (organization, name) = repository.split_once('/').ok_or_else(fault)?;
        // `--` stands for the slash in the cache.
        let is_named = |part: &str| is_part(part) && !part.contains("--") && !part.ends_with(['-', '.']);
        if !is_named(organization) || !is_named(name) || repository.len() > MAX_NAME {
            return Err(fault());
        }
        if revision.is_some_and(|revision| revision.len() > MAX_REVISION || !revision.split('/').all(is_part))
        {
            return Err(fault());
        }
        Ok(HubName { repository: repository.into(), revision: revision.map(str::to_owned) })
    }
}

/// `true` for letters, digits, `-`, `_` and `.`, without a dot first or two together.
fn is_part(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(is_plain) && !text.starts_with(['.', '-']) && !text.contains("..")
}

/// The folder that Python's `huggingface_hub` keeps its files in: `$HF_HUB_CACHE`, `hub` in
/// `$HF_HOME`, or `huggingface/hub` in `$XDG_CACHE_HOME` (usually `~/.cache`). `None` without a
/// home.
///
/// # Example
/// ```
/// use dgx_pixels_core::model::hub::{DEFAULT_REVISION, HubName, cache};
/// let name: HubName = "org/never-fetched".parse()?;
/// assert_eq!(name.revision(), DEFAULT_REVISION);
/// assert!(cache().is_none_or(|cache| name.snapshot_in(&cache).is_none()));
/// # Ok::<(), dgx_pixels_core::ValueError>(())
/// ```
pub fn cache() -> Option<PathBuf> {
    variable("HF_HUB_CACHE").or_else(|| Some(home()?.join("hub")))
}

/// The folder of all that Python's `huggingface_hub` keeps: `$HF_HOME`, or `huggingface` in
/// `$XDG_CACHE_HOME`.
pub fn home() -> Option<PathBuf> {
    variable("HF_HOME").or_else(|| Some(folders::of_xdg("XDG_CACHE_HOME", ".cache")?.join("huggingface")))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_that_the_hub_does_not_have_are_refused() {
        for text in [
            "",
            "frog",
            "/frog",
            "org/",
            "org/frog/file",
            "../frog",
            "org/..",
            "org/.frog",
            "org/a--b",
            "org/frog-",
            "org/fr og",
            "org\\frog",
            "org/frog@",
            "org/frog@../main",
            "org/frog@a//b",
            "org/frog@/etc",
            "örg/frog",
        ] {
            assert!(text.parse::<HubName>().is_err(), "{text}");
        }
        let long = format!("org/{}", "a".repeat(96));
        assert_eq!(
            long.parse::<HubName>().unwrap_err().to_string(),
            format!("`name` is `{long}`; expected {EXPECTED}")
        );
        let name: HubName = "org/Frog_1.5-xl@refs/pr/7".parse().unwrap();
        assert_eq!(name.to_string(), "org/Frog_1.5-xl@refs/pr/7");
        assert_eq!(name.folder_in(Path::new("hub")), Path::new("hub/models--org--Frog_1.5-xl"));
    }

    #[test]
    fn a_revision_is_a_ref_or_a_commit_and_never_a_path() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--org--frog");
        fs::create_dir_all(folder.join("snapshots/0a1b")).unwrap();
        fs::create_dir_all(folder.join("refs/refs/pr")).unwrap();
        let find = |text: &str| text.parse::<HubName>().unwrap().snapshot_in(cache.path());
        assert_eq!(find("org/frog"), None);
        fs::write(folder.join("refs/refs/pr/7"), "0a1b\n").unwrap();
        for name in ["org/frog@0a1b", "org/frog@refs/pr/7"] {
            assert_eq!(find(name), Some(folder.join("snapshots/0a1b")), "{name}");
        }
        fs::write(folder.join("refs/main"), "../..").unwrap();
        assert_eq!(find("org/frog"), None);
    }
}
