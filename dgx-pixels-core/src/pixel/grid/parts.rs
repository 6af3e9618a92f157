//! Sheets: parts between gutters, each at a phase of its own, all with one step.
//!
//! Gutters are columns and rows of one color. Between two of them lies a part, whose edges say
//! where its cells begin. The gutters themselves become as many cells as fit.
//!
//! Only sheets whose gutters cross the whole picture are taken apart. Parts that are packed at any
//! place have no phase in common along an axis, and stay in doubt.
//!
//! The step is one for all parts. It is the one at which the edges of each part lie most in one
//! phase, whatever the phase of that part is; a whole number of pixels is preferred.

use std::f32::consts::TAU;

use image::RgbaImage;

use super::profile::Profile;
use super::{Axis, Grid};

/// Channels of a gutter differ by no more than this from one color: lossy files blur its sides.
const PLAIN: u8 = 20;
/// A part is at least this many pixels long: lines of text are none.
const SHORTEST: usize = 24;
/// A part is at least this many cells long.
const FEWEST_CELLS: f64 = 3.0;
/// Parts are in one phase if theirs differ by less than this share of a cell.
const ONE_PHASE: f64 = 0.12;
/// Steps that are tried on both sides of one, and their distance as a share of it.
const NEAR_STEPS: i32 = 12;
const NEAREST: f64 = 0.0025;
/// A whole number of pixels that fits to this degree is the step.
const WHOLE: f32 = 0.985;
/// Steps of the axes that differ by less than this are one.
const SQUARE: f64 = 0.04;

/// The stretches between gutters, of the columns and of the rows of one picture.
pub(super) struct Parts {
    /// The first pixel of each part and the one past its last, along x and along y.
    axes: [Vec<(usize, usize)>; 2],
}

impl Parts {
    /// Finds the parts of `image`; `None` if it has no gutters inside.
    pub(super) fn of(image: &RgbaImage) -> Option<Parts> {
        let axes = bounds(image).map(|lines| {
            let is_plain = |line: &Bounds| (0..4).all(|c| line.1[c] - line.0[c] <= PLAIN);
            let mut parts: Vec<(usize, usize)> = vec![];
            let mut from = None;
            for (at, plain) in lines.iter().map(is_plain).chain([true]).enumerate() {
                match (plain, from) {
                    (false, None) => from = Some(at),
                    (true, Some(first)) => {
                        if at - first >= SHORTEST {
                            parts.push((first, at));
                        }
                        from = None;
                    }
                    (false, Some(_)) | (true, None) => {}
                }
            }
            parts
        });
        axes.iter().any(|parts| parts.len() > 1).then_some(Parts { axes })
    }

    /// The most by which a part's edges lie off the borders of `grid`, in cells, 0 to 0.5.
    pub(super) fn off(&self, profiles: &[Profile; 2], grid: &Grid) -> f64 {
        let mut most = 0.0f64;
        for (axis, (parts, profile)) in [&grid.x, &grid.y].into_iter().zip(self.axes.iter().zip(profiles)) {
            let long = |part: &&(usize, usize)| (part.1 - part.0) as f64 >= FEWEST_CELLS * axis.step;
            if axis.is_in_parts() || parts.iter().filter(long).count() < 2 {
                continue;
            }
            for &(from, to) in parts.iter().filter(long) {
                let (re, im) = profile.lines.phase(axis.step, from as f32 - 1.0, to as f32 + 1.0);
                let off = f64::from(im.atan2(re) / TAU) - axis.phase / axis.step;
                most = most.max((off - off.round()).abs());
            }
        }
        most
    }

    /// The grid of cells of about `step` pixels in each part; `None` if one regular grid would do
    /// as well, or parts are no whole number of cells.
    pub(super) fn grid(&self, profiles: &[Profile; 2], steps: [f64; 2]) -> Option<Grid> {
        let fit = |axis: usize, step: f64| self.coherence(&profiles[axis], axis, step);
        let is_square = (steps[0] / steps[1] - 1.0).abs() < SQUARE;
        let [x, y] = if is_square {
            let step = best_step(0.5 * (steps[0] + steps[1]), |step| fit(0, step) + fit(1, step));
            [step; 2]
        } else {
            [0, 1].map(|axis| best_step(steps[axis], |step| fit(axis, step)))
        };
        let axis = |axis: usize, step: f64| axis_of_parts(&profiles[axis], &self.axes[axis], step);
        let (x, y) = (axis(0, x)?, axis(1, y)?);
        (x.1 || y.1).then_some(Grid { x: x.0, y: y.0, contrast: 0.0, confidence: 0.0 })
    }
}

impl Parts {
    /// The weight of edges that lie in one phase within each part.
    fn coherence(&self, profile: &Profile, axis: usize, step: f64) -> f32 {
        let part = |&(from, to): &(usize, usize)| {
            let (re, im) = profile.lines.phase(step, from as f32 - 1.0, to as f32 + 1.0);
            re.hypot(im)
        };
        self.axes[axis].iter().map(part).sum()
    }
}

/// The least and the most of each channel.
type Bounds = ([u8; 4], [u8; 4]);

/// Bytes that are compared at a time, of whole pixels.
const LANES: usize = 32;

/// The bounds of each column and of each row.
fn bounds(image: &RgbaImage) -> [Vec<Bounds>; 2] {
    let len = 4 * image.width() as usize;
    let (mut least, mut most) = (vec![255u8; len], vec![0u8; len]);
    let mut rows = Vec::with_capacity(image.height() as usize);
    for line in image.as_raw().chunks_exact(len.max(1)) {
        for ((least, most), value) in least.iter_mut().zip(&mut most).zip(line) {
            *least = (*least).min(*value);
            *most = (*most).max(*value);
        }
        rows.push(bounds_of(line));
    }
    let columns = least.as_chunks::<4>().0.iter().zip(most.as_chunks::<4>().0);
    [columns.map(|(least, most)| (*least, *most)).collect(), rows]
}

/// The bounds of one row.
fn bounds_of(line: &[u8]) -> Bounds {
    let (mut least, mut most) = ([255u8; LANES], [0u8; LANES]);
    let (blocks, rest) = line.as_chunks::<LANES>();
    for values in blocks.iter().map(|block| &block[..]).chain([rest]) {
        for ((least, most), value) in least.iter_mut().zip(&mut most).zip(values) {
            *least = (*least).min(*value);
            *most = (*most).max(*value);
        }
    }
    let mut bounds = ([255u8; 4], [0u8; 4]);
    for (lane, (least, most)) in least.into_iter().zip(most).enumerate() {
        bounds.0[lane % 4] = bounds.0[lane % 4].min(least);
        bounds.1[lane % 4] = bounds.1[lane % 4].max(most);
    }
    bounds
}

/// The step near `step` that fits best; the whole number of pixels if that is nearly as good.
fn best_step(step: f64, fit: impl Fn(f64) -> f32) -> f64 {
    let near = (-NEAR_STEPS..=NEAR_STEPS).map(|i| step * (1.0 + NEAREST * f64::from(i)));
    let tried: Vec<_> = near.map(|step| (fit(step), step)).collect();
    let best = tried.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((0.0, step));
    let whole = best.1.round();
    let is_near = (whole / step - 1.0).abs() <= NEAREST * f64::from(NEAR_STEPS);
    if is_near && fit(whole) >= WHOLE * best.0 { whole } else { best.1 }
}

/// The axis, and whether its parts lie at phases of their own.
fn axis_of_parts(profile: &Profile, parts: &[(usize, usize)], step: f64) -> Option<(Axis, bool)> {
    let long = |part: &&(usize, usize)| (part.1 - part.0) as f64 >= FEWEST_CELLS * step;
    let placed: Vec<(f64, f64)> = parts
        .iter()
        .filter(long)
        .map(|&(from, to)| {
            let (re, im) = profile.lines.phase(step, from as f32 - 1.0, to as f32 + 1.0);
            let phase = f64::from(im.atan2(re) / TAU) * step;
            let first = phase + ((from as f64 - phase) / step).round() * step;
            let cells = ((to as f64 - first) / step).round();
            (first, first + cells * step)
        })
        .collect();
    let &(first, _) = placed.first()?;
    let off = |start: f64| ((start - first) / step - ((start - first) / step).round()).abs();
    let is_apart = placed.iter().any(|part| off(part.0) > ONE_PHASE);
    let mut borders = vec![];
    // Up to here cells are laid.
    let before = (first / step).round().max(0.0) as usize;
    borders.extend((0..before).map(|i| first - (before - i) as f64 * step));
    let mut at = first;
    for (from, to) in placed {
        let from = from.max(at);
        let gap = from - at;
        let cells = (gap / step).round().max(if gap < 1.0 { 0.0 } else { 1.0 });
        borders.extend((0..cells as usize).map(|i| at + gap * i as f64 / cells));
        let cells = ((to - from) / step).round().max(0.0);
        borders.extend((0..cells as usize).map(|i| from + i as f64 * step));
        at = from + cells * step;
    }
    let cells = ((profile.len as f64 - at) / step).round().max(0.0);
    borders.extend((0..=cells as usize).map(|i| at + i as f64 * step));
    let axis = Axis::of_parts(profile.len, step, &borders)?;
    Some((axis, is_apart))
}
