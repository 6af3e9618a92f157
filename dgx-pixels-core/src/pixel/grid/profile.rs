//! The profile of one axis of an image: the amount of change at each position, and sums that show
//! how flat a span is.

use image::RgbaImage;

use super::edges::Edges;
use super::spectrum::{flattened, power_at, wave_at};

/// Lines across the axis that spans are judged by.
const LINES: usize = 32;
/// Changes above this count as this: a few strong outlines are not to outvote the many weak ones.
const STRONG: i16 = 96;

/// Spans are judged by the sums of each line's changes, of at most this each, so that strong edges
/// weigh little more than weak ones.
const STEEPEST: i16 = 64;
/// The distance of such a sum from the pixel shrinks by this part with each pixel: it stays small,
/// and exact in 32 bits.
const PULL: i16 = 128;

/// A power of bends that is no chance.
const INSIDE: f64 = 9.0;
/// The power that noise has on average.
const ONE_NOISE: f64 = 1.0;

/// One axis of a picture, as numbers along it.
pub(super) struct Profile {
    /// Pixels along the axis.
    pub(super) len: usize,
    /// Change between pixel `i - 1` and `i`, summed across the axis, over what is usual around;
    /// less 1.
    pub(super) edges: Vec<f32>,
    /// The same for the change of the change at pixel `i`.
    pub(super) bends: Vec<f32>,
    bend_variance: f64,
    edge_variance: f64,
    /// The number of positions that share the change: 31 for 32 hard cells, nearly all for a smooth
    /// picture.
    pub(super) places: f64,
    /// The edges of single lines.
    pub(super) lines: Edges,
    /// The change that is an edge in this picture.
    pub(super) weakest: f64,
    /// Sums up to position `i` of each line's levels, `[len + 1][width]`.
    sums: Vec<f32>,
    /// Sum up to position `i` of all squares.
    squares: Vec<f64>,
    width: usize,
}

/// Lines along one axis of a picture, as four signed channels, premultiplied, so that what is
/// invisible differs in alpha alone.
struct Lines {
    len: usize,
    count: usize,
    channels: [Vec<i16>; 4],
}

/// Lines of a picture that are looked at: all, or every second, third, ... where there are at least
/// twice as many.
const ENOUGH_LINES: usize = 300;

impl Lines {
    fn rows(image: &RgbaImage) -> Self {
        let (len, rows) = (image.width() as usize, image.height() as usize);
        let every = (rows / ENOUGH_LINES).max(1);
        let count = rows.div_ceil(every);
        let mut channels = [const { vec![] }; 4].map(|_: Vec<i16>| vec![0; len * count]);
        for (i, row) in image.as_raw().chunks_exact(4 * len).step_by(every).enumerate() {
            for (x, pixel) in row.as_chunks::<4>().0.iter().enumerate() {
                for (channel, value) in channels.iter_mut().zip(premultiplied(*pixel)) {
                    channel[i * len + x] = value;
                }
            }
        }
        Lines { len, count, channels }
    }

    fn columns(image: &RgbaImage) -> Self {
        let (columns, len) = (image.width() as usize, image.height() as usize);
        let every = (columns / ENOUGH_LINES).max(1);
        let count = columns.div_ceil(every);
        let mut channels = [const { vec![] }; 4].map(|_: Vec<i16>| vec![0; len * count]);
        // In blocks of rows, so that what a column's next pixel is written to is still near.
        const BLOCK: usize = 32;
        for (block, rows) in image.as_raw().chunks(BLOCK * 4 * columns).enumerate() {
            for i in 0..count {
                for (y, row) in rows.chunks_exact(4 * columns).enumerate() {
                    let pixel = row.as_chunks::<4>().0[i * every];
                    for (channel, value) in channels.iter_mut().zip(premultiplied(pixel)) {
                        channel[i * len + block * BLOCK + y] = value;
                    }
                }
            }
        }
        Lines { len, count, channels }
    }

    fn line(&self, i: usize) -> [&[i16]; 4] {
        self.channels.each_ref().map(|channel| &channel[i * self.len..][..self.len])
    }
}

fn premultiplied([r, g, b, a]: [u8; 4]) -> [i16; 4] {
    let by_alpha = |value: u8| match a {
        255 => i16::from(value),
        _ => (u16::from(value) * u16::from(a) / 255) as i16,
    };
    [by_alpha(r), by_alpha(g), by_alpha(b), i16::from(a)]
}

/// The change that is an edge in this picture: half of what is usual, and more than its noise,
/// which bends at every pixel, while what was enlarged softly does not.
fn weakest_edge(all: &Lines) -> i32 {
    let (mut sum, mut count) = (0, 1);
    let mut bends = vec![];
    for i in (0..all.count).step_by(all.count.div_ceil(48).max(1)) {
        let line = all.line(i);
        for x in 1..all.len.saturating_sub(1) {
            let (mut change, mut bend) = (0, 0);
            for channel in line {
                change += (channel[x] - channel[x - 1]).abs();
                bend += (channel[x - 1] - 2 * channel[x] + channel[x + 1]).abs();
            }
            let change = i32::from(change.min(2 * STRONG));
            sum += change * change / 4;
            count += i32::from(change > 0);
            bends.push(i32::from(bend));
        }
    }
    let usual = 2.0 * (f64::from(sum) / f64::from(count)).sqrt();
    let middle = bends.len() / 2;
    let noise = if bends.is_empty() { 0 } else { *bends.select_nth_unstable(middle).1 };
    ((0.5 * usual) as i32).max(17 * noise / 10).max(6)
}

impl Profile {
    /// Along x and along y.
    pub(super) fn both(image: &RgbaImage) -> [Self; 2] {
        [Profile::new(&Lines::rows(image)), Profile::new(&Lines::columns(image))]
    }

    fn new(all: &Lines) -> Self {
        let len = all.len;
        let mut edges = vec![0i32; len];
        let mut bends = vec![0i32; len];
        let mut changes = vec![0i16; len];
        let weakest = weakest_edge(all);
        let mut edges_of_lines = Edges::new();
        let busy: Vec<i64> = (0..all.count)
            .map(|i| {
                let line = all.line(i);
                // How much each pixel differs from the one before it.
                changes.fill(0);
                for channel in line {
                    for (change, pair) in changes[1..].iter_mut().zip(channel.windows(2)) {
                        *change += (pair[1] - pair[0]).abs();
                    }
                }
                for (edge, change) in edges.iter_mut().zip(&changes) {
                    *edge += i32::from((*change).min(STRONG));
                }
                edges_of_lines.add(&changes, weakest);
                let busy = changes.iter().map(|change| i64::from((*change).min(STRONG))).sum();
                // How far the middle of three pixels lies off the line between the others, doubled.
                changes.fill(0);
                for channel in line {
                    for (turn, three) in changes[1..].iter_mut().zip(channel.windows(3)) {
                        *turn += (three[0] - 2 * three[1] + three[2]).abs();
                    }
                }
                for (bend, turn) in bends.iter_mut().zip(&changes) {
                    *bend += i32::from((*turn).min(STRONG));
                }
                busy
            })
            .collect();
        edges_of_lines.finish();

        // The busiest line of each of LINES bands.
        let bands = LINES.min(all.count);
        let lines: Vec<_> = (0..bands)
            .map(|band| (band * all.count / bands..(band + 1) * all.count / bands).max_by_key(|i| busy[*i]))
            .map(|busiest| all.line(busiest.unwrap_or(0)))
            .collect();
        let width = 4 * lines.len();
        let mut sums = vec![0.0; (len + 1) * width];
        let mut squares = vec![0.0; len + 1];
        let mut levels = vec![[0i16; 4]; lines.len()];
        for x in 0..len {
            let (before, after) = sums[x * width..].split_at_mut(width);
            let mut square = 0.0;
            for (i, (line, level)) in lines.iter().zip(&mut levels).enumerate() {
                for c in 0..4 {
                    let (pixel, last) = (line[c][x], line[c][x.saturating_sub(1)]);
                    level[c] += (pixel - last).clamp(-STEEPEST, STEEPEST) - (level[c] - pixel) / PULL;
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
        let edges = flattened(&edges);
        let squares_of = |values: &[f32]| values.iter().map(|value| f64::from(value * value)).sum::<f64>();
        let [edge_variance, bend_variance] = [&edges, &bends].map(|values| squares_of(values).max(1e-9));
        let lines = edges_of_lines;
        Profile {
            len,
            edges,
            bends,
            bend_variance,
            edge_variance,
            places,
            lines,
            weakest: f64::from(weakest),
            sums,
            squares,
            width,
        }
    }

    /// Power of the bends at one frequency, in units of what noise has on average; 0 where there is
    /// none.
    pub(super) fn bend_power(&self, frequency: f64) -> f64 {
        if frequency > 0.5 {
            return 0.0;
        }
        power_at(&self.bends, frequency) / self.bend_variance
    }

    /// `true` if it bends in the middle of cells of `step` pixels that begin at the corner, and not
    /// at their borders.
    pub(super) fn bends_inside(&self, step: f64) -> bool {
        let (re, power) = wave_at(&self.bends, 1.0 / step, 0.5);
        power / self.bend_variance > INSIDE && re < -0.5 * power.sqrt()
    }

    /// The logarithm of the power of edges that repeat `times` as slowly as cells of `step` pixels,
    /// over that of edges that repeat as the cells do.
    ///
    /// The power of cells that are all there is to see is about the same at all their harmonics. So
    /// this is about 0 for a step that is a part of the true one, and far below for the true one.
    pub(super) fn slower(&self, step: f64, times: f64) -> f64 {
        let of = |frequency: f64| power_at(&self.edges, frequency) / self.edge_variance + ONE_NOISE;
        (of(1.0 / (times * step)) / of(1.0 / step)).ln()
    }

    /// Sum of the squared distances of the pixels in `from..to` from their mean, over all lines and
    /// channels.
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

    /// The distance between the mean levels of two spans, summed over lines and channels.
    ///
    /// It is 0 for spans of one color, and for a span without pixels. A slope that goes through
    /// both spans counts as a change.
    pub(super) fn distance(&self, (a, b): (usize, usize), (c, d): (usize, usize)) -> f64 {
        if b <= a || d <= c {
            return 0.0;
        }
        let at = |i: usize| &self.sums[i * self.width..][..self.width];
        let (one, other) = (1.0 / (b - a) as f32, 1.0 / (d - c) as f32);
        let spans = at(a).iter().zip(at(b)).zip(at(c).iter().zip(at(d)));
        let sum: f32 = spans.map(|((a, b), (c, d))| ((b - a) * one - (d - c) * other).abs()).sum();
        f64::from(sum)
    }

    /// Squares in all, about the mean of the whole: what [`spread`](Self::spread) is compared with.
    pub(super) fn total(&self) -> f64 {
        self.spread(0, self.len)
    }
}
