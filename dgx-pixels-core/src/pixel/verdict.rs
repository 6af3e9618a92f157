//! The verdict on an image, and the reason why no sprite can be made of one.

use serde::{Deserialize, Serialize};

use super::{FrameError, PaletteError};
use crate::value_error::ValueError;

/// The verdict on whether the image has a grid.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{PixelOptions, Verdict, nearest_upscale, pixelize};
/// use image::{Rgba, RgbaImage};
///
/// let sprite = RgbaImage::from_fn(16, 16, |x, y| Rgba([(x * 37 % 200) as u8, (y * 53 % 200) as u8, 90, 255]));
/// let enlarged = pixelize(&nearest_upscale(&sprite, 8)?, &PixelOptions::default())?;
/// assert_eq!(enlarged.verdict, Verdict::Grid);
/// assert_eq!(enlarged.sprite.dimensions(), (16, 16));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The image has a grid, or was said to have one.
    Grid,
    /// The image is pixel art at its own size, and is kept as it is: a cell is one pixel.
    Native,
    /// The image is painted; the sprite is a deliberate reduction.
    NoGrid,
    /// The image may have a grid, and may have none: [`unsure`](super::PixelOptions::unsure) says
    /// what was done. The field `grid` decides it.
    Unsure,
}

/// The reason why no sprite can be made of an image.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PixelError {
    /// No pixels.
    #[error("the picture is {width}x{height}; expected at least one pixel")]
    Empty {
        /// The width in pixels.
        width: u32,
        /// The height in pixels.
        height: u32,
    },
    /// A side that is too long.
    #[error("the picture is {width}x{height}; expected sides up to {largest}")]
    Large {
        /// The width in pixels.
        width: u32,
        /// The height in pixels.
        height: u32,
        /// The longest side that is allowed, in pixels.
        largest: u32,
    },
    /// An option is out of its range.
    #[error(transparent)]
    Option(#[from] ValueError),
    /// More cells than pixels.
    #[error("`grid` is {columns}x{rows}; expected at most {width}x{height}, the picture's pixels")]
    Grid {
        /// Asked for.
        columns: u32,
        /// Asked for.
        rows: u32,
        /// The picture's.
        width: u32,
        /// The picture's.
        height: u32,
    },
    /// The sprite does not fit.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The palette is at fault.
    #[error(transparent)]
    Palette(#[from] PaletteError),
    /// A sprite of more cells than the caller allows.
    #[error("the sprite would have {columns}x{rows} pixels; expected at most {most}, so give a coarser grid")]
    TooManyCells {
        /// Columns of the grid.
        columns: usize,
        /// Rows of the grid.
        rows: usize,
        /// The most that are allowed.
        most: u64,
    },
    /// The grid is not sure, and [`Unsure::Fail`](super::Unsure::Fail) was asked for.
    #[error(
        "the grid is not sure: the likeliest has {columns}x{rows} cells, with confidence {confidence:.2}; give `grid`"
    )]
    Unsure {
        /// Columns of the likeliest grid.
        columns: usize,
        /// Rows of the likeliest grid.
        rows: usize,
        /// Its confidence.
        confidence: f64,
    },
    /// The caller stopped it.
    #[error("stopped before the sprite was made")]
    Stopped,
}

impl PixelError {
    /// The name of the field at fault, if the error is about one.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::ImageSize;
    /// use dgx_pixels_core::pixel::{GridChoice, PixelOptions, pixelize};
    /// use image::RgbaImage;
    ///
    /// let grid = GridChoice::Cells(ImageSize { width: 64, height: 64 });
    /// let options = PixelOptions { grid, ..Default::default() };
    /// let error = pixelize(&RgbaImage::new(8, 8), &options).err().unwrap();
    /// assert_eq!(error.field(), Some("grid"));
    /// ```
    pub fn field(&self) -> Option<&str> {
        match self {
            PixelError::Option(error) => Some(&error.field),
            PixelError::Frame(error) => Some(error.field()),
            PixelError::Palette(_) => Some("palette"),
            PixelError::Grid { .. } | PixelError::TooManyCells { .. } => Some("grid"),
            PixelError::Unsure { .. } => Some("unsure"),
            PixelError::Empty { .. } | PixelError::Large { .. } | PixelError::Stopped => None,
        }
    }
}
