//! Files of pictures: what they say of how they were made, and how they are written so that each is whole.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Cursor, Seek, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use image::{RgbImage, RgbaImage};
use png::text_metadata::ITXtChunk;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::pixel::{Certificate, PixelError, PixelOptions};
use crate::request::GenerateRequest;

/// How a picture was made: all that shaped it, and its terms; no times and places, so that the same request gives the same file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// With every default filled in.
    pub request: GenerateRequest,
    /// What made a sprite of the model's picture; `None` for the picture itself.
    pub pixel: Option<PixelOptions>,
    /// The model's name.
    pub model: String,
    /// BLAKE3 of the model's files; `None` for a model without any.
    pub model_hash: Option<String>,
    /// The precision that it was computed in, as `bf16`.
    pub dtype: String,
    /// `cpu` or `cuda`: which GPU it was shapes nothing.
    pub device: String,
    /// Whether it was decoded in tiles.
    #[serde(default)]
    pub vae_tiling: bool,
    /// How much was done differently from diffusers for speed, as `fast`; `None` where that made no difference, as on a CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// This library's version.
    pub program: String,
    /// libtorch's version; `None` where it was not used.
    pub libtorch: Option<String>,
    /// The model's licence, if it was known, as `openrail++`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}

/// The text of a PNG file that says it is a sprite, and of which size: other programs keep texts when they enlarge.
const SPRITE: &str = "dgx-pixels-sprite";

/// The text of a PNG file that holds [`Made`] as JSON.
const MADE: &str = "dgx-pixels";

/// The most bytes of that text: a prompt may be long.
const MAX_MADE_BYTES: usize = 1 << 20;
/// The most bytes of the text [`SPRITE`], two sides.
const MAX_SIDES_BYTES: usize = 32;

/// The text, which may be compressed: a few bytes can stand for gigabytes.
fn bounded(text: &ITXtChunk, limit: usize) -> Result<String, png::DecodingError> {
    let mut text = text.clone();
    text.decompress_text_with_limit(limit)?;
    text.get_text()
}

impl Made {
    /// Reads from a PNG file how it was made. The file may be anyone's: what is returned is within the same
    /// ranges as a user's request.
    ///
    /// # Errors
    /// What is wrong with the file, in words: it is no PNG, says nothing, or a value is out of its range.
    pub fn read(png: &[u8]) -> Result<Made, String> {
        let reader = png::Decoder::new(Cursor::new(png)).read_info().map_err(|error| error.to_string())?;
        let texts = &reader.info().utf8_text;
        let text = texts
            .iter()
            .find(|text| text.keyword == MADE)
            .ok_or("it does not say how it was made; expected a picture that `dgx-pixels generate` wrote")?;
        let text = bounded(text, MAX_MADE_BYTES).map_err(|error| error.to_string())?;
        let made: Made =
            serde_json::from_str(&text).map_err(|error| format!("how it was made is not told: {error}"))?;
        made.validate().map_err(|error| format!("how it was made cannot be: {error}"))?;
        Ok(made)
    }

    /// Checks the request and the pixel options against the ranges that hold for a user's.
    ///
    /// # Errors
    /// [`Error::Request`] or [`Error::Pixel`], naming the field, its value and the range.
    pub fn validate(&self) -> Result<(), Error> {
        self.request.validate()?;
        if let Some(pixel) = &self.pixel {
            pixel.validate().map_err(PixelError::from)?;
        }
        Ok(())
    }

    fn json(&self) -> String {
        serde_json::to_string(self).expect("plain data turns into JSON; this is a bug")
    }
}

/// Whether the file at `path` is a sprite of ours, one pixel for each cell; `false` if it cannot be read.
pub fn is_sprite(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| says_sprite(BufReader::new(file)))
}

/// As [`is_sprite`], of a PNG file's bytes.
pub(crate) fn says_sprite(png: impl BufRead + Seek) -> bool {
    let Ok(reader) = png::Decoder::new(png).read_info() else { return false };
    let info = reader.info();
    let size = format!("{}x{}", info.width, info.height);
    info.utf8_text
        .iter()
        .any(|text| text.keyword == SPRITE && bounded(text, MAX_SIDES_BYTES).is_ok_and(|text| text == size))
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
        let software = concat!("dgx-pixels ", env!("CARGO_PKG_VERSION"));
        encoder.add_text_chunk("Software".into(), software.into())?;
        for (name, text) in texts {
            encoder.add_itxt_chunk((*name).into(), text.clone())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(pixels)?;
        writer.finish()
    };
    match encode() {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Error::Internal { doing: "encoding a picture", message: error.to_string() }),
    }
}

/// Writes a sprite, as [`sprite_png`] made it, and its certificate beside it as `NAME.json`. The picture comes last: where it
/// is, both are.
///
/// # Errors
/// As [`write_whole`]; a certificate without its picture is not left behind.
pub fn write_sprite(path: &Path, bytes: &[u8], certificate: &Certificate, force: bool) -> Result<(), Error> {
    let certificate =
        serde_json::to_string_pretty(certificate).expect("plain data turns into JSON; this is a bug") + "\n";
    let beside = sidecar(path);
    let is_new = !beside.exists();
    write_whole(&beside, certificate.as_bytes(), force)?;
    write_whole(path, bytes, force).inspect_err(|_| {
        if is_new {
            let _ = fs::remove_file(&beside);
        }
    })
}

/// Where a sprite's certificate goes: `NAME.json` for `NAME.png`.
pub fn sidecar(path: &Path) -> PathBuf {
    path.with_extension("json")
}

/// Writes one file: all of it under a temporary name beside `path`, synced, then renamed. Makes the folder if it is absent.
/// `force` replaces a file that is there.
///
/// # Errors
/// [`Error::Exists`] without `force`; [`Error::Output`] for a full disk and the like. Neither leaves anything behind.
pub fn write_whole(path: &Path, bytes: &[u8], force: bool) -> Result<(), Error> {
    let fault = |error: io::Error| Error::Output { path: path.to_owned(), reason: error.to_string() };
    let folder = match path.parent() {
        // The empty path is the current folder to people, and nothing to the system.
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => path,
    };
    if !folder.is_dir() {
        // Many may be written at once.
        fs::create_dir_all(folder).map_err(fault)?;
    }
    // The mode of any new file; `tempfile` alone lets nobody but the owner read it.
    let mode = Permissions::from_mode(0o666);
    let mut builder = tempfile::Builder::new();
    let mut file = builder.prefix(".dgx-pixels-").permissions(mode).tempfile_in(folder).map_err(fault)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(fault)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::Exists { path: path.to_owned() })
        }
        Err(error) => Err(fault(error.error)),
    }
}
