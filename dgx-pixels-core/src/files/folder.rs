//! A folder that stays open, and its entries, which are reached without following links.

use std::ffi::{OsStr, OsString};
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::entry::{Entry, EntryKind, PathError, TEMPORARY, modified};
use super::read_opened;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Opening never waits for the other end of a pipe.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
/// The mode of new files and folders before the user's mask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);
/// Methods that go through nested folders keep one open folder for each level.
const MAX_DEPTH: usize = 16;

/// An open folder. No method follows a link below it, also if another program puts one there
/// meanwhile: every name is looked up in an open folder, one part of a path at a time.
///
/// A hard link is the file itself, so no method changes the content of a file that it did not
/// create.
///
/// # Example
/// ```
/// use dgx_pixels_core::files::Folder;
/// # let temporary = tempfile::tempdir()?;
/// # let path = temporary.path();
/// std::os::unix::fs::symlink("/etc/hostname", path.join("link"))?;
/// let folder = Folder::open(path)?;
/// folder.write_whole("note.txt", b"text").unwrap();
/// assert_eq!(folder.read("note.txt", 1024).unwrap().unwrap(), b"text");
/// let error = folder.read("link", 1024).unwrap_err();
/// assert!(error.to_string().ends_with("it is a symbolic link; expected a regular file"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at `path`. Links on the way are followed, as the caller chose the path. The
    /// empty path is the current folder.
    ///
    /// # Errors
    /// The system's own errors.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let way = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let handle = rustix::fs::openat(CWD, way, FOLDER, Mode::empty())?;
        Ok(Folder { handle, path: path.to_owned() })
    }

    /// The path that the folder was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same folder under another path in errors.
    pub(crate) fn named(self, path: PathBuf) -> Folder {
        Folder { path, ..self }
    }

    /// The open folder.
    pub(crate) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// Opens the folder `name` in this one; `None` if there is nothing.
    ///
    /// # Errors
    /// A refusal for a link or a file; the system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// assert!(folder.folder("sprites").unwrap().is_none());
    /// folder.make_folder("sprites").unwrap();
    /// assert!(folder.folder("sprites").unwrap().is_some());
    /// // A name is one part of a path, so it leads to no other folder.
    /// assert!(folder.folder("../sprites").is_err());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn folder(&self, name: impl AsRef<OsStr>) -> Result<Option<Folder>, PathError> {
        self.open_folder(name.as_ref(), OFlags::NOFOLLOW)
    }

    /// Opens the folder `name` in this one as [`folder`](Folder::folder) does, but follows a link
    /// of that name.
    ///
    /// # Errors
    /// As [`folder`](Folder::folder); also for a link to nothing.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let (temporary, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// std::os::unix::fs::symlink(elsewhere.path(), temporary.path().join("assets"))?;
    /// let folder = Folder::open(temporary.path())?;
    /// assert!(folder.folder("assets").is_err());
    /// assert!(folder.folder_or_link("assets").unwrap().is_some());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn folder_or_link(&self, name: impl AsRef<OsStr>) -> Result<Option<Folder>, PathError> {
        let name = name.as_ref();
        let found = self.open_folder(name, OFlags::empty())?;
        match found.is_none() && self.kind(name)? == Some(EntryKind::Link) {
            true => Err(self.refusal(name, "it is a symbolic link to nothing; expected a folder")),
            false => Ok(found),
        }
    }

    /// Opens the folder `name` in this one, made if it is absent.
    ///
    /// # Errors
    /// As [`folder`](Folder::folder).
    pub fn make_folder(&self, name: impl AsRef<OsStr>) -> Result<Folder, PathError> {
        let name = self.plain(name.as_ref())?;
        match rustix::fs::mkdirat(&self.handle, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.error(name, error)),
        }
        self.folder(name)?.ok_or_else(|| self.error(name, Errno::NOENT))
    }

    /// Opens the folder at a relative path below this one; `None` if a part of the path is absent.
    ///
    /// # Errors
    /// As [`folder`](Folder::folder), for each part of the path.
    ///
    /// # Example
    /// ```
    /// use std::path::Path;
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.make_folder("assets").unwrap().make_folder("sprites").unwrap();
    /// assert!(folder.descend(Path::new("assets/sprites")).unwrap().is_some());
    /// assert!(folder.descend(Path::new("assets/sounds")).unwrap().is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn descend(&self, path: &Path) -> Result<Option<Folder>, PathError> {
        let mut folder = Folder { handle: self.duplicate()?, path: self.path.clone() };
        for part in path.components().filter(|part| *part != Component::CurDir) {
            let Some(next) = folder.folder(part.as_os_str())? else { return Ok(None) };
            folder = next;
        }
        Ok(Some(folder))
    }

    /// Opens the regular file `name` to be read; `None` if there is nothing.
    ///
    /// # Errors
    /// A refusal for a link, a folder, a pipe or a device; the system's own errors.
    pub fn file(&self, name: impl AsRef<OsStr>) -> Result<Option<File>, PathError> {
        let name = self.plain(name.as_ref())?;
        let Some(file) = self.open_file(name)? else { return Ok(None) };
        let about = file.metadata().map_err(|source| self.fault(name, source))?;
        match about.is_file() {
            true => Ok(Some(file)),
            false => Err(self.refused(name, Errno::INVAL, EntryKind::File)),
        }
    }

    /// Reads the regular file `name` whole; `None` if there is nothing.
    ///
    /// # Errors
    /// A refusal for a link, a folder, a pipe or a device, and for more than `limit` bytes; the
    /// system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.write_new("note.txt", b"text").unwrap();
    /// assert!(folder.read("note.txt", 3).unwrap_err().is_refusal());
    /// assert!(folder.read("other.txt", 3).unwrap().is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(&self, name: impl AsRef<OsStr>, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
        let name = self.plain(name.as_ref())?;
        let Some(file) = self.file(name)? else { return Ok(None) };
        read_opened(file, limit).map(Some).map_err(|source| self.fault(name, source))
    }

    /// Reads the regular file at a relative path below this folder; `None` if a part of the path is
    /// absent.
    ///
    /// # Errors
    /// As [`folder`](Folder::folder) and [`read`](Folder::read).
    pub fn read_at(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>, PathError> {
        let Some(name) = path.file_name() else { return Err(self.fault(path.as_os_str(), not_a_name())) };
        match self.descend(path.parent().unwrap_or(Path::new("")))? {
            Some(folder) => folder.read(name, limit),
            None => Ok(None),
        }
    }

    /// Writes the new file `name`, waits until it is on the disk, and returns it open at its end.
    ///
    /// # Errors
    /// The system's own errors, also if anything of that name is there.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.write_new("note.txt", b"first").unwrap();
    /// assert!(folder.write_new("note.txt", b"second").is_err());
    /// assert_eq!(folder.read("note.txt", 1024).unwrap().unwrap(), b"first");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_new(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<File, PathError> {
        let name = self.plain(name.as_ref())?;
        let handle = rustix::fs::openat(&self.handle, name, NEW_FILE, FILE_MODE)
            .map_err(|error| self.error(name, error))?;
        let mut file = File::from(handle);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map(|()| file).map_err(|source| self.fault(name, source))
    }

    /// Writes the file `name`, which appears whole and replaces the entry of that name: a link
    /// itself, not its target. Returns the file open at its end.
    ///
    /// # Errors
    /// The system's own errors. They leave nothing behind.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::{EntryKind, Folder};
    /// # let temporary = tempfile::tempdir()?;
    /// # let target = temporary.path().join("target");
    /// std::fs::write(&target, "kept")?;
    /// std::os::unix::fs::symlink(&target, temporary.path().join("note.txt"))?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.write_whole("note.txt", b"text").unwrap();
    /// assert_eq!(folder.kind("note.txt").unwrap(), Some(EntryKind::File));
    /// assert_eq!(std::fs::read_to_string(&target)?, "kept");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn write_whole(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> Result<File, PathError> {
        let name = self.plain(name.as_ref())?;
        let temporary = format!("{TEMPORARY}{}", uuid::Uuid::now_v7());
        let written = self.write_new(&temporary, bytes);
        let placed = written.and_then(|file| self.rename(&temporary, self, name).map(|()| file));
        placed.map_err(|error| {
            let _ = self.remove_file(&temporary);
            PathError { path: self.path.join(name), ..error }
        })
    }

    /// Moves the entry `from` to `name` in the folder `to`, and replaces the entry there: a link
    /// itself, not its target.
    ///
    /// # Errors
    /// The system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// let sprites = folder.make_folder("sprites").unwrap();
    /// folder.write_new("new.json", b"{}").unwrap();
    /// folder.rename("new.json", &sprites, "manifest.json").unwrap();
    /// assert_eq!(sprites.read("manifest.json", 1024).unwrap().unwrap(), b"{}");
    /// assert!(folder.kind("new.json").unwrap().is_none());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn rename(
        &self,
        from: impl AsRef<OsStr>,
        to: &Folder,
        name: impl AsRef<OsStr>,
    ) -> Result<(), PathError> {
        let (from, name) = (self.plain(from.as_ref())?, to.plain(name.as_ref())?);
        let renamed = rustix::fs::renameat(&self.handle, from, &to.handle, name);
        renamed.map_err(|error| to.fault(name, error.into()))
    }

    /// Removes the entry `name`, which is no folder: a link itself, not its target. Nothing happens
    /// if it is absent.
    ///
    /// # Errors
    /// The system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.write_new("note.txt", b"text").unwrap();
    /// folder.remove_file("note.txt").unwrap();
    /// folder.remove_file("note.txt").unwrap();
    /// assert!(folder.entries().unwrap().is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remove_file(&self, name: impl AsRef<OsStr>) -> Result<(), PathError> {
        self.unlink(self.plain(name.as_ref())?, AtFlags::empty())
    }

    /// Removes the entry `name` with all that is in it. Links in it are removed, and their targets
    /// stay.
    ///
    /// # Errors
    /// A refusal for folders that nest more than 16 deep; the system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// let sprites = folder.make_folder("sprites").unwrap();
    /// sprites.write_new("key.png", b"").unwrap();
    /// std::os::unix::fs::symlink("/etc", temporary.path().join("sprites/link"))?;
    /// folder.remove_all("sprites").unwrap();
    /// assert!(folder.kind("sprites").unwrap().is_none() && std::path::Path::new("/etc").exists());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> Result<(), PathError> {
        self.remove_nested(self.plain(name.as_ref())?, MAX_DEPTH)
    }

    /// The entries of this folder, in no order.
    ///
    /// # Errors
    /// The system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::{EntryKind, Folder};
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.write_new("note.txt", b"text").unwrap();
    /// let entries = folder.entries().unwrap();
    /// assert_eq!((entries.len(), entries[0].kind), (1, EntryKind::File));
    /// assert_eq!(entries[0].name, "note.txt");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn entries(&self) -> Result<Vec<Entry>, PathError> {
        let fault = |error: Errno| PathError { path: self.path.clone(), source: error.into() };
        let mut entries = vec![];
        for entry in Dir::read_from(&self.handle).map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            // It may be gone by now.
            if let Some(stat) = self.stat(&name)? {
                entries.push(Entry { kind: EntryKind::of(&stat), modified: modified(&stat), name });
            }
        }
        Ok(entries)
    }

    /// The kind of the entry `name`; `None` if there is nothing.
    ///
    /// # Errors
    /// The system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::{EntryKind, Folder};
    /// # let temporary = tempfile::tempdir()?;
    /// std::os::unix::fs::symlink("/etc", temporary.path().join("link"))?;
    /// let folder = Folder::open(temporary.path())?;
    /// assert_eq!(folder.kind("link").unwrap(), Some(EntryKind::Link));
    /// assert_eq!(folder.kind("sprites").unwrap(), None);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Result<Option<EntryKind>, PathError> {
        let stat = self.stat(self.plain(name.as_ref())?)?;
        Ok(stat.as_ref().map(EntryKind::of))
    }

    /// Refuses the entry `name` if it is of another kind than `expected`; it may be absent.
    ///
    /// # Errors
    /// A refusal; the system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::{EntryKind, Folder};
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// assert!(folder.expect("sprites", EntryKind::Folder).is_ok());
    /// folder.write_new("sprites", b"").unwrap();
    /// assert!(folder.expect("sprites", EntryKind::Folder).unwrap_err().is_refusal());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn expect(&self, name: impl AsRef<OsStr>, expected: EntryKind) -> Result<(), PathError> {
        let name = name.as_ref();
        match self.kind(name)? {
            Some(kind) if kind != expected => Err(self.refused(name, Errno::INVAL, expected)),
            _ => Ok(()),
        }
    }

    /// Waits until the names in this folder are on the disk.
    ///
    /// # Errors
    /// The system's own errors.
    pub fn sync(&self) -> Result<(), PathError> {
        let synced = rustix::fs::fsync(&self.handle);
        synced.map_err(|error| PathError { path: self.path.clone(), source: error.into() })
    }

    /// Locks the folder until the returned file is dropped or the process ends; `None` while
    /// another program or handle has the lock. Nothing has to be made or opened in the folder for
    /// it.
    ///
    /// # Errors
    /// The system's own errors, as on a file system without locks.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// let lock = folder.try_lock().unwrap();
    /// assert!(lock.is_some());
    /// assert!(Folder::open(temporary.path())?.try_lock().unwrap().is_none());
    /// drop(lock);
    /// assert!(folder.try_lock().unwrap().is_some());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_lock(&self) -> Result<Option<File>, PathError> {
        let file = File::from(self.duplicate()?);
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(PathError { path: self.path.clone(), source }),
        }
    }

    /// Refuses this folder if a link, a pipe, a device or a socket is anywhere in it.
    ///
    /// # Errors
    /// A refusal that names the entry, or a folder more than 16 deep; the system's own errors.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::files::Folder;
    /// # let temporary = tempfile::tempdir()?;
    /// let folder = Folder::open(temporary.path())?;
    /// folder.make_folder("sprites").unwrap();
    /// assert!(folder.expect_plain().is_ok());
    /// std::os::unix::fs::symlink("/etc", temporary.path().join("sprites/link"))?;
    /// assert!(folder.expect_plain().unwrap_err().path.ends_with("sprites/link"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn expect_plain(&self) -> Result<(), PathError> {
        self.expect_nested(MAX_DEPTH)
    }

    /// `true` if both are the same folder of the disk.
    #[cfg(feature = "deploy")]
    pub(crate) fn is_same(&self, other: &Folder) -> io::Result<bool> {
        let [one, two] = [rustix::fs::fstat(&self.handle)?, rustix::fs::fstat(&other.handle)?];
        Ok((one.st_dev, one.st_ino) == (two.st_dev, two.st_ino))
    }

    /// A refusal of the entry `name`.
    pub(crate) fn refusal(&self, name: &OsStr, reason: impl Into<String>) -> PathError {
        self.fault(name, io::Error::new(io::ErrorKind::InvalidInput, reason.into()))
    }

    fn duplicate(&self) -> Result<OwnedFd, PathError> {
        // A handle of its own: a lock on a copy of this one would end with either.
        rustix::fs::openat(&self.handle, ".", FOLDER, Mode::empty())
            .map_err(|error| PathError { path: self.path.clone(), source: error.into() })
    }

    fn open_folder(&self, name: &OsStr, flags: OFlags) -> Result<Option<Folder>, PathError> {
        let name = self.plain(name)?;
        match rustix::fs::openat(&self.handle, name, FOLDER.union(flags), Mode::empty()) {
            Ok(handle) => Ok(Some(Folder { handle, path: self.path.join(name) })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.refused(name, error, EntryKind::Folder)),
        }
    }

    fn open_file(&self, name: &OsStr) -> Result<Option<File>, PathError> {
        match rustix::fs::openat(&self.handle, name, READ, Mode::empty()) {
            Ok(handle) => Ok(Some(handle.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.refused(name, error, EntryKind::File)),
        }
    }

    fn expect_nested(&self, depth: usize) -> Result<(), PathError> {
        for Entry { name, kind, .. } in self.entries()? {
            match kind {
                EntryKind::File => {}
                EntryKind::Folder if depth == 0 => return Err(self.too_deep(&name)),
                EntryKind::Folder => {
                    if let Some(folder) = self.folder(&name)? {
                        folder.expect_nested(depth - 1)?;
                    }
                }
                EntryKind::Link | EntryKind::Other => {
                    let reason = format!("{}; expected a regular file or a folder", kind.words());
                    return Err(self.refusal(&name, reason));
                }
            }
        }
        Ok(())
    }

    fn too_deep(&self, name: &OsStr) -> PathError {
        self.refusal(name, format!("it is more than {MAX_DEPTH} folders deep; remove it"))
    }

    fn remove_nested(&self, name: &OsStr, depth: usize) -> Result<(), PathError> {
        if self.kind(name)? != Some(EntryKind::Folder) {
            return self.remove_file(name);
        }
        if depth == 0 {
            return Err(self.too_deep(name));
        }
        if let Some(folder) = self.folder(name)? {
            for entry in folder.entries()? {
                folder.remove_nested(&entry.name, depth - 1)?;
            }
        }
        self.unlink(name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, name: &OsStr, flags: AtFlags) -> Result<(), PathError> {
        match rustix::fs::unlinkat(&self.handle, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error(name, error)),
        }
    }

    fn stat(&self, name: &OsStr) -> Result<Option<Stat>, PathError> {
        match rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// `name`, if it is the name of one entry.
    fn plain<'a>(&self, name: &'a OsStr) -> Result<&'a OsStr, PathError> {
        let bytes = name.as_encoded_bytes();
        match bytes.is_empty() || bytes.contains(&b'/') || name == "." || name == ".." {
            true => Err(self.fault(name, not_a_name())),
            false => Ok(name),
        }
    }

    /// The reason why `name` cannot be opened, if it is another kind of entry than `expected`.
    fn refused(&self, name: &OsStr, error: Errno, expected: EntryKind) -> PathError {
        let wanted = match expected {
            EntryKind::Folder => "a folder",
            _ => "a regular file",
        };
        match self.kind(name) {
            Ok(Some(kind)) if kind != expected => {
                self.refusal(name, format!("{}; expected {wanted}", kind.words()))
            }
            _ => self.error(name, error),
        }
    }

    fn error(&self, name: &OsStr, error: Errno) -> PathError {
        self.fault(name, error.into())
    }

    fn fault(&self, name: &OsStr, source: io::Error) -> PathError {
        PathError { path: self.path.join(name), source }
    }
}

fn not_a_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no file's name; expected one without `/` and `..`")
}
