//! The hub's cache on disk, in the layout that Python's `huggingface_hub` shares: bytes under the
//! hub's ETag, and links to them in a snapshot for each commit.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use dgx_pixels_core::model::header::shown;
use dgx_pixels_core::model::hub::HubName;
use indicatif::BinaryBytes;
use sha2::{Digest as _, Sha256};

use super::hub::{Hub, Part, Remote, fault};
use crate::failure::Failure;
use crate::interrupt;
use crate::output::note;

/// The most fetches in a row that bring nothing.
const MAX_SILENT: u32 = 3;
/// The most fetches for one file.
const MAX_FETCHES: u32 = 1000;

/// A repository's folder in the cache.
pub(super) struct Repository {
    folder: PathBuf,
    /// The folder of the locks that Python's library takes too.
    locks: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, name: &HubName) -> Repository {
        let folder = name.folder_in(cache);
        let locks = cache.join(".locks").join(folder.file_name().unwrap_or_default());
        Repository { folder, locks }
    }

    /// The folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    fn blob(&self, remote: &Remote) -> PathBuf {
        self.folder.join("blobs").join(&remote.etag)
    }

    /// The part of a file that is being fetched, under the name that Python's library gives it.
    fn incomplete(&self, remote: &Remote) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", remote.etag))
    }

    /// The bytes of a file that are in the cache.
    pub(super) fn bytes_there(&self, remote: &Remote) -> u64 {
        let len = |path: PathBuf| fs::metadata(path).map(|about| about.len());
        let there = len(self.blob(remote)).or_else(|_| len(self.incomplete(remote)));
        there.unwrap_or(0).min(remote.bytes)
    }

    /// Removes the bytes of a file from the cache.
    pub(super) fn forget(&self, remote: &Remote) -> Result<(), Failure> {
        for path in [self.blob(remote), self.incomplete(remote)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Failure::output(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// An error if the disk has no room for `bytes` more.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), Failure> {
        fs::create_dir_all(&self.folder).map_err(|error| Failure::output(&self.folder, error))?;
        match free_bytes(&self.folder) {
            Some(free) if free < bytes => {
                let (bytes, free) = (BinaryBytes(bytes), BinaryBytes(free));
                Err(Failure::output(&self.folder, format!("{bytes} are to be fetched, and {free} are free")))
            }
            _ => Ok(()),
        }
    }

    /// Brings the bytes of a file into the cache, from where an earlier fetch broke off.
    /// `on_bytes` is told of the bytes that came.
    pub(super) fn fetch(
        &self,
        hub: &Hub,
        name: &HubName,
        (commit, path): (&str, &str),
        remote: &Remote,
        on_bytes: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let (blob, incomplete) = (self.blob(remote), self.incomplete(remote));
        let output = |error| Failure::output(&incomplete, error);
        for folder in [&self.folder.join("blobs"), &self.locks] {
            fs::create_dir_all(folder).map_err(|error| Failure::output(folder, error))?;
        }
        let _lock = self.lock(remote)?;
        if blob.metadata().is_ok_and(|about| about.len() == remote.bytes) {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&incomplete).map_err(output)?;
        let (mut silent, mut fetches, mut cause) = (0, 0, None);
        loop {
            let there = file.metadata().map_err(output)?.len();
            if there == remote.bytes {
                break;
            }
            if there > remote.bytes {
                file.set_len(0).map_err(output)?;
                continue;
            }
            if silent == MAX_SILENT || fetches == MAX_FETCHES {
                let reason = format!(
                    "the connection broke at {there} of {} bytes of `{}`; run it again to go on from there",
                    remote.bytes,
                    shown(path)
                );
                let cause = cause.unwrap_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
                return Err(fault(name, (reason, cause)));
            }
            if silent > 0 {
                thread::sleep(Duration::from_secs(u64::from(silent)));
            }
            fetches += 1;
            let Part { from, body } = hub.part(name, commit, path, there, remote.bytes)?;
            if from < there {
                file.set_len(from).map_err(output)?;
            }
            let mut came = 0;
            let mut body = body.take(remote.bytes - from + 1);
            let mut buffer = vec![0; 1 << 18];
            loop {
                interrupt::check()?;
                match body.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(read) => {
                        file.write_all(&buffer[..read]).map_err(output)?;
                        came += read as u64;
                        on_bytes(read as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        cause = Some(error);
                        break;
                    }
                }
            }
            if from + came > remote.bytes {
                return self.refuse(name, path, remote, "it is longer than the hub said");
            }
            // Without parts every fetch begins anew, and none is nearer to the end.
            silent = if from + came > there { 0 } else { silent + 1 };
        }
        // The ETag of a large file is its SHA-256.
        if remote.etag.len() == 64 && sha256(&incomplete).map_err(output)? != remote.etag.to_ascii_lowercase()
        {
            return self.refuse(name, path, remote, "its bytes are not those that its SHA-256 promises");
        }
        file.sync_all().and_then(|()| fs::rename(&incomplete, &blob)).map_err(output)
    }

    /// Removes what came, as a later fetch would go on from it.
    fn refuse<T>(&self, name: &HubName, path: &str, remote: &Remote, what: &str) -> Result<T, Failure> {
        let incomplete = self.incomplete(remote);
        fs::remove_file(&incomplete).map_err(|error| Failure::output(&incomplete, error))?;
        Err(fault(name, format!("`{}` came damaged: {what}; it was removed; run it again", shown(path))))
    }

    /// The lock on one file's bytes, which Python's library takes too.
    fn lock(&self, remote: &Remote) -> Result<File, Failure> {
        let path = self.locks.join(format!("{}.lock", remote.etag));
        let output = |error: io::Error| Failure::output(&path, error);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(output)?;
        let mut is_told = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(output(error)),
                Err(TryLockError::WouldBlock) => {
                    if !is_told {
                        note(format_args!("another program fetches the same file; waiting for it"));
                        is_told = true;
                    }
                    interrupt::check()?;
                    thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }

    /// Links a file of a snapshot to its bytes.
    pub(super) fn link(&self, commit: &str, path: &str, remote: &Remote) -> Result<PathBuf, Failure> {
        let link = self.snapshot(commit).join(path);
        let output = |error: io::Error| Failure::output(&link, error);
        let up = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{up}blobs/{}", remote.etag));
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            return Ok(link);
        }
        let folder = link.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(output)?;
        // A link cannot replace another; a renamed one can.
        let new = folder.join(format!(".{}.{}", remote.etag, std::process::id()));
        let _ = fs::remove_file(&new);
        symlink(&target, &new).and_then(|()| fs::rename(&new, &link)).map_err(|error| {
            let _ = fs::remove_file(&new);
            output(error)
        })?;
        Ok(link)
    }

    /// Writes down the commit that a branch or a tag stands for.
    pub(super) fn note_revision(&self, revision: &str, commit: &str) -> Result<(), Failure> {
        if revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        let folder = path.parent().unwrap_or(&self.folder);
        let write = || {
            fs::create_dir_all(folder)?;
            let mut new = tempfile::NamedTempFile::new_in(folder)?;
            new.write_all(commit.as_bytes())?;
            new.persist(&path).map_err(|error| error.error)
        };
        write().map(drop).map_err(|error| Failure::output(&path, error))
    }
}

/// SHA-256 of a file in hexadecimal digits.
fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The bytes that are free for this user on the disk of `folder`.
fn free_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: `path` ends in zero, and `statvfs` writes `about` alone, which is plain numbers.
    let about = unsafe {
        let mut about: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut about) == 0).then_some(about)
    }?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}
