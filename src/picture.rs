//! Pictures that people give: found in folders, read with limits.

use std::fs;
use std::io::{self, Cursor, Read as _};
use std::path::{Path, PathBuf};

use dgx_pixels_core::files::MAX_PICTURE_BYTES;
use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder as _, ImageFormat, ImageReader, Limits, RgbaImage};

use crate::failure::Failure;
use crate::order::by_number;

/// Most pixels of a picture: 32 megapixels, where a copy takes 128 MiB.
const MAX_PIXELS: u64 = 1 << 25;
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// The files that `inputs` mean: files as they are, the pictures of folders, and those that match patterns, each once, in
/// the order given and then by name, with numbers in their own order.
///
/// # Errors
/// [`Failure::Input`] for an input that is none of these or has no pictures.
pub(crate) fn expand(inputs: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found: Vec<PathBuf> = vec![];
    for path in inputs {
        let input = path.to_str().unwrap_or_default();
        let fault = |reason: String| Failure::Input { path: path.clone(), reason };
        let mut new = if path.is_dir() {
            let entries = path.read_dir().map_err(|error| fault(error.to_string()))?;
            let mut files: Vec<_> =
                entries.flatten().map(|entry| entry.path()).filter(|path| is_picture(path)).collect();
            files.sort_unstable_by(|a, b| by_number(a, b));
            files
        } else if path.exists() || !input.contains(['*', '?', '[']) {
            vec![path.clone()]
        } else {
            let paths = glob::glob(input).map_err(|error| fault(error.to_string()))?;
            let mut files: Vec<_> = paths.flatten().filter(|path| is_picture(path)).collect();
            files.sort_unstable_by(|a, b| by_number(a, b));
            files
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

/// Reads standard input, which stands for the file `-`.
///
/// # Errors
/// [`Failure::Input`] if it cannot be read, or is larger than an image file may be.
pub(crate) fn read_stdin(path: &Path) -> Result<Vec<u8>, Failure> {
    let fault = |reason: String| Failure::Input { path: path.to_owned(), reason };
    let mut bytes = vec![];
    let stdin = io::stdin().lock();
    stdin.take(MAX_PICTURE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| fault(error.to_string()))?;
    match bytes.len() as u64 > MAX_PICTURE_BYTES {
        true => Err(fault(format!("it has more than {MAX_PICTURE_BYTES} bytes; expected a smaller file"))),
        false => Ok(bytes),
    }
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
    let animated = match format {
        ImageFormat::Gif => {
            let frames = GifDecoder::new(Cursor::new(bytes)).map_err(unreadable)?.into_frames();
            frames.take(2).count() > 1
        }
        ImageFormat::Png => {
            PngDecoder::new(Cursor::new(bytes)).and_then(|picture| picture.is_apng()).map_err(unreadable)?
        }
        ImageFormat::WebP => WebPDecoder::new(Cursor::new(bytes)).map_err(unreadable)?.has_animation(),
        _ => false,
    };
    if animated {
        let reason = "it is animated; expected one picture, or the frames side by side and `--strip`";
        return Err(fault(reason.into()));
    }
    let mut reader = open().map_err(|error| fault(error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(16 * MAX_PIXELS);
    reader.limits(limits);
    Ok(reader.decode().map_err(unreadable)?.into_rgba8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORMATS: [ImageFormat; 5] =
        [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];

    fn file(format: ImageFormat) -> Vec<u8> {
        let picture = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([(x * 28) as u8, (y * 36) as u8, 99]));
        let mut bytes = Cursor::new(vec![]);
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn damaged_files_are_read_or_refused(
            format in proptest::sample::select(&FORMATS[..]),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            end in any::<prop::sample::Index>(),
            cut in prop::bool::weighted(0.3),
        ) {
            let mut bytes = file(format);
            for (place, value) in damage {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            let path = Path::new("damaged.png");
            if let Err(failure) = decode(path, &bytes) {
                prop_assert!(failure.to_string().starts_with("cannot read `damaged.png`: "), "{failure}");
            }
        }

        #[test]
        fn anything_is_read_or_refused(start in 0..FORMATS.len(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(Path::new("any.png"), &bytes);
            let _ = decode(Path::new("any.png"), &[&file(FORMATS[start])[..12], &bytes].concat());
        }
    }

    #[test]
    fn whole_files_are_read() {
        for format in FORMATS {
            assert_eq!(decode(Path::new("whole"), &file(format)).unwrap().dimensions(), (9, 7), "{format:?}");
        }
    }
}
