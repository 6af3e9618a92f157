//! One colour for each cell of a grid, taken from the picture and never mixed.

use image::{Rgba, RgbaImage};

use super::Grid;

/// Most pixels of a cell that are looked at, along each axis.
const SAMPLES: usize = 5;
/// Share of a cell, in its middle, that they lie in.
const MIDDLE: f64 = 0.6;
/// Differences above this count as this, red, green and blue summed: how far off a pixel of another cell is does not
/// matter.
const FAR: u32 = 72;
/// Alpha from which a pixel is visible.
pub(super) const VISIBLE: u8 = 128;

/// The picture reduced to its grid: each cell is the pixel of its middle that is most like all others there, a
/// truncated medoid. It is a colour of the picture, is not moved by pixels of neighbours, and is near the mean of noise.
/// Pixels with alpha below 128 have no colour and vote for transparency.
pub fn sample(image: &RgbaImage, grid: &Grid) -> RgbaImage {
    draw(image, grid, MIDDLE)
}

/// The same with pixels of the whole cell: for a painted picture, whose cells are wherever we put them. What most of a
/// cell shows wins it, as in k-centroid (Astropulse), and nothing is mixed.
pub(super) fn reduce(image: &RgbaImage, grid: &Grid) -> RgbaImage {
    draw(image, grid, 1.0)
}

fn draw(image: &RgbaImage, grid: &Grid, share: f64) -> RgbaImage {
    let columns: Vec<_> = (0..grid.x.cells()).map(|i| picks(grid.x.span(i), share)).collect();
    let rows: Vec<_> = (0..grid.y.cells()).map(|i| picks(grid.y.span(i), share)).collect();
    let mut pixels = Vec::with_capacity(SAMPLES * SAMPLES);
    RgbaImage::from_fn(grid.x.cells() as u32, grid.y.cells() as u32, |x, y| {
        pixels.clear();
        let (mut seen, mut all) = (0, 0);
        for (row, row_weight) in &rows[y as usize] {
            for (column, column_weight) in &columns[x as usize] {
                let weight = row_weight * column_weight;
                let Rgba([r, g, b, a]) = *image.get_pixel(*column, *row);
                all += weight;
                if a >= VISIBLE {
                    seen += weight;
                    pixels.push(([r, g, b], weight));
                }
            }
        }
        if 2 * seen <= all {
            return Rgba([0; 4]);
        }
        let [r, g, b] = medoid(&pixels);
        Rgba([r, g, b, 255])
    })
}

/// Pixels of the middle `share` of a span that are looked at, with weights that fall towards its ends.
fn picks((from, to): (usize, usize), share: f64) -> Vec<(u32, u32)> {
    let len = to - from;
    let inner = ((len as f64 * share).round() as usize).clamp(1, len.max(1));
    let first = from as f64 + 0.5 * (len as f64 - inner as f64);
    let count = inner.min(SAMPLES);
    (0..count)
        .map(|i| {
            let at = first + (i as f64 + 0.5) * inner as f64 / count as f64;
            let from_end = (i + 1).min(count - i) as u32;
            ((at as usize).min(to.saturating_sub(1)) as u32, from_end)
        })
        .collect()
}

/// The entry with the least weighted distance to all others; of equals the heaviest, and of those the first.
fn medoid(pixels: &[([u8; 3], u32)]) -> [u8; 3] {
    let (first, _) = pixels[0];
    if pixels.iter().all(|(pixel, _)| *pixel == first) {
        return first;
    }
    let cost = |pixel: [u8; 3]| -> u32 {
        let distance =
            |other: [u8; 3]| -> u32 { (0..3).map(|c| u32::from(pixel[c].abs_diff(other[c]))).sum() };
        pixels.iter().map(|(other, weight)| weight * distance(*other).min(FAR)).sum()
    };
    let best = pixels.iter().map(|(pixel, weight)| (cost(*pixel), u32::MAX - weight, *pixel));
    best.min_by_key(|(cost, light, _)| (*cost, *light)).map_or(first, |(_, _, pixel)| pixel)
}

#[cfg(test)]
mod tests {
    use super::super::grid::Axis;
    use super::*;

    fn grid(columns: usize, rows: usize, step: f64) -> Grid {
        let axis = |cells: usize| Axis::regular((cells as f64 * step).round() as usize, step, 0.0);
        Grid { x: axis(columns), y: axis(rows), contrast: 1.0, confidence: 1.0 }
    }

    #[test]
    fn an_enlarged_sprite_comes_back() {
        let sprite = RgbaImage::from_fn(5, 3, |x, y| Rgba([50 * x as u8, 80 * y as u8, 7, 255]));
        for step in [1, 2, 3, 8, 13] {
            let large =
                image::imageops::resize(&sprite, 5 * step, 3 * step, image::imageops::FilterType::Nearest);
            assert_eq!(sample(&large, &grid(5, 3, step.into())), sprite, "step {step}");
        }
    }

    #[test]
    fn invisible_pixels_have_no_vote() {
        let mut large = RgbaImage::from_pixel(8, 8, Rgba([200, 0, 0, 255]));
        for y in 0..8 {
            for x in 0..4 {
                large.put_pixel(x, y, Rgba([0, 0, 0, 0]));
            }
        }
        let sampled = sample(&large, &grid(1, 1, 8.0));
        assert!([Rgba([200, 0, 0, 255]), Rgba([0; 4])].contains(sampled.get_pixel(0, 0)));
    }

    #[test]
    fn a_colour_is_one_of_the_pictures() {
        let noisy =
            RgbaImage::from_fn(64, 64, |x, y| Rgba([(x * 37 % 251) as u8, (y * 91 % 241) as u8, 9, 255]));
        for pixel in sample(&noisy, &grid(8, 8, 8.0)).pixels() {
            assert!(noisy.pixels().any(|other| other == pixel));
        }
    }
}
