//! Whether sprites are what a game can use: pictures, names, and a manifest that says what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::deploy::{NAME_DIGITS, previous_manifest};
use super::sheet::MAX_SIDE;
use super::{Manifest, ManifestImage, SheetIndex, SpriteName};
use crate::error::Error;
use crate::picture_file::{Made, sidecar};
use crate::pixel::Certificate;

/// Smaller ones are drawn as any other, and are seldom meant.
const MIN_SIDE: u32 = 16;

/// More colours are no palette of pixel art.
const MAX_COLORS: usize = 256;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Files that were looked at.
    pub files: usize,
    /// Findings that a game would stumble over.
    pub errors: usize,
    /// Findings that may be meant.
    pub warnings: usize,
    /// By path.
    pub findings: Vec<Finding>,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// How bad.
    pub severity: Severity,
    /// One word for the kind: `format`, `color_type`, `size`, `empty`, `alpha`, `palette`, `name`, `hash`, `rect`, `missing`, `orphan`, `manifest`,
    /// `certificate` or `sheet`.
    pub check: &'static str,
    /// What is wrong.
    pub reason: String,
    /// What helps.
    pub mend: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A game would show something else, or nothing.
    Error,
    /// It may be meant.
    Warning,
}

impl Report {
    /// Takes another's findings in.
    pub fn extend(&mut self, other: Report) {
        self.files += other.files;
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.findings.extend(other.findings);
    }
}

/// Looks at a PNG file, a manifest with its pictures, or all of a folder. Hidden files and folders are left alone, and links are not followed.
///
/// # Errors
/// [`Error::NoFile`] for a path that leads to nothing, and for a file that is neither a PNG nor a manifest. What is wrong with a picture is a
/// [`Finding`].
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
    let no_file = |reason: String| Error::NoFile { path: path.to_owned(), reason };
    let metadata = fs::metadata(path).map_err(|error| no_file(error.to_string()))?;
    let mut files = Files::default();
    if metadata.is_dir() {
        files.collect(path).map_err(|error| no_file(error.to_string()))?;
    } else if has_extension(path, "png") {
        files.pngs.push(path.to_owned());
    } else if has_extension(path, "json") {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files.collect(folder).map_err(|error| no_file(error.to_string()))?;
        files.manifests = vec![path.to_owned()];
    } else {
        return Err(no_file(
            "it is neither a PNG file nor a manifest; expected one of these, or a folder".into(),
        ));
    }
    Ok(files.report())
}

#[derive(Default)]
struct Files {
    pngs: Vec<PathBuf>,
    manifests: Vec<PathBuf>,
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

impl Files {
    fn collect(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut folders = vec![];
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (name, path, kind) = (entry.file_name(), entry.path(), entry.file_type()?);
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && has_extension(&path, "png") {
                self.pngs.push(path);
            } else if kind.is_file() && name == "manifest.json" {
                self.manifests.push(path);
            }
        }
        folders.iter().try_for_each(|folder| self.collect(folder))
    }

    fn report(self) -> Report {
        let mut findings = vec![];
        let mut named = BTreeMap::new();
        let mut homes = vec![];
        for path in &self.manifests {
            let home = path.parent().unwrap_or(Path::new("")).to_owned();
            match read_manifest(path, &mut findings) {
                Some(manifest) => {
                    named.extend(manifest.images.into_iter().map(|(image, entry)| (home.join(image), entry)));
                    homes.push((previous_manifest(&home), home));
                }
                // Nothing is known of what lies there.
                None => homes.push((None, home)),
            }
        }
        let found: BTreeSet<&PathBuf> = self.pngs.iter().collect();
        for path in named.keys().filter(|path| !found.contains(path)) {
            findings.push(error(
                path,
                "missing",
                "the manifest names it, and it is not there",
                "deploy it again, or `dgx-pixels deploy --rollback`",
            ));
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
            let mut findings = of_picture(path, entry);
            if entry.is_none() && is_orphan(path) {
                findings.push(warning(
                    path,
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
}

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

/// The manifest, and what is wrong in it.
fn read_manifest(path: &Path, findings: &mut Vec<Finding>) -> Option<Manifest> {
    const ROLLBACK: &str = "`dgx-pixels deploy --rollback` puts back the one before, or mend it by hand";
    let read = fs::read(path).map_err(|error| error.to_string());
    let manifest = match read.and_then(|text| Manifest::read(&text).map_err(|error| error.to_string())) {
        Ok(manifest) => manifest,
        Err(reason) => {
            findings.push(error(path, "manifest", reason, ROLLBACK));
            return None;
        }
    };
    for fault in manifest.faults() {
        let check = match fault.field.ends_with(".rect") {
            true => "rect",
            false => "manifest",
        };
        findings.push(error(path, check, format!("`{}` {}", fault.field, fault.reason), ROLLBACK));
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
    Some(manifest)
}

/// What is wrong with one PNG file; `entry` is what a manifest says of it.
fn of_picture(path: &Path, entry: Option<&ManifestImage>) -> Vec<Finding> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(reason) => return vec![error(path, "format", reason.to_string(), "make it readable")],
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
        None => of_stray(path, &picture, &mut findings),
    }
    findings
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

/// A picture that no manifest names: its name, and what lies beside it.
fn of_stray(path: &Path, picture: &Picture, findings: &mut Vec<Finding>) {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    let stem = path.file_stem().unwrap_or_default();
    if !stem.as_encoded_bytes().iter().all(|byte| is_plain(*byte)) {
        let mend = "rename it with `a-z`, `0-9`, `-` and `_`, which every system takes; a deploy does";
        findings.push(warning(path, "name", "its name has other letters than games use", mend));
    }
    let beside = sidecar(path);
    let Ok(text) = fs::read(&beside) else { return };
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
                let reason = format!("it tells of a sheet of {w}x{h}, and the picture is {width}x{height}");
                findings.push(error(&beside, "sheet", reason, mend));
            }
            Ok(_) => {}
        }
    }
}

/// What the checks need of a picture.
struct Picture {
    size: (u32, u32),
    /// A colour type that Bevy shows in other colours.
    unusual: Option<String>,
    /// No pixel can be seen.
    is_empty: bool,
    /// Pixels whose alpha is neither 0 nor 255.
    soft_alpha: usize,
    /// Of pixels that can be seen; one more than [`MAX_COLORS`] for any more.
    colors: usize,
}

impl Picture {
    /// Of a PNG file's bytes. What is larger than any GPU takes is told by its head alone.
    fn decode(bytes: &[u8]) -> Result<Picture, String> {
        use png::{BitDepth, ColorType};

        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder
            .set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
        let info = reader.info();
        let size = (info.width, info.height);
        let unusual = match (info.color_type, info.bit_depth) {
            (ColorType::Grayscale | ColorType::GrayscaleAlpha, _) => Some("gray".to_owned()),
            (_, BitDepth::Sixteen) => Some("of 16 bits a channel".to_owned()),
            _ => None,
        };
        let mut picture = Picture { size, unusual, is_empty: false, soft_alpha: 0, colors: 0 };
        if size.0.max(size.1) > MAX_SIDE {
            return Ok(picture);
        }
        let len = reader.output_buffer_size().ok_or("it is too large")?;
        let mut pixels = vec![0; len];
        let frame = reader.next_frame(&mut pixels).map_err(|error| error.to_string())?;
        reader.finish().map_err(|error| error.to_string())?;
        let mut colors = BTreeSet::new();
        let mut last = None;
        for pixel in pixels[..frame.buffer_size()].chunks_exact(frame.color_type.samples()) {
            let (color, alpha) = pixel.split_at(pixel.len() - 1);
            picture.soft_alpha += usize::from(!matches!(alpha[0], 0 | 255));
            // Neighbours are often the same.
            if alpha[0] > 0 && last != Some(color) && colors.len() <= MAX_COLORS {
                colors.insert(color);
                last = Some(color);
            }
        }
        picture.is_empty = colors.is_empty();
        picture.colors = colors.len();
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, Rgba, RgbaImage};
    use tempfile::TempDir;

    use super::*;
    use crate::asset::{NewSprite, Project, Sheet, SheetFrame, SheetOptions};
    use crate::picture_file::{sprite_png, write_sprite};
    use crate::pixel::Wrap;

    fn sprite() -> RgbaImage {
        RgbaImage::from_fn(32, 32, |x, y| {
            Rgba([(x / 8 * 60) as u8, (y / 8 * 60) as u8, 90, 255 * u8::from(x > 3)])
        })
    }

    fn deployed() -> (TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.toml"), "[dependencies]\nbevy = \"0.19\"\n").unwrap();
        let project = Project::open(folder.path()).unwrap();
        let png = sprite_png(&sprite(), None).unwrap();
        project.deploy(&[NewSprite::new("enemy_slime".parse().unwrap(), png)]).unwrap();
        (folder, project)
    }

    /// The kinds of findings.
    #[track_caller]
    fn found(path: &Path) -> Vec<(Severity, &'static str)> {
        let report = validate(path).unwrap();
        assert!(report.findings.iter().all(|finding| !finding.mend.is_empty() && !finding.reason.is_empty()));
        assert_eq!(report.errors + report.warnings, report.findings.len());
        report.findings.iter().map(|finding| (finding.severity, finding.check)).collect()
    }

    #[test]
    fn what_we_write_has_nothing_wrong() {
        let (folder, project) = deployed();
        let frame = |n: u32| SheetFrame { name: format!("walk_{n}"), image: sprite(), duration_ms: 100 };
        let sheet = Sheet::new(&[frame(0), frame(1)], vec![], &SheetOptions::default()).unwrap();
        fs::write(folder.path().join("hero.png"), sprite_png(&sheet.image, None).unwrap()).unwrap();
        fs::write(folder.path().join("hero.json"), sheet.index.to_json("hero.png")).unwrap();
        let certificate = Certificate::of(&sprite(), None, Wrap::default());
        let png = sprite_png(&sprite(), None).unwrap();
        write_sprite(&folder.path().join("slime-7.png"), &png, &certificate, false).unwrap();
        // The version before is kept.
        let other = sprite_png(&RgbaImage::new(32, 32), None).unwrap();
        project.deploy(&[NewSprite::new("enemy_slime".parse().unwrap(), other)]).unwrap();
        assert_eq!(found(folder.path()), []);
        assert_eq!(found(&project.manifest_path()), []);
        assert_eq!(found(&folder.path().join("hero.png")), []);
    }

    #[test]
    fn pictures_that_games_cannot_use_are_told() {
        use Severity::{Error, Warning};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.png");
        let save = |picture: DynamicImage| picture.save(&path).unwrap();
        save(sprite().into());
        assert_eq!(found(&path), []);
        let whole = fs::read(&path).unwrap();
        for broken in [&b"text"[..], &whole[..whole.len() / 2], b""] {
            fs::write(&path, broken).unwrap();
            assert_eq!(found(&path), [(Error, "format")]);
        }
        save(DynamicImage::from(sprite()).into_luma8().into());
        assert_eq!(found(&path), [(Error, "color_type")]);
        save(DynamicImage::from(sprite()).into_rgba16().into());
        assert_eq!(found(&path), [(Error, "color_type")]);
        save(RgbaImage::from_pixel(8, 32, Rgba([1, 2, 3, 255])).into());
        assert_eq!(found(&path), [(Warning, "size")]);
        save(RgbaImage::from_pixel(16, 4097, Rgba([1, 2, 3, 255])).into());
        assert_eq!(found(&path), [(Error, "size")]);
        save(RgbaImage::from_pixel(32, 32, Rgba([1, 2, 3, 128])).into());
        assert_eq!(found(&path), [(Error, "alpha")]);
        save(RgbaImage::from_fn(32, 32, |x, y| Rgba([x as u8, y as u8, 3, 255])).into());
        assert_eq!(found(&path), [(Warning, "palette")]);
        save(sprite().into());
        fs::rename(&path, folder.path().join("My Key.png")).unwrap();
        assert_eq!(found(folder.path()), [(Warning, "name")]);
    }

    #[test]
    fn a_manifest_is_held_against_what_is_there() {
        use Severity::{Error, Warning};
        let (folder, project) = deployed();
        let path = project.manifest_path();
        let whole = fs::read_to_string(&path).unwrap();
        let image = fs::read_dir(path.with_file_name("enemy")).unwrap().next().unwrap().unwrap().path();
        let cases = [
            (whole[..whole.len() / 2].to_owned(), "manifest"),
            (whole.replace("\"version\": 1", "\"version\": 2"), "manifest"),
            (whole.replace("\"category\"", "\"kategory\""), "manifest"),
            (whole.replace("32\n            ]", "33\n            ]"), "rect"),
            (whole.replace("\"blake3\": \"", "\"blake3\": \"0"), "name"),
        ];
        for (text, check) in cases {
            assert_ne!(text, whole, "{check}");
            fs::write(&path, &text).unwrap();
            assert!(found(folder.path()).contains(&(Error, check)), "{check}: {:?}", validate(folder.path()));
        }
        let climbing = whole.replace("\"enemy/enemy_slime", "\"../enemy/enemy_slime");
        fs::write(&path, climbing).unwrap();
        assert!(found(&path).contains(&(Error, "manifest")));
        fs::write(&path, &whole).unwrap();
        assert_eq!(found(folder.path()), []);

        fs::copy(&image, image.with_file_name("enemy_copy.png")).unwrap();
        assert_eq!(found(folder.path()), [(Warning, "orphan")]);
        fs::remove_file(image.with_file_name("enemy_copy.png")).unwrap();
        sprite().crop_and_save(&image);
        assert_eq!(found(folder.path()), [(Error, "hash"), (Error, "size"), (Error, "palette")]);
        fs::remove_file(&image).unwrap();
        assert_eq!(found(folder.path()), [(Error, "missing")]);
    }

    trait CropAndSave {
        fn crop_and_save(&self, path: &Path);
    }

    impl CropAndSave for RgbaImage {
        fn crop_and_save(&self, path: &Path) {
            image::imageops::crop_imm(self, 0, 0, 16, 16).to_image().save(path).unwrap();
        }
    }

    #[test]
    fn what_lies_beside_a_picture_must_tell_of_it() {
        use Severity::Error;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hero.png");
        sprite().save(&path).unwrap();
        let certificate = Certificate::of(&RgbaImage::new(32, 32), None, Wrap::default());
        fs::write(folder.path().join("hero.json"), serde_json::to_string(&certificate).unwrap()).unwrap();
        assert_eq!(found(&path), [(Error, "certificate")]);
        let index = SheetIndex { size: (64, 32), frames: vec![], tags: vec![], made: None };
        fs::write(folder.path().join("hero.json"), index.to_json("hero.png")).unwrap();
        assert_eq!(found(&path), [(Error, "sheet")]);
        fs::write(folder.path().join("hero.json"), "{\"other\": 1}").unwrap();
        assert_eq!(found(&path), []);
    }

    #[test]
    fn a_path_to_nothing_or_to_another_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        for name in ["absent", "notes.txt"] {
            assert!(validate(&folder.path().join(name)).is_err());
        }
    }
}
