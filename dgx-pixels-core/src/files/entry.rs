//! The entries of a folder, and failures at one path.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};

/// The begin of the names that files have until they are whole, here and in
/// [`write_whole`](crate::files::write_whole).
pub(super) const TEMPORARY: &str = ".dgx-pixels-";

/// A failure at one path.
///
/// # Example
/// ```
/// use dgx_pixels_core::files::Folder;
/// # let temporary = tempfile::tempdir()?;
/// let folder = Folder::open(temporary.path())?;
/// folder.write_new("note.txt", b"text").unwrap();
/// let error = folder.folder("note.txt").unwrap_err();
/// assert!(error.is_refusal() && error.path.ends_with("note.txt"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PathError {
    /// The file or folder at fault.
    pub path: PathBuf,
    /// The reason. Nothing of a file's content is in it.
    pub source: io::Error,
}

/// An entry of a folder.
///
/// # Example
/// ```
/// use dgx_pixels_core::files::{EntryKind, Folder};
/// # let temporary = tempfile::tempdir()?;
/// let folder = Folder::open(temporary.path())?;
/// folder.write_new(".dgx-pixels-half", b"").unwrap();
/// let entry = folder.entries().unwrap().remove(0);
/// assert!(entry.kind == EntryKind::File && entry.is_temporary());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Entry {
    /// The name in its folder.
    pub name: OsString,
    /// The kind of the entry itself, not of a link's target.
    pub kind: EntryKind,
    /// The time of the last change of its content.
    pub modified: SystemTime,
}

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, a device or a socket.
    Other,
}

impl PathError {
    /// `true` if the path leads to something that is never used, such as a link or a pipe; `false`
    /// for a full disk, missing permissions and the like.
    pub fn is_refusal(&self) -> bool {
        self.source.kind() == io::ErrorKind::InvalidInput
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for PathError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Entry {
    /// `true` for a file that was being written when a program was killed, or is being written now.
    /// The name of such a file begins with `.dgx-pixels-`.
    pub fn is_temporary(&self) -> bool {
        self.kind == EntryKind::File && self.name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
    }
}

impl EntryKind {
    pub(super) fn of(stat: &Stat) -> EntryKind {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Other,
        }
    }

    /// The words of an error about an entry of this kind.
    pub(crate) fn words(self) -> &'static str {
        match self {
            EntryKind::File => "it is a file",
            EntryKind::Folder => "it is a folder",
            EntryKind::Link => "it is a symbolic link",
            EntryKind::Other => "it is a pipe, a device or a socket",
        }
    }
}

/// A time before 1970 counts as 1970.
pub(super) fn modified(stat: &Stat) -> SystemTime {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos.min(999_999_999))
}
