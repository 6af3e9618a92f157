//! One picture, decoded for the checks.

use std::collections::BTreeSet;
use std::io::Cursor;

use super::{MAX_COLORS, MAX_SIDE};

/// The facts about an image that the checks need.
pub(super) struct Picture {
    pub(super) size: (u32, u32),
    /// A colour type that Bevy shows in other colours.
    pub(super) unusual: Option<String>,
    /// No pixel can be seen.
    pub(super) is_empty: bool,
    /// Pixels whose alpha is neither 0 nor 255.
    pub(super) soft_alpha: usize,
    /// The number of colors of visible pixels, or one more than [`MAX_COLORS`] if there are more.
    pub(super) colors: usize,
}

impl Picture {
    /// Reads the facts of a PNG file's bytes. An image that is larger than any GPU can hold is
    /// refused by its header alone.
    pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
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
