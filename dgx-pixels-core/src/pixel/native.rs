//! Pixel art at its own size: scenes, tile sets, sheets and screenshots that nobody enlarged.
//!
//! Such an image repeats at its tiles, which looks like a grid. What tells the two apart are
//! *spikes*: single pixels between two others that are alike, as in outlines, highlights and
//! dithering. An enlarged image has none, however it was enlarged. Noise, lossy files and
//! photographs have them, but not in colors that are met again; dead pixels and drawn grid lines
//! have them between flat cells, and there a grid explains much.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use image::RgbaImage;

/// A change of this much, summed over the channels, is seen.
const STRONG: i32 = 24;
/// Spikes, as a share of all strong changes along an axis.
const FEWEST_SPIKES: f64 = 0.03;
/// From this share on the image is dithered, and has few flat places.
const DITHERED: f64 = 0.4;
/// Single pixels between flat runs, as a share of strong changes, for each pixel that equals its
/// neighbor. The smooth edges of text and vector drawings have next to none.
const ISOLATED: f64 = 0.02;
const FEWEST_ISOLATED: f64 = 0.0005;
/// A color that stands in so many pixels was chosen, and not mixed by noise.
const RECURS: u32 = 4;
/// Share of pixels whose color recurs.
const MOST_RECUR: f64 = 0.85;
/// Rows of a first look: all, or every second, third, ... where there are at least twice as many.
const ENOUGH_ROWS: usize = 96;
/// More colors than this share of the pixels of a first look are noise.
const NOISE: f64 = 0.25;
/// A palette has no more colors than these.
const PALETTE: usize = 256;
/// More gray levels than these, and nothing else, are a photograph or a page of text.
const MOST_GRAYS: usize = 64;
/// Distances at which tiles repeat, in pixels.
const TILES: [usize; 8] = [8, 12, 16, 20, 24, 32, 48, 64];
/// Share of pixels that are the same one tile on.
const REPEATS: f64 = 0.6;
/// Tiles that are flat in this share of pixels may be enlarged.
const FLAT: f64 = 0.35;
/// Contrast of a grid that no spikes outweigh.
const CERTAIN: f64 = 0.6;
/// From this confidence on a grid is found whatever single pixels look like: drawn lines between
/// cells.
pub(super) const BEYOND_DOUBT: f64 = 0.93;
/// From this confidence on a grid comes before what else an image may be.
pub(super) const LIMIT: f64 = 0.6;
/// Larger images are not looked at: counting their colors takes long.
const MOST_PIXELS: u64 = 1 << 22;

/// The evidence that an image is at its own size.
#[derive(Debug)]
pub(super) struct Native {
    spikes: f64,
    is_dithered: bool,
    isolated: bool,
    repeats: bool,
}

impl Native {
    /// `None` for an image that is enlarged, painted or photographed.
    pub(super) fn of(image: &RgbaImage) -> Option<Native> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        if u64::from(image.width()) * u64::from(image.height()) > MOST_PIXELS || width < 3 || height < 3 {
            return None;
        }
        // A first look at some rows: what is enlarged ends here.
        let all_rows = || image.as_raw().chunks_exact(4 * width).map(|row| row.as_chunks::<4>().0);
        let every = (height / ENOUGH_ROWS).max(1);
        let some: Vec<[u8; 4]> =
            all_rows().step_by(every).flatten().map(|pixel| premultiplied(*pixel)).collect();
        let first = Features::of(&some, width, |_| true);
        if first.share(first.spikes) < 0.5 * FEWEST_SPIKES || is_noise(some) {
            return None;
        }
        let rows: Vec<[u8; 4]> = image.pixels().map(|pixel| premultiplied(pixel.0)).collect();
        let mut columns = Vec::with_capacity(rows.len());
        for x in 0..width {
            columns.extend(rows[x..].iter().step_by(width));
        }
        let axes = [(&rows, width), (&columns, height)];
        // A second look that needs no colors.
        let any = axes.map(|(pixels, len)| Features::of(pixels, len, |_| true));
        if any.iter().any(|axis| axis.share(axis.spikes) < FEWEST_SPIKES) {
            return None;
        }
        let mut counts: Counts = HashMap::default();
        for pixel in &rows {
            *counts.entry(u32::from_le_bytes(*pixel)).or_default() += 1;
        }
        let recurs =
            |pixel: &[u8; 4]| counts.get(&u32::from_le_bytes(*pixel)).is_some_and(|count| *count >= RECURS);
        let is_gray = counts.keys().map(|color| color.to_le_bytes()).all(|[r, g, b, _]| r == g && g == b);
        let recurring = rows.iter().filter(|pixel| recurs(pixel)).count();
        let is_mixed = counts.len() > PALETTE && (recurring as f64) < MOST_RECUR * rows.len() as f64;
        if is_mixed || is_gray && counts.len() > MOST_GRAYS {
            return None;
        }
        let axes = axes.map(|(pixels, len)| (Features::of(pixels, len, recurs), repeats(pixels, len)));
        let least = |value: fn(&Features) -> f64| axes.iter().map(|axis| value(&axis.0)).fold(1.0, f64::min);
        let spikes = least(|axis| axis.share(axis.spikes));
        let isolated = least(|axis| axis.share(axis.isolated));
        let flat = least(|axis| axis.flat);
        let native = Native {
            spikes,
            is_dithered: spikes >= DITHERED,
            isolated: spikes >= DITHERED || isolated >= FEWEST_ISOLATED.max(ISOLATED * flat),
            repeats: flat < FLAT && axes.iter().any(|axis| axis.1),
        };
        (spikes >= FEWEST_SPIKES && (native.isolated || native.repeats)).then_some(native)
    }

    /// `true` if so many changes are at single pixels that most of the image is dithered.
    pub(super) fn is_dithered(&self) -> bool {
        self.is_dithered
    }

    /// `true` if this is more than a grid of this contrast and confidence explains. A grid of the
    /// size of tiles is never beyond doubt, as art repeats at its tiles.
    pub(super) fn outweighs(&self, contrast: f64, confidence: f64, is_of_tiles: bool) -> bool {
        if self.repeats || confidence < LIMIT {
            return true;
        }
        (confidence < BEYOND_DOUBT || is_of_tiles)
            && self.isolated
            && contrast < CERTAIN
            && self.spikes >= CERTAIN * contrast - 0.07
    }
}

/// The number of pixels of each color.
type Counts = HashMap<u32, u32, BuildHasherDefault<Multiplied>>;

/// A hash of one color, of a multiplication: that of the standard library takes longer than all
/// else that is done with an image.
#[derive(Default)]
struct Multiplied(u64);

impl Hasher for Multiplied {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, color: u32) {
        let mixed = (self.0 ^ u64::from(color)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// `true` if every few pixels of some rows have another color: the colors of all pixels need not be
/// counted.
fn is_noise(mut colors: Vec<[u8; 4]>) -> bool {
    let all = colors.len();
    colors.sort_unstable();
    colors.dedup();
    colors.len() > 4 * PALETTE && colors.len() as f64 > NOISE * all as f64
}

/// The counts along one axis.
struct Features {
    strong: usize,
    spikes: usize,
    isolated: usize,
    /// Share of pixels that equal the next one.
    flat: f64,
}

impl Features {
    /// Counts along lines of `len` pixels; only spikes of colors that are `wanted` count.
    fn of(pixels: &[[u8; 4]], len: usize, wanted: impl Fn(&[u8; 4]) -> bool) -> Features {
        let mut features = Features { strong: 0, spikes: 0, isolated: 0, flat: 0.0 };
        let mut same = 0;
        let mut changes = vec![0; len - 1];
        for line in pixels.chunks_exact(len) {
            for (change, pair) in changes.iter_mut().zip(line.windows(2)) {
                *change = difference(&pair[0], &pair[1]);
                features.strong += usize::from(*change >= STRONG);
                same += usize::from(*change == 0);
            }
            for i in 1..len - 1 {
                let (before, after) = (changes[i - 1], changes[i]);
                if before < STRONG || after < STRONG {
                    continue;
                }
                let is_spike = 2 * difference(&line[i - 1], &line[i + 1]) <= before.min(after);
                features.spikes += usize::from(is_spike && wanted(&line[i]));
                let is_isolated = i >= 2 && i + 2 < len && changes[i - 2] == 0 && changes[i + 1] == 0;
                features.isolated += usize::from(is_isolated);
            }
        }
        features.flat = same as f64 / (pixels.len() / len * (len - 1)) as f64;
        features
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.strong.max(1) as f64
    }
}

/// `true` if most pixels are the same one tile on.
fn repeats(pixels: &[[u8; 4]], len: usize) -> bool {
    TILES.iter().filter(|tile| len > 2 * **tile).any(|tile| {
        let lines = pixels.chunks_exact(len);
        let pairs = lines.flat_map(|line| line.iter().zip(&line[*tile..]));
        let (all, same) =
            pairs.fold((0usize, 0usize), |(all, same), (a, b)| (all + 1, same + usize::from(a == b)));
        same as f64 >= REPEATS * all as f64
    })
}

fn difference(a: &[u8; 4], b: &[u8; 4]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(a.abs_diff(*b))).sum()
}

/// Multiplies by alpha, so that invisible pixels differ in alpha alone.
fn premultiplied([r, g, b, a]: [u8; 4]) -> [u8; 4] {
    let by_alpha = |value: u8| (u16::from(value) * u16::from(a) / 255) as u8;
    [by_alpha(r), by_alpha(g), by_alpha(b), a]
}

#[cfg(test)]
mod tests {
    use image::imageops::{FilterType, resize};
    use image::{DynamicImage, Rgba};

    use super::*;
    use crate::pixel::{PixelOptions, Transparent, Verdict, pixelize};

    fn hash(x: u32, y: u32) -> u32 {
        (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663)).wrapping_mul(2_654_435_761)
    }

    /// Tiles of 16 pixels: bricks, grass of two greens, and creatures with outlines and a
    /// highlight.
    fn scene(width: u32, height: u32) -> RgbaImage {
        let hash = |x, y| hash(x, y) >> 16;
        RgbaImage::from_fn(width, height, |x, y| {
            let (x, y) = (x + 5, y + 11);
            let (tile, u, v) = (hash(x / 16, y / 16) % 3, x % 16, y % 16);
            let rgb = match tile {
                0 if v % 8 == 7 || (u + 8 * (v / 8)) % 16 == 0 => [60, 50, 48],
                0 => [150 - 6 * (v % 8) as u8, 80, 60],
                1 if hash(x, y) % 7 == 0 => [90, 170, 60],
                1 => [70, 140, 50],
                _ => match (u.abs_diff(8).pow(2) + v.abs_diff(8).pow(2), u, v) {
                    (_, 5, 5) | (_, 6, 9) | (_, 10, 9) => [250, 250, 240],
                    (0..26, ..) => [200, 60, 80],
                    (26..38, ..) => [30, 16, 24],
                    _ if hash(x, y) % 7 == 0 => [90, 170, 60],
                    _ => [70, 140, 50],
                },
            };
            Rgba([rgb[0], rgb[1], rgb[2], 255])
        })
    }

    fn sprite_of(image: &RgbaImage) -> crate::pixel::Pixelized {
        pixelize(image, &PixelOptions { transparent: Transparent::Off, ..Default::default() }).unwrap()
    }

    #[test]
    fn a_scene_at_its_own_size_comes_back_as_it_is() {
        for (width, height) in [(320, 180), (256, 224), (160, 144), (640, 360)] {
            let made = sprite_of(&scene(width, height));
            assert_eq!(made.verdict, Verdict::Native, "{width}x{height}");
            assert!(made.sprite == scene(width, height), "{width}x{height}");
        }
    }

    #[test]
    fn repeated_tiles_and_dithering_are_no_grid() {
        // A tile of noise, as stone is drawn, and a checkerboard of single pixels between two
        // bands.
        let stone = RgbaImage::from_fn(320, 240, |x, y| {
            let gray = 60 + (hash(x % 16, y % 16) >> 25) as u8;
            Rgba([gray, gray - 9, gray / 2, 255])
        });
        let dither = RgbaImage::from_fn(320, 200, |x, y| {
            let band = (2 * (y / 40) + (x + y) % 2 * (x / 80 % 2)) as u8;
            Rgba([20 * band, 40, 200 - 18 * band, 255])
        });
        for image in [stone, dither] {
            let made = sprite_of(&image);
            assert!(made.verdict == Verdict::Native && made.sprite == image, "{:?}", made.grid);
        }
    }

    #[test]
    fn the_same_scene_enlarged_is_not_at_its_own_size() {
        let small = scene(80, 60);
        for filter in [FilterType::Nearest, FilterType::Triangle, FilterType::CatmullRom] {
            for (width, height) in [(320, 240), (373, 280), (560, 420)] {
                let large = resize(&small, width, height, filter);
                assert!(Native::of(&large).is_none(), "{filter:?} {width}x{height}");
                let made = sprite_of(&large);
                assert_eq!(
                    (made.verdict, made.sprite.dimensions()),
                    (Verdict::Grid, (80, 60)),
                    "{filter:?} {width}"
                );
            }
        }
    }

    #[test]
    fn dead_pixels_in_cells_do_not_outweigh_the_grid() {
        let mut large = resize(&scene(60, 45), 480, 360, FilterType::Nearest);
        for i in 0..900u32 {
            let (x, y) = (i * 7919 % 480, i * 104_729 % 360);
            large.put_pixel(x, y, Rgba([255 * (i % 2) as u8, 255 * (i / 2 % 2) as u8, 255, 255]));
        }
        assert_eq!(sprite_of(&large).sprite.dimensions(), (60, 45));
    }

    #[test]
    fn text_with_smooth_edges_and_photographs_are_not_native() {
        // Strokes of two pixels with gray on both sides, on paper.
        let page = RgbaImage::from_fn(400, 300, |x, y| {
            let stroke = [250, 190, 40, 30, 140, 250, 250, 250, 250, 250, 250];
            let (a, b) = (stroke[((x + y / 3) % 11) as usize], stroke[(y % 11) as usize]);
            let gray = if y / 20 % 2 == 0 { 250 } else { u8::min(a, b) };
            Rgba([gray, gray, gray, 255])
        });
        assert!(Native::of(&page).is_none());
        let smooth = DynamicImage::from(scene(300, 200)).blur(1.5).into_rgba8();
        let noise = RgbaImage::from_fn(300, 200, |x, y| {
            let noise =
                |channel: u32| ((x * 31 + y * 17_011 + channel * 97).wrapping_mul(2_654_435_761) >> 26) as u8;
            let Rgba([r, g, b, a]) = *smooth.get_pixel(x, y);
            Rgba([r.saturating_add(noise(0)), g.saturating_add(noise(1)), b.saturating_add(noise(2)), a])
        });
        assert!(Native::of(&noise).is_none());
    }

    #[test]
    fn any_image_is_looked_at() {
        for (width, height) in [(1, 1), (2, 90), (3, 3), (4, 1), (17, 3)] {
            let _ = Native::of(&scene(width, height));
            let _ = Native::of(&RgbaImage::new(width, height));
        }
    }
}
