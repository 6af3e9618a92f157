//! Writing a file so that it is whole or not there.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::error::Error;

/// Checks that a file may be written at `path`: nothing is there, or `force` may replace it.
///
/// `force` replaces regular files only: never a folder, a link, a pipe, a socket or a device.
///
/// # Errors
/// [`Error::Exists`] for a file that `force` would replace; [`Error::Output`] for anything that
/// stays in any case.
///
/// # Example
/// ```
/// use dgx_pixels_core::Error;
/// use dgx_pixels_core::files::check_replaceable;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key.png");
/// check_replaceable(&path, false)?;
/// std::fs::write(&path, b"")?;
/// assert!(matches!(check_replaceable(&path, false), Err(Error::Exists { .. })));
/// check_replaceable(&path, true)?;
/// // A folder stays in any case.
/// assert!(matches!(check_replaceable(folder.path(), true), Err(Error::Output { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_replaceable(path: &Path, force: bool) -> Result<(), Error> {
    let fault = |reason: &str| Err(Error::output(path, reason));
    let kind = match path.symlink_metadata() {
        Ok(about) => about.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::output(path, error)),
    };
    if kind.is_dir() {
        fault("it is a folder; expected a file or a free name")
    } else if kind.is_symlink() {
        fault("it is a link, which is not replaced; expected a file or a free name")
    } else if !kind.is_file() {
        fault("it is a pipe, a socket or a device; expected a file or a free name")
    } else if !force {
        Err(Error::Exists { path: path.to_owned() })
    } else {
        Ok(())
    }
}

/// Writes one file: all of it under a temporary name beside `path`, synced, then renamed. Makes the
/// folder if it is absent. `force` replaces a regular file that is there.
///
/// # Errors
/// [`Error::Exists`] without `force`; [`Error::Output`] for a full disk and the like, and for a
/// folder, a link, a pipe or a device in the file's place. Neither leaves anything behind.
///
/// # Example
/// ```
/// use dgx_pixels_core::Error;
/// use dgx_pixels_core::files::write_whole;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("sprites/key.json");
/// write_whole(&path, b"{}", false)?;
/// assert!(matches!(write_whole(&path, b"[]", false), Err(Error::Exists { .. })));
/// write_whole(&path, b"[]", true)?;
/// assert_eq!(std::fs::read(&path)?, b"[]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_whole(path: &Path, bytes: &[u8], force: bool) -> Result<(), Error> {
    let fault = |error: io::Error| Error::output(path, error);
    if force {
        check_replaceable(path, force)?;
    }
    let folder = match path.parent() {
        // The empty path is the current folder to people, and nothing to the system.
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    };
    if !folder.is_dir() {
        // Many may be written at once.
        fs::create_dir_all(folder).map_err(fault)?;
    }
    // The mode of any new file; `tempfile` alone lets nobody but the owner read it.
    let mode = Permissions::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(".dgx-pixels-").permissions(mode).tempfile_in(folder).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(fault)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::Exists { path: path.to_owned() })
        }
        Err(error) => Err(fault(error.error)),
    }
}
