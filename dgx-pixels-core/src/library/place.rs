//! The place of an asset on the disk: a folder with the image, its certificate, and the record of
//! both.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Cursor, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::ImageFormat;

use super::asset::Asset;
use super::name::AssetId;
use super::record::{Record, Unreadable};
use crate::error::{Error, Reason};
use crate::files::{MAX_PICTURE_BYTES, MAX_TEXT_BYTES, read_opened};
use crate::picture_file::{Made, says_sprite, sidecar};
use crate::pixel::Certificate;

/// The prefix of files that are being written, here and in
/// [`write_whole`](crate::files::write_whole).
pub(super) const UNDER_WAY: &str = ".dgx-pixels-";

/// `time`, unless no text can be made of it: clocks and files may claim anything.
pub(super) fn writable(time: SystemTime) -> SystemTime {
    let year_9999 = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    time.clamp(SystemTime::UNIX_EPOCH, year_9999)
}

/// The paths of one asset's files, which may not exist yet.
pub(super) struct Place<'a> {
    pub(super) id: &'a AssetId,
    pub(super) folder: PathBuf,
    pub(super) picture: PathBuf,
    pub(super) record: PathBuf,
}

/// Tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    modified: SystemTime,
}

/// The content of an asset's folder.
pub(super) enum Found {
    Asset(Box<Asset>, Stamp),
    /// No record: nothing yet, or a picture whose record was not written.
    Unfinished,
    /// A record that cannot be used, and what is wrong with it.
    Broken {
        reason: Reason,
        by_newer_version: bool,
    },
}

impl<'a> Place<'a> {
    // No id has a dot, so no other file of any asset has the record's name.
    pub(super) fn new(root: &Path, id: &'a AssetId) -> Place<'a> {
        let folder = root.join(id.as_str());
        let picture = folder.join(format!("{id}.png"));
        let record = folder.join(format!("{id}.asset.json"));
        Place { id, folder, picture, record }
    }

    /// `true` if it is a folder, and no link to one.
    pub(super) fn is_folder(&self) -> bool {
        self.folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
    }

    /// `true` if an image, or anything else, is in its place.
    pub(super) fn has_picture(&self) -> bool {
        self.picture.symlink_metadata().is_ok()
    }

    pub(super) fn broken(&self, path: &Path, reason: impl Into<Reason>) -> Error {
        let Reason { words: reason, cause } = reason.into();
        Error::BrokenAsset { id: self.id.to_string(), path: path.to_owned(), reason, cause }
    }

    /// The record's stamp now; `None` if there is none.
    pub(super) fn record_stamp(&self) -> Option<Stamp> {
        self.record.symlink_metadata().and_then(|metadata| stamp(&metadata)).ok()
    }

    /// Reads the record.
    pub(super) fn read(&self) -> Found {
        let broken = |reason: Reason, by_newer_version| Found::Broken { reason, by_newer_version };
        if !self.is_folder() {
            return Found::Unfinished;
        }
        let (text, stamp) = match read_plain(&self.record, MAX_TEXT_BYTES)
            .and_then(|(text, metadata)| Ok((text, stamp(&metadata)?)))
        {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Unfinished,
            Err(error) => return broken(("cannot be read", plainly(error)).into(), false),
        };
        let asset = match Record::parse(&text) {
            Ok(asset) => asset,
            Err(Unreadable { reason, by_newer_version }) => return broken(reason, by_newer_version),
        };
        if asset.id != *self.id || Some(asset.file.as_ref()) != self.picture.file_name() {
            return broken(format!("is the record of `{}`, `{}`", asset.id, asset.file).into(), false);
        }
        if let Some(Err(error)) = asset.made.as_ref().map(Made::validate) {
            return broken(("says how it was made, which cannot be", error).into(), false);
        }
        Found::Asset(Box::new(asset), stamp)
    }

    /// The picture's bytes, read from one opened file, and when it was written.
    ///
    /// # Errors
    /// [`Error::BrokenAsset`] if it is not there, or no plain file.
    pub(super) fn picture_bytes(&self) -> Result<(Vec<u8>, SystemTime), Error> {
        if !self.is_folder() {
            return Err(Error::NoAsset { id: self.id.to_string() });
        }
        let read = read_plain(&self.picture, MAX_PICTURE_BYTES)
            .and_then(|(bytes, metadata)| Ok((bytes, metadata.modified()?)));
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.broken(&self.picture, "is not there"),
            _ => self.broken(&self.picture, ("cannot be read", plainly(error))),
        })
    }

    /// Builds the record of the image in the folder.
    ///
    /// # Errors
    /// [`Error::BrokenAsset`] if there is none, or if it is none of ours.
    pub(super) fn describe(&self) -> Result<Asset, Error> {
        let (bytes, modified) = self.picture_bytes()?;
        let made = match Made::read(&bytes) {
            Ok(made) => Some(made),
            Err(_) if says_sprite(Cursor::new(&bytes)) => None,
            Err(error) => return Err(self.broken(&self.picture, ("is no picture of ours", error))),
        };
        let image = image::load_from_memory_with_format(&bytes, ImageFormat::Png);
        let image = image.map_err(|error| self.broken(&self.picture, ("is damaged", error)))?.into_rgba8();
        let seen: HashSet<_> =
            image.pixels().filter(|pixel| pixel[3] > 0).map(|pixel| &pixel.0[..3]).collect();
        let (width, height, colors) = (image.width(), image.height(), seen.len());
        // One that tells of another picture is not repeated.
        let certificate = read_plain(&sidecar(&self.picture), MAX_TEXT_BYTES).ok();
        let certificate = certificate.and_then(|(text, _)| serde_json::from_slice::<Certificate>(&text).ok());
        let certificate =
            certificate.filter(|its| (its.width, its.height, its.colors) == (width, height, colors));
        Ok(Asset {
            id: self.id.clone(),
            created: writable(modified),
            file: format!("{}.png", self.id),
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            bytes: bytes.len() as u64,
            modified: writable(modified),
            width,
            height,
            colors,
            made,
            verdict: None,
            certificate,
            notes: BTreeMap::new(),
        })
    }

    /// Writes the record: whole, on the disk, and noticed by every process, as it comes from the
    /// root and goes to the folder, and so changes both.
    pub(super) fn write(&self, root: &Path, asset: &Asset, replace: bool) -> io::Result<Stamp> {
        let json = asset.to_json();
        let mode = Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(UNDER_WAY).permissions(mode).tempfile_in(root)?;
        file.write_all(json.as_bytes())?;
        file.as_file().sync_all()?;
        let kept = if replace { file.persist(&self.record) } else { file.persist_noclobber(&self.record) };
        let stamp = stamp(&kept.map_err(|error| error.error)?.metadata()?)?;
        File::open(&self.folder)?.sync_all()?;
        File::open(root)?.sync_all()?;
        Ok(stamp)
    }

    /// Removes the folder if it holds no picture and no record, but at most what a write that
    /// failed has left.
    pub(super) fn remove_unfinished(&self) -> io::Result<bool> {
        let mut left = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if !is_left_over(&path) && path != sidecar(&self.picture) {
                return Ok(false);
            }
            left.push(path);
        }
        for path in left {
            gone(fs::remove_file(path))?;
        }
        // Not with all that it holds: a picture may have come meanwhile.
        match gone(fs::remove_dir(&self.folder)) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// The first file in the folder that is not the library's own.
    pub(super) fn foreign_file(&self) -> io::Result<Option<PathBuf>> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let own =
                [self.picture.clone(), sidecar(&self.picture), self.record.clone(), self.damaged_record()];
            if !own.contains(&path) && !is_left_over(&path) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// The path to which an unreadable record is moved before another takes its place, because it
    /// may hold notes.
    pub(super) fn damaged_record(&self) -> PathBuf {
        self.record.with_extension("json.damaged")
    }
}

/// `true` for a file that a killed write left behind.
pub(super) fn is_left_over(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(UNDER_WAY.as_bytes()))
}

/// `result`, for which nothing to remove is as good as removed.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn stamp(metadata: &Metadata) -> io::Result<Stamp> {
    Ok(Stamp { inode: metadata.ino(), bytes: metadata.len(), modified: metadata.modified()? })
}

/// Reads a plain file: follows no link, waits for no pipe, and refuses more than `limit` bytes.
fn read_plain(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    Ok((read_opened(file, limit)?, metadata))
}

/// An error of [`read_plain`], in words that say what is there.
fn plainly(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::new(error.kind(), "it is a symbolic link"),
        _ => error,
    }
}
