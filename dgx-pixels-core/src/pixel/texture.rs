//! Fine textures that repeat over a whole image: ordered dithering, and screens of lines or dots.
//!
//! Such a texture has changes at single pixels everywhere, as art at its own size has. But it
//! repeats after a few pixels, at the same places over the whole image, along both axes. Art
//! repeats at its tiles, which are larger, and has details that stand alone.
//!
//! The mean over one period has no texture. If the image was enlarged before it was dithered, the
//! mean shows the cells.

use image::RgbaImage;

/// Periods that are looked for, in pixels.
const PERIODS: std::ops::RangeInclusive<usize> = 2..=8;
/// The image correlates with itself one period on to this degree. Of 38 images at their own size
/// the most was 0.31, and of 38 dithered ones the least was 0.48.
const REPEATS: f64 = 0.42;
/// A shorter period that repeats to this share of the best is the texture's.
const AS_WELL: f64 = 0.93;
/// The middle of an image is looked at, up to this many pixels along a side.
const LARGEST: usize = 256;
/// A smaller image shows too few periods.
const SMALLEST: usize = 32;

/// The period of the texture of `image`, in pixels; `None` if it has none.
pub(super) fn period(image: &RgbaImage) -> Option<usize> {
    let levels = Levels::middle_of(image)?;
    let all: Vec<(usize, f64)> = PERIODS.map(|period| (period, levels.repeats_after(period))).collect();
    let best = all.iter().map(|(_, share)| *share).fold(0.0, f64::max);
    let (period, _) = all.into_iter().find(|(_, share)| *share >= AS_WELL * best)?;
    (best >= REPEATS).then_some(period)
}

/// The mean of `image` over squares of one period: what it was before the texture, a little
/// blurred.
pub(super) fn without(image: &RgbaImage, period: usize) -> RgbaImage {
    let mut bytes = Vec::with_capacity(image.as_raw().len());
    let round = |means: &[f32]| bytes.extend(means.iter().map(|mean| (mean + 0.5) as u8));
    each_row_of_means::<4, u8>(image.as_raw(), image.width() as usize, period, round);
    RgbaImage::from_raw(image.width(), image.height(), bytes).unwrap_or_default()
}

/// Brightness of a part of an image.
struct Levels {
    width: usize,
    height: usize,
    values: Vec<i32>,
}

impl Levels {
    fn middle_of(image: &RgbaImage) -> Option<Levels> {
        let sides = [image.width() as usize, image.height() as usize];
        let [width, height] = sides.map(|side| side.min(LARGEST));
        if width.min(height) < SMALLEST {
            return None;
        }
        let [left, top] = [(sides[0] - width) / 2, (sides[1] - height) / 2];
        let lines = image.as_raw().chunks_exact(4 * sides[0]).skip(top).take(height);
        let pixels = lines.flat_map(|line| &line.as_chunks::<4>().0[left..left + width]);
        let level =
            |[r, g, b, a]: &[u8; 4]| (i32::from(*r) + i32::from(*g) + i32::from(*b)) * i32::from(*a) / 255;
        Some(Levels { width, height, values: pixels.map(level).collect() })
    }

    /// The correlation of what differs from the mean over one period with what does so one period
    /// on, -1 to 1; of the axis where it is less. 0 for what changes slowly, which correlates with
    /// its next pixel too.
    fn repeats_after(&self, period: usize) -> f64 {
        let mut off = Vec::with_capacity(self.values.len());
        each_row_of_means::<1, i32>(&self.values, self.width, period, |means| {
            let row = &self.values[off.len()..][..means.len()];
            off.extend(row.iter().zip(means).map(|(value, mean)| *value as f32 - mean));
        });
        let rows = || off.chunks_exact(self.width);
        let all = rows().map(|row| product(row, row)).sum::<f64>() / off.len() as f64;
        if all < NOTHING {
            return 0.0;
        }
        let at = |lag: usize| {
            let along_rows: f64 = rows().map(|row| product(row, &row[lag..])).sum();
            let along_columns: f64 = rows().zip(rows().skip(lag)).map(|(a, b)| product(a, b)).sum();
            let x = along_rows / ((self.width - lag) * self.height) as f64;
            let y = along_columns / (self.width * (self.height - lag)) as f64;
            x.min(y) / all
        };
        let repeats = at(period);
        if at(1) < SLOW * repeats { repeats } else { 0.0 }
    }
}

/// The sum of the products of two rows, of as many values as both have.
fn product(a: &[f32], b: &[f32]) -> f64 {
    // Several sums at a time, in an order that is the same on every machine.
    const LANES: usize = 8;
    let len = a.len().min(b.len());
    let ((a, a_rest), (b, b_rest)) = (a[..len].as_chunks::<LANES>(), b[..len].as_chunks::<LANES>());
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a * b));
    sums.into_iter().map(f64::from).chain(rest).sum()
}

/// Slopes correlate with the next pixel to this share of a period, and textures to less.
const SLOW: f64 = 0.7;
/// A smaller mean square is no texture.
const NOTHING: f64 = 1.0;

/// Gives the means of each row to `each`, from the top: of each value's square of `side`, at the
/// borders of as much as there is. A pixel has `N` values, which are beside each other.
fn each_row_of_means<const N: usize, T: Copy + Into<i32>>(
    values: &[T],
    width: usize,
    side: usize,
    mut each: impl FnMut(&[f32]),
) {
    let len = N * width;
    let height = values.len() / len.max(1);
    let (before, after) = ((side - 1) / 2, side / 2);
    let window = |at: usize, len: usize| (at.saturating_sub(before), (at + after + 1).min(len));
    let across: Vec<f32> =
        (0..len).map(|i| window(i / N, width)).map(|(left, right)| 1.0 / (right - left) as f32).collect();
    // Sums along a row up to each pixel, and those of its windows.
    let mut up_to = vec![0i32; len + N];
    let mut of_row = vec![0i32; len];
    let mut sum_row = |y: usize, of_row: &mut [i32]| {
        let mut sum = [0i32; N];
        let pixels = values[y * len..][..len].as_chunks::<N>().0;
        for (pixel, up_to) in pixels.iter().zip(up_to[N..].as_chunks_mut::<N>().0) {
            for c in 0..N {
                sum[c] += pixel[c].into();
            }
            *up_to = sum;
        }
        let (first, last) = (before.min(width), width.saturating_sub(after).max(before.min(width)));
        let whole = up_to[N * (first + after + 1).min(width + 1)..].iter().zip(&up_to);
        of_row[N * first..N * last].iter_mut().zip(whole).for_each(|(sum, (to, from))| *sum = to - from);
        for x in (0..first).chain(last..width) {
            let (left, right) = window(x, width);
            for c in 0..N {
                of_row[N * x + c] = up_to[N * right + c] - up_to[N * left + c];
            }
        }
    };
    let mut sums = vec![0i32; len];
    let mut means = vec![0.0f32; len];
    let mut summed = (0, 0);
    for y in 0..height {
        let (from, to) = window(y, height);
        while summed.1 < to {
            sum_row(summed.1, &mut of_row);
            sums.iter_mut().zip(&of_row).for_each(|(sum, value)| *sum += value);
            summed.1 += 1;
        }
        while summed.0 < from {
            sum_row(summed.0, &mut of_row);
            sums.iter_mut().zip(&of_row).for_each(|(sum, value)| *sum -= value);
            summed.0 += 1;
        }
        let down = 1.0 / (to - from) as f32;
        let all = means.iter_mut().zip(&sums).zip(&across);
        all.for_each(|((mean, sum), across)| *mean = *sum as f32 * across * down);
        each(&means);
    }
}

#[cfg(test)]
mod tests {
    use image::Rgba;
    use image::imageops::{FilterType, resize};

    use super::*;
    use crate::pixel::{PixelOptions, Pixelized, Transparent, Verdict, pixelize};

    fn hash(x: u32, y: u32) -> u32 {
        (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663)).wrapping_mul(2_654_435_761) >> 16
    }

    /// Art of soft tones, 40x30 cells.
    fn art() -> RgbaImage {
        RgbaImage::from_fn(40, 30, |x, y| {
            let tone =
                |salt: u32| 60 + (hash(x / 2 + salt, y) % 5 * 30) as u8 + (hash(x, y + salt) % 4 * 15) as u8;
            Rgba([tone(3), tone(11), tone(29), 255])
        })
    }

    /// Thresholds of Bayer's matrix of `side` pixels, 0 to 1.
    fn bayer(side: u32, x: u32, y: u32) -> f32 {
        let mut level = 0;
        let (mut x, mut y, mut half) = (x % side, y % side, side / 2);
        let mut weight = 1;
        while half > 0 {
            level += weight * [[0, 2], [3, 1]][(y / half % 2) as usize][(x / half % 2) as usize];
            (x, y, half, weight) = (x % half.max(1), y % half.max(1), half / 2, weight * 4);
        }
        // The order of bits is another than in the usual matrix; the thresholds are as even.
        level as f32 / (side * side) as f32
    }

    /// Few levels a channel, between which `threshold` chooses at each pixel.
    fn dithered(image: &RgbaImage, gap: f32, threshold: impl Fn(u32, u32) -> f32) -> RgbaImage {
        RgbaImage::from_fn(image.width(), image.height(), |x, y| {
            let Rgba([r, g, b, a]) = *image.get_pixel(x, y);
            let level = |value: u8| {
                ((f32::from(value) / gap + threshold(x, y) * 0.999).floor() * gap).min(255.0) as u8
            };
            Rgba([level(r), level(g), level(b), a])
        })
    }

    fn made(image: &RgbaImage) -> Pixelized {
        pixelize(image, &PixelOptions { transparent: Transparent::Off, ..Default::default() }).unwrap()
    }

    fn is_sure(made: &Pixelized) -> bool {
        made.verdict != Verdict::Unsure && made.confidence >= crate::pixel::grid::SURE
    }

    #[test]
    fn the_period_of_a_texture_is_found() {
        let smooth = resize(&art(), 372, 279, FilterType::CatmullRom);
        assert_eq!(period(&smooth), None);
        for (side, expected) in [(2, 2..=2), (4, 2..=4), (8, 2..=8)] {
            let found = period(&dithered(&smooth, 85.0, |x, y| bayer(side, x, y))).unwrap();
            assert!(expected.contains(&found), "{side}: {found}");
        }
        for side in [2, 3, 5] {
            let rows = dithered(&smooth, 85.0, |_, y| (y % side) as f32 / side as f32);
            assert_eq!(period(&rows), Some(side as usize));
        }
    }

    #[test]
    fn what_was_dithered_has_the_grid_of_its_mean_or_is_doubted() {
        for (width, height) in [(372, 279), (520, 390), (291, 218)] {
            for filter in [FilterType::Triangle, FilterType::CatmullRom] {
                let large = resize(&art(), width, height, filter);
                let pictures = [
                    dithered(&large, 51.0, |x, y| bayer(2, x, y)),
                    dithered(&large, 51.0, |x, y| bayer(4, x, y)),
                    dithered(&large, 51.0, |x, y| bayer(8, x, y)),
                    dithered(&large, 64.0, |x, y| ((x + y) % 2) as f32 * 0.5 + 0.25),
                    dithered(&large, 64.0, |_, y| (y % 3) as f32 / 3.0),
                    dithered(&large, 64.0, |x, _| (x % 2) as f32 / 2.0),
                ];
                for (i, picture) in pictures.iter().enumerate() {
                    let made = made(picture);
                    let is_right = (made.grid.x.cells(), made.grid.y.cells()) == (40, 30);
                    assert!(
                        is_right || !is_sure(&made),
                        "{i} {width} {filter:?}: {:?} {}",
                        made.verdict,
                        made.confidence
                    );
                }
                assert!(pictures[..3].iter().any(|picture| made(picture).grid.x.cells() == 40), "{width}");
            }
        }
    }

    #[test]
    fn dithering_that_was_enlarged_itself_is_doubted() {
        for (width, height) in [(260, 195), (291, 218)] {
            let picture =
                dithered(&resize(&art(), width, height, FilterType::CatmullRom), 51.0, |x, y| bayer(4, x, y));
            for times in [2, 3] {
                let large = resize(&picture, times * width, times * height, FilterType::Nearest);
                let made = made(&large);
                assert!(!is_sure(&made), "{width} {times}: {:?} {}", made.verdict, made.confidence);
            }
        }
    }

    #[test]
    fn a_dithered_picture_without_cells_is_kept_and_doubted() {
        let wave = |value: f32| (127.0 + 90.0 * value.sin()) as u8;
        let smooth = RgbaImage::from_fn(300, 220, |x, y| {
            let (x, y) = (x as f32, y as f32);
            Rgba([wave(x / 41.0 + y / 67.0), wave(x / 93.0 - y / 39.0), wave(x / 50.0), 255])
        });
        let picture = dithered(&smooth, 85.0, |x, y| bayer(4, x, y));
        let made = made(&picture);
        assert!(!is_sure(&made) && made.sprite == picture, "{:?} {}", made.verdict, made.confidence);
        let fails = PixelOptions { unsure: crate::pixel::Unsure::Fail, ..Default::default() };
        assert!(pixelize(&picture, &fails).is_err());
    }

    #[test]
    fn the_mean_of_a_flat_image_is_the_image() {
        let flat = RgbaImage::from_pixel(40, 33, Rgba([9, 80, 200, 255]));
        assert!(without(&flat, 4) == flat && period(&flat).is_none());
        for (width, height) in [(1, 1), (3, 90), (90, 2)] {
            let small = RgbaImage::new(width, height);
            assert!(without(&small, 8) == small && period(&small).is_none());
        }
    }
}
