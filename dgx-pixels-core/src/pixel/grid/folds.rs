//! Changes of a picture inside the cells of a grid, and at which of their borders.
//!
//! A grid that is two or three times too fine has borders that change at every second or third
//! place alone. One that is too coarse has cells whose halves or thirds differ as neighbors do.
//!
//! Each measure compares the grid with one that is finer or coarser by a whole factor and has the
//! same borders, so the step need not be searched again. All of them use the sums of the lines that
//! the profile keeps, and cost little more than one look at the spread within cells.

use super::Axis;
use super::profile::Profile;

/// Spread below this share of the whole is none.
const NOTHING: f64 = 1e-4;

/// The measures of one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Folds {
    /// The degree to which every second border alone has changes, 0 to 1.
    pub(super) every_second: f64,
    /// The degree to which every third border alone has changes, 0 to 1.
    pub(super) every_third: f64,
    /// The difference of the halves of a cell over that of neighbors.
    pub(super) halves: f64,
    /// The difference of the thirds of a cell over that of neighbors.
    pub(super) thirds: f64,
    /// The share of the picture's spread that is within cells.
    pub(super) residual: f64,
    /// The logarithm of the spread within halves of cells over that within cells.
    pub(super) finer: f64,
    /// The same for thirds of cells.
    pub(super) finest: f64,
    /// The same for pairs of cells.
    pub(super) coarser: f64,
}

impl Folds {
    /// Measures the cells of `axis`.
    pub(super) fn of(profile: &Profile, axis: &Axis) -> Folds {
        let cells: Vec<_> = (0..axis.cells()).map(|i| axis.span(i)).collect();
        let changes: Vec<f64> = cells.windows(2).map(|pair| profile.distance(pair[0], pair[1])).collect();
        let mean = changes.iter().sum::<f64>() / changes.len().max(1) as f64;
        let concentration = |every: usize| {
            let of = |first: usize| {
                let such = changes.iter().skip(first).step_by(every);
                such.clone().sum::<f64>() / such.count().max(1) as f64
            };
            let most = (0..every).map(of).fold(0.0, f64::max);
            if mean > 0.0 { (most / mean - 1.0) / (every - 1) as f64 } else { 0.0 }
        };
        let total = profile.total().max(1e-9);
        let (mut halves, mut thirds) = (0.0, 0.0);
        let (mut spread, mut of_halves, mut of_thirds) = (0.0, 0.0, 0.0);
        for &(from, to) in &cells {
            let at = |part: usize, of: usize| from + (part * (to - from) + of / 2) / of;
            let middle = at(1, 2);
            let (first, last) = (at(1, 3), at(2, 3));
            halves += profile.distance((from, middle), (middle, to));
            thirds += 0.5 * profile.distance((from, first), (first, last));
            thirds += 0.5 * profile.distance((first, last), (last, to));
            spread += profile.spread(from, to);
            of_halves += profile.spread(from, middle) + profile.spread(middle, to);
            of_thirds += profile.spread(from, first) + profile.spread(first, last) + profile.spread(last, to);
        }
        let in_pairs = |first: usize| {
            let pairs = cells.get(first..).unwrap_or_default().chunks_exact(2);
            let (sum, count) = pairs
                .fold((0.0, 0), |(sum, count), pair| (sum + profile.spread(pair[0].0, pair[1].1), count + 2));
            if count > 0 { sum / count as f64 * cells.len() as f64 } else { spread }
        };
        let pairs = in_pairs(0).min(in_pairs(1));
        let over = |part: f64| ((part / total + NOTHING) / (spread / total + NOTHING)).ln();
        let neighbors = (mean * cells.len() as f64).max(1e-9);
        Folds {
            every_second: concentration(2),
            every_third: concentration(3),
            halves: (halves / neighbors).min(4.0),
            thirds: (thirds / neighbors).min(4.0),
            residual: spread / total,
            finer: over(of_halves),
            finest: over(of_thirds),
            coarser: over(pairs),
        }
    }
}
