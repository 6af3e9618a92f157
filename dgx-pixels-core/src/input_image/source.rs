//! Images to draw from, as a field names them: a path, the bytes of a file, or a known image.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

#[cfg(feature = "fields")]
use super::read_file;
use super::{InputImage, decode, dimensions};
use crate::request::{MAX_SOURCE_PIXELS, Mask, SourceImage};

/// The image that a field names. `read` reads the file at a path, or says why it does not.
///
/// # Errors
/// The value, and what would be right: a clause that follows the field's name.
///
/// # Example
/// ```
/// use dgx_pixels_core::input_image::{read_file, source};
/// use dgx_pixels_core::picture_file::plain_png;
/// # let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key.png");
/// std::fs::write(&path, plain_png(&image::RgbaImage::new(16, 16))?)?;
/// let read = |path: &std::path::Path| read_file(path).map_err(|error| error.to_string());
/// let image = source(&path.display().to_string(), read)?;
/// assert!(image.pixels().is_some_and(|pixels| pixels.dimensions() == (16, 16)));
/// assert!(source("data:image/png;base64,AAAA", read).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn source(
    text: &str,
    read: impl FnOnce(&Path) -> Result<Vec<u8>, String>,
) -> Result<SourceImage, String> {
    if text.starts_with("blake3:") || text.starts_with("rgba:") {
        return text.parse().map_err(|error| format!("is `{}`; {error}", short(text)));
    }
    let bytes = match text.strip_prefix("data:") {
        Some(data) => {
            let base64 = data.split_once(";base64,").map(|(_, base64)| base64.trim());
            let bytes = base64.and_then(|base64| BASE64_STANDARD.decode(base64).ok());
            bytes.ok_or_else(|| "it has no bytes in base64 after `;base64,`".to_owned())
        }
        None => read(Path::new(text)),
    };
    let of_bytes = |bytes: Vec<u8>| {
        let (width, height) = dimensions(&bytes).map_err(|error| error.to_string())?;
        if u64::from(width) * u64::from(height) > MAX_SOURCE_PIXELS {
            let most = format!("expected at most {MAX_SOURCE_PIXELS} pixels, as 4096x4096 has");
            return Err(format!("it is {width}x{height}; {most}"));
        }
        let InputImage { pixels, warnings } = decode(&bytes).map_err(|error| error.to_string())?;
        warnings.iter().for_each(|warning| tracing::warn!(image = short(text), "{warning}"));
        Ok(SourceImage::new(pixels))
    };
    bytes.and_then(of_bytes).map_err(|reason| format!("is `{}`: {reason}", short(text)))
}

/// The image that a field names, as the text in JSON that has its pixels.
///
/// # Errors
/// Those of [`source`].
#[cfg(feature = "fields")]
pub(crate) fn text(
    text: &str,
    read: impl FnOnce(&Path) -> Result<Vec<u8>, String>,
) -> Result<String, String> {
    let json = serde_json::to_value(source(text, read)?);
    match json.expect("an image turns into JSON; this is a bug") {
        serde_json::Value::String(text) => Ok(text),
        _ => unreachable!("an image is a text in JSON"),
    }
}

/// The mask that a field names: `alpha`, rectangles, or an image as of [`source`].
///
/// # Errors
/// Those of [`source`].
pub fn mask(text: &str, read: impl FnOnce(&Path) -> Result<Vec<u8>, String>) -> Result<Mask, String> {
    match text.parse() {
        Ok(mask @ (Mask::Alpha | Mask::Areas(_))) => Ok(mask),
        _ => source(text, read).map(Mask::Image),
    }
}

/// A path, or the beginning of what is no path.
fn short(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// The file at a path, for a user who may read all that the program may.
///
/// # Errors
/// The reason why it cannot be read.
#[cfg(feature = "fields")]
pub(crate) fn any_file(path: &Path) -> Result<Vec<u8>, String> {
    read_file(path).map_err(|error| error.to_string())
}
