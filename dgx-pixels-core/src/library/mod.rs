//! A folder of finished pictures, each with an id that never changes, that several programs may use
//! at once.
//!
//! The picture of asset `key` is `ROOT/key/key.png`, its certificate `key.json` and what is
//! recorded of both `key.asset.json`. Making the folder takes the id, so that no two programs get
//! the same; whoever makes the picture writes the file; and [`Library::add`] records it. Nothing is
//! overwritten, and nothing deleted unless [`Library::remove`] or [`Library::clean`] is asked to.
//!
//! # Example
//! ```
//! use dgx_pixels_core::library::{AssetName, Library, Query, Quota};
//! use dgx_pixels_core::picture_file::sprite_png;
//! # let folder = tempfile::tempdir()?;
//! # let root = folder.path().join("library");
//!
//! let library = Library::open(&root, Quota::default())?;
//! let reserved = library.reserve(&AssetName::from_prompt("A brass key!"))?;
//! // An engine does this, given `reserved.png()` as `Submission::output`.
//! let sprite = image::RgbaImage::from_pixel(16, 16, image::Rgba([200, 160, 40, 255]));
//! std::fs::write(reserved.png(), sprite_png(&sprite, None)?)?;
//! let id = reserved.keep();
//!
//! let asset = library.add(&id, None, [("style".into(), "8bit".into())].into())?;
//! assert_eq!((asset.id.as_str(), asset.width, asset.colors), ("a-brass-key", 16, 1));
//! assert_eq!(library.list(&Query::default())?.assets, [asset]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod asset;
mod clean;
mod index;
mod name;
mod place;
mod record;
mod reserved;
mod roots;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

pub use self::asset::Asset;
pub use self::clean::{Clean, Cleaned, Quota, Usage};
pub use self::index::{Changes, Cursor, MAX_LIMIT, Page, Query};
use self::index::{Index, Wanted};
pub use self::name::{AssetId, AssetName};
use self::place::{Found, Place, gone, is_left_over, writable};
pub use self::reserved::Reserved;
pub use self::roots::Roots;
use crate::error::{Error, Reason, one_line};
use crate::pixel::Verdict;

/// The age from which a folder without an image is taken for one whose program died.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// An open library. All its copies are the same one.
///
/// # Example
/// ```
/// use dgx_pixels_core::library::{AssetName, Library, Query, Quota};
/// use dgx_pixels_core::picture_file::sprite_png;
/// # let folder = tempfile::tempdir()?;
/// let library = Library::open(folder.path(), Quota::default())?;
/// let reserved = library.reserve(&AssetName::from_prompt("a brass key"))?;
/// std::fs::write(reserved.png(), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
/// let asset = library.add(reserved.id(), None, Default::default())?;
/// assert_eq!((asset.id.as_str(), asset.width), ("a-brass-key", 16));
/// assert_eq!(library.list(&Query::default())?.assets.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Library(Arc<Inner>);

struct Inner {
    root: PathBuf,
    quota: Quota,
    index: Mutex<Index>,
}

impl Library {
    /// Opens the library in the folder `root`, which is made if it is absent.
    ///
    /// The library finishes what killed programs have left: a picture that was not recorded is,
    /// from what it says itself; a record that cannot be read is put aside as
    /// `NAME.asset.json.damaged` and made anew; half of what was being removed is removed; and
    /// folders without a picture go once they were not touched for a day. What cannot be mended is
    /// left as it is, with a warning. Folders and files that no asset can be called like are none
    /// of the library's.
    ///
    /// # Errors
    /// [`Error::Library`] if the folder cannot be made or read. One that cannot be written can
    /// still be listed.
    pub fn open(root: impl AsRef<Path>, quota: Quota) -> Result<Library, Error> {
        let root = root.as_ref();
        let fault = |error: io::Error| match root.metadata() {
            Ok(metadata) if !metadata.is_dir() => fault(root, "it is a file; expected a folder"),
            _ => fault(root, error),
        };
        fs::create_dir_all(root).map_err(fault)?;
        let root = root.canonicalize().map_err(fault)?;
        let library = Library(Arc::new(Inner { root, quota, index: Mutex::default() }));
        library.empty_trash();
        library.remove_left_overs()?;
        let mut index = library.refreshed()?;
        let unfinished: Vec<_> = index.unfinished.iter().cloned().collect();
        unfinished.iter().for_each(|id| library.mend(&mut index, id));
        drop(index);
        Ok(library)
    }

    /// Returns the library's folder, without links.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Returns the limits of the library.
    pub fn quota(&self) -> Quota {
        self.0.quota
    }

    /// Returns the path where the image of `id` is, or would be: [`get`](Library::get) says whether
    /// it is there.
    pub fn path(&self, id: &AssetId) -> PathBuf {
        self.place(id).picture
    }

    /// Takes an id that is free: `name`, else `name-2`, and so on.
    ///
    /// # Errors
    /// [`Error::LibraryFull`]; [`Error::Library`] if the folder cannot be made.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{AssetName, Library, Quota};
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// let name = AssetName::from_prompt("a key");
    /// let first = library.reserve(&name)?;
    /// let second = library.reserve(&name)?;
    /// assert_eq!((first.id().as_str(), second.id().as_str()), ("a-key", "a-key-2"));
    /// // An id whose folder stays empty is free again.
    /// drop(first);
    /// assert_eq!(library.reserve(&name)?.id().as_str(), "a-key");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve(&self, name: &AssetName) -> Result<Reserved, Error> {
        let mut index = self.refreshed()?;
        self.0.quota.check(&self.0.root, index.usage())?;
        for id in (1..).map(|n| name.id(n)).filter(|id| !index.contains(id)) {
            let folder = self.place(&id).folder;
            match fs::create_dir(&folder) {
                Ok(()) => {
                    index.unfinished.insert(id.clone());
                    return Ok(Reserved { library: self.clone(), id, is_kept: false });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(fault(&folder, error)),
            }
        }
        unreachable!("2^64 folders")
    }

    /// Records the picture of `id`, which is on the disk now, with its certificate where it has
    /// one.
    ///
    /// Asked again it changes nothing; with a verdict or notes that are new, they join what is
    /// recorded.
    ///
    /// # Errors
    /// [`Error::NoAsset`] if the id is not reserved; [`Error::BrokenAsset`] if the picture is not
    /// there, or says neither how it was made nor that it is a sprite; [`Error::Library`] for a
    /// full disk and the like, after which it may be asked again.
    ///
    /// # Example
    /// ```
    /// use std::collections::BTreeMap;
    /// use dgx_pixels_core::library::{AssetName, Library, Quota};
    /// use dgx_pixels_core::picture_file::sprite_png;
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
    /// // The image has to be on the disk first.
    /// assert!(library.add(&id, None, BTreeMap::new()).is_err());
    /// std::fs::write(library.path(&id), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
    /// let notes = BTreeMap::from([("style".to_owned(), "retro".to_owned())]);
    /// assert_eq!(library.add(&id, None, notes)?.notes["style"], "retro");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn add(
        &self,
        id: &AssetId,
        verdict: Option<Verdict>,
        notes: BTreeMap<String, String>,
    ) -> Result<Asset, Error> {
        let place = self.place(id);
        let found = place.describe()?;
        let mut asset = Asset { created: writable(SystemTime::now()), verdict, notes, ..found };
        match place.read() {
            Found::Asset(known, stamp) if known.blake3 == asset.blake3 => {
                asset.created = known.created;
                asset.verdict = asset.verdict.or(known.verdict);
                asset.certificate = asset.certificate.or(known.certificate);
                known.notes.iter().for_each(|(name, note)| {
                    asset.notes.entry(name.clone()).or_insert_with(|| note.clone());
                });
                if asset == *known {
                    self.lock().insert_if_new(asset.clone(), stamp);
                    return Ok(asset);
                }
            }
            Found::Broken { reason, by_newer_version: true } => {
                return Err(place.broken(&place.record, reason));
            }
            _ => {}
        }
        // Without the lock: a list must not wait for the disk to sync.
        let stamp = place.write(&self.0.root, &asset, true).map_err(|error| fault(&place.record, error))?;
        self.lock().insert(asset.clone(), stamp);
        Ok(asset)
    }

    /// Gives back the id of a job that failed or was cancelled. Where there is a picture
    /// nevertheless, it stays; where there is nothing, nothing happens.
    ///
    /// # Errors
    /// [`Error::Library`] if the folder cannot be read or removed.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{AssetName, Library, Quota};
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
    /// library.discard(&id)?;
    /// assert_eq!(library.reserve(&AssetName::from_prompt("a key"))?.id(), &id);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn discard(&self, id: &AssetId) -> Result<(), Error> {
        let place = self.place(id);
        if !place.is_folder() {
            return Ok(());
        }
        let mut index = self.lock();
        if place.remove_unfinished().map_err(|error| fault(&place.folder, error))? {
            index.remove(id);
        }
        Ok(())
    }

    /// The asset `id`, whose picture is there now, of the size and the time that are known; if only
    /// the time is another, with the content that is recorded.
    ///
    /// # Errors
    /// [`Error::NoAsset`]; [`Error::BrokenAsset`] if its picture was deleted or changed, or its
    /// record cannot be read.
    pub fn get(&self, id: &AssetId) -> Result<Asset, Error> {
        self.current(&mut self.lock(), id)
    }

    /// Returns the same as [`get`](Library::get), after reading the image and comparing it to the
    /// record, whatever the file's time.
    ///
    /// # Errors
    /// As [`get`](Library::get).
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{AssetName, Library, Quota};
    /// use dgx_pixels_core::picture_file::sprite_png;
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
    /// std::fs::write(library.path(&id), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
    /// library.add(&id, None, Default::default())?;
    /// assert!(library.verify(&id).is_ok());
    /// std::fs::write(library.path(&id), sprite_png(&image::RgbaImage::new(32, 32), None)?)?;
    /// assert!(library.verify(&id).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn verify(&self, id: &AssetId) -> Result<Asset, Error> {
        let asset = self.get(id)?;
        self.checked_picture(&asset)?;
        Ok(asset)
    }

    /// The bytes of the picture of `id`, which are those recorded.
    ///
    /// # Errors
    /// As [`get`](Library::get).
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{AssetName, Library, Quota};
    /// use dgx_pixels_core::picture_file::sprite_png;
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// let id = library.reserve(&AssetName::from_prompt("a key"))?.keep();
    /// let png = sprite_png(&image::RgbaImage::new(16, 16), None)?;
    /// std::fs::write(library.path(&id), &png)?;
    /// library.add(&id, None, Default::default())?;
    /// assert_eq!(library.read_png(&id)?, png);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_png(&self, id: &AssetId) -> Result<Vec<u8>, Error> {
        let asset = self.get(id)?;
        Ok(self.checked_picture(&asset)?.0)
    }

    /// One page of the assets, those of other programs too. By pages, no asset that is there
    /// throughout is missed or doubled.
    ///
    /// # Errors
    /// [`Error::Value`] for a limit out of range; [`Error::Library`] if the folder cannot be read.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{AssetName, Library, Query, Quota};
    /// use dgx_pixels_core::picture_file::sprite_png;
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// for prompt in ["a key", "a coin"] {
    ///     let id = library.reserve(&AssetName::from_prompt(prompt))?.keep();
    ///     std::fs::write(library.path(&id), sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
    ///     library.add(&id, None, [("prompt".to_owned(), prompt.to_owned())].into())?;
    /// }
    /// let page = library.list(&Query { text: Some("COIN".into()), ..Default::default() })?;
    /// assert_eq!(page.assets[0].id.as_str(), "a-coin");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list(&self, query: &Query) -> Result<Page, Error> {
        let wanted = Wanted::new(query)?;
        let mut index = self.refreshed()?;
        let mut page = Page::default();
        let mut last = query.after.clone();
        while let Some(cursor) = index.next(&wanted, last.as_ref()) {
            if page.assets.len() == query.limit {
                page.next = last;
                break;
            }
            match self.current(&mut index, cursor.id()) {
                // Recorded anew by another program, it may have another place, or none, in this
                // list.
                Ok(asset) if Cursor::of(&asset) == cursor && index.takes(&wanted, &cursor) => {
                    page.assets.push(asset)
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(error = one_line(&error), "left out of a list"),
            }
            last = Some(cursor);
        }
        Ok(page)
    }

    /// The ids of all assets, newest first, and then of those whose record or picture is broken, by
    /// name.
    ///
    /// # Errors
    /// [`Error::Library`] if the folder cannot be read.
    pub fn ids(&self) -> Result<Vec<AssetId>, Error> {
        let index = self.refreshed()?;
        let mut ids: Vec<AssetId> = index.newest_first().map(|entry| entry.asset.id.clone()).collect();
        let mut broken: Vec<_> = index.warned.iter().cloned().collect();
        broken.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        ids.append(&mut broken);
        Ok(ids)
    }

    /// Returns the amounts that the library holds now.
    ///
    /// # Errors
    /// [`Error::Library`] if the folder cannot be read.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::{Library, Quota};
    /// # let folder = tempfile::tempdir()?;
    /// let library = Library::open(folder.path(), Quota::default())?;
    /// assert_eq!(library.usage()?.bytes, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn usage(&self) -> Result<Usage, Error> {
        Ok(self.refreshed()?.usage())
    }

    /// Returns the changes from now on. Changes by other programs are noticed at the next
    /// [`refresh`](Library::refresh), [`list`](Library::list), [`usage`](Library::usage) or
    /// [`reserve`](Library::reserve) of this library.
    pub fn changes(&self) -> Changes {
        Changes::new(self.lock().signal.clone())
    }

    /// Looks whether other programs have added or removed assets: one question to the disk if they
    /// have not.
    ///
    /// # Errors
    /// [`Error::Library`] if the folder cannot be read.
    ///
    /// A program that shows a library calls it once a second or so. [`changes`](Library::changes)
    /// then reports what other programs have done.
    pub fn refresh(&self) -> Result<(), Error> {
        self.refreshed().map(drop)
    }

    fn place<'a>(&self, id: &'a AssetId) -> Place<'a> {
        Place::new(&self.0.root, id)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, as the root is now.
    fn refreshed(&self) -> Result<MutexGuard<'_, Index>, Error> {
        let root = &self.0.root;
        let fault = |error: io::Error| fault(root, error);
        let mut index = self.lock();
        let now = Instant::now();
        let modified = root.metadata().and_then(|metadata| metadata.modified()).map_err(fault)?;
        if index.must_scan(modified, now)
            && let Err(error) = self.scan(&mut index)
        {
            index.look_again();
            return Err(fault(error));
        }
        Ok(index)
    }

    /// Looks around in the root. Assets that are known are read again only when they are asked for.
    fn scan(&self, index: &mut Index) -> io::Result<()> {
        let mut others = HashSet::new();
        index.begin_scan();
        for entry in fs::read_dir(&self.0.root)? {
            let entry = entry?;
            let name = entry.file_name();
            // A link to a folder is not one.
            if let Some(name) = name.to_str()
                && entry.file_type()?.is_dir()
                && !index.finds(name)
                && let Ok(id) = name.parse()
            {
                others.insert(id);
            }
        }
        index.end_scan(&others);
        others.iter().for_each(|id| self.take_in(index, id));
        Ok(())
    }

    fn take_in(&self, index: &mut Index, id: &AssetId) {
        let place = self.place(id);
        match place.read() {
            Found::Asset(asset, stamp) => index.insert(*asset, stamp),
            Found::Unfinished => {
                index.remove(id);
                index.unfinished.insert(id.clone());
            }
            Found::Broken { reason, .. } => {
                let was_warned = index.warned.contains(id);
                index.remove(id);
                index.unfinished.insert(id.clone());
                index.warned.insert(id.clone());
                if !was_warned {
                    tracing::warn!(asset = %id, reason = one_line(&reason), "the record of an asset cannot be used");
                }
            }
        }
    }

    /// The asset as it is on the disk now; what is known of it follows.
    fn current(&self, index: &mut Index, id: &AssetId) -> Result<Asset, Error> {
        let place = self.place(id);
        if !place.is_folder() {
            index.remove(id);
            return Err(Error::NoAsset { id: id.to_string() });
        }
        // 1. its record
        if index.get(id).is_none_or(|entry| place.record_stamp() != Some(entry.stamp)) {
            self.take_in(index, id);
        }
        let Some(entry) = index.get_mut(id) else {
            return Err(match place.read() {
                Found::Broken { reason, .. } => place.broken(&place.record, reason),
                _ => Error::NoAsset { id: id.to_string() },
            });
        };
        // 2. its picture
        let seen = match place.picture.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(place.broken(&place.picture, "is no plain file any more")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(place.broken(&place.picture, "was deleted; put it back, or remove the asset"));
            }
            Err(error) => return Err(place.broken(&place.picture, ("cannot be read", error))),
        };
        let is_known = seen.modified().is_ok_and(|modified| writable(modified) == entry.modified);
        if seen.len() != entry.asset.bytes || !is_known {
            let (_, modified) = self.checked_picture(&entry.asset)?;
            entry.modified = modified;
        }
        Ok(entry.asset.clone())
    }

    /// The picture's bytes, if they are those recorded, and when they were written.
    fn checked_picture(&self, asset: &Asset) -> Result<(Vec<u8>, SystemTime), Error> {
        let place = self.place(&asset.id);
        let (bytes, modified) = place.picture_bytes()?;
        if blake3::hash(&bytes).to_hex().as_str() != asset.blake3 {
            let reason = "was changed since it was recorded; put it back, or remove the asset";
            return Err(place.broken(&place.picture, reason));
        }
        Ok((bytes, writable(modified)))
    }

    /// Finishes what a killed program left of `id`, or warns that it cannot be.
    fn mend(&self, index: &mut Index, id: &AssetId) {
        let place = self.place(id);
        if !place.has_picture() {
            if is_old(&place.folder) {
                match place.remove_unfinished() {
                    Ok(true) => index.remove(id),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(asset = %id, %error, "an abandoned folder cannot be removed")
                    }
                }
            }
            return;
        }
        let mended = || -> Result<(), Error> {
            match place.read() {
                // Another program was faster; or a newer one wrote it, and may read it.
                Found::Asset(..) | Found::Broken { by_newer_version: true, .. } => return Ok(()),
                Found::Unfinished => {}
                Found::Broken { .. } => {
                    // Only once the picture is known to say enough for another record.
                    place.describe()?;
                    let aside = fs::rename(&place.record, place.damaged_record());
                    aside.map_err(|error| fault(&place.record, error))?;
                }
            }
            let asset = place.describe()?;
            // Whoever reserved it may be adding it now, and knows more.
            match place.write(&self.0.root, &asset, false) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(fault(&place.record, error))
                }
                _ => Ok(()),
            }
        };
        match mended() {
            Ok(()) => self.take_in(index, id),
            Err(error) => {
                tracing::warn!(asset = %id, error = one_line(&error), "a picture cannot be recorded")
            }
        }
    }

    /// Removes records that were being written when a program was killed.
    fn remove_left_overs(&self) -> Result<(), Error> {
        let root = &self.0.root;
        for entry in fs::read_dir(root).map_err(|error| fault(root, error))? {
            let path = entry.map_err(|error| fault(root, error))?.path();
            if is_left_over(&path)
                && is_old(&path)
                && let Err(error) = gone(fs::remove_file(&path))
            {
                tracing::warn!(path = %path.display(), %error, "a left-over file cannot be removed");
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("root", &self.root())
            .field("quota", &self.quota())
            .finish_non_exhaustive()
    }
}

fn fault(path: &Path, reason: impl Into<Reason>) -> Error {
    let Reason { words: reason, cause } = reason.into();
    Error::Library { path: path.to_owned(), reason, cause }
}

/// `true` if it was not touched for a day. If the clock was set back, nothing is old.
fn is_old(path: &Path) -> bool {
    let modified = path.symlink_metadata().and_then(|metadata| metadata.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED))
}
