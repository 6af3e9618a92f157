//! The flags of the stages that make a sprite, which `generate`, `batch` and `pixelize` share.

use clap::ArgAction;
use dgx_pixels_core::ImageSize;
use dgx_pixels_core::canvas::CELL_PX;
use dgx_pixels_core::pixel::{Anchor, Dither, MaxColors, Outline, Palette, PixelOptions, Transparent, Wrap};

use crate::failure::one_line;

/// The stages and their options.
#[derive(Clone, clap::Args)]
pub(crate) struct Stages {
    /// The size of the sprite, for example `32x32`. Room around a smaller one is transparent.
    #[arg(long, value_name = "WxH", value_parser = size)]
    pub(crate) size: Option<ImageSize>,

    /// Where the sprite stands in `--size`: `center` or `bottom`. Default: `center`.
    #[arg(long, value_name = "WHERE")]
    pub(crate) anchor: Option<Anchor>,

    /// Colours at most, 1 to 256; `all`; or `elbow`, where more would add little. Default: `elbow`, and `all` for a picture
    /// that is nothing but enlarged pixel art.
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    pub(crate) max_colors: MaxColors,

    /// A well-known palette's name, a palette file (hex, GPL, PAL, ACT, ASE, ACO, PNG, Paint.NET), or colors such as `#1a1c2c,#fff`.
    #[arg(long, value_name = "P", value_parser = palette)]
    pub(crate) palette: Option<Palette>,

    /// `none`, `bayer2`, `bayer4`, `bayer8`, `floyd-steinberg` or `atkinson`.
    #[arg(long, value_name = "D", default_value_t)]
    pub(crate) dither: Dither,

    /// What becomes transparent: `auto`, a plain background; `off`; or a colour as `#ff00ff`.
    #[arg(long, value_name = "auto|off|#RRGGBB", default_value_t)]
    pub(crate) transparent: Transparent,

    /// Fill invisible pixels with their neighbours' colour, for filtering on a GPU.
    #[arg(long)]
    pub(crate) bleed: bool,

    /// Mend stray pixels where that is sure. They are counted in the certificate either way.
    #[arg(long)]
    pub(crate) cleanup: bool,

    /// `keep`, `add`, `add:#RRGGBB`, `selective` or `remove`.
    #[arg(long, value_name = "O", default_value_t)]
    pub(crate) outline: Outline,

    /// The left edge meets the right one, as in a texture.
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) tile_x: bool,

    /// The top edge meets the bottom one.
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) tile_y: bool,
}

impl Stages {
    /// Refuses options that would change nothing.
    ///
    /// # Errors
    /// What is given in vain, and what would be right.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_dither()?;
        match (self.anchor, self.size) {
            (Some(anchor), None) => Err(format!(
                "`anchor` is `{anchor}` and there is no `size` that it places the sprite in; expected both or neither"
            )),
            _ => Ok(()),
        }
    }

    /// As [`Stages::check`], of colors alone.
    pub(crate) fn check_dither(&self) -> Result<(), String> {
        if self.dither != Dither::None && self.max_colors == MaxColors::All && self.palette.is_none() {
            return Err(format!(
                "`dither` is `{}` and all colors are kept; expected a `palette`, or fewer `max_colors`",
                self.dither
            ));
        }
        Ok(())
    }

    /// A model's picture lies exactly on its grid and has more colours than any artist takes.
    pub(crate) fn options_of_generated(&self) -> PixelOptions {
        let options = self.options();
        let max_colors = match options.max_colors {
            MaxColors::Auto => MaxColors::Elbow,
            asked => asked,
        };
        PixelOptions { max_colors, expected_step: Some(f64::from(CELL_PX)), ..options }
    }

    pub(crate) fn options(&self) -> PixelOptions {
        PixelOptions {
            size: self.size,
            anchor: self.anchor.unwrap_or_default(),
            max_colors: self.max_colors,
            palette: self.palette.clone(),
            dither: self.dither,
            transparent: self.transparent,
            clean_up: self.cleanup,
            outline: self.outline,
            wrap: Wrap { x: self.tile_x, y: self.tile_y },
            bleed: self.bleed,
            ..Default::default()
        }
    }
}

pub(crate) fn size(text: &str) -> Result<ImageSize, String> {
    let size =
        text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match size {
        Some((width, height)) if (1..=4096).contains(&width) && (1..=4096).contains(&height) => {
            Ok(ImageSize { width, height })
        }
        _ => Err("expected width and height as `32x32`, each 1 to 4096".into()),
    }
}

pub(crate) fn palette(text: &str) -> Result<Palette, String> {
    Palette::load(text).map_err(|error| one_line(&error))
}
