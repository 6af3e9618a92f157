//! The pixel fields of a request: what makes a sprite of an image.
//!
//! They are the second half of the table of request fields; the first is
//! [`GenerateRequest`](crate::GenerateRequest). The doc comment of each field is its help text at
//! every door, so it gives the range, the unit and the default.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::option::serde_by_word;
use super::{Anchor, Dither, Outline, Palette, Transparent, Wrap};
use crate::request::ImageSize;
use crate::value_error::ValueError;

/// The pixels that a cell may have along a side, of a grid that is given.
pub(super) const STEPS: RangeInclusive<f64> = 1.0..=256.0;

/// The options of [`pixelize`](super::pixelize).
///
/// The default finds the grid, cuts a plain background out, and keeps as many colors as the image
/// needs.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{MaxColors, Palette, PixelOptions};
/// let options = PixelOptions {
///     max_colors: MaxColors::AtMost(8),
///     palette: Some(Palette::load("pico-8")?),
///     cleanup: true,
///     ..Default::default()
/// };
/// assert!(options.validate().is_ok());
/// # Ok::<(), dgx_pixels_core::pixel::PaletteError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "fields", derive(clap::Args, schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PixelOptions {
    /// The size of the sprite in its own pixels, for example `32x32`. Sides: 1 to 2048. Room around
    /// a smaller sprite is transparent. Default: one pixel for each cell of the image's grid.
    #[cfg_attr(feature = "fields", arg(long, value_name = "WxH"))]
    pub size: Option<ImageSize>,

    /// The place of a sprite that is smaller than `size`: `center` or `bottom`. Default: `center`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "WHERE", default_value_t, hide_default_value = true)
    )]
    pub anchor: Anchor,

    /// The most colors, 1 to 256; `all`; `elbow`, where more colors would add little; or `auto`.
    /// Default: `auto`, which keeps all colors of an image that is pixel art already, and is
    /// `elbow` for every other and for generated images.
    #[cfg_attr(feature = "fields", arg(long, value_name = "N", default_value_t, hide_default_value = true))]
    pub max_colors: MaxColors,

    /// Use only the colors of this palette: a well-known name such as `pico-8`, colors such as
    /// `#1a1c2c,#fff`, or, on the command line and in a batch, a palette file (hex, GPL, PAL, ACT,
    /// ASE, ACO, PNG, Paint.NET). Default: the image's own.
    #[cfg_attr(feature = "fields", arg(long, value_name = "P", value_parser = crate::fields::flags::palette))]
    #[cfg_attr(feature = "fields", schemars(with = "Option<String>"))]
    pub palette: Option<Palette>,

    /// The pattern that shows a color between two of the palette: `none`, `bayer2`, `bayer4`,
    /// `bayer8`, `floyd-steinberg` or `atkinson`. Default: `none`.
    #[cfg_attr(feature = "fields", arg(long, value_name = "D", default_value_t, hide_default_value = true))]
    pub dither: Dither,

    /// The part that becomes transparent: `auto`, a plain background, or of a generated image what
    /// its model marks, and else nothing of a texture that tiles; `off`; or a color such as
    /// `#ff00ff`. Default: `auto`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "auto|off|#RRGGBB", default_value_t, hide_default_value = true)
    )]
    pub transparent: Transparent,

    /// Fill invisible pixels with the color of their neighbors, for filtering on a GPU. Default:
    /// no.
    #[cfg_attr(feature = "fields", arg(long))]
    pub bleed: bool,

    /// Fix stray pixels where that is sure. The certificate counts them in any case. Default: no.
    #[cfg_attr(feature = "fields", arg(long))]
    pub cleanup: bool,

    /// The outline of the sprite: `keep`, `add`, `add:#RRGGBB`, `selective` or `remove`. Default:
    /// `keep`.
    #[cfg_attr(feature = "fields", arg(long, value_name = "O", default_value_t, hide_default_value = true))]
    pub outline: Outline,

    /// The left edge meets the right edge, as in a texture. The model itself draws on across the
    /// edge, and the pixel stages take both sides for neighbors. Default: no.
    #[cfg_attr(feature = "fields", arg(long))]
    pub tile_x: bool,

    /// The top edge meets the bottom edge, in the model and in the pixel stages, as with `tile_x`.
    /// Default: no.
    #[cfg_attr(feature = "fields", arg(long))]
    pub tile_y: bool,

    /// The grid of the image: columns and rows such as `32x32`, the pixels of a cell from 1 to 256
    /// such as `8` or `7.6`, or `auto`, which finds it. Default: `auto`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "GRID", default_value_t, hide_default_value = true)
    )]
    pub grid: GridChoice,

    /// The image is a strip of this many frames side by side, 1 or more; all get the same number of
    /// columns. Default: one frame.
    #[cfg_attr(feature = "fields", arg(long, value_name = "N", value_parser = crate::fields::flags::whole::<u32>))]
    pub strip: Option<u32>,

    /// The cells along the longer side of an image without a grid: `low` for 48, `medium` for 80,
    /// `high` for 128. Default: `medium`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "DETAIL", default_value_t, hide_default_value = true)
    )]
    pub detail: Detail,

    /// The answer to an image whose grid is not sure: `best` draws the likeliest sprite, `keep`
    /// returns the image as it is, and `fail` refuses it. `grid` decides it. Default: `best`.
    #[cfg_attr(
        feature = "fields",
        arg(long, value_name = "best|keep|fail", default_value_t, hide_default_value = true)
    )]
    pub unsure: Unsure,

    /// The pixels of a cell that the generator of the image aims at, used where no grid is found.
    /// An engine sets it; it is no field of a request.
    #[cfg_attr(feature = "fields", arg(skip), schemars(skip))]
    #[serde(skip)]
    pub expected_step: Option<f64>,
}

impl PixelOptions {
    /// Returns the edges that meet.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_core::pixel::{PixelOptions, Wrap};
    /// let options = PixelOptions { tile_x: true, ..Default::default() };
    /// assert_eq!(options.wrap(), Wrap { x: true, y: false });
    /// ```
    pub fn wrap(&self) -> Wrap {
        Wrap { x: self.tile_x, y: self.tile_y }
    }

    /// `true` if nothing is asked for that changes an image at its own size.
    pub(super) fn leaves_pixels(&self) -> bool {
        let Self { size, max_colors, palette, transparent, bleed, cleanup, outline, .. } = self;
        let is_whole = size.is_none() && matches!(max_colors, MaxColors::Auto | MaxColors::All);
        let keeps_alpha = !matches!(transparent, Transparent::Key(_));
        is_whole && palette.is_none() && keeps_alpha && !bleed && !cleanup && *outline == Outline::Keep
    }
}

/// The source of the grid: `auto`, `32x32` cells, or cells of `8` pixels.
///
/// # Example
/// ```
/// use dgx_pixels_core::ImageSize;
/// use dgx_pixels_core::pixel::GridChoice;
/// assert_eq!("32x16".parse(), Ok(GridChoice::Cells(ImageSize { width: 32, height: 16 })));
/// assert_eq!("7.6".parse(), Ok(GridChoice::Step(7.6)));
/// assert_eq!(GridChoice::default(), GridChoice::Auto);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum GridChoice {
    /// The grid is found.
    #[default]
    Auto,
    /// This many columns and rows fill the image.
    Cells(ImageSize),
    /// Cells of this many pixels; their phase is found.
    Step(f64),
}

impl fmt::Display for GridChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GridChoice::Auto => f.pad("auto"),
            GridChoice::Cells(size) => f.pad(&size.to_string()),
            GridChoice::Step(step) => f.pad(&step.to_string()),
        }
    }
}

impl FromStr for GridChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let error = || {
            ValueError::new(
                "grid",
                text,
                "`auto`, columns and rows such as `32x32`, or the pixels of a cell from 1 to 256 such as `8` or `7.6`",
            )
        };
        if text == "auto" {
            return Ok(GridChoice::Auto);
        }
        if text.contains('x') {
            let cells: Option<ImageSize> = text.parse().ok();
            return cells
                .filter(|cells| cells.width > 0 && cells.height > 0)
                .map(GridChoice::Cells)
                .ok_or_else(error);
        }
        let step = text.parse().ok().filter(|step| STEPS.contains(step));
        step.map(GridChoice::Step).ok_or_else(error)
    }
}

serde_by_word!(GridChoice, { "type": "string" });

/// The number of colors: `auto`, `elbow`, `all`, or a number from 1 to 256.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::MaxColors;
/// assert_eq!("16".parse(), Ok(MaxColors::AtMost(16)));
/// assert_eq!("elbow".parse(), Ok(MaxColors::Elbow));
/// assert!("0".parse::<MaxColors>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum MaxColors {
    /// All colors of an image that is pixel art already, enlarged or not; of any other, and of a
    /// generated image, as many as [`MaxColors::Elbow`].
    #[default]
    Auto,
    /// The colors that matter; more would add little. See [`Palette::extract`].
    Elbow,
    /// All colors that the image has.
    All,
    /// This many colors at most.
    AtMost(u16),
}

impl fmt::Display for MaxColors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxColors::Auto => f.pad("auto"),
            MaxColors::Elbow => f.pad("elbow"),
            MaxColors::All => f.pad("all"),
            MaxColors::AtMost(count) => f.pad(&count.to_string()),
        }
    }
}

impl FromStr for MaxColors {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word {
            "auto" => Ok(MaxColors::Auto),
            "elbow" => Ok(MaxColors::Elbow),
            "all" => Ok(MaxColors::All),
            count => match count.parse() {
                Ok(count @ 1..=256) => Ok(MaxColors::AtMost(count)),
                _ => Err(ValueError::new("max_colors", word, "`auto`, `elbow`, `all` or 1 to 256")),
            },
        }
    }
}

serde_by_word!(MaxColors, { "anyOf": [{ "type": "integer" }, { "type": "string" }] });

/// The choice for an image whose grid is not sure: `best`, `keep` or `fail`.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Unsure;
/// assert_eq!("keep".parse(), Ok(Unsure::Keep));
/// assert_eq!(Unsure::default().to_string(), "best");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum Unsure {
    /// The likeliest sprite, with the verdict [`Unsure`](super::Verdict::Unsure).
    #[default]
    Best,
    /// The image as it is, with the same verdict.
    Keep,
    /// No sprite: [`PixelError::Unsure`](super::PixelError::Unsure).
    Fail,
}

impl fmt::Display for Unsure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Unsure::Best => "best",
            Unsure::Keep => "keep",
            Unsure::Fail => "fail",
        })
    }
}

impl FromStr for Unsure {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word {
            "best" => Ok(Unsure::Best),
            "keep" => Ok(Unsure::Keep),
            "fail" => Ok(Unsure::Fail),
            _ => Err(ValueError::new("unsure", word, "`best`, `keep` or `fail`")),
        }
    }
}

serde_by_word!(Unsure, { "type": "string" });

/// The fineness of a sprite that is made of an image without a grid.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Detail;
/// assert_eq!("high".parse(), Ok(Detail::High));
/// assert_eq!(Detail::default().to_string(), "medium");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum Detail {
    /// 48 cells along the longer side.
    Low,
    /// 80.
    #[default]
    Medium,
    /// 128.
    High,
}

impl Detail {
    pub(super) fn cells(self) -> f64 {
        match self {
            Detail::Low => 48.0,
            Detail::Medium => 80.0,
            Detail::High => 128.0,
        }
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Detail::Low => "low",
            Detail::Medium => "medium",
            Detail::High => "high",
        })
    }
}

impl FromStr for Detail {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        match word {
            "low" => Ok(Detail::Low),
            "medium" => Ok(Detail::Medium),
            "high" => Ok(Detail::High),
            _ => Err(ValueError::new("detail", word, "`low`, `medium` or `high`")),
        }
    }
}

serde_by_word!(Detail, { "type": "string" });
