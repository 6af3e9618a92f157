//! A batch's folder: its pictures, its manifest, and what it needs to go on after it was broken
//! off.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use dgx_pixels_core::Reason;
use dgx_pixels_core::files::{self, EntryKind, MAX_PICTURE_BYTES, PathError};
use dgx_pixels_core::job::{Finished, JobId};
use dgx_pixels_core::picture_file::sidecar;
use dgx_pixels_core::pixel::{Certificate, Verdict};
use serde::{Deserialize, Serialize};

use super::input::Picture;
use crate::failure::Failure;
use crate::output::TimingsMs;
use crate::{interrupt, output};

/// A line for each picture that is made or cannot be.
const MANIFEST: &str = "manifest.jsonl";
/// The folder that only the batch itself reads.
const HIDDEN: &str = ".dgx-pixels";
/// The file in [`HIDDEN`] with the plan of the batch.
const PLAN: &str = "batch.json";
/// The folder in [`HIDDEN`] of the engine's journal.
const JOURNAL: &str = "journal";
const IN_USE: &str = "another `dgx-pixels batch` works in it; wait for it, or give another `--output`";
const FORMAT_VERSION: u32 = 1;
/// The most bytes of the plan: about 90 for each of a million pictures.
const MAX_PLAN_BYTES: u64 = 256 << 20;
/// The most bytes of the manifest: some 4,000 for each of a million pictures.
const MAX_MANIFEST_BYTES: u64 = 4 << 30;

/// A batch's folder, which no other program works in at the same time.
///
/// The folder may be a clone of somebody else's repository: what is in it is reached from the open
/// folder, and links in it are not followed.
pub(super) struct Folder {
    open: files::Folder,
    /// The path that the user gave.
    path: PathBuf,
    /// The absolute path without links.
    root: PathBuf,
    manifest: File,
    /// `None` on a file system without locks.
    _lock: Option<File>,
}

/// The list of images to make, written before the first is made.
#[derive(Serialize, Deserialize)]
struct Plan {
    format_version: u32,
    pictures: Vec<Planned>,
}

#[derive(Serialize, Deserialize)]
struct Planned {
    key: String,
}

/// A line of the manifest. Order and names are a promise.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The line of the input, from 1.
    pub(super) line: usize,
    /// The path in the manifest's folder.
    pub(super) path: PathBuf,
    pub(super) prompt: String,
    pub(super) seed: u64,
    /// `None` where it was refused before it became one.
    pub(super) job: Option<JobId>,
    pub(super) status: Status,
    pub(super) error: Option<Told>,
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) verdict: Option<Verdict>,
    pub(super) certificate: Option<Certificate>,
    pub(super) dropped_words: Option<String>,
    pub(super) timings_ms: Option<TimingsMs>,
    /// [`Picture::key`].
    pub(super) key: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Finished,
    Failed,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) kind: String,
    pub(super) message: String,
}

/// The images compared with those of an earlier run.
pub(super) struct Kept {
    /// Keys of those that are made already.
    pub(super) made: HashSet<String>,
    /// The number of images that the earlier run was asked for too.
    pub(super) same: usize,
    /// The number of images that the earlier run was not asked for.
    pub(super) new: usize,
    /// The number of images that only the earlier run was asked for.
    pub(super) left_out: usize,
}

/// The permissions that the user gave for a folder.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    /// Go on with a batch that was broken off.
    pub(super) resume: bool,
    /// Replace files, and begin anew where there is a batch.
    pub(super) force: bool,
}

impl Folder {
    /// Takes the folder at `path`, made if absent, for `pictures`, after checking that their files
    /// can be written. Those that an earlier run planned were checked by it.
    ///
    /// # Errors
    /// [`Failure::Unfinished`] and [`Failure::Exists`], unless they are `allowed`; another run that
    /// has the folder; the folder's own faults. Nothing has changed then.
    pub(super) fn open(
        path: &Path,
        pictures: &[Picture],
        allowed: Allowed,
    ) -> Result<(Folder, Kept), Failure> {
        let fault = |reason: &str| Failure::output(path, reason);

        // 1. what is there
        let open = match files::Folder::open(path) {
            Ok(open) => Some(open),
            Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => None,
            Err(source) => return Err(Failure::Write { path: path.to_owned(), source }),
        };
        let hidden = open.as_ref().map(|open| open.folder(HIDDEN)).transpose().map_err(refused)?.flatten();
        let lock = hidden.as_ref().map(|hidden| lock(path, hidden)).transpose()?;
        // The engine opens its journal by path.
        hidden.as_ref().map_or(Ok(()), files::Folder::expect_plain).map_err(refused)?;
        let anew = allowed.force && !allowed.resume;
        let plan = hidden.as_ref().filter(|_| !anew).map(read_plan).transpose()?.flatten();
        let told =
            open.as_ref().filter(|_| plan.is_some()).map(read_manifest).transpose()?.unwrap_or_default();
        let finished: HashSet<_> =
            told.iter().filter(|entry| entry.status == Status::Finished).map(|entry| &entry.key).collect();
        if let Some(plan) = plan.as_ref().filter(|_| !allowed.resume) {
            let made = plan.pictures.iter().filter(|planned| finished.contains(&planned.key)).count();
            let of = plan.pictures.len();
            return Err(if made == of {
                Failure::Exists { path: path.join(MANIFEST) }
            } else {
                Failure::Unfinished { path: path.to_owned(), made, of }
            });
        }

        // 2. what may be written
        let planned: HashSet<_> = plan.iter().flat_map(|plan| &plan.pictures).map(|one| &one.key).collect();
        let is_new = |picture: &&Picture| !planned.contains(&picture.key);
        let mut beside: Vec<_> = plan.is_none().then(|| path.join(MANIFEST)).into_iter().collect();
        let mut files = vec![];
        for picture in pictures.iter().filter(is_new) {
            let file = path.join(&picture.file);
            beside.extend(picture.submission.pixel.is_some().then(|| sidecar(&file)));
            files.push(file);
        }
        output::check(Some(path), &files, &beside, allowed.force)?;

        // 3. the batch from now on
        let made: HashSet<_> = pictures
            .iter()
            .filter(|picture| finished.contains(&picture.key) && is_file(open.as_ref(), &picture.file))
            .map(|picture| picture.key.clone())
            .collect();
        let new = pictures.iter().filter(is_new).count();
        let same = pictures.len() - new;
        let kept = Kept { same, new, left_out: planned.len() - same, made };
        let write = |source| Failure::Write { path: path.to_owned(), source };
        let open = match open {
            Some(open) => open,
            None => fs::create_dir_all(path).and_then(|()| files::Folder::open(path)).map_err(write)?,
        };
        let hidden = open.make_folder(HIDDEN).map_err(refused)?;
        let lock = match lock {
            Some(lock) => lock,
            None => self::lock(path, &hidden)?,
        };
        if plan.is_none() && !anew && hidden.kind(PLAN).map_err(refused)?.is_some() {
            return Err(fault(IN_USE));
        }
        let pictures = pictures.iter().map(|picture| Planned { key: picture.key.clone() }).collect();
        let next = Plan { format_version: FORMAT_VERSION, pictures };
        let next = serde_json::to_vec(&next).expect("plain data turns into JSON; this is a bug");
        interrupt::whole(|| hidden.write_whole(PLAN, &next)).map_err(refused)?;
        if plan.is_none() {
            hidden.remove_all(JOURNAL).map_err(refused)?;
        } else {
            sweep(&open).map_err(refused)?;
        }
        let mut once = HashSet::new();
        let mut lines = String::new();
        for entry in told.iter().filter(|entry| entry.status == Status::Finished) {
            if kept.made.contains(&entry.key) && once.insert(&entry.key) {
                lines += &entry.json();
            }
        }
        let manifest = interrupt::whole(|| open.write_whole(MANIFEST, lines.as_bytes())).map_err(refused)?;
        let root = path.canonicalize().map_err(write)?;
        Ok((Folder { open, path: path.to_owned(), root, manifest, _lock: lock }, kept))
    }

    /// The content of a file in the folder; `None` if there is nothing that can be read.
    pub(super) fn read(&self, name: &Path) -> Option<Vec<u8>> {
        self.open.read(name, MAX_PICTURE_BYTES).ok().flatten()
    }

    /// The path of the image, the same in every run.
    pub(super) fn output(&self, picture: &Picture) -> PathBuf {
        self.root.join(&picture.file)
    }

    /// The folder of the engine's journal.
    pub(super) fn journal(&self) -> PathBuf {
        self.root.join(HIDDEN).join(JOURNAL)
    }

    /// Adds a line to the manifest.
    pub(super) fn tell(&mut self, entry: &Entry) -> Result<(), Failure> {
        let line = entry.json();
        let written = interrupt::whole(|| self.manifest.write_all(line.as_bytes()));
        written.map_err(|source| Failure::Write { path: self.path.join(MANIFEST), source })
    }
}

impl Entry {
    pub(super) fn finished(picture: &Picture, job: JobId, finished: &Finished) -> Entry {
        let (width, height) = finished.image.dimensions();
        Entry {
            seed: finished.made.request.seed,
            status: Status::Finished,
            error: None,
            width: Some(width),
            height: Some(height),
            verdict: finished.verdict,
            certificate: finished.certificate,
            dropped_words: finished.dropped_words.clone(),
            timings_ms: Some(finished.timings.into()),
            ..Entry::failed(picture, Some(job), Told { kind: String::new(), message: String::new() })
        }
    }

    pub(super) fn failed(picture: &Picture, job: Option<JobId>, error: Told) -> Entry {
        Entry {
            line: picture.line,
            path: picture.file.clone().into(),
            prompt: picture.submission.request.prompt.clone(),
            seed: picture.submission.request.seed,
            job,
            status: Status::Failed,
            error: Some(error),
            width: None,
            height: None,
            verdict: None,
            certificate: None,
            dropped_words: None,
            timings_ms: None,
            key: picture.key.clone(),
        }
    }

    /// The plan as JSON, with a line break at its end.
    fn json(&self) -> String {
        serde_json::to_string(self).expect("plain data turns into JSON; this is a bug") + "\n"
    }
}

/// The lock of the batch in `folder`; `None` on a file system without locks.
fn lock(folder: &Path, hidden: &files::Folder) -> Result<Option<File>, Failure> {
    match hidden.try_lock() {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(Failure::output(folder, IN_USE)),
        // The journal is locked by the engine besides.
        Err(_) => Ok(None),
    }
}

/// A failure of a file in the folder.
fn refused(error: PathError) -> Failure {
    match error.is_refusal() {
        true => Failure::output(error.path, error.source),
        false => Failure::Write { path: error.path, source: error.source },
    }
}

fn is_file(folder: Option<&files::Folder>, name: &str) -> bool {
    folder.is_some_and(|folder| folder.kind(name).is_ok_and(|kind| kind == Some(EntryKind::File)))
}

/// The batch that the folder holds, if it does.
fn read_plan(hidden: &files::Folder) -> Result<Option<Plan>, Failure> {
    let fault = |reason: Reason| Failure::input(hidden.path().join(PLAN), reason);
    let read = hidden.read(PLAN, MAX_PLAN_BYTES);
    let Some(bytes) = read.map_err(|error| fault(error.source.into()))? else { return Ok(None) };
    let plan: Plan = serde_json::from_slice(&bytes)
        .map_err(|error| fault(("it is damaged; `--force` without `--resume` begins anew", error).into()))?;
    if plan.format_version != FORMAT_VERSION {
        let version = plan.format_version;
        let reason = format!("`format_version` is {version}; expected {FORMAT_VERSION}");
        return Err(fault(reason.into()));
    }
    Ok(Some(plan))
}

/// The manifest's whole lines. The last one may have been broken off.
fn read_manifest(folder: &files::Folder) -> Result<Vec<Entry>, Failure> {
    let read = folder.read(MANIFEST, MAX_MANIFEST_BYTES);
    let bytes = read.map_err(|error| Failure::input(error.path, error.source))?;
    let bytes = bytes.unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Removes files that a killed run was writing.
fn sweep(folder: &files::Folder) -> Result<(), PathError> {
    for entry in folder.entries()? {
        if entry.is_temporary() {
            folder.remove_file(&entry.name)?;
        }
    }
    Ok(())
}

/// Removes a file, if it is there; a link itself, not its target.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Failure::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
