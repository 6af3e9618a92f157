//! A sprite on a canvas of an exact size, and enlarged for looking at. Nothing is resampled.

use std::fmt;
use std::str::FromStr;

use image::imageops::{self, FilterType};
use image::{GenericImageView, RgbaImage};
use serde::{Deserialize, Serialize};

use super::option::serde_by_word;
use crate::value_error::ValueError;
use crate::{ImageSize, MAX_SIDE};

/// The place of a sprite on its canvas.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Anchor;
/// assert_eq!("bottom".parse(), Ok(Anchor::Bottom));
/// assert_eq!(Anchor::default().to_string(), "center");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum Anchor {
    /// The middle; an odd cell of room goes right and below. `center`.
    #[default]
    Center,
    /// The middle of the lowest row, as feet on the ground; an odd cell of room goes right.
    /// `bottom`.
    Bottom,
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Anchor::Center => "center",
            Anchor::Bottom => "bottom",
        })
    }
}

impl FromStr for Anchor {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word {
            "center" => Ok(Anchor::Center),
            "bottom" => Ok(Anchor::Bottom),
            _ => Err(ValueError::new("anchor", word, "`center` or `bottom`")),
        }
    }
}

serde_by_word!(Anchor, { "type": "string" });

/// A canvas that a sprite cannot be put on.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::nearest_upscale;
/// use image::RgbaImage;
/// let error = nearest_upscale(&RgbaImage::new(64, 64), 1000).unwrap_err();
/// assert!(error.to_string().contains("128"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The visible part is larger than the canvas.
    #[error(
        "`size` is {}x{}; expected at least {}x{}, the sprite's visible part",
        size.width, size.height, visible.width, visible.height
    )]
    TooSmall {
        /// The size that was asked for, in cells.
        size: ImageSize,
        /// The size of the part that has to fit, in cells.
        visible: ImageSize,
    },
    /// A side that no picture has.
    #[error("`{side}` is {value}; expected 1 to {MAX_SIDE}")]
    Side {
        /// `width` or `height`.
        side: &'static str,
        /// The side that was asked for, in cells.
        value: u32,
    },
    /// An enlargement past the largest picture.
    #[error("`factor` is {factor}; expected 1 to {largest} for a sprite of this size")]
    Factor {
        /// The factor that was asked for.
        factor: u32,
        /// The largest factor that would still fit.
        largest: u32,
    },
}

impl FrameError {
    /// The name of the field at fault.
    pub(super) fn field(&self) -> &'static str {
        match self {
            FrameError::TooSmall { .. } => "size",
            FrameError::Side { side, .. } => side,
            FrameError::Factor { .. } => "factor",
        }
    }
}

/// Largest side of an enlarged sprite, in pixels.
const MAX_ENLARGED: u32 = 8192;

/// The smallest part of `sprite` that holds all its visible cells; one invisible cell if it has
/// none.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::trim;
/// use image::{Rgba, RgbaImage};
/// let mut sprite = RgbaImage::new(16, 16);
/// sprite.put_pixel(3, 5, Rgba([200, 0, 0, 255]));
/// sprite.put_pixel(4, 9, Rgba([200, 0, 0, 255]));
/// assert_eq!(trim(&sprite).dimensions(), (2, 5));
/// ```
pub fn trim(sprite: &RgbaImage) -> RgbaImage {
    let seen = || sprite.enumerate_pixels().filter(|(.., pixel)| pixel[3] > 0);
    let columns = seen().map(|(x, ..)| x).min().zip(seen().map(|(x, ..)| x).max());
    let rows = seen().map(|(_, y, _)| y).min().zip(seen().map(|(_, y, _)| y).max());
    match columns.zip(rows) {
        Some(((left, right), (top, bottom))) => {
            sprite.view(left, top, right - left + 1, bottom - top + 1).to_image()
        }
        None => RgbaImage::new(1, 1),
    }
}

/// `sprite` on an invisible canvas of exactly `size` cells, its visible part standing at `anchor`.
///
/// # Errors
/// [`FrameError::TooSmall`] if the visible part does not fit; [`FrameError::Side`] if a side is not
/// 1 to [`MAX_SIDE`].
///
/// # Example
/// ```
/// use dgx_pixels_core::ImageSize;
/// use dgx_pixels_core::pixel::{Anchor, fit};
/// use image::{Rgba, RgbaImage};
/// let key = RgbaImage::from_pixel(3, 5, Rgba([200, 160, 0, 255]));
/// let sprite = fit(&key, ImageSize { width: 16, height: 16 }, Anchor::Bottom)?;
/// assert_eq!((sprite.get_pixel(6, 11)[3], sprite.get_pixel(8, 15)[3]), (255, 255));
/// assert_eq!(
///     fit(&key, ImageSize { width: 4, height: 4 }, Anchor::Center).unwrap_err().to_string(),
///     "`size` is 4x4; expected at least 3x5, the sprite's visible part"
/// );
/// # Ok::<(), dgx_pixels_core::pixel::FrameError>(())
/// ```
pub fn fit(sprite: &RgbaImage, size: ImageSize, anchor: Anchor) -> Result<RgbaImage, FrameError> {
    for (side, value) in [("width", size.width), ("height", size.height)] {
        if !(1..=MAX_SIDE).contains(&value) {
            return Err(FrameError::Side { side, value });
        }
    }
    let part = trim(sprite);
    let visible = ImageSize { width: part.width(), height: part.height() };
    if visible.width > size.width || visible.height > size.height {
        return Err(FrameError::TooSmall { size, visible });
    }
    let room = (size.width - visible.width, size.height - visible.height);
    let top = match anchor {
        Anchor::Center => room.1 / 2,
        Anchor::Bottom => room.1,
    };
    let mut canvas = RgbaImage::new(size.width, size.height);
    imageops::replace(&mut canvas, &part, i64::from(room.0 / 2), i64::from(top));
    Ok(canvas)
}

/// `sprite` with each cell as a square of `factor` pixels: for looking at, not for games.
///
/// # Errors
/// [`FrameError::Factor`] if a side would pass 8192 pixels, or `factor` is 0.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::nearest_upscale;
/// use image::RgbaImage;
/// assert_eq!(nearest_upscale(&RgbaImage::new(32, 16), 8)?.dimensions(), (256, 128));
/// # Ok::<(), dgx_pixels_core::pixel::FrameError>(())
/// ```
pub fn nearest_upscale(sprite: &RgbaImage, factor: u32) -> Result<RgbaImage, FrameError> {
    let (width, height) = sprite.dimensions();
    let largest = MAX_ENLARGED / width.max(height).max(1);
    if !(1..=largest).contains(&factor) {
        return Err(FrameError::Factor { factor, largest });
    }
    Ok(imageops::resize(sprite, width * factor, height * factor, FilterType::Nearest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::ascii::{draw, show};

    #[test]
    fn the_middle_gives_its_odd_cell_to_the_right_and_below() {
        let sprite = fit(&draw("...\n.r.\n..."), ImageSize { width: 4, height: 2 }, Anchor::Center).unwrap();
        assert_eq!(show(&sprite), ".r..\n....");
    }

    #[test]
    fn feet_stand_on_the_lowest_row() {
        let sprite = fit(&draw("rg\n.b\n.."), ImageSize { width: 4, height: 4 }, Anchor::Bottom).unwrap();
        assert_eq!(show(&sprite), "....\n....\n.rg.\n..b.");
    }

    #[test]
    fn bad_sizes_are_answered_with_what_would_be_right() {
        let size = ImageSize { width: 0, height: 4 };
        let error = fit(&draw("r"), size, Anchor::Center).unwrap_err();
        assert_eq!(error.to_string(), "`width` is 0; expected 1 to 2048");
        let error = nearest_upscale(&RgbaImage::new(512, 32), 17).unwrap_err();
        assert_eq!(error.to_string(), "`factor` is 17; expected 1 to 16 for a sprite of this size");
    }

    #[test]
    fn nothing_visible_fits_anywhere() {
        for empty in [RgbaImage::new(0, 0), RgbaImage::new(9, 9)] {
            let canvas = fit(&empty, ImageSize { width: 1, height: 1 }, Anchor::Center).unwrap();
            assert_eq!(show(&canvas), ".");
        }
    }
}
