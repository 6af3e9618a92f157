//! Conversion of an image *of* pixel art to pixel art: one pixel for each cell of the image's grid,
//! few colors, one-bit alpha.
//!
//! [`pixelize`] runs all stages: the [`grid`] is found, each cell gets a colour ([`sample`]), the
//! background is [cut out](cut_out), stray cells are [mended](clean_up), and colours are
//! [quantised](quantize) last. Each stage is a function over plain pictures, and of use alone.

mod alpha;
#[cfg(test)]
mod ascii;
mod background;
mod bounds;
pub(crate) mod canny;
mod cells;
mod certificate;
mod checkerboard;
mod choice;
mod cleanup;
mod despill;
mod dither;
mod frame;
pub mod grid;
mod lint;
mod native;
mod neighbours;
mod oklab;
pub(crate) mod option;
mod options;
mod outline;
mod palette;
mod pipeline;
mod seam;
mod texture;
mod verdict;

pub use alpha::{CutOut, MATTE, Transparent, bleed, cut_out, is_empty, is_lost};
pub use cells::sample;
pub use certificate::Certificate;
pub use cleanup::{Mended, clean_up};
pub use dither::{Dither, quantize};
pub use frame::{Anchor, FrameError, fit, nearest_upscale, trim};
pub use grid::{Axis, Grid};
pub use lint::{Lint, lint};
pub use oklab::Oklab;
pub use options::{Detail, GridChoice, MaxColors, PixelOptions, Unsure};
pub use outline::{Outline, outline};
pub use palette::{MAX_COLORS, Palette, PaletteError};
pub use pipeline::{PixelBounds, Pixelized, pixelize, pixelize_within};
pub use seam::seam_score;
pub use verdict::{PixelError, Verdict};

/// The edges of a sprite that meet their opposite, as in a texture that is laid side by side.
/// Default: neither.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Wrap;
/// // A floor tile repeats on both axes, and a fence on one.
/// let (floor, fence) = (Wrap { x: true, y: true }, Wrap { x: true, ..Wrap::default() });
/// assert_ne!(floor, fence);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Wrap {
    /// Left meets right: `tile_x`.
    pub x: bool,
    /// Top meets bottom: `tile_y`.
    pub y: bool,
}

impl Wrap {
    /// `true` if no edge meets another.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::Wrap;
    /// assert!(Wrap::default().is_none());
    /// assert!(!Wrap { x: false, y: true }.is_none());
    /// ```
    pub fn is_none(&self) -> bool {
        !self.x && !self.y
    }
}
