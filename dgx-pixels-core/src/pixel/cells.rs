//! One colour for each cell of a grid, taken from the picture and never mixed.

use image::{Rgba, RgbaImage};

use super::Grid;

/// Most pixels of a cell that are looked at, along each axis.
const SAMPLES: usize = 5;
/// Share of a cell, in its middle, that they lie in.
const MIDDLE: f64 = 0.6;
/// Differences above this count as this, red, green and blue summed: how far off a pixel of another
/// cell is does not matter.
const FAR: u16 = 72;
/// Alpha from which a pixel is visible.
pub(super) const VISIBLE: u8 = 128;

/// The picture reduced to its grid: each cell is the pixel of its middle that is most like all
/// others there, a truncated medoid. It is a colour of the picture, is not moved by pixels of
/// neighbours, and is near the mean of noise. Pixels with alpha below 128 have no colour and vote
/// for transparency.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{grid, nearest_upscale, sample};
/// use image::{Rgba, RgbaImage};
///
/// let sprite = RgbaImage::from_fn(16, 16, |x, y| Rgba([(x * 37 % 200) as u8, (y * 53 % 200) as u8, 90, 255]));
/// let enlarged = nearest_upscale(&sprite, 8)?;
/// let found = &grid::find(&enlarged)[0];
/// assert_eq!(sample(&enlarged, found), sprite);
/// # Ok::<(), dgx_pixels_core::pixel::FrameError>(())
/// ```
pub fn sample(image: &RgbaImage, grid: &Grid) -> RgbaImage {
    draw(image, grid, MIDDLE)
}

/// The same with pixels of the whole cell: for a painted picture, whose cells are wherever we put
/// them. What most of a cell shows wins it, as in k-centroid (Astropulse), and nothing is mixed.
pub(super) fn reduce(image: &RgbaImage, grid: &Grid) -> RgbaImage {
    draw(image, grid, 1.0)
}

fn draw(image: &RgbaImage, grid: &Grid, share: f64) -> RgbaImage {
    let columns: Vec<_> = (0..grid.x.cells()).map(|i| picks(grid.x.span(i), share)).collect();
    let rows: Vec<_> = (0..grid.y.cells()).map(|i| picks(grid.y.span(i), share)).collect();
    RgbaImage::from_fn(grid.x.cells() as u32, grid.y.cells() as u32, |x, y| {
        let mut visible = Samples::default();
        let (mut seen, mut all) = (0, 0);
        for (row, row_weight) in &rows[y as usize] {
            for (column, column_weight) in &columns[x as usize] {
                let weight = row_weight * column_weight;
                let Rgba([r, g, b, a]) = *image.get_pixel(*column, *row);
                all += weight;
                if a >= VISIBLE {
                    seen += weight;
                    visible.push([r, g, b], weight);
                }
            }
        }
        if 2 * seen <= all {
            return Rgba([0; 4]);
        }
        let [r, g, b] = visible.medoid();
        Rgba([r, g, b, 255])
    })
}

/// Pixels of the middle `share` of a span that are looked at, with weights that fall towards its
/// ends.
fn picks((from, to): (usize, usize), share: f64) -> Vec<(u32, u16)> {
    let len = to - from;
    let inner = ((len as f64 * share).round() as usize).clamp(1, len.max(1));
    let first = from as f64 + 0.5 * (len as f64 - inner as f64);
    let count = inner.min(SAMPLES);
    (0..count)
        .map(|i| {
            let at = first + (i as f64 + 0.5) * inner as f64 / count as f64;
            let from_end = (i + 1).min(count - i) as u16;
            ((at as usize).min(to.saturating_sub(1)) as u32, from_end)
        })
        .collect()
}

/// Pixels of a cell with their weights, channel by channel, so that many are compared at once.
#[derive(Default)]
struct Samples {
    count: usize,
    channels: [[u16; Samples::MOST]; 3],
    weights: [u16; Samples::MOST],
}

impl Samples {
    /// The next power of two, as the rest, of no weight, is compared too.
    const MOST: usize = (SAMPLES * SAMPLES).next_power_of_two();

    fn push(&mut self, rgb: [u8; 3], weight: u16) {
        for (channel, value) in self.channels.iter_mut().zip(rgb) {
            channel[self.count] = value.into();
        }
        self.weights[self.count] = weight;
        self.count += 1;
    }

    fn pixel(&self, i: usize) -> [u8; 3] {
        self.channels.each_ref().map(|channel| channel[i] as u8)
    }

    /// The sample with the least weighted distance to all others; of equals the heaviest, and of
    /// those the darkest.
    fn medoid(&self) -> [u8; 3] {
        let first = self.pixel(0);
        if (1..self.count).all(|i| self.pixel(i) == first) {
            return first;
        }
        let [reds, greens, blues] = &self.channels;
        let cost = |i: usize| -> u16 {
            let (red, green, blue) = (reds[i], greens[i], blues[i]);
            let mut cost = 0;
            for j in 0..Samples::MOST {
                let distance = reds[j].abs_diff(red) + greens[j].abs_diff(green) + blues[j].abs_diff(blue);
                // At most 81 * FAR in all.
                cost += self.weights[j] * distance.min(FAR);
            }
            cost
        };
        let best = (0..self.count).min_by_key(|i| (cost(*i), u16::MAX - self.weights[*i], self.pixel(*i)));
        best.map_or(first, |i| self.pixel(i))
    }
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
