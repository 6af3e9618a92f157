//! A batch's folder: its pictures, its manifest, and what it needs to go on after it was broken off.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

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
/// What only the batch itself reads.
const HIDDEN: &str = ".dgx-pixels";
/// What a file is called until it is whole.
const TEMPORARY: &[u8] = b".dgx-pixels-";
/// In [`HIDDEN`]: what the batch is to make.
const PLAN: &str = "batch.json";
/// In [`HIDDEN`]: the engine's.
const JOURNAL: &str = "journal";
const IN_USE: &str = "another `dgx-pixels batch` works in it; wait for it, or give another `--output`";
const FORMAT_VERSION: u32 = 1;

/// A batch's folder, which no other program works in at the same time.
pub(super) struct Folder {
    /// As it was given.
    path: PathBuf,
    /// Without links, from the root on.
    root: PathBuf,
    manifest: File,
    _lock: File,
}

/// What the batch is to make, written before anything is made.
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
    /// Of the input, from 1.
    pub(super) line: usize,
    /// In the manifest's folder.
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

/// How the pictures stand to those of an earlier run.
pub(super) struct Kept {
    /// Keys of those that are made already.
    pub(super) made: HashSet<String>,
    /// Of the pictures, how many were asked for before.
    pub(super) same: usize,
    /// How many were not.
    pub(super) new: usize,
    /// How many were asked for before and are not any more.
    pub(super) left_out: usize,
}

/// What may be done with a folder.
#[derive(Clone, Copy)]
pub(super) struct Allowed {
    /// Go on with a batch that was broken off.
    pub(super) resume: bool,
    /// Replace files, and begin anew where there is a batch.
    pub(super) force: bool,
}

impl Folder {
    /// Takes the folder at `path`, made if absent, for `pictures`, after checking that their files can be written. Those that
    /// an earlier run planned were checked by it.
    ///
    /// # Errors
    /// [`Failure::Unfinished`] and [`Failure::Exists`], unless they are `allowed`; another run that has the folder; the
    /// folder's own faults. Nothing has changed then.
    pub(super) fn open(
        path: &Path,
        pictures: &[Picture],
        allowed: Allowed,
    ) -> Result<(Folder, Kept), Failure> {
        let fault = |reason: &str| Failure::Output { path: path.to_owned(), reason: reason.into() };

        // 1. what is there
        let hidden = path.join(HIDDEN);
        let lock = if hidden.is_dir() { Some(lock(path)?) } else { None };
        let anew = allowed.force && !allowed.resume;
        let plan = if anew { None } else { read_plan(path)? };
        let told = if plan.is_some() { read_manifest(path)? } else { vec![] };
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
            beside.extend(picture.pixel.is_some().then(|| sidecar(&file)));
            files.push(file);
        }
        output::check(Some(path), &files, &beside, allowed.force)?;

        // 3. the batch from now on
        let made: HashSet<_> = pictures
            .iter()
            .filter(|picture| finished.contains(&picture.key) && path.join(&picture.file).is_file())
            .map(|picture| picture.key.clone())
            .collect();
        let new = pictures.iter().filter(is_new).count();
        let same = pictures.len() - new;
        let kept = Kept { same, new, left_out: planned.len() - same, made };
        let make_hidden = |error| Failure::Write { path: hidden.clone(), source: error };
        fs::create_dir_all(&hidden).map_err(make_hidden)?;
        let lock = match lock {
            Some(lock) => lock,
            None => self::lock(path)?,
        };
        if plan.is_none() && !anew && hidden.join(PLAN).exists() {
            return Err(fault(IN_USE));
        }
        let pictures = pictures.iter().map(|picture| Planned { key: picture.key.clone() }).collect();
        let next = Plan { format_version: FORMAT_VERSION, pictures };
        let next = serde_json::to_vec(&next).expect("plain data turns into JSON; this is a bug");
        output::write(&hidden.join(PLAN), &next, true)?;
        if plan.is_none() {
            remove(&hidden.join(JOURNAL))?;
        } else {
            sweep(path)?;
        }
        let mut once = HashSet::new();
        let mut lines = String::new();
        for entry in told.iter().filter(|entry| entry.status == Status::Finished) {
            if kept.made.contains(&entry.key) && once.insert(&entry.key) {
                lines += &entry.json();
            }
        }
        output::write(&path.join(MANIFEST), lines.as_bytes(), true)?;

        let write = |source| Failure::Write { path: path.join(MANIFEST), source };
        let manifest = File::options().append(true).open(path.join(MANIFEST)).map_err(write)?;
        let root = path.canonicalize().map_err(write)?;
        Ok((Folder { path: path.to_owned(), root, manifest, _lock: lock }, kept))
    }

    /// Where the picture goes, in every run the same.
    pub(super) fn output(&self, picture: &Picture) -> PathBuf {
        self.root.join(&picture.file)
    }

    /// Where the engine keeps its journal.
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
            prompt: picture.request.prompt.clone(),
            seed: picture.request.seed,
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

    /// With the end of the line.
    fn json(&self) -> String {
        serde_json::to_string(self).expect("plain data turns into JSON; this is a bug") + "\n"
    }
}

fn lock(folder: &Path) -> Result<File, Failure> {
    let path = folder.join(HIDDEN).join("lock");
    let file = File::create(&path).map_err(|source| Failure::Write { path, source })?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Failure::Output { path: folder.to_owned(), reason: IN_USE.into() })
        }
        // Not every file system has locks; the journal is locked by the engine besides.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// The batch that the folder holds, if it does.
fn read_plan(folder: &Path) -> Result<Option<Plan>, Failure> {
    let path = folder.join(HIDDEN).join(PLAN);
    let fault = |reason: String| Failure::Input { path: path.clone(), reason };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => return Err(fault(error.to_string())),
    };
    let plan: Plan = serde_json::from_slice(&bytes)
        .map_err(|error| fault(format!("{error}; `--force` without `--resume` begins anew")))?;
    if plan.format_version != FORMAT_VERSION {
        let version = plan.format_version;
        return Err(fault(format!("`format_version` is {version}; expected {FORMAT_VERSION}")));
    }
    Ok(Some(plan))
}

/// The manifest's whole lines. The last one may have been broken off.
fn read_manifest(folder: &Path) -> Result<Vec<Entry>, Failure> {
    let path = folder.join(MANIFEST);
    match fs::read(&path) {
        Ok(bytes) => {
            let lines = bytes.split(|byte| *byte == b'\n');
            Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(Failure::Input { path, reason: error.to_string() }),
    }
}

/// Removes what a killed run was writing.
fn sweep(folder: &Path) -> Result<(), Failure> {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY) && entry.path().is_file() {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a folder, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Failure::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}
