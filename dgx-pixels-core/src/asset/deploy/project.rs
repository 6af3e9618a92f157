//! A Bevy project's folders, and the lock that one deployer holds at a time.
//!
//! Everything below the project's folder is reached from the open folder, and links are refused: a
//! project may be a clone of somebody else's repository.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dgx_pixels_manifest::{MANIFEST_PATH, Manifest};

use crate::error::{Error, Reason};
use crate::files::{EntryKind, Folder, MAX_PICTURE_BYTES, MAX_TEXT_BYTES, PathError};

const ASSETS: &str = "assets";
const SPRITES: &str = "sprites";
/// The manifest in [`SPRITES`], and in the folder of files on their way.
pub(in crate::asset) const MANIFEST: &str = "manifest.json";

/// The folder of files that deploys keep and that are no assets of the game.
const OURS: &str = ".dgx-pixels";
/// The file in [`OURS`] with the manifest before the last deploy.
pub(super) const PREVIOUS: &str = "previous.json";
/// The file in [`OURS`] with a manifest that could not be read when a rollback replaced it.
pub(super) const UNREADABLE: &str = "unreadable.json";
/// The folder in [`OURS`] of files that are being written.
pub(super) const STAGING: &str = "staging";
const IGNORE: &str = ".gitignore";

/// Another deploy takes milliseconds; one that takes longer is stopped or hangs.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// A Bevy project that sprites are deployed into.
///
/// Sprites go to `assets/sprites`. What deploys need beside them is in `.dgx-pixels`, on the same
/// filesystem and out of sight of Bevy's file watcher. A link in a deploy's way is an error, and is
/// not followed; [`follow_assets_link`](Project::follow_assets_link) allows one.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::Project;
/// # let game = tempfile::tempdir()?;
/// assert!(Project::open(game.path()).is_err());
/// std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
/// let project = Project::open(game.path())?;
/// assert!(project.manifest_path().ends_with("assets/sprites/manifest.json"));
/// assert!(project.manifest()?.sprites.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Project {
    /// Opened by its absolute path without links.
    folder: Arc<Folder>,
    follows_assets_link: bool,
}

/// The folder [`OURS`], which no other deployer uses until this is dropped.
pub(super) struct Locked {
    pub(super) ours: Folder,
    _lock: File,
}

impl Project {
    /// The project in a folder: one with a `Cargo.toml` that depends on Bevy.
    ///
    /// # Errors
    /// [`Error::Project`] for any other folder.
    pub fn open(root: impl AsRef<Path>) -> Result<Project, Error> {
        let root = root.as_ref();
        let found = root.canonicalize().and_then(|found| Folder::open(&found));
        let found =
            found.map_err(|error| fault(root, (format!("it cannot be opened; {EXPECTED}"), error)))?;
        Project::open_in(found)
    }

    /// The project in a folder that is open already by its absolute path.
    ///
    /// # Errors
    /// As [`open`](Project::open).
    pub fn open_in(folder: Folder) -> Result<Project, Error> {
        let refuse = |reason: Reason| fault(folder.path(), reason);
        let cargo_toml = match folder.read("Cargo.toml", MAX_TEXT_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(refuse(format!("it has no `Cargo.toml`; {EXPECTED}").into())),
            Err(error) => {
                return Err(refuse(("its `Cargo.toml` cannot be read", error.source).into()));
            }
        };
        let cargo_toml = String::from_utf8_lossy(&cargo_toml);
        let is_bevys = |line: &str| line.split('#').next().is_some_and(|line| line.trim().contains("bevy"));
        if !cargo_toml.lines().any(is_bevys) {
            let reason =
                "its `Cargo.toml` does not name Bevy; expected a game's; `cargo add bevy@0.19` makes it one";
            return Err(refuse(reason.into()));
        }
        Ok(Project { folder: Arc::new(folder), follows_assets_link: false })
    }

    /// Allows the folder `assets` itself to be a link, which the user has made: deploys write where
    /// it leads, also outside the project. All other links stay refused.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::{NewSprite, Project};
    /// use dgx_pixels_manifest::SpriteName;
    /// # let (game, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// # std::fs::write(game.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"")?;
    /// # let png = dgx_pixels_core::picture_file::sprite_png(&image::RgbaImage::new(16, 16), None)?;
    /// std::os::unix::fs::symlink(elsewhere.path(), game.path().join("assets"))?;
    /// let key = [NewSprite::new(SpriteName::new("item", "key")?, png)];
    /// assert!(Project::open(game.path())?.deploy(&key).is_err());
    /// assert!(Project::open(game.path())?.follow_assets_link().deploy(&key)?.changed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn follow_assets_link(self) -> Project {
        Project { follows_assets_link: true, ..self }
    }

    /// Absolute, without links.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that the game loads from.
    pub fn assets(&self) -> PathBuf {
        self.root().join(ASSETS)
    }

    /// The manifest's file. It need not be there.
    pub fn manifest_path(&self) -> PathBuf {
        self.assets().join(MANIFEST_PATH)
    }

    /// The folder that paths of the manifest begin at.
    pub(in crate::asset) fn sprites(&self) -> PathBuf {
        self.assets().join(SPRITES)
    }

    /// The sprites that the game has; an empty manifest if it has none yet.
    ///
    /// # Errors
    /// [`Error::Project`] if the manifest cannot be read.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        Ok(self.read_manifest()?.map(|(manifest, _)| manifest).unwrap_or_default())
    }

    /// Reads the manifest, with its text.
    pub(in crate::asset) fn read_manifest(&self) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
        match self.open_sprites()? {
            Some(sprites) => read_manifest_in(&sprites, MANIFEST),
            None => Ok(None),
        }
    }

    /// The one before the last deploy.
    pub(super) fn read_previous(&self) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
        match self.folder.folder(OURS).map_err(reading)? {
            Some(ours) => read_manifest_in(&ours, PREVIOUS),
            None => Ok(None),
        }
    }

    /// The open folder that paths of the manifest begin at, if it is there.
    pub(super) fn open_sprites(&self) -> Result<Option<Folder>, Error> {
        match self.open_assets()? {
            Some(assets) => assets.folder(SPRITES).map_err(reading),
            None => Ok(None),
        }
    }

    /// Opens the folder like [`open_sprites`](Project::open_sprites), and makes it if it is absent.
    pub(super) fn make_sprites(&self) -> Result<Folder, Error> {
        let assets = match self.open_assets()? {
            Some(assets) => assets,
            None => self.folder.make_folder(ASSETS).map_err(writing)?,
        };
        assets.make_folder(SPRITES).map_err(writing)
    }

    fn open_assets(&self) -> Result<Option<Folder>, Error> {
        if self.follows_assets_link {
            return self.folder.folder_or_link(ASSETS).map_err(reading);
        }
        self.folder.folder(ASSETS).map_err(|error| match self.folder.kind(ASSETS) {
            Ok(Some(EntryKind::Link)) => fault(
                &error.path,
                "it is a symbolic link; expected a folder. If you made the link yourself, \
                 `dgx-pixels deploy --follow-assets-link` follows it",
            ),
            _ => reading(error),
        })
    }

    /// Refuses what is in the way of a deploy of `images`, such as links, before anything is
    /// written.
    pub(super) fn look<'a>(&self, images: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        if let Some(ours) = self.folder.folder(OURS).map_err(reading)? {
            for file in [IGNORE, PREVIOUS, UNREADABLE] {
                ours.expect(file, EntryKind::File).map_err(reading)?;
            }
            ours.expect(STAGING, EntryKind::Folder).map_err(reading)?;
        }
        let Some(sprites) = self.open_sprites()? else { return Ok(()) };
        sprites.expect(MANIFEST, EntryKind::File).map_err(reading)?;
        for image in images {
            let (category, name) = image_parts(image);
            if let Some(folder) = sprites.folder(category).map_err(reading)? {
                folder.expect(name, EntryKind::File).map_err(reading)?;
            }
        }
        Ok(())
    }

    /// Waits for other deployers. The lock is on the open folder and so ends with the process, also
    /// when it is killed. A file to lock would have to be made or opened, and could be a link.
    pub(super) fn lock(&self) -> Result<Locked, Error> {
        let begun = Instant::now();
        loop {
            let ours = self.folder.make_folder(OURS).map_err(writing)?;
            if let Some(lock) = ours.try_lock().map_err(writing)? {
                // Another program may have removed the folder, and made another.
                let now = self.folder.folder(OURS).map_err(writing)?;
                if now.is_some_and(|now| now.is_same(&ours).unwrap_or(false)) {
                    tidied(&ours)?;
                    return Ok(Locked { ours, _lock: lock });
                }
            }
            if begun.elapsed() > LOCK_PATIENCE {
                let seconds = LOCK_PATIENCE.as_secs();
                let reason =
                    format!("another deploy has held it for {seconds} s; end that one, and try again");
                return Err(fault(ours.path(), reason));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

pub(super) fn fault(path: &Path, reason: impl Into<Reason>) -> Error {
    let Reason { words: reason, cause } = reason.into();
    Error::Project { path: path.to_owned(), reason, cause }
}

const EXPECTED: &str = "expected the folder of a Bevy game, with its `Cargo.toml`";

/// Has git ignore the folder of deploys, and removes what killed deploys were writing. Under the
/// lock.
fn tidied(ours: &Folder) -> Result<(), Error> {
    let entries = ours.entries().map_err(writing)?;
    for left in entries.iter().filter(|entry| entry.is_temporary()) {
        ours.remove_file(&left.name).map_err(writing)?;
    }
    match entries.iter().any(|entry| entry.name == IGNORE) {
        true => Ok(()),
        false => ours.write_whole(IGNORE, b"*\n").map(drop).map_err(writing),
    }
}

fn read_manifest_in(folder: &Folder, name: &str) -> Result<Option<(Manifest, Vec<u8>)>, Error> {
    let refuse = |reason: Reason| fault(&folder.path().join(name), reason);
    let Some(text) = folder.read(name, MAX_TEXT_BYTES).map_err(reading)? else { return Ok(None) };
    let advice = "`dgx-pixels deploy --rollback` puts back the one before";
    let manifest = Manifest::read(&text)
        .map_err(|error| refuse((format!("it cannot be used; {advice}"), error).into()))?;
    match manifest.faults().first() {
        Some(first) => Err(refuse(format!("{first}; {advice}").into())),
        None => Ok(Some((manifest, text))),
    }
}

/// The manifest before the one of the project in `root`, if a deploy wrote both.
///
/// # Errors
/// A refusal for a link and the like.
pub(in crate::asset) fn previous_manifest(root: &Folder) -> Result<Option<Manifest>, PathError> {
    let Some(ours) = root.folder(OURS)? else { return Ok(None) };
    let text = ours.read(PREVIOUS, MAX_TEXT_BYTES)?;
    Ok(text.and_then(|text| Manifest::read(&text).ok()))
}

/// The folder and the name of an image's path in a manifest.
pub(super) fn image_parts(image: &str) -> (&str, &str) {
    image.rsplit_once('/').unwrap_or(("", image))
}

/// A failure to read.
pub(super) fn reading(error: PathError) -> Error {
    fault(&error.path, error.source)
}

/// A failure to write.
pub(super) fn writing(error: PathError) -> Error {
    match error.is_refusal() {
        true => reading(error),
        false => Error::output(error.path, error.source),
    }
}

/// Puts a file into its place, where it appears whole.
pub(super) fn place(from: &Folder, staged: &str, to: &Folder, name: &str) -> Result<(), Error> {
    match from.rename(staged, to, name) {
        // `assets` may be a link to another disk. The file watcher leaves names with a dot at their
        // front alone.
        Err(error) if error.source.kind() == io::ErrorKind::CrossesDevices => {
            let bytes = from.read(staged, MAX_PICTURE_BYTES).map_err(writing)?.unwrap_or_default();
            to.write_whole(name, &bytes).map(drop).map_err(writing)
        }
        renamed => renamed.map_err(writing),
    }
}
