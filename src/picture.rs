//! Pictures that people give: found in folders, read with limits.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder as _, ImageFormat, ImageReader, Limits, RgbaImage};

use crate::failure::Failure;

/// Most pixels of a picture: 32 megapixels, where a copy takes 128 MiB.
const MAX_PIXELS: u64 = 1 << 25;
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// The files that `inputs` mean: files as they are, the pictures of folders, and those that match patterns, each once, in
/// the order given and then by name.
///
/// # Errors
/// [`Failure::Input`] for an input that is none of these or has no pictures.
pub(crate) fn expand(inputs: &[String]) -> Result<Vec<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = vec![];
    for input in inputs {
        let path = PathBuf::from(input);
        let fault = |reason: String| Failure::Input { path: path.clone(), reason };
        let mut new = if path.is_dir() {
            let entries = path.read_dir().map_err(|error| fault(error.to_string()))?;
            let mut files: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| is_picture(path)).collect();
            files.sort_unstable();
            files
        } else if path.exists() || !input.contains(['*', '?', '[']) {
            vec![path.clone()]
        } else {
            let paths = glob::glob(input).map_err(|error| fault(error.to_string()))?;
            paths.flatten().filter(|path| is_picture(path)).collect()
        };
        if new.is_empty() {
            return Err(fault(format!(
                "it has no pictures; expected files that end in {}",
                ENDINGS.join(", ")
            )));
        }
        new.retain(|path| !found.contains(path));
        found.append(&mut new);
    }
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    let known = |ending: &str| ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known));
    path.is_file() && path.extension().and_then(|ending| ending.to_str()).is_some_and(known)
}

/// The picture in 8-bit RGBA, whatever it was stored in.
///
/// # Errors
/// [`Failure::Input`]: it is not there, no picture, damaged, too large, or animated.
pub(crate) fn read(path: &Path) -> Result<RgbaImage, Failure> {
    let fault = |reason: String| Failure::Input { path: path.to_owned(), reason };
    decode(path, &fs::read(path).map_err(|error| fault(error.to_string()))?)
}

/// As [`read`], of the bytes of the file at `path`.
///
/// # Errors
/// As [`read`].
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<RgbaImage, Failure> {
    let fault = |reason: String| Failure::Input { path: path.to_owned(), reason };
    let unreadable = |error: image::ImageError| fault(error.to_string());
    let open = || ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let reader = open().map_err(|error| fault(error.to_string()))?;
    let Some(format) = reader.format() else {
        return Err(fault("it is no picture that can be read; expected PNG, JPEG, WebP, GIF or BMP".into()));
    };
    let (width, height) = reader.into_dimensions().map_err(unreadable)?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(fault(format!("it is {width}x{height}; expected at most {MAX_PIXELS} pixels")));
    }
    if format == ImageFormat::Gif {
        let frames = GifDecoder::new(Cursor::new(bytes)).map_err(unreadable)?.into_frames();
        if frames.take(2).count() > 1 {
            return Err(fault(
                "it is animated; expected one picture, or the frames side by side and `--strip`".into(),
            ));
        }
    }
    let mut reader = open().map_err(|error| fault(error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS);
    reader.limits(limits);
    Ok(reader.decode().map_err(unreadable)?.into_rgba8())
}
