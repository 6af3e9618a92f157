//! The borders of an axis's cells.

use super::profile::Profile;

/// The cells of one axis.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{grid, nearest_upscale};
/// use image::{Rgba, RgbaImage};
///
/// let sprite = RgbaImage::from_fn(16, 12, |x, y| Rgba([(x * 37 % 200) as u8, (y * 53 % 200) as u8, 90, 255]));
/// let found = &grid::find(&nearest_upscale(&sprite, 8)?)[0];
/// assert_eq!((found.x.cells(), found.y.cells()), (16, 12));
/// assert_eq!((found.x.span(0), found.x.span(15)), ((0, 8), (120, 128)));
/// assert!(!found.x.drifts());
/// # Ok::<(), dgx_pixels_core::pixel::FrameError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// Pixels of a cell, on average.
    pub step: f64,
    /// The start of the first cell, in pixels, from `-step / 2`: a cell whose larger half is in the
    /// image counts as one.
    pub phase: f64,
    /// The first pixel of each cell, and the end of the last.
    borders: Vec<usize>,
    drifts: bool,
    /// Parts of the axis have phases of their own.
    in_parts: bool,
}

impl Axis {
    /// Every cell of a regular grid with a border at `phase` whose larger half lies in `0..len`, at
    /// least one.
    pub(crate) fn regular(len: usize, step: f64, phase: f64) -> Axis {
        let phase = phase + ((-0.5 * step - phase) / step - 1e-6).ceil() * step;
        let cells = ((len as f64 + 0.5 * step - phase) / step - 1e-6).floor().max(1.0) as usize;
        let borders = (0..=cells).map(|i| border(phase + i as f64 * step).min(len)).collect();
        Axis { step, phase, borders, drifts: false, in_parts: false }
    }

    /// The axis whose cells are those that `coarser` makes of this one's.
    pub(super) fn of(&self, coarser: &Axis) -> Axis {
        Axis {
            step: self.step * coarser.step,
            phase: self.phase + self.step * coarser.phase,
            borders: coarser.borders.iter().map(|border| self.borders[*border]).collect(),
            drifts: self.drifts,
            in_parts: self.in_parts,
        }
    }

    /// Cells of `step` pixels in parts of `0..len`, between `borders`; `None` if there is no cell.
    pub(super) fn of_parts(len: usize, step: f64, borders: &[f64]) -> Option<Axis> {
        let mut places: Vec<usize> = borders.iter().map(|place| border(*place).min(len)).collect();
        places.dedup();
        let phase = *borders.first()?;
        let is_rising = places.is_sorted() && places.len() > 1;
        is_rising.then_some(Axis { step, phase, borders: places, drifts: true, in_parts: true })
    }

    /// `true` if parts of it have phases of their own.
    pub(super) fn is_in_parts(&self) -> bool {
        self.in_parts
    }

    /// Returns the number of cells.
    pub fn cells(&self) -> usize {
        self.borders.len() - 1
    }

    /// `true` if the cells differ by more than rounding: `step` is their mean.
    pub fn drifts(&self) -> bool {
        self.drifts
    }

    /// First and one past the last pixel of cell `i`.
    pub fn span(&self, i: usize) -> (usize, usize) {
        (self.borders[i], self.borders[i + 1])
    }
}

/// The first pixel whose middle lies at or past `position`: where nearest-neighbour enlarging
/// changes cells.
fn border(position: f64) -> usize {
    (position - 0.5 - 1e-6).ceil().max(0.0) as usize
}

/// Spread within the cells of a regular grid, the cut ones at both ends too.
pub(super) fn spread(profile: &Profile, step: f64, phase: f64) -> f64 {
    spread_up_to(profile, step, phase, f64::INFINITY)
}

/// The same; some value above `most` if it is more than `most`.
pub(super) fn spread_up_to(profile: &Profile, step: f64, phase: f64, most: f64) -> f64 {
    let mut from = 0;
    let mut sum = 0.0;
    let mut k = 0;
    loop {
        let to = border(phase + f64::from(k) * step).min(profile.len);
        sum += profile.spread(from, to);
        if to == profile.len || sum > most {
            return sum;
        }
        from = to;
        k += 1;
    }
}

/// Cells of between 0.7 and 1.3 steps with the least spread, where a regular grid with `regular`
/// spread does not fit: `None` unless a drifting one has clearly less.
pub(super) fn drifting(profile: &Profile, step: f64, regular: f64) -> Option<Axis> {
    let (shortest, longest) = ((0.7 * step).round().max(1.0) as usize, (1.3 * step).round() as usize);
    // What a cell pays for being half a step off: a share of what an average cell of the regular
    // grid has.
    let stiffness = STIFFNESS * regular * step / profile.len as f64;
    let most = DRIFTS * regular;
    let mut best = vec![(f64::INFINITY, 0); profile.len + 1];
    best[0] = (0.0, 0);
    for to in 1..=profile.len {
        // The picture's ends may cut a cell.
        let shortest = if to == profile.len { (0.5 * step).round().max(1.0) as usize } else { shortest };
        for from in to.saturating_sub(longest)..=to.saturating_sub(shortest) {
            let cut = from == 0 && to < longest;
            if to - from < shortest && !cut {
                continue;
            }
            let off = if cut || to == profile.len { 0.0 } else { (to - from) as f64 / step - 1.0 };
            // A spread is never below 0, so these cannot be the best, or lead to too much.
            let least = best[from].0 + 4.0 * stiffness * off * off;
            if least >= best[to].0 || least > most {
                continue;
            }
            let cost = best[from].0 + profile.spread(from, to) + 4.0 * stiffness * off * off;
            if cost < best[to].0 {
                best[to] = (cost, from);
            }
        }
    }
    if best[profile.len].0 > most {
        return None;
    }
    let mut borders = vec![profile.len];
    while let Some(&last) = borders.last().filter(|last| **last > 0) {
        borders.push(best[last].1);
    }
    borders.reverse();
    // Less than half a cell at an end is none.
    let short = |from: usize, to: usize| ((to - from) as f64) < 0.5 * step;
    if borders.len() > 2 && short(borders[0], borders[1]) {
        borders.remove(0);
    }
    if borders.len() > 2 && short(borders[borders.len() - 2], borders[borders.len() - 1]) {
        borders.pop();
    }
    let cells = borders.len() - 1;
    Some(Axis { step: profile.len as f64 / cells as f64, phase: 0.0, borders, drifts: true, in_parts: false })
}

/// The price of a cell that is half a step off, in what an average cell of a regular grid has.
const STIFFNESS: f64 = 1.0;
/// A drifting grid has at most this share of the regular one's spread.
const DRIFTS: f64 = 0.7;
