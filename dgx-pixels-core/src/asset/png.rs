//! PNG files made smaller, with the same pixels.

use oxipng::{Deflater, Options, StripChunks};

use crate::error::Error;
use crate::value_error::ValueError;

/// The same picture in fewer bytes, and the same bytes each time. Texts stay, so that the file
/// still says how it was made.
///
/// # Errors
/// [`Error::Value`] for what is no PNG file.
///
/// # Example
/// ```
/// use dgx_pixels_core::asset::optimized;
/// use dgx_pixels_core::picture_file::plain_png;
///
/// let png = plain_png(&image::RgbaImage::new(64, 64))?;
/// let smaller = optimized(&png)?;
/// assert!(smaller.len() <= png.len());
/// assert_eq!(image::load_from_memory(&smaller).unwrap().width(), 64);
/// assert!(optimized(b"no PNG").is_err());
/// # Ok::<(), dgx_pixels_core::Error>(())
/// ```
pub fn optimized(png: &[u8]) -> Result<Vec<u8>, Error> {
    let mut options = Options::from_preset(2);
    // Bevy takes one channel for red.
    options.grayscale_reduction = false;
    options.interlace = Some(false);
    options.strip = StripChunks::None;
    options.deflater = Deflater::Libdeflater { compression: 11 };
    oxipng::optimize_from_memory(png, &options)
        .map_err(|error| ValueError::new("png", error, "a PNG file").into())
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;
    use crate::picture_file::{is_sprite, sprite_png};

    #[test]
    fn pixels_and_texts_stay_and_bytes_go() {
        let pictures: [fn(u32, u32) -> Rgba<u8>; 3] = [
            |x, y| Rgba([(x * 8) as u8, (y * 8) as u8, 40, 255]),
            // Gray, and hidden colours.
            |x, y| Rgba([x as u8, x as u8, x as u8, if y > 16 { 255 } else { 0 }]),
            |_, _| Rgba([0, 0, 0, 0]),
        ];
        for picture in pictures {
            let picture = RgbaImage::from_fn(32, 32, picture);
            let before = sprite_png(&picture, None).unwrap();
            let after = optimized(&before).unwrap();
            assert!(after.len() <= before.len());
            assert_eq!(optimized(&before).unwrap(), after);
            let decoded = image::load_from_memory(&after).unwrap();
            assert!(decoded.color().has_color(), "{:?}", decoded.color());
            assert_eq!(decoded.into_rgba8(), picture);
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("a.png"), &after).unwrap();
            assert!(is_sprite(&folder.path().join("a.png")));
        }
    }

    #[test]
    fn text_is_no_picture() {
        assert!(optimized(b"text").unwrap_err().to_string().contains("expected a PNG file"));
    }
}
