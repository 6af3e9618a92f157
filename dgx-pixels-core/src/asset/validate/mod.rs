//! Checks that a game can use sprites: their images, their names, and a manifest that agrees with
//! the files.

mod picture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dgx_pixels_manifest::{Manifest, ManifestImage, SpriteName};
use rayon::prelude::*;
use serde::Serialize;

use self::picture::Picture;
use super::SheetIndex;
use super::deploy::{MANIFEST, NAME_DIGITS, previous_manifest, read_beside};
use super::sheet::MAX_SIDE;
use crate::error::{Cause, Error, Reason, one_line};
use crate::files::{Entry, EntryKind, Folder, MAX_PICTURE_BYTES, MAX_TEXT_BYTES, PathError, read_regular};
use crate::picture_file::{Made, sidecar};
use crate::pixel::Certificate;

/// Smaller ones are drawn as any other, and are seldom meant.
const MIN_SIDE: u32 = 16;

/// More colours are no palette of pixel art.
const MAX_COLORS: usize = 256;

/// The files that were looked at, and the findings.
///
/// `errors` and `warnings` count the findings; a file that is looked at and is right has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Files that were looked at.
    pub files: usize,
    /// Findings that a game would stumble over.
    pub errors: usize,
    /// Findings that may be meant.
    pub warnings: usize,
    /// The findings, by path.
    pub findings: Vec<Finding>,
}

/// Something wrong.
///
/// The doors print it as JSON, so its field names and its words for checks are a promise to
/// scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// The severity of the finding.
    pub severity: Severity,
    /// One word for the kind: `format`, `color_type`, `size`, `empty`, `alpha`, `palette`, `name`,
    /// `hash`, `rect`, `missing`, `orphan`, `manifest`, `certificate` or `sheet`.
    pub check: &'static str,
    /// The fault, in words.
    pub reason: String,
    /// The advice that fixes it.
    pub mend: String,
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A game would show something else, or nothing.
    Error,
    /// The finding may be meant.
    Warning,
}

impl Report {
    /// Takes another's findings in.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::asset::validate;
    /// # let folder = tempfile::tempdir()?;
    /// std::fs::write(folder.path().join("a.png"), "text")?;
    /// std::fs::write(folder.path().join("b.png"), "text")?;
    /// let mut report = validate(&folder.path().join("a.png"))?;
    /// report.extend(validate(&folder.path().join("b.png"))?);
    /// assert_eq!((report.files, report.errors), (2, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn extend(&mut self, other: Report) {
        self.files += other.files;
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.findings.extend(other.findings);
    }
}

/// Looks at a PNG file, a manifest with its pictures, or all of a folder. Hidden files and folders
/// are left alone. `path` itself may be a link; links in the folder are not followed.
///
/// # Errors
/// [`Error::NoFile`] for a path that leads to nothing, and for a file that is neither a PNG nor a
/// manifest. What is wrong with a picture is a [`Finding`].
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::validate;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key.png");
/// std::fs::write(&path, "text")?;
/// let report = validate(folder.path())?;
/// assert_eq!((report.files, report.errors, report.findings[0].check), (1, 1, "format"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn validate(path: &Path) -> Result<Report, Error> {
    let no_file = |reason: Reason| Error::no_file(path, reason);
    let metadata = fs::metadata(path).map_err(|error| no_file(error.into()))?;
    let is_png = has_extension(path, "png");
    let (folder, file) = match (metadata.is_dir(), path.file_name()) {
        (true, _) => (path, None),
        (false, Some(file)) if is_png || has_extension(path, "json") => {
            (path.parent().unwrap_or(Path::new("")), Some(PathBuf::from(file)))
        }
        _ => {
            return Err(no_file(
                "it is neither a PNG file nor a manifest; expected one of these, or a folder".into(),
            ));
        }
    };
    let root = Folder::open(folder).map_err(|error| no_file(error.into()))?;
    let mut files = Files { root, named: file.clone(), pngs: vec![], manifests: vec![], findings: vec![] };
    match file {
        Some(file) if is_png => files.pngs.push(file),
        Some(file) => {
            files.collect().map_err(|error| no_file(Cause::from(error).into()))?;
            files.manifests = vec![file];
            files.findings.clear();
        }
        None => files.collect().map_err(|error| no_file(Cause::from(error).into()))?,
    }
    Ok(files.report())
}

/// Files to be looked at. Their paths begin at `root`, and no link below it is followed.
struct Files {
    root: Folder,
    /// The file that the caller named, which may be a link.
    named: Option<PathBuf>,
    pngs: Vec<PathBuf>,
    manifests: Vec<PathBuf>,
    /// The faults that are known already.
    findings: Vec<Finding>,
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

impl Files {
    fn collect(&mut self) -> Result<(), PathError> {
        let mut folders = vec![PathBuf::new()];
        while let Some(inside) = folders.pop() {
            let Some(folder) = self.root.descend(&inside)? else { continue };
            for Entry { name, kind, .. } in folder.entries()? {
                let path = inside.join(&name);
                match kind {
                    _ if name.as_encoded_bytes().starts_with(b".") => {}
                    EntryKind::Folder => folders.push(path),
                    EntryKind::File if has_extension(&path, "png") => self.pngs.push(path),
                    EntryKind::File if name == MANIFEST => self.manifests.push(path),
                    EntryKind::Link | EntryKind::Other if name == MANIFEST => {
                        let reason = format!("{}; expected a regular file", kind.words());
                        self.findings.push(error(&self.shown(&path), "manifest", reason, ITSELF));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// The path as it is told.
    fn shown(&self, path: &Path) -> PathBuf {
        self.root.path().join(path)
    }

    /// The file's content, or the reason why it cannot be read.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, String> {
        if self.named.as_deref() == Some(path) {
            return read_regular(&self.shown(path), limit).map_err(|error| error.to_string());
        }
        match self.root.read_at(path, limit) {
            Ok(bytes) => bytes.ok_or_else(|| "it is not there any more".into()),
            Err(error) => Err(error.source.to_string()),
        }
    }

    fn report(mut self) -> Report {
        let mut findings = std::mem::take(&mut self.findings);
        let mut named = BTreeMap::new();
        let mut homes = vec![];
        for path in &self.manifests {
            let home = path.parent().unwrap_or(Path::new("")).to_owned();
            match self.read_manifest(path, &mut findings) {
                Some(manifest) => {
                    named.extend(manifest.images.into_iter().map(|(image, entry)| (home.join(image), entry)));
                    homes.push((self.previous_manifest(&home, &mut findings), home));
                }
                // Nothing is known of what lies there.
                None => homes.push((None, home)),
            }
        }
        let found: BTreeSet<&PathBuf> = self.pngs.iter().collect();
        for path in named.keys().filter(|path| !found.contains(path)) {
            findings.push(self.missing(path));
        }
        let is_orphan = |path: &Path| {
            let Some((previous, home)) = homes.iter().find(|(_, home)| path.starts_with(home)) else {
                return false;
            };
            let inside = path.strip_prefix(home).map(|path| path.to_string_lossy().replace('\\', "/"));
            let kept = |previous: &Manifest| inside.is_ok_and(|inside| previous.images.contains_key(&inside));
            !named.is_empty() && !previous.as_ref().is_some_and(kept)
        };
        let of_pictures = self.pngs.par_iter().flat_map_iter(|path| {
            let entry = named.get(path);
            let mut findings = self.of_picture(path, entry);
            if entry.is_none() && is_orphan(path) {
                findings.push(warning(
                    &self.shown(path),
                    "orphan",
                    "the manifest does not name it",
                    "a later deploy removes it if a deploy wrote it; remove it otherwise, or deploy it",
                ));
            }
            findings
        });
        findings.par_extend(of_pictures);
        findings.sort_by(|a, b| a.path.cmp(&b.path));
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        Report {
            files: self.pngs.len() + self.manifests.len(),
            errors,
            warnings: findings.len() - errors,
            findings,
        }
    }

    /// A picture that a manifest names, and that was not found.
    fn missing(&self, path: &Path) -> Finding {
        let is_there = self.root.descend(path.parent().unwrap_or(Path::new(""))).and_then(|folder| {
            let name = path.file_name().unwrap_or_default();
            folder.map_or(Ok(()), |folder| folder.expect(name, EntryKind::File))
        });
        match is_there {
            Err(fault) => {
                let reason = format!("the manifest names it, and `{}` is in the way", fault.path.display());
                error(&self.shown(path), "missing", format!("{reason}: {}", fault.source), ITSELF)
            }
            Ok(()) => error(
                &self.shown(path),
                "missing",
                "the manifest names it, and it is not there",
                "deploy it again, or `dgx-pixels deploy --rollback`",
            ),
        }
    }

    /// The manifest before the one in the folder `home`.
    fn previous_manifest(&self, home: &Path, findings: &mut Vec<Finding>) -> Option<Manifest> {
        let previous = match home.parent().and_then(Path::parent) {
            Some(project) => self.root.descend(project).map_err(Some).and_then(|project| {
                project.map_or(Ok(None), |project| previous_manifest(&project).map_err(Some))
            }),
            // The project lies above what is looked at.
            None => {
                let shown = self.shown(home);
                let project = Folder::open(shown.parent()?.parent()?).map_err(|_| None);
                project.and_then(|project| previous_manifest(&project).map_err(Some))
            }
        };
        previous.unwrap_or_else(|fault: Option<PathError>| {
            let fault = fault.filter(PathError::is_refusal)?;
            findings.push(error(&fault.path, "manifest", fault.source.to_string(), ITSELF));
            None
        })
    }

    /// The manifest, and what is wrong in it.
    fn read_manifest(&self, path: &Path, findings: &mut Vec<Finding>) -> Option<Manifest> {
        let read = self.read(path, MAX_TEXT_BYTES);
        let read = read.and_then(|text| Manifest::read(&text).map_err(|error| one_line(&error)));
        match read {
            Ok(manifest) => {
                of_manifest(&self.shown(path), &manifest, findings);
                Some(manifest)
            }
            Err(reason) => {
                findings.push(error(&self.shown(path), "manifest", reason, ROLLBACK));
                None
            }
        }
    }
}

/// The advice for a link, a pipe and the like.
const ITSELF: &str = "put the file or folder itself in its place; links are not followed there";
/// The advice for a manifest that cannot be used.
const ROLLBACK: &str = "`dgx-pixels deploy --rollback` puts back the one before, or mend it by hand";

fn finding(
    severity: Severity,
    path: &Path,
    check: &'static str,
    reason: impl Into<String>,
    mend: &str,
) -> Finding {
    Finding { path: path.to_owned(), severity, check, reason: reason.into(), mend: mend.into() }
}

fn error(path: &Path, check: &'static str, reason: impl Into<String>, mend: &str) -> Finding {
    finding(Severity::Error, path, check, reason, mend)
}

fn warning(path: &Path, check: &'static str, reason: impl Into<String>, mend: &str) -> Finding {
    finding(Severity::Warning, path, check, reason, mend)
}

/// Collects the faults of a manifest.
fn of_manifest(path: &Path, manifest: &Manifest, findings: &mut Vec<Finding>) {
    for fault in manifest.faults() {
        let check = match fault.field.ends_with(".rect") {
            true => "rect",
            false => "manifest",
        };
        findings.push(error(path, check, fault.to_string(), ROLLBACK));
    }
    for (image, entry) in &manifest.images {
        let stem = image.rsplit('/').next().and_then(|file| file.strip_suffix(".png")).unwrap_or_default();
        let (name, hash) = stem.rsplit_once('.').unwrap_or((stem, ""));
        let category = image.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_named = name.parse::<SpriteName>().is_ok_and(|name| name.is_of(category));
        if !is_named || entry.blake3.get(..NAME_DIGITS) != Some(hash) {
            let reason = format!(
                "`images.{image}` is no name as deploys give: `category/category_name.HASH.png` with the hash's first {NAME_DIGITS} digits"
            );
            findings.push(error(path, "name", reason, "deploy it again"));
        }
    }
}

impl Files {
    /// Collects the faults of one PNG file; `entry` is its entry in the manifest.
    fn of_picture(&self, inside: &Path, entry: Option<&ManifestImage>) -> Vec<Finding> {
        let path = &self.shown(inside);
        let bytes = match self.read(inside, MAX_PICTURE_BYTES) {
            Ok(bytes) => bytes,
            Err(reason) => return vec![error(path, "format", reason, "make it readable")],
        };
        let picture = match Picture::decode(&bytes) {
            Ok(picture) => picture,
            Err(reason) => {
                return vec![error(path, "format", reason, "export or generate it again as a PNG file")];
            }
        };
        let mut findings = vec![];
        let (width, height) = picture.size;
        if let Some(kind) = &picture.unusual {
            let mend = "export it as 8-bit RGBA, or `dgx-pixels pixelize` it";
            findings.push(error(
                path,
                "color_type",
                format!("it is {kind}, which Bevy shows in other colours"),
                mend,
            ));
        }
        if width.max(height) > MAX_SIDE {
            let reason = format!("it is {width}x{height}, and a GPU takes {MAX_SIDE} a side");
            findings.push(error(path, "size", reason, "make it smaller, or several sheets of it"));
        } else if width.min(height) < MIN_SIDE {
            let reason = format!("it is {width}x{height}, smaller than {MIN_SIDE} a side");
            findings.push(warning(path, "size", reason, "if it is meant, leave it; `--size` pads it"));
        }
        // A model's picture is no sprite yet.
        let is_sprite = || Made::read(&bytes).map_or(true, |made| made.pixel.is_some());
        if picture.is_empty {
            let mend = "draw it again with another prompt or `--seed`";
            findings.push(error(path, "empty", "it has no visible pixel", mend));
        }
        if picture.soft_alpha > 0 && is_sprite() {
            let reason = format!("{} pixels are half transparent", picture.soft_alpha);
            findings.push(error(path, "alpha", reason, "`dgx-pixels pixelize` it"));
        }
        if picture.colors > MAX_COLORS && is_sprite() {
            let reason = format!("it has more than {MAX_COLORS} colours");
            findings.push(warning(path, "palette", reason, "`dgx-pixels pixelize --max-colors 16` it"));
        }
        match entry {
            Some(entry) => of_entry(path, &bytes, &picture, entry, &mut findings),
            None => self.of_stray(inside, &picture, &mut findings),
        }
        findings
    }

    /// A picture that no manifest names: its name, and what lies beside it.
    fn of_stray(&self, inside: &Path, picture: &Picture, findings: &mut Vec<Finding>) {
        let path = &self.shown(inside);
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        let stem = path.file_stem().unwrap_or_default();
        if !stem.as_encoded_bytes().iter().all(|byte| is_plain(*byte)) {
            let mend = "rename it with `a-z`, `0-9`, `-` and `_`, which every system takes; a deploy does";
            findings.push(warning(path, "name", "its name has other letters than games use", mend));
        }
        let beside = sidecar(path);
        let folder = self.root.descend(inside.parent().unwrap_or(Path::new("")));
        let read = folder.and_then(|folder| match folder {
            Some(folder) => read_beside(&folder, beside.file_name().unwrap_or_default()),
            None => Ok(None),
        });
        let text = match read {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(fault) => {
                findings.push(error(&beside, "sheet", fault.source.to_string(), ITSELF));
                return;
            }
        };
        if let Ok(told) = serde_json::from_slice::<Certificate>(&text) {
            let is = (picture.size.0, picture.size.1, picture.colors, picture.soft_alpha == 0);
            if (told.width, told.height, told.colors.min(MAX_COLORS + 1), told.one_bit_alpha) != is {
                let mend = "the picture was changed after it was made; `dgx-pixels pixelize` it, or remove the certificate";
                findings.push(error(
                    &beside,
                    "certificate",
                    "it tells of another picture than the one beside it",
                    mend,
                ));
            }
        } else if SheetIndex::is_meant(&text) {
            let mend = "export both again, or `dgx-pixels sheet`";
            match SheetIndex::read(&text) {
                Err(reason) => findings.push(error(&beside, "sheet", reason.to_string(), mend)),
                Ok(index) if index.size != picture.size => {
                    let ((w, h), (width, height)) = (index.size, picture.size);
                    let reason =
                        format!("it tells of a sheet of {w}x{h}, and the picture is {width}x{height}");
                    findings.push(error(&beside, "sheet", reason, mend));
                }
                Ok(_) => {}
            }
        }
    }
}

fn of_entry(
    path: &Path,
    bytes: &[u8],
    picture: &Picture,
    entry: &ManifestImage,
    findings: &mut Vec<Finding>,
) {
    let again = "deploy the sprite again";
    if blake3::hash(bytes).to_hex().as_str() != entry.blake3 {
        findings.push(error(path, "hash", "its content is not what the manifest says", again));
    }
    if picture.size != (entry.width, entry.height) {
        let ((width, height), (w, h)) = (picture.size, (entry.width, entry.height));
        findings.push(error(
            path,
            "size",
            format!("it is {width}x{height}, and the manifest says {w}x{h}"),
            again,
        ));
    }
    if !entry.palette.is_empty() && entry.palette.len() != picture.colors {
        let reason =
            format!("it has {} colours, and the manifest lists {}", picture.colors, entry.palette.len());
        findings.push(error(path, "palette", reason, again));
    }
}
