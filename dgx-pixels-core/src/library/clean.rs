//! The limits of a library, and the removal of assets.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use serde::Serialize;
use uuid::Uuid;

use super::name::AssetId;
use super::place::gone;
use super::{Library, fault};
use crate::error::{Error, one_line};

/// The folder that assets go to first when they are removed: no asset can have this name.
const TRASH: &str = ".trash";

/// The limits of a library. They are checked when an id is [reserved](Library::reserve): jobs that
/// are under way then may go beyond them.
///
/// # Example
/// ```
/// use dgx_pixels_core::ErrorKind;
/// use dgx_pixels_core::library::{AssetName, Library, Quota};
/// # let folder = tempfile::tempdir()?;
/// let quota = Quota { max_assets: Some(1), ..Default::default() };
/// let library = Library::open(folder.path(), quota)?;
/// let first = library.reserve(&AssetName::from_prompt("a key"))?;
/// let error = library.reserve(&AssetName::from_prompt("a coin")).err().unwrap();
/// assert_eq!(error.kind(), ErrorKind::LibraryFull);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all pictures. Default 4 GiB.
    pub max_bytes: Option<u64>,
    /// Assets, with those under way. Default `None`.
    pub max_assets: Option<usize>,
}

impl Default for Quota {
    fn default() -> Self {
        Quota { max_bytes: Some(4 << 30), max_assets: None }
    }
}

/// The amounts that a library holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The number of assets that can be used.
    pub assets: usize,
    /// Folders of ids that are reserved, or whose record cannot be used.
    pub unfinished: usize,
    /// The bytes of the assets' images.
    pub bytes: u64,
}

impl Quota {
    /// Checks that one more asset fits.
    pub(super) fn check(&self, root: &Path, usage: Usage) -> Result<(), Error> {
        let Usage { assets, unfinished, bytes } = usage;
        let full = |used, allowed| Err(Error::LibraryFull { root: root.to_owned(), used, allowed });
        match (self.max_assets, self.max_bytes) {
            (Some(max), _) if assets + unfinished >= max => {
                full(format!("{assets} assets and {unfinished} under way"), format!("{max} assets"))
            }
            (_, Some(max)) if bytes >= max => {
                full(format!("{} in {assets} assets", ByteSize(bytes)), ByteSize(max).to_string())
            }
            _ => Ok(()),
        }
    }
}

/// The choice of assets to remove: those that meet all conditions given here. Without a condition,
/// none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clean {
    /// Chooses assets added longer ago than this.
    pub older_than: Option<Duration>,
    /// Chooses assets that are not among this many newest.
    pub keep_newest: Option<usize>,
    /// `true` to report the assets without removing them.
    pub dry_run: bool,
}

/// The result of [`Library::clean`]: the assets that it removed, or would remove in a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cleaned {
    /// The ids of the removed assets, newest first.
    pub removed: Vec<AssetId>,
    /// The bytes of the removed assets' images.
    pub bytes: u64,
    /// The assets that could not be removed, each with the reason.
    pub kept: Vec<(AssetId, String)>,
}

impl Library {
    /// Removes what is kept of `id`, broken or not: at once for all who use the library, even if
    /// this program is killed.
    ///
    /// # Errors
    /// [`Error::NoAsset`]; [`Error::BrokenAsset`] if the folder holds a file that is not the
    /// library's, which may be somebody's work; [`Error::Library`] if the disk refuses it.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::ErrorKind;
    /// use dgx_pixels_core::library::{AssetName, Library, Quota};
    /// use dgx_pixels_core::picture_file::sprite_png;
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
    /// std::fs::write(library.path(&id), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
    /// library.add(&id, None, Default::default())?;
    /// library.remove(&id)?;
    /// assert_eq!(library.get(&id).unwrap_err().kind(), ErrorKind::NotFound);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove(&self, id: &AssetId) -> Result<(), Error> {
        let place = self.place(id);
        if !place.is_folder() {
            return Err(Error::NoAsset { id: id.to_string() });
        }
        let foreign = place.foreign_file().map_err(|error| fault(&place.folder, error))?;
        if let Some(path) = foreign {
            return Err(
                place.broken(&path, "is not the library's own, and would be removed too; move it away first")
            );
        }
        let mut index = self.lock();
        let aside = self.trash().and_then(|trash| {
            let aside = trash.join(Uuid::now_v7().to_string());
            fs::rename(&place.folder, &aside).map(|()| aside)
        });
        match aside {
            Ok(aside) => {
                index.remove(id);
                drop(index);
                delete(&aside);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoAsset { id: id.to_string() })
            }
            Err(error) => Err(fault(&place.folder, error)),
        }
    }

    /// Removes many. One that cannot be removed keeps none of the others.
    ///
    /// # Errors
    /// [`Error::Library`] if the folder cannot be read.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{AssetName, Clean, Library, Quota};
    /// use dgx_pixels_core::picture_file::sprite_png;
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// for _ in 0..3 {
    ///     let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
    ///     std::fs::write(library.path(&id), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
    ///     library.add(&id, None, Default::default())?;
    /// }
    /// let cleaned = library.clean(Clean { keep_newest: Some(1), ..Default::default() })?;
    /// assert_eq!((cleaned.removed.len(), library.ids()?.len()), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clean(&self, clean: Clean) -> Result<Cleaned, Error> {
        let now = SystemTime::now();
        let mut cleaned = Cleaned::default();
        if clean.older_than.is_none() && clean.keep_newest.is_none() {
            return Ok(cleaned);
        }
        // By a clock that was set back, what was added later has no age.
        let is_old = |created| {
            let age = now.duration_since(created);
            clean.older_than.is_none_or(|limit| age.is_ok_and(|age| age > limit))
        };
        let index = self.refreshed()?;
        let others = index.newest_first().skip(clean.keep_newest.unwrap_or(0)).map(|entry| &entry.asset);
        let leaving =
            others.filter(|asset| is_old(asset.created)).map(|asset| (asset.id.clone(), asset.bytes));
        let leaving: Vec<_> = leaving.collect();
        drop(index);
        for (id, bytes) in leaving {
            let removed = if clean.dry_run { Ok(()) } else { self.remove(&id) };
            match removed {
                Ok(()) => {
                    cleaned.removed.push(id);
                    cleaned.bytes = cleaned.bytes.saturating_add(bytes);
                }
                Err(error) => cleaned.kept.push((id, one_line(&error))),
            }
        }
        Ok(cleaned)
    }

    /// Deletes what was being removed when a program was killed.
    pub(super) fn empty_trash(&self) {
        let path = self.root().join(TRASH);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return;
        }
        match fs::read_dir(&path) {
            Ok(entries) => entries.flatten().for_each(|entry| delete(&entry.path())),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the trash cannot be read"),
        }
    }

    fn trash(&self) -> io::Result<PathBuf> {
        let path = self.root().join(TRASH);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match path.symlink_metadata()?.is_dir() {
            true => Ok(path),
            false => Err(io::Error::other(format!("`{TRASH}` beside it is no folder"))),
        }
    }
}

/// Deletes a folder of the trash, and follows no links in it. What stays is deleted when the
/// library is opened again.
fn delete(path: &Path) {
    if let Err(error) = gone(fs::remove_dir_all(path)) {
        tracing::warn!(path = %path.display(), %error, "what was removed cannot be deleted yet");
    }
}
