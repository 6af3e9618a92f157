//! A Bevy project's folders, the lock that one deployer holds at a time, and files that appear whole.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::asset::{MANIFEST_PATH, Manifest};
use crate::error::Error;

/// Where deploys keep what is no asset of the game.
const OURS: &str = ".dgx-pixels";

/// Another deploy takes milliseconds; one that takes longer is stopped or hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// A Bevy project that sprites are deployed into.
///
/// Sprites go to `assets/sprites`. What deploys need beside them is in `.dgx-pixels`, on the same filesystem and out of sight of Bevy's file
/// watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The project in a folder: one with a `Cargo.toml` that depends on Bevy.
    ///
    /// # Errors
    /// [`Error::Project`] for any other folder.
    pub fn open(root: impl AsRef<Path>) -> Result<Project, Error> {
        let root = root.as_ref();
        let fault = |reason: String| Error::Project { path: root.to_owned(), reason };
        let expected = "expected the folder of a Bevy game, with its `Cargo.toml`";
        let found = root.canonicalize().map_err(|error| fault(format!("{error}; {expected}")))?;
        let cargo_toml = match fs::read_to_string(found.join("Cargo.toml")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(fault(format!("it has no `Cargo.toml`; {expected}")));
            }
            Err(error) => return Err(fault(format!("its `Cargo.toml` cannot be read: {error}"))),
        };
        let is_bevys = |line: &str| line.split('#').next().is_some_and(|line| line.trim().contains("bevy"));
        if !cargo_toml.lines().any(is_bevys) {
            let reason =
                "its `Cargo.toml` does not name Bevy; expected a game's; `cargo add bevy@0.19` makes it one";
            return Err(fault(reason.into()));
        }
        Ok(Project { root: found })
    }

    /// Absolute, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that the game loads from.
    pub fn assets(&self) -> PathBuf {
        self.root.join("assets")
    }

    /// The manifest's file. It need not be there.
    pub fn manifest_path(&self) -> PathBuf {
        self.assets().join(MANIFEST_PATH)
    }

    /// The folder that paths of the manifest begin at.
    pub(in crate::asset) fn sprites(&self) -> PathBuf {
        self.manifest_path().parent().expect("the manifest's path has a folder; this is a bug").to_owned()
    }

    /// The sprites that the game has; an empty manifest if it has none yet.
    ///
    /// # Errors
    /// [`Error::Project`] if the manifest cannot be read.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        Ok(self.read_manifest()?.map(|(manifest, _)| manifest).unwrap_or_default())
    }

    /// With its text.
    pub(in crate::asset) fn read_manifest(&self) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
        self.read_manifest_at(&self.manifest_path())
    }

    fn read_manifest_at(&self, path: &Path) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
        let fault = |reason: String| Error::Project { path: path.to_owned(), reason };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error.to_string())),
        };
        let advice = "`dgx-pixels deploy --rollback` puts back the one before";
        let manifest = Manifest::read(&text).map_err(|error| fault(format!("{error}; {advice}")))?;
        match manifest.faults().first() {
            Some(first) => Err(fault(format!("`{}` {}; {advice}", first.field, first.reason))),
            None => Ok(Some((manifest, text))),
        }
    }

    /// The one before the last deploy.
    pub(super) fn read_previous(&self) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
        self.read_manifest_at(&self.previous_path())
    }

    pub(super) fn previous_path(&self) -> PathBuf {
        self.ours().join("previous.json")
    }

    pub(super) fn unreadable_path(&self) -> PathBuf {
        self.ours().join("unreadable.json")
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.ours().join("staging")
    }

    fn ours(&self) -> PathBuf {
        self.root.join(OURS)
    }

    /// Waits for other deployers. The lock ends with the file, also when the process is killed.
    pub(super) fn lock(&self) -> Result<File, Error> {
        let path = self.ours().join("lock");
        let fault = |error: io::Error| output(&path, error);
        fs::create_dir_all(self.ours()).map_err(|error| output(&self.ours(), error))?;
        let ignore = self.ours().join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(|error| output(&ignore, error))?;
        }
        let file = File::create(&path).map_err(fault)?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_PATIENCE => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => {
                    let seconds = LOCK_PATIENCE.as_secs();
                    let reason =
                        format!("another deploy has held it for {seconds} s; end that one, and try again");
                    return Err(Error::Project { path, reason });
                }
                Err(TryLockError::Error(error)) => return Err(fault(error)),
            }
        }
    }
}

/// The manifest before the one in this folder, if a deploy wrote both.
pub(in crate::asset) fn previous_manifest(sprites: &Path) -> Option<Manifest> {
    let root = sprites.parent()?.parent()?;
    let text = fs::read(root.join(OURS).join("previous.json")).ok()?;
    Manifest::read(&text).ok()
}

/// A failure to write.
pub(super) fn output(path: &Path, error: io::Error) -> Error {
    Error::Output { path: path.to_owned(), reason: error.to_string() }
}

/// Writes a new file and waits until it is on the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| output(path, error))
}

/// Puts a file into its place, where it appears whole. Its folder is made if it is absent.
pub(super) fn place(from: &Path, to: &Path) -> Result<(), Error> {
    let fault = |error: io::Error| output(to, error);
    let folder = to.parent().expect("a file has a folder; this is a bug");
    fs::create_dir_all(folder).map_err(fault)?;
    match fs::rename(from, to) {
        // `assets` may be a link to another disk. The file watcher leaves names with a dot at their front alone.
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let bytes = fs::read(from).map_err(fault)?;
            crate::picture_file::write_whole(to, &bytes, true)
        }
        renamed => renamed.map_err(fault),
    }
}

/// Waits until the names in a folder are on the disk.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| output(folder, error))
}
