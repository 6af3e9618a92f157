//! What one axis of a picture looks like: how much changes at each position, and sums that say how flat a span is.

use image::RgbaImage;

use super::spectrum::{flattened, fourier};

/// Lines across the axis that spans are judged by.
const LINES: usize = 32;
/// Changes above this count as this: a few strong outlines are not to outvote the many weak ones.
const STRONG: i32 = 96;

/// Spans are judged by the sums of each line's changes, of at most this each, so that strong edges weigh little more than
/// weak ones.
const STEEPEST: i16 = 64;
/// What such a sum is off the pixel by shrinks by this part with each pixel: it stays small, and exact in 32 bits.
const PULL: i16 = 128;

/// One axis of a picture, as numbers along it.
pub(super) struct Profile {
    /// Pixels along the axis.
    pub(super) len: usize,
    /// Change between pixel `i - 1` and `i`, summed across the axis, over what is usual around; less 1.
    pub(super) edges: Vec<f32>,
    /// The same for the change of the change at pixel `i`.
    pub(super) bends: Vec<f32>,
    bend_variance: f64,
    /// How many positions share the change: 31 for 32 hard cells, nearly all for a smooth picture.
    pub(super) places: f64,
    /// Sums up to position `i` of each line's levels, `[len + 1][width]`.
    sums: Vec<f32>,
    /// Sum up to position `i` of all squares.
    squares: Vec<f64>,
    width: usize,
}

/// A picture as four signed channels, premultiplied, so that what is invisible differs in alpha alone.
pub(super) struct Plane {
    pub(super) width: usize,
    pub(super) height: usize,
    pixels: Vec<[i16; 4]>,
}

impl Plane {
    pub(super) fn new(image: &RgbaImage) -> Self {
        let pixels = image
            .pixels()
            .map(|pixel| match pixel.0 {
                [r, g, b, 255] => [i16::from(r), i16::from(g), i16::from(b), 255],
                [r, g, b, a] => {
                    let premultiplied = |value: u8| (u16::from(value) * u16::from(a) / 255) as i16;
                    [premultiplied(r), premultiplied(g), premultiplied(b), i16::from(a)]
                }
            })
            .collect();
        Plane { width: image.width() as usize, height: image.height() as usize, pixels }
    }

    /// The same picture with x and y exchanged.
    pub(super) fn transposed(&self) -> Self {
        let mut pixels = vec![[0; 4]; self.pixels.len()];
        const TILE: usize = 32;
        for top in (0..self.height).step_by(TILE) {
            for left in (0..self.width).step_by(TILE) {
                for y in top..(top + TILE).min(self.height) {
                    for x in left..(left + TILE).min(self.width) {
                        pixels[x * self.height + y] = self.pixels[y * self.width + x];
                    }
                }
            }
        }
        Plane { width: self.height, height: self.width, pixels }
    }

    fn row(&self, y: usize) -> &[[i16; 4]] {
        &self.pixels[y * self.width..][..self.width]
    }
}

fn change(a: [i16; 4], b: [i16; 4]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from((a - b).abs())).sum()
}

/// How far the middle of three pixels lies off the line between the others, doubled.
fn turn(three: &[[i16; 4]]) -> i32 {
    (0..4).map(|c| i32::from((three[0][c] - 2 * three[1][c] + three[2][c]).abs())).sum()
}

impl Profile {
    /// Along x; along y is that of the transposed plane.
    pub(super) fn new(plane: &Plane) -> Self {
        let (len, rows) = (plane.width, plane.height);
        let mut edges = vec![0i32; len];
        let mut bends = vec![0i32; len];
        let mut busy = vec![0i64; rows];
        for (y, busy) in busy.iter_mut().enumerate() {
            let row = plane.row(y);
            for (edge, pair) in edges[1..].iter_mut().zip(row.windows(2)) {
                let change = change(pair[0], pair[1]).min(STRONG);
                *edge += change;
                *busy += i64::from(change);
            }
            for (bend, three) in bends[1..].iter_mut().zip(row.windows(3)) {
                *bend += turn(three).min(STRONG);
            }
        }

        // The busiest line of each of LINES bands.
        let bands = LINES.min(rows);
        let lines: Vec<usize> = (0..bands)
            .map(|band| {
                (band * rows / bands..(band + 1) * rows / bands).max_by_key(|y| busy[*y]).unwrap_or(0)
            })
            .collect();
        let width = 4 * lines.len();
        let mut sums = vec![0.0; (len + 1) * width];
        let mut squares = vec![0.0; len + 1];
        let mut levels = vec![[0i16; 4]; lines.len()];
        for x in 0..len {
            let (before, after) = sums[x * width..].split_at_mut(width);
            let mut square = 0.0;
            for (i, (y, level)) in lines.iter().zip(&mut levels).enumerate() {
                let row = plane.row(*y);
                let (pixel, last) = (row[x], row[x.saturating_sub(1)]);
                for c in 0..4 {
                    level[c] +=
                        (pixel[c] - last[c]).clamp(-STEEPEST, STEEPEST) - (level[c] - pixel[c]) / PULL;
                    let value = f32::from(level[c]);
                    after[4 * i + c] = before[4 * i + c] + value;
                    square += f64::from(value * value);
                }
            }
            squares[x + 1] = squares[x] + square;
        }
        let float = |values: Vec<i32>| values.into_iter().map(|value| value as f32).collect::<Vec<_>>();
        let (edges, bends) = (float(edges), float(bends));
        let sum: f64 = edges.iter().map(|edge| f64::from(*edge)).sum();
        let sum_of_squares: f64 = edges.iter().map(|edge| f64::from(*edge) * f64::from(*edge)).sum();
        let places = if sum > 0.0 { sum * sum / sum_of_squares } else { 1.0 };
        let bends = flattened(&bends);
        let bend_variance = bends.iter().map(|bend| f64::from(bend * bend)).sum::<f64>().max(1e-9);
        Profile { len, edges: flattened(&edges), bends, bend_variance, places, sums, squares, width }
    }

    /// Power of the bends at one frequency, in units of what noise has on average; 0 where there is none.
    pub(super) fn bend_power(&self, frequency: f64) -> f64 {
        if frequency > 0.5 {
            return 0.0;
        }
        let (re, im) = fourier(&self.bends, frequency);
        (re * re + im * im) / self.bend_variance
    }

    /// Sum of the squared distances of the pixels in `from..to` from their mean, over all lines and channels.
    pub(super) fn spread(&self, from: usize, to: usize) -> f64 {
        if to <= from {
            return 0.0;
        }
        let a = &self.sums[from * self.width..][..self.width];
        let b = &self.sums[to * self.width..][..self.width];
        let mut parts = [0.0f32; 8];
        for (a, b) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
            for i in 0..8 {
                parts[i] += (b[i] - a[i]) * (b[i] - a[i]);
            }
        }
        let rest = a.len() - a.len() % 8;
        let mut sum: f32 = parts.iter().sum();
        for (a, b) in a[rest..].iter().zip(&b[rest..]) {
            sum += (b - a) * (b - a);
        }
        (self.squares[to] - self.squares[from] - f64::from(sum) / (to - from) as f64).max(0.0)
    }

    /// Squares in all, about the mean of the whole: what [`spread`](Self::spread) is compared with.
    pub(super) fn total(&self) -> f64 {
        self.spread(0, self.len)
    }
}
