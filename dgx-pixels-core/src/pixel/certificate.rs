//! The facts about a finished sprite, in numbers that a program can check.

use image::RgbaImage;
use serde::{Deserialize, Serialize};

use super::lint::orphans_and_jaggies;
use super::{Wrap, seam_score};

/// Measured properties of a sprite.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Certificate, Wrap};
/// use image::{Rgba, RgbaImage};
/// let tile = RgbaImage::from_pixel(16, 16, Rgba([90, 60, 30, 255]));
/// let certificate = Certificate::of(&tile, Some(&[[90, 60, 30]]), Wrap { x: true, y: true });
/// assert_eq!((certificate.colors, certificate.on_palette, certificate.seam), (1, Some(true), Some(1.0)));
/// assert!(certificate.one_bit_alpha);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// The width in cells.
    pub width: u32,
    /// The height in cells.
    pub height: u32,
    /// Different colours of cells whose alpha is not 0.
    pub colors: usize,
    /// `true` if all these colors are the palette's; `None` without a palette.
    pub on_palette: Option<bool>,
    /// `true` if every alpha is 0 or 255.
    pub one_bit_alpha: bool,
    /// Cells of alpha 0 whose colour is not 0: none after [`cut_out`](super::cut_out), all after
    /// [`bleed`](super::bleed).
    pub hidden_rgb: usize,
    /// Number of [`Lint::orphans`](super::Lint::orphans).
    pub orphans: usize,
    /// Number of [`Lint::jaggies`](super::Lint::jaggies).
    pub jaggies: usize,
    /// [`seam_score`]; `None` if no edge wraps.
    pub seam: Option<f32>,
    /// `true` if the stages leave this sprite as it is, told that its cells are pixels. The caller
    /// that ran them fills it in.
    pub idempotent: Option<bool>,
}

impl Certificate {
    /// Measures everything but `idempotent`, which stays `None`: it takes the stages
    /// ([`pixelize`](super::pixelize)).
    pub fn of(sprite: &RgbaImage, palette: Option<&[[u8; 3]]>, wrap: Wrap) -> Certificate {
        let number = |pixel: &image::Rgba<u8>| u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
        let mut colors: Vec<u32> = sprite.pixels().filter(|pixel| pixel[3] > 0).map(number).collect();
        // Neighbors are often alike, and a sort of few is quick.
        colors.dedup();
        colors.sort_unstable();
        colors.dedup();
        let is_of = |palette: &[[u8; 3]]| {
            let own: Vec<u32> = palette.iter().map(|[r, g, b]| u32::from_be_bytes([0, *r, *g, *b])).collect();
            colors.iter().all(|color| own.contains(color))
        };
        let (orphans, jaggies) = orphans_and_jaggies(sprite, wrap);
        Certificate {
            width: sprite.width(),
            height: sprite.height(),
            colors: colors.len(),
            on_palette: palette.map(is_of),
            one_bit_alpha: sprite.pixels().all(|pixel| matches!(pixel[3], 0 | 255)),
            hidden_rgb: sprite.pixels().filter(|pixel| pixel[3] == 0 && number(pixel) != 0).count(),
            orphans,
            jaggies,
            seam: (wrap.x || wrap.y).then(|| seam_score(sprite, wrap)),
            idempotent: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgba;

    use super::*;
    use crate::pixel::ascii::draw;

    #[test]
    fn a_foreign_colour_soft_alpha_and_hidden_colour_are_found() {
        let mut sprite = draw("rr.\nrg.");
        sprite.put_pixel(0, 0, Rgba([200, 40, 40, 90]));
        sprite.put_pixel(2, 0, Rgba([1, 2, 3, 0]));
        let certificate = Certificate::of(&sprite, Some(&[[200, 40, 40]]), Wrap::default());
        assert_eq!((certificate.colors, certificate.hidden_rgb), (2, 1));
        assert_eq!((certificate.on_palette, certificate.one_bit_alpha), (Some(false), false));
        assert_eq!((certificate.seam, certificate.idempotent), (None, None));
    }

    #[test]
    fn it_survives_json() {
        let certificate = Certificate::of(&draw("rg\n.b"), None, Wrap { x: true, y: false });
        let json = serde_json::to_string(&certificate).unwrap();
        assert_eq!(serde_json::from_str::<Certificate>(&json).unwrap(), certificate);
    }
}
