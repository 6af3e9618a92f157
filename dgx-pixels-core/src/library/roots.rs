//! Paths that come from outside: only files in folders that were allowed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::error::{Error, because};
use crate::files::Folder;

/// The folders in which files may be read and written on behalf of others.
///
/// A path is judged by where it leads once all links and `..` are followed. [`open`](Roots::open),
/// [`open_folder`](Roots::open_folder) and [`open_beside`](Roots::open_beside) judge the very file
/// or folder that they have opened. What [`resolve`](Roots::resolve) and
/// [`resolve_new`](Roots::resolve_new) give was right when they looked: whoever can write in a root
/// can put a link there before the path is used. They keep apart what a caller may name, not what
/// other programs of the same user may do. A hard link is the file itself, wherever else it has a
/// name.
///
/// # Example
/// ```
/// use dgx_pixels_core::{ErrorKind, library::Roots};
/// # let folder = tempfile::tempdir()?;
/// # let pictures = folder.path();
/// # std::fs::write(pictures.join("key.png"), "")?;
/// let roots = Roots::new([pictures])?;
/// assert!(roots.resolve(&pictures.join("key.png"))?.is_absolute());
/// assert_eq!(roots.resolve(&pictures.join("../../etc/passwd")).unwrap_err().kind(), ErrorKind::ForbiddenPath);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots(Vec<PathBuf>);

impl Roots {
    /// Allows these folders, and all in them. Without any, every path is refused.
    ///
    /// # Errors
    /// [`Error::NoFile`] for one that is not there, or no folder.
    pub fn new(roots: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Roots, Error> {
        let resolved = roots.into_iter().map(|root| {
            let root = root.as_ref();
            let found = root.canonicalize().map_err(|error| Error::no_file(root, error))?;
            match found.is_dir() {
                true => Ok(found),
                false => Err(Error::no_file(root, "it is a file; expected a folder")),
            }
        });
        resolved.collect::<Result<_, _>>().map(Roots)
    }

    /// The folders, absolute and without links.
    pub fn folders(&self) -> &[PathBuf] {
        &self.0
    }

    /// Returns the absolute path of an existing plain file, without links. A relative path begins
    /// at the current folder.
    ///
    /// # Errors
    /// [`Error::ForbiddenPath`] if it lies outside, or is a folder, a pipe or a device;
    /// [`Error::NoFile`] if there is nothing. Of what lies outside nothing is told, not even
    /// whether it is there.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::ErrorKind;
    /// use dgx_pixels_core::library::Roots;
    /// # let folder = tempfile::tempdir()?;
    /// std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link"))?;
    /// let roots = Roots::new([folder.path()])?;
    /// // The link is inside, and its target is not.
    /// let error = roots.resolve(&folder.path().join("link")).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::ForbiddenPath);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, Error> {
        let found = self.inside(path)?;
        let metadata = found.symlink_metadata().map_err(|error| Error::no_file(path, error))?;
        if !metadata.is_file() {
            return Err(self.forbidden(path, "it is no plain file"));
        }
        Ok(found)
    }

    /// Opens an existing folder. It is the opened folder that is judged, so that a link put in its
    /// way meanwhile gains nothing.
    ///
    /// # Errors
    /// As [`resolve`](Roots::resolve), for anything else than a folder.
    pub fn open_folder(&self, path: &Path) -> Result<Folder, Error> {
        let found = self.inside(path)?;
        match found.is_dir() {
            true => self.open_found(&found, path),
            false => Err(self.forbidden(path, "it is no folder")),
        }
    }

    /// Opens an existing plain file to be read. It is the opened file that is judged, so that a
    /// link put in its way meanwhile gains nothing.
    ///
    /// # Errors
    /// As [`resolve`](Roots::resolve).
    pub fn open(&self, path: &Path) -> Result<File, Error> {
        let (folder, name) = self.open_beside(path)?;
        match folder.file(&name) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(Error::no_file(path, "it is not there any more")),
            Err(error) => Err(Error::no_file(path, error.source)),
        }
    }

    /// Opens the folder of an existing plain file, and returns it with the file's name. What lies
    /// beside the file is read from that folder, and so follows no link out of it.
    ///
    /// # Errors
    /// As [`resolve`](Roots::resolve).
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::Roots;
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("hero.png"), "")?;
    /// std::fs::write(folder.path().join("hero.json"), "{}")?;
    /// let roots = Roots::new([folder.path()])?;
    /// let (opened, name) = roots.open_beside(&folder.path().join("hero.png"))?;
    /// assert_eq!(name, "hero.png");
    /// assert_eq!(opened.read("hero.json", 1024).unwrap().unwrap(), b"{}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_beside(&self, path: &Path) -> Result<(Folder, OsString), Error> {
        let found = self.resolve(path)?;
        let (Some(folder), Some(name)) = (found.parent(), found.file_name()) else {
            return Err(self.forbidden(path, "it is no plain file"));
        };
        Ok((self.open_found(folder, path)?, name.to_owned()))
    }

    /// Opens the folder `found`, which was inside when `path` was resolved.
    fn open_found(&self, found: &Path, path: &Path) -> Result<Folder, Error> {
        let folder = Folder::open(found).map_err(|error| Error::no_file(path, error))?;
        let opened = fs::read_link(format!("/proc/self/fd/{}", folder.handle().as_raw_fd()));
        match opened {
            Ok(opened) if self.contain(&opened) => Ok(folder.named(opened)),
            _ => Err(self.forbidden(path, "it was moved while it was opened")),
        }
    }

    /// Returns the absolute path of a file to write, without links. Its folder exists, and at its
    /// place is nothing, or a plain file that may or may not be replaced.
    ///
    /// # Errors
    /// As [`resolve`](Roots::resolve).
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::library::Roots;
    /// # let folder = tempfile::tempdir()?;
    /// let roots = Roots::new([folder.path()])?;
    /// assert!(roots.resolve_new(&folder.path().join("key.png"))?.ends_with("key.png"));
    /// assert!(roots.resolve_new(&folder.path().join("../key.png")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resolve_new(&self, path: &Path) -> Result<PathBuf, Error> {
        // `file_name` passes over a `/` or `/.` at the end, which asks for a folder.
        let bytes = path.as_os_str().as_encoded_bytes();
        let name = path.file_name().filter(|name| bytes.ends_with(name.as_encoded_bytes()));
        let Some(name) = name else {
            return Err(self.forbidden(path, "it does not end in the name of a file"));
        };
        let folder = match path.parent() {
            Some(folder) if folder != OsStr::new("") => folder,
            _ => Path::new("."),
        };
        let folder = self.inside(folder).map_err(|error| match error {
            Error::NoFile { reason, cause, .. } => {
                let reason = format!("its folder{}", because(&reason));
                Error::NoFile { path: path.to_owned(), reason, cause }
            }
            Error::ForbiddenPath { reason, .. } => self.forbidden(path, &reason),
            error => error,
        })?;
        let found = folder.join(name);
        match found.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => Ok(found),
            Ok(_) => Err(self.forbidden(path, "what is there is no plain file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => Ok(found),
            Err(error) => Err(Error::no_file(path, error)),
        }
    }

    /// The target of `path`, if it is inside.
    fn inside(&self, path: &Path) -> Result<PathBuf, Error> {
        let outside = || self.forbidden(path, "it lies outside");
        match path.canonicalize() {
            Ok(found) if self.contain(&found) => Ok(found),
            Ok(_) => Err(outside()),
            Err(error) => {
                // The last folder on the way that is there says whether the caller may know.
                let begin = Path::new(".");
                let way = path
                    .ancestors()
                    .skip(1)
                    .map(|folder| if folder == OsStr::new("") { begin } else { folder });
                let known = way.filter_map(|folder| folder.canonicalize().ok()).next();
                let leads_astray =
                    path.ancestors().any(|way| way.is_symlink() && way.canonicalize().is_err());
                match known.is_some_and(|folder| self.contain(&folder)) && !leads_astray {
                    true => Err(Error::no_file(path, error)),
                    false => Err(outside()),
                }
            }
        }
    }

    fn contain(&self, path: &Path) -> bool {
        self.0.iter().any(|root| path.starts_with(root))
    }

    fn forbidden(&self, path: &Path, reason: &str) -> Error {
        Error::ForbiddenPath { path: path.to_owned(), reason: reason.into(), roots: self.0.clone() }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::io::Read as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;
    use crate::ErrorKind;

    /// `allowed/key.png`, `allowed/deep/`, `outside/secret`, and what may lead from one to the
    /// other.
    fn folders() -> (TempDir, PathBuf, Roots) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("allowed/deep")).unwrap();
        fs::create_dir(base.join("outside")).unwrap();
        fs::create_dir(base.join("allowed-too")).unwrap();
        fs::write(base.join("allowed/key.png"), "a key").unwrap();
        fs::write(base.join("allowed-too/key.png"), "a key").unwrap();
        fs::write(base.join("outside/secret"), "a secret").unwrap();
        symlink("../outside/secret", base.join("allowed/link")).unwrap();
        symlink("../outside", base.join("allowed/folder-link")).unwrap();
        symlink("../outside/not-there", base.join("allowed/dangling")).unwrap();
        symlink("loop", base.join("allowed/loop")).unwrap();
        symlink("../key.png", base.join("allowed/deep/good-link")).unwrap();
        let roots = Roots::new([base.join("allowed")]).unwrap();
        (folder, base, roots)
    }

    #[test]
    fn files_inside_are_found_whatever_way_leads_to_them() {
        let (_folder, base, roots) = folders();
        for way in [
            "allowed/key.png",
            "allowed/deep/../key.png",
            "allowed/deep/good-link",
            "outside/../allowed/key.png",
        ] {
            assert_eq!(roots.resolve(&base.join(way)).unwrap(), base.join("allowed/key.png"), "{way}");
            let mut text = String::new();
            roots.open(&base.join(way)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "a key");
        }
        assert_eq!(roots.open_folder(&base.join("allowed/deep/..")).unwrap().path(), base.join("allowed"));
        assert!(
            roots.open_folder(&base.join("allowed/key.png")).unwrap_err().to_string().contains("no folder")
        );
        let here = Roots::new(["."]).unwrap();
        assert_eq!(here.resolve(Path::new("Cargo.toml")).unwrap(), here.folders()[0].join("Cargo.toml"));
        assert_eq!(here.resolve_new(Path::new("new.png")).unwrap(), here.folders()[0].join("new.png"));
        assert!(matches!(here.resolve(Path::new("new.png")), Err(Error::NoFile { .. })));
    }

    #[test]
    fn what_leads_outside_is_refused_and_nothing_told_of_it() {
        let (_folder, base, roots) = folders();
        let ways = [
            "outside/secret",
            "outside/not-there",
            "outside/not/there",
            "allowed/../outside/secret",
            "allowed/deep/../../outside/secret",
            "allowed/../outside/not-there",
            "allowed/link",
            "allowed/folder-link/secret",
            "allowed/folder-link/not-there",
            "allowed/dangling",
            "allowed/loop",
            "allowed-too/key.png",
            "outside",
            "",
        ];
        for way in ways {
            let path = base.join(way);
            let folder = roots.open_folder(&path).unwrap_err();
            for error in [roots.resolve(&path).unwrap_err(), roots.open(&path).map(drop).unwrap_err(), folder]
            {
                let text = error.to_string();
                assert_eq!(error.kind(), ErrorKind::ForbiddenPath, "{text}");
                let allowed = base.join("allowed");
                let expected = format!(
                    "`{}` may not be used: it lies outside; expected a path in `{}`, or start with its folder allowed",
                    path.display(),
                    allowed.display()
                );
                assert_eq!(text, expected);
            }
        }
        let error = Roots::new([""; 0]).unwrap().resolve(&base.join("allowed/key.png")).unwrap_err();
        assert!(error.to_string().contains("an allowed folder, of which there is none"), "{error}");
    }

    #[test]
    fn what_is_inside_and_no_plain_file_is_refused_without_waiting() {
        let (_folder, base, roots) = folders();
        let pipe = base.join("allowed/pipe");
        let path = CString::new(pipe.as_os_str().as_bytes()).unwrap();
        // SAFETY: it is given a text that ends.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
        let _socket = UnixListener::bind(base.join("allowed/socket")).unwrap();
        for way in ["pipe", "socket", "deep"] {
            let path = base.join("allowed").join(way);
            let reason =
                [roots.resolve(&path), roots.resolve_new(&path), roots.open(&path).map(|_| PathBuf::new())];
            for error in reason.map(Result::unwrap_err) {
                assert_eq!(error.kind(), ErrorKind::ForbiddenPath);
                assert!(error.to_string().contains("no plain file"), "{error}");
            }
        }
        let device = Roots::new(["/dev"]).unwrap().resolve(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(device.kind(), ErrorKind::ForbiddenPath);
    }

    #[test]
    fn what_is_not_there_is_named() {
        let (_folder, base, roots) = folders();
        for way in ["allowed/none.png", "allowed/none/at/all.png", "allowed/key.png/in", "allowed/key.png\0"]
        {
            let error = roots.resolve(&base.join(way)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        }
        let error = Roots::new([base.join("none")]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Roots::new([base.join("allowed/key.png")]).unwrap_err();
        assert!(error.to_string().ends_with("it is a file; expected a folder"), "{error}");
    }

    #[test]
    fn new_files_go_inside_only() {
        let (_folder, base, roots) = folders();
        let at = |way: &str| roots.resolve_new(&base.join(way));
        assert_eq!(at("allowed/deep/../new.png").unwrap(), base.join("allowed/new.png"));
        assert_eq!(at("allowed/key.png").unwrap(), base.join("allowed/key.png"));
        let refused = [
            "outside/new.png",
            "allowed/../new.png",
            "allowed/..",
            "allowed/deep/..",
            "allowed/new.png/",
            "allowed/new.png/.",
            "allowed/link",
            "allowed/dangling",
            "allowed/folder-link/new.png",
            "allowed",
            "/",
        ];
        for way in refused {
            let error = at(way).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ForbiddenPath, "{way}: {error}");
            assert!(error.to_string().contains(&format!("`{}`", base.join(way).display())), "{error}");
        }
        for way in ["allowed/none/new.png", "allowed/key.png/new.png", "allowed/new\0.png"] {
            assert_eq!(at(way).unwrap_err().kind(), ErrorKind::NotFound, "{way}");
        }
        assert!(at(&format!("allowed/{}", "x".repeat(5000))).is_err());
    }
}
