//! Mapping a sprite to a palette, with or without dithering.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use image::RgbaImage;
use serde::{Deserialize, Serialize};

use super::option::serde_by_word;
use super::{Oklab, Palette, Wrap};
use crate::value_error::ValueError;

/// The way in which colors between those of a palette are shown.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::Dither;
/// assert_eq!("floyd-steinberg".parse(), Ok(Dither::FloydSteinberg));
/// assert_eq!(Dither::Bayer4.to_string(), "bayer4");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "super::option::Word", into = "String")]
pub enum Dither {
    /// The nearest color of the palette. `none`.
    #[default]
    None,
    /// Bayer's ordered pattern of 2x2 cells. `bayer2`.
    Bayer2,
    /// 4x4. `bayer4`.
    Bayer4,
    /// 8x8. `bayer8`.
    Bayer8,
    /// The error goes to four neighbours (Floyd, Steinberg 1976). `floyd-steinberg`.
    FloydSteinberg,
    /// Three quarters of the error go to six neighbours (Bill Atkinson's, of the first Macintosh).
    /// `atkinson`.
    Atkinson,
}

impl Dither {
    /// All, in the order of their words.
    pub const ALL: [Dither; 6] = [
        Dither::None,
        Dither::Bayer2,
        Dither::Bayer4,
        Dither::Bayer8,
        Dither::FloydSteinberg,
        Dither::Atkinson,
    ];

    fn word(self) -> &'static str {
        match self {
            Dither::None => "none",
            Dither::Bayer2 => "bayer2",
            Dither::Bayer4 => "bayer4",
            Dither::Bayer8 => "bayer8",
            Dither::FloydSteinberg => "floyd-steinberg",
            Dither::Atkinson => "atkinson",
        }
    }

    /// Side of the ordered pattern.
    fn pattern(self) -> Option<u32> {
        match self {
            Dither::Bayer2 => Some(2),
            Dither::Bayer4 => Some(4),
            Dither::Bayer8 => Some(8),
            Dither::None | Dither::FloydSteinberg | Dither::Atkinson => None,
        }
    }

    /// Right, down, and share of the error that goes there.
    fn kernel(self) -> &'static [(i32, i32, f32)] {
        const EIGHTH: f32 = 1.0 / 8.0;
        match self {
            Dither::FloydSteinberg => {
                &[(1, 0, 7.0 / 16.0), (-1, 1, 3.0 / 16.0), (0, 1, 5.0 / 16.0), (1, 1, 1.0 / 16.0)]
            }
            Dither::Atkinson => &[
                (1, 0, EIGHTH),
                (2, 0, EIGHTH),
                (-1, 1, EIGHTH),
                (0, 1, EIGHTH),
                (1, 1, EIGHTH),
                (0, 2, EIGHTH),
            ],
            Dither::None | Dither::Bayer2 | Dither::Bayer4 | Dither::Bayer8 => &[],
        }
    }
}

impl fmt::Display for Dither {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Dither {
    type Err = ValueError;

    fn from_str(word: &str) -> Result<Self, ValueError> {
        Dither::ALL.into_iter().find(|dither| dither.word() == word).ok_or_else(|| {
            ValueError::new(
                "dither",
                word,
                "`none`, `bayer2`, `bayer4`, `bayer8`, `floyd-steinberg` or `atkinson`",
            )
        })
    }
}

serde_by_word!(Dither, { "type": "string" });

/// Gives every visible pixel a colour of `palette`. Pixels with alpha 0 are neither read nor
/// written, and no error goes past them.
///
/// Errors cross the edges that `wrap` joins from left to right, and not from bottom to top, where
/// the rows are done already. An ordered pattern tiles if the side is a multiple of its own.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Dither, Palette, Wrap, quantize};
/// use image::{Rgba, RgbaImage};
///
/// let mut grey = RgbaImage::from_pixel(8, 8, Rgba([119, 119, 119, 255]));
/// quantize(&mut grey, &Palette::load("1-bit")?, Dither::FloydSteinberg, Wrap::default());
/// let white = grey.pixels().filter(|pixel| pixel.0 == [255; 4]).count();
/// assert!((20..50).contains(&white));
/// # Ok::<(), dgx_pixels_core::pixel::PaletteError>(())
/// ```
pub fn quantize(image: &mut RgbaImage, palette: &Palette, dither: Dither, wrap: Wrap) {
    if let Some(side) = dither.pattern() {
        ordered(image, palette, side);
    } else if dither.kernel().is_empty() {
        nearest(image, palette);
    } else {
        diffused(image, palette, dither.kernel(), wrap);
    }
}

fn nearest(image: &mut RgbaImage, palette: &Palette) {
    let mut known: HashMap<[u8; 3], [u8; 3]> = HashMap::new();
    for pixel in image.pixels_mut().filter(|pixel| pixel.0[3] > 0) {
        let [r, g, b, _] = pixel.0;
        let color = *known.entry([r, g, b]).or_insert_with(|| palette.colors()[palette.nearest([r, g, b])]);
        pixel.0[..3].copy_from_slice(&color);
    }
}

fn ordered(image: &mut RgbaImage, palette: &Palette, side: u32) {
    let reach = spacing(palette);
    for (x, y, pixel) in image.enumerate_pixels_mut().filter(|(_, _, pixel)| pixel.0[3] > 0) {
        let mut color = Oklab::from_rgb([pixel.0[0], pixel.0[1], pixel.0[2]]);
        color.l += reach * (bayer(x % side, y % side, side) - 0.5);
        pixel.0[..3].copy_from_slice(&palette.colors()[palette.nearest_to(color)]);
    }
}

/// The pattern's value, above 0 and below 1, from the bits of both coordinates.
fn bayer(x: u32, y: u32, side: u32) -> f32 {
    let bits = side.trailing_zeros();
    let rank = (0..bits).fold(0, |rank, bit| {
        let (x, y) = (x >> bit & 1, y >> bit & 1);
        // The lowest bits of the place are the highest of the rank.
        rank | (x ^ y) << (2 * (bits - 1 - bit) + 1) | y << (2 * (bits - 1 - bit))
    });
    (rank as f32 + 0.5) / (side * side) as f32
}

/// Median lightness distance from a colour of the palette to the next: what a pattern has to
/// bridge.
fn spacing(palette: &Palette) -> f32 {
    let mut lightness: Vec<_> = palette.oklab().iter().map(|color| color.l).collect();
    lightness.sort_unstable_by(f32::total_cmp);
    let mut gaps: Vec<_> =
        lightness.windows(2).map(|pair| pair[1] - pair[0]).filter(|gap| *gap > 0.01).collect();
    gaps.sort_unstable_by(f32::total_cmp);
    gaps.get(gaps.len() / 2).copied().unwrap_or(0.0)
}

fn diffused(image: &mut RgbaImage, palette: &Palette, kernel: &[(i32, i32, f32)], wrap: Wrap) {
    let (width, height) = (image.width() as i32, image.height() as i32);
    let mut errors = vec![Oklab::default(); (width * height) as usize];
    for y in 0..height {
        for x in 0..width {
            let pixel = image.get_pixel_mut(x as u32, y as u32);
            if pixel.0[3] == 0 {
                continue;
            }
            let own = Oklab::from_rgb([pixel.0[0], pixel.0[1], pixel.0[2]]);
            let carried = errors[(y * width + x) as usize];
            // Errors of colours that the palette cannot reach would grow without end.
            let add = |value: f32, carried: f32| value + carried.clamp(-0.25, 0.25);
            let wanted =
                Oklab { l: add(own.l, carried.l), a: add(own.a, carried.a), b: add(own.b, carried.b) };
            let chosen = palette.nearest_to(wanted);
            pixel.0[..3].copy_from_slice(&palette.colors()[chosen]);
            let got = palette.oklab()[chosen];
            for (right, down, share) in kernel {
                let (mut to_x, to_y) = (x + right, y + down);
                if wrap.x && *down > 0 {
                    to_x = to_x.rem_euclid(width);
                }
                if !(0..width).contains(&to_x)
                    || to_y >= height
                    || image.get_pixel(to_x as u32, to_y as u32).0[3] == 0
                {
                    continue;
                }
                let error = &mut errors[(to_y * width + to_x) as usize];
                error.l += share * (wanted.l - got.l);
                error.a += share * (wanted.a - got.a);
                error.b += share * (wanted.b - got.b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::Rgba;
    use proptest::prelude::*;

    use super::*;

    fn ramp() -> RgbaImage {
        RgbaImage::from_fn(32, 16, |x, y| match (x, y) {
            (10..14, _) => Rgba([7, 7, 7, 0]),
            _ => Rgba([8 * x as u8, 8 * x as u8, 8 * x as u8, 255]),
        })
    }

    #[test]
    fn words_are_read_and_the_others_told() {
        for dither in Dither::ALL {
            assert_eq!(dither.to_string().parse(), Ok(dither));
        }
        let error = "bayer3".parse::<Dither>().unwrap_err().to_string();
        assert!(error.starts_with("`dither` is `bayer3`; expected `none`, "), "{error}");
    }

    #[test]
    fn only_visible_pixels_change_and_only_to_the_palette() {
        for dither in Dither::ALL {
            let palette = Palette::load("game-boy").unwrap();
            let mut image = ramp();
            quantize(&mut image, &palette, dither, Wrap { x: true, y: true });
            for (x, _, pixel) in image.enumerate_pixels() {
                let [r, g, b, a] = pixel.0;
                if (10..14).contains(&x) {
                    assert_eq!(pixel.0, [7, 7, 7, 0], "{dither}");
                } else {
                    assert!(a == 255 && palette.colors().contains(&[r, g, b]), "{dither}");
                }
            }
        }
    }

    #[test]
    fn a_pattern_has_every_rank_once() {
        for side in [2, 4, 8] {
            let mut ranks: Vec<_> = (0..side * side).map(|i| bayer(i % side, i / side, side)).collect();
            ranks.sort_unstable_by(f32::total_cmp);
            let count = (side * side) as f32;
            assert!((0..).zip(&ranks).all(|(i, rank)| *rank == (i as f32 + 0.5) / count), "{side}");
        }
        assert_eq!(
            [bayer(0, 0, 2), bayer(1, 1, 2), bayer(1, 0, 2), bayer(0, 1, 2)],
            [0.125, 0.375, 0.625, 0.875]
        );
    }

    #[test]
    fn no_error_crosses_what_is_invisible() {
        // Right of the gap, the picture is dithered as if the left were not there.
        for dither in [Dither::FloydSteinberg, Dither::Atkinson] {
            let palette = Palette::load("1-bit").unwrap();
            let (mut whole, mut right) = (ramp(), ramp());
            for (x, _, pixel) in right.enumerate_pixels_mut() {
                if x < 14 {
                    pixel.0[3] = 0;
                }
            }
            quantize(&mut whole, &palette, dither, Wrap::default());
            quantize(&mut right, &palette, dither, Wrap::default());
            assert!(
                (14..32).all(|x| (0..16).all(|y| whole.get_pixel(x, y) == right.get_pixel(x, y))),
                "{dither}"
            );
        }
    }

    proptest! {
        #[test]
        fn quantising_again_changes_nothing(pixels in proptest::collection::vec(any::<[u8; 4]>(), 64)) {
            let palette = Palette::load("pico-8").unwrap();
            let mut once = RgbaImage::from_fn(8, 8, |x, y| Rgba(pixels[(8 * y + x) as usize]));
            quantize(&mut once, &palette, Dither::None, Wrap::default());
            let mut twice = once.clone();
            quantize(&mut twice, &palette, Dither::None, Wrap::default());
            prop_assert_eq!(once, twice);
        }
    }
}
