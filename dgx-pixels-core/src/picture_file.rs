//! Files of pictures: what they say of how they were made, and how they are written so that each is
//! whole.

use std::fs;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};

use image::{RgbImage, RgbaImage};
use png::text_metadata::ITXtChunk;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Cause, Error};
use crate::files::{MAX_PICTURE_BYTES, MAX_TEXT_BYTES, check_replaceable, read_regular, write_whole};
use crate::model::InversionUse;
use crate::pixel::{Certificate, PixelError, PixelOptions};
use crate::request::{GenerateRequest, ResolvedRequest};
use crate::scheduler::PredictionType;
use crate::stored;

/// The provenance of an image: all that shaped it, and its terms. It holds no times and places, so
/// that the same request gives the same file.
///
/// # Example
/// ```
/// use dgx_pixels_core::Submission;
/// use dgx_pixels_core::backend::{Sketches, Unmetered};
/// use dgx_pixels_core::engine::{Engine, EngineConfig};
/// use dgx_pixels_core::picture_file::{Made, sprite_png};
///
/// let engine = Engine::start(Sketches, vec![Box::new(Unmetered("cpu".into()))], EngineConfig::default())?;
/// let finished = engine.submit(Submission::of("a brass key"))?.wait()?;
/// let png = sprite_png(&finished.image, Some(&finished.made))?;
/// let made = Made::read(&png)?;
/// assert_eq!(made, finished.made);
/// assert_eq!((made.model.as_str(), made.request.prompt.as_str()), ("sketch", "a brass key"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "stored::Provenance", into = "stored::Provenance")]
pub struct Made {
    /// The request, with every default filled in.
    pub request: ResolvedRequest,
    /// The options of the pixel stages that made a sprite of the model's image; `None` for the
    /// image itself.
    pub pixel: Option<PixelOptions>,
    /// The model's name.
    pub model: String,
    /// BLAKE3 of the model's files; `None` for a model without any.
    pub model_hash: Option<String>,
    /// The precision that it was computed in, as `bf16`.
    pub dtype: String,
    /// `cpu` or `cuda`: which GPU it was shapes nothing.
    pub device: String,
    /// `true` if the image was decoded in tiles.
    pub vae_tiling: bool,
    /// The mode, for example `fast`, which says how much was done differently from diffusers for
    /// speed; `None` where that made no difference, for example on a CPU.
    pub mode: Option<String>,
    /// This library's version.
    pub program: String,
    /// The version of libtorch; `None` where it was not used.
    pub libtorch: Option<String>,
    /// The model's licence, if it was known, as `openrail++`.
    pub licence: Option<String>,
    /// BLAKE3 of the file of each LoRA in the request, in their order.
    pub lora_hashes: Vec<String>,
    /// The meaning of the UNet's answer, where it was given against what the model's files say.
    pub prediction_type: Option<PredictionType>,
    /// `true` if the model was taken to begin in pure noise, where this was given against what its
    /// files say.
    pub zero_snr: Option<bool>,
    /// BLAKE3 of the VAE in the request.
    pub vae_hash: Option<String>,
    /// BLAKE3 of each control net of the request, in its order.
    pub control_hashes: Vec<String>,
    /// The textual inversions that the prompts name, with their hashes.
    pub inversions: Vec<InversionUse>,
}

/// The reason why a file's record of how it was made cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MadeError {
    /// The file is no PNG.
    #[error("it is no PNG file")]
    Png(#[from] png::DecodingError),
    /// The file has no record.
    #[error("it does not say how it was made; expected a picture that `dgx-pixels generate` wrote")]
    Missing,
    /// The record cannot be decompressed, or is too long.
    #[error("its record of how it was made is damaged, or takes more than {MAX_MADE_BYTES} bytes")]
    Damaged,
    /// The record is no JSON of ours.
    #[error("its record of how it was made cannot be read")]
    Json(#[from] serde_json::Error),
    /// A newer program wrote the record.
    #[error(
        "its record of how it was made has format version {version}; expected at most {newest}: a newer program wrote it"
    )]
    Newer {
        /// The format version of the record.
        version: u32,
        /// The newest that this program reads.
        newest: u32,
    },
    /// The record lacks a value that every image has.
    #[error("its record of how it was made is wrong: `{field}` is missing; expected a value")]
    Lacks {
        /// The name of the field.
        field: &'static str,
    },
    /// The record has a value out of its range.
    #[error("its record of how it was made is wrong")]
    Invalid(#[source] Error),
}

/// The text of a PNG file that says it is a sprite, and of which size: other programs keep texts
/// when they enlarge.
const SPRITE: &str = "dgx-pixels-sprite";

/// The program that our files name.
const APP: &str = "dgx-pixels";

/// The text of a PNG file that holds [`Made`] as JSON.
const MADE: &str = "dgx-pixels";

/// The most bytes of that text: a prompt may be long.
const MAX_MADE_BYTES: usize = 1 << 20;
/// The most bytes of the text [`SPRITE`], two sides.
const MAX_SIDES_BYTES: usize = 32;

/// The text, unless it has more than `limit` bytes. It may be compressed, so that a few bytes stand
/// for gigabytes.
fn bounded(text: &ITXtChunk, limit: usize) -> Option<String> {
    let mut text = text.clone();
    text.decompress_text_with_limit(limit).ok()?;
    text.get_text().ok().filter(|text| text.len() <= limit)
}

impl Made {
    /// Reads from a PNG file how it was made. The file may be anyone's: what is returned is within
    /// the same ranges as a user's request.
    ///
    /// # Errors
    /// A [`MadeError`] for a file that is no PNG, that says nothing, or that has a value out of its
    /// range.
    pub fn read(png: &[u8]) -> Result<Made, MadeError> {
        let reader = png::Decoder::new(Cursor::new(png)).read_info()?;
        let texts = &reader.info().utf8_text;
        let text = texts.iter().find(|text| text.keyword == MADE).ok_or(MadeError::Missing)?;
        let text = bounded(text, MAX_MADE_BYTES).ok_or(MadeError::Damaged)?;
        let made = Made::try_from(stored::Provenance::parse(&text)?)?;
        made.validate().map_err(MadeError::Invalid)?;
        Ok(made)
    }

    /// Checks the request and the pixel options against the ranges that hold for a user's.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Pixel`], naming the field, its value and the range.
    /// A record in a file may be anyone's, so it is checked like a request that a user types.
    pub fn validate(&self) -> Result<(), Error> {
        GenerateRequest::from(self.request.clone()).validate()?;
        if let Some(pixel) = &self.pixel {
            pixel.validate().map_err(PixelError::from)?;
        }
        Ok(())
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("plain data turns into JSON; this is a bug")
    }
}

/// `true` if the file at `path` is a sprite of ours, one pixel for each cell; `false` if it cannot
/// be read.
///
/// # Example
/// ```
/// use dgx_pixels_core::picture_file::{is_sprite, sprite_png};
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key.png");
/// assert!(!is_sprite(&path));
/// std::fs::write(&path, sprite_png(&image::RgbaImage::new(16, 16), None)?)?;
/// assert!(is_sprite(&path));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_sprite(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| says_sprite(BufReader::new(file)))
}

/// The same check as [`is_sprite`], on a PNG file's bytes.
pub fn says_sprite(png: impl BufRead + Seek) -> bool {
    let Ok(reader) = png::Decoder::new(png).read_info() else { return false };
    let info = reader.info();
    let size = format!("{}x{}", info.width, info.height);
    info.utf8_text
        .iter()
        .any(|text| text.keyword == SPRITE && bounded(text, MAX_SIDES_BYTES).is_some_and(|text| text == size))
}

/// A model's picture as a PNG file.
///
/// # Errors
/// [`Error::Internal`] if it cannot be encoded.
pub fn picture_png(image: &RgbImage, made: &Made) -> Result<Vec<u8>, Error> {
    png(image.dimensions(), png::ColorType::Rgb, image.as_raw(), &[(MADE, made.json())])
}

/// A sprite as a PNG file, which says that its cells are pixels.
///
/// # Errors
/// As [`picture_png`].
///
/// # Example
/// ```
/// use dgx_pixels_core::picture_file::{says_sprite, sprite_png};
/// use image::RgbaImage;
///
/// let png = sprite_png(&RgbaImage::new(16, 16), None)?;
/// assert!(says_sprite(std::io::Cursor::new(&png)));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn sprite_png(sprite: &RgbaImage, made: Option<&Made>) -> Result<Vec<u8>, Error> {
    let made = made.map(|made| (MADE, made.json()));
    let size = format!("{}x{}", sprite.width(), sprite.height());
    let texts: Vec<_> = [(SPRITE, size)].into_iter().chain(made).collect();
    png(sprite.dimensions(), png::ColorType::Rgba, sprite.as_raw(), &texts)
}

/// Any other picture as a PNG file.
///
/// # Errors
/// As [`picture_png`].
///
/// # Example
/// ```
/// use dgx_pixels_core::picture_file::{Made, MadeError, plain_png, says_sprite};
/// use image::RgbaImage;
///
/// let png = plain_png(&RgbaImage::new(16, 16))?;
/// assert!(!says_sprite(std::io::Cursor::new(&png)));
/// assert!(matches!(Made::read(&png), Err(MadeError::Missing)));
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn plain_png(image: &RgbaImage) -> Result<Vec<u8>, Error> {
    png(image.dimensions(), png::ColorType::Rgba, image.as_raw(), &[])
}

fn png(
    (width, height): (u32, u32),
    color: png::ColorType,
    pixels: &[u8],
    texts: &[(&str, String)],
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let encode = || -> Result<(), png::EncodingError> {
        let software = format!("{APP} {}", env!("CARGO_PKG_VERSION"));
        encoder.add_text_chunk("Software".into(), software)?;
        for (name, text) in texts {
            encoder.add_itxt_chunk((*name).into(), text.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()
    };
    match encode() {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Error::internal("encoding a picture", Cause::from(error))),
    }
}

/// Writes a sprite, as [`sprite_png`] made it, and its certificate beside it as `NAME.json`. The
/// picture comes last: where it is, both are.
///
/// # Errors
/// As [`write_whole`]; [`Error::Output`] for a `NAME.json` of another program, which even `force`
/// does not replace. A certificate without its picture is not left behind.
///
/// # Example
/// ```
/// use dgx_pixels_core::picture_file::{is_ours, sprite_png, write_sprite};
/// use dgx_pixels_core::pixel::{Certificate, Wrap};
/// # let folder = tempfile::tempdir()?;
/// let sprite = image::RgbaImage::new(16, 16);
/// let certificate = Certificate::of(&sprite, None, Wrap::default());
/// let path = folder.path().join("key.png");
/// write_sprite(&path, &sprite_png(&sprite, None)?, &certificate, false)?;
/// assert!(is_ours(&path) && is_ours(&folder.path().join("key.json")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_sprite(path: &Path, bytes: &[u8], certificate: &Certificate, force: bool) -> Result<(), Error> {
    let certificate =
        serde_json::to_string_pretty(certificate).expect("plain data turns into JSON; this is a bug") + "\n";
    let beside = sidecar(path);
    check_beside(&beside, force)?;
    let is_new = !beside.exists();
    write_whole(&beside, certificate.as_bytes(), force)?;
    write_whole(path, bytes, force).inspect_err(|_| {
        if is_new {
            let _ = fs::remove_file(&beside);
        }
    })
}

/// Returns the path of a sprite's certificate: `NAME.json` for `NAME.png`.
///
/// # Example
/// ```
/// use std::path::Path;
/// use dgx_pixels_core::picture_file::sidecar;
/// assert_eq!(sidecar(Path::new("sprites/key.png")), Path::new("sprites/key.json"));
/// ```
pub fn sidecar(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Checks that a file may be written at `path`, beside another that the user named: nothing is
/// there, or `force` may replace it and this library wrote it ([`is_ours`]).
///
/// # Errors
/// As [`check_replaceable`]; [`Error::Output`] for a file of another program.
///
/// # Example
/// ```
/// use dgx_pixels_core::picture_file::check_beside;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key.json");
/// check_beside(&path, false)?;
/// std::fs::write(&path, r#"{ "written": "by another program" }"#)?;
/// assert!(check_beside(&path, true).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_beside(path: &Path, force: bool) -> Result<(), Error> {
    match check_replaceable(path, true) {
        Ok(()) if path.symlink_metadata().is_ok() && !is_ours(path) => Err(Error::output(
            path,
            "it is a file of another program, which is not replaced; move it away, or give another output",
        )),
        Ok(()) => check_replaceable(path, force),
        refused => refused,
    }
}

/// `true` if this library wrote the file at `path`: a certificate, a sheet's index or settings, a
/// batch's manifest, or a PNG that names it as its software. `false` for a file that cannot be
/// read.
pub fn is_ours(path: &Path) -> bool {
    let limit = if has_ending(path, "png") { MAX_PICTURE_BYTES } else { MAX_TEXT_BYTES };
    let Ok(bytes) = read_regular(path, limit) else { return false };
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("json") => {
            let index = || serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
            serde_json::from_slice::<Certificate>(&bytes).is_ok() || index()["meta"]["app"] == APP
        }
        Some("jsonl") => {
            let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line: Value = serde_json::from_slice(first).unwrap_or_default();
            bytes.is_empty() || ["key", "path", "status"].iter().all(|field| line[field].is_string())
        }
        #[cfg(feature = "deploy")]
        Some("meta") => bytes == crate::asset::BEVY_META.as_bytes(),
        _ => {
            let reader = png::Decoder::new(Cursor::new(&bytes)).read_info();
            reader.is_ok_and(|reader| {
                let texts = &reader.info().uncompressed_latin1_text;
                texts.iter().any(|text| text.keyword == "Software" && text.text.starts_with(APP))
            })
        }
    }
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn force_replaces_regular_files_and_beside_a_sprite_only_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let reason = |name: &str, force, beside| match if beside {
            check_beside(&at(name), force)
        } else {
            check_replaceable(&at(name), force)
        } {
            Ok(()) => "free".to_owned(),
            Err(Error::Exists { .. }) => "exists".to_owned(),
            Err(error) => error.to_string(),
        };
        fs::write(at("other.json"), r#"{"name":"hero","width":16}"#).unwrap();
        fs::write(at("index.json"), r#"{"frames":[],"meta":{"app":"dgx-pixels"}}"#).unwrap();
        fs::write(at("aseprite.json"), r#"{"frames":[],"meta":{"app":"https://www.aseprite.org/"}}"#)
            .unwrap();
        fs::write(at("ours.png"), plain_png(&RgbaImage::new(2, 2)).unwrap()).unwrap();
        fs::write(at("theirs.png"), "no picture").unwrap();
        let certificate = Certificate::of(&RgbaImage::new(2, 2), None, Default::default());
        write_sprite(&at("key.png"), &[1], &certificate, false).unwrap();
        fs::create_dir(at("folder.png")).unwrap();
        symlink(at("other.json"), at("link.png")).unwrap();
        symlink(at("nowhere"), at("dangling.png")).unwrap();

        assert_eq!(reason("none.png", false, true), "free");
        for name in ["key.json", "index.json", "ours.png"] {
            assert_eq!(
                (reason(name, true, true), reason(name, false, true)),
                ("free".into(), "exists".into())
            );
        }
        for name in ["other.json", "aseprite.json", "theirs.png"] {
            for force in [false, true] {
                assert!(reason(name, force, true).contains("a file of another program"), "{name}");
            }
            assert_eq!(reason(name, true, false), "free", "{name}");
        }
        for (name, kind) in [("folder.png", "folder"), ("link.png", "link"), ("dangling.png", "link")] {
            let text = reason(name, true, false);
            assert!(text.contains(&format!("it is a {kind}")), "{text}");
            assert!(write_whole(&at(name), &[1], true).is_err(), "{name}");
        }
        assert!(write_sprite(&at("other.png"), &[1], &certificate, true).is_err());
        assert_eq!(fs::read_to_string(at("other.json")).unwrap(), r#"{"name":"hero","width":16}"#);
        assert!(!at("other.png").exists());
    }
}
