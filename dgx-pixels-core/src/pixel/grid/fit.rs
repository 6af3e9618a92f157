//! The fit of a grid of one step to an image, on one axis and on both, and the choice of the step.

use super::profile::Profile;
use super::{Axis, FEWEST_CELLS, Grid, SHORTEST_STEP, lattice};

/// A multiple of a step that reaches this share of its contrast explains the picture as well.
pub(super) const AS_GOOD: f64 = 0.8;
/// One that bends so many times as much needs only this share.
const MORE_BENDS: f64 = 1.2;
const EXPLAINS_BENT: f64 = 0.65;
/// A larger step that is no multiple needs this share.
const NEARLY: f64 = 0.95;
/// And this share of its standing; of what is to be expected of a multiple, which has fewer
/// witnesses.
pub(super) const STANDS: f64 = 0.85;
/// Contrast of a regular grid that needs no other.
const FITS: f64 = 0.85;
/// Parts of a picture whose edges have so much of one phase lie on a regular grid.
const ONE_PHASE: f64 = 0.96;
/// Contrast that chance gives, times the root of the number of witnesses.
const CHANCE: f64 = 0.6;

/// The measures of a step, on one axis or on both.
pub(super) trait Judged {
    /// Pixels of a cell.
    fn step(&self) -> f64;
    /// The contrast above what chance gives.
    fn gain(&self) -> f64;
    /// The measure that fits are chosen by.
    fn standing(&self) -> f64;
    /// Power of the bends.
    fn bends(&self) -> f64;
}

/// The largest step that explains about as much as the strongest; of those near it, the one that
/// explains most.
pub(super) fn coarsest<T: Judged>(fits: &[T]) -> Option<&T> {
    let strongest = fits.iter().max_by(|a, b| a.standing().total_cmp(&b.standing()))?;
    let largest = fits.iter().filter(|fit| {
        let times = fit.step() / strongest.step();
        let multiple = (1.5..8.5).contains(&times) && (times - times.round()).abs() < 0.01 * times;
        let (explains, expected) = match multiple {
            // The content's own multiples bend less than its grid.
            true if fit.bends() > MORE_BENDS * strongest.bends() => (EXPLAINS_BENT, 1.0 / times.sqrt()),
            true => (AS_GOOD, 1.0 / times.sqrt()),
            false => (NEARLY, 1.0),
        };
        fit.gain() >= explains * strongest.gain()
            && fit.standing() >= STANDS * expected * strongest.standing()
    });
    let largest = largest.map(T::step).fold(strongest.step(), f64::max);
    let near = fits.iter().filter(|fit| fit.step() > 0.9 * largest && fit.step() < 1.1 * largest);
    near.max_by(|a, b| a.gain().total_cmp(&b.gain()))
}

/// `true` if the picture bends at parts of the step and not at the step itself: the content repeats
/// there, on a grid that is finer.
pub(super) fn is_overtone<'a>(fits: impl Iterator<Item = (&'a Fit, &'a Profile)> + Clone) -> bool {
    let power =
        |times: f64| fits.clone().map(|(fit, profile)| profile.bend_power(times / fit.step)).sum::<f64>();
    let strongest = [2.0, 3.0, 4.0].map(power).into_iter().fold(0.0, f64::max);
    strongest > OVERTONE && power(1.0) < 0.1 * strongest
}

/// The share of the root of a bend's power that is added to the strength of a fit.
const BENDS: f64 = 0.2;

/// Power of bends, both axes together, that is no chance.
const OVERTONE: f64 = 16.0;

/// One axis's grid of one step, at its best phase.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fit {
    pub(super) step: f64,
    phase: f64,
    /// 1 less the spread within cells over that of the same grid at all phases.
    pub(super) contrast: f64,
    spread: f64,
    /// The number of things that the contrast was measured from: cells, or places where anything
    /// changes if those are fewer.
    witnesses: f64,
    /// Power of the bends at this step.
    bend_power: f64,
}

impl Fit {
    pub(super) fn new(profile: &Profile, step: f64, most_phases: usize) -> Option<Fit> {
        let cells = profile.len as f64 / step;
        if step < SHORTEST_STEP || cells < FEWEST_CELLS {
            return None;
        }
        let phases = (step.round() as usize).clamp(4, most_phases);
        let mut best = (0.0, f64::INFINITY);
        let mut sum = 0.0;
        for i in 0..phases {
            let phase = step * i as f64 / phases as f64;
            let spread = lattice::spread(profile, step, phase);
            sum += spread;
            if spread < best.1 {
                best = (phase, spread);
            }
        }
        let mean = sum / phases as f64;
        let contrast = if mean > 0.0 { 1.0 - best.1 / mean } else { 0.0 };
        Some(Fit {
            step,
            phase: best.0,
            contrast,
            spread: best.1,
            witnesses: cells.min(profile.places),
            bend_power: profile.bend_power(1.0 / step),
        })
    }

    /// At few phases; with whole cells if they are nearly.
    pub(super) fn rough(profile: &Profile, step: f64) -> Option<Fit> {
        let cells = profile.len as f64 / step;
        let whole = (cells - cells.round()).abs() < 0.3;
        let fit = Fit::new(profile, if whole { profile.len as f64 / cells.round() } else { step }, 6)?;
        Some(Fit { step, ..fit })
    }

    /// The best of steps that differ by less than half a cell over the whole axis, one with whole
    /// cells among them.
    pub(super) fn best(profile: &Profile, step: f64) -> Option<Fit> {
        let cells = profile.len as f64 / step;
        let steps =
            [cells, cells - 0.25, cells + 0.25, cells.round()].map(|cells| profile.len as f64 / cells);
        steps
            .into_iter()
            .filter_map(|step| Fit::new(profile, step, 24))
            .max_by(|a, b| a.contrast.total_cmp(&b.contrast))
    }

    /// At fewer phases: a step that is a multiple or a part of one that was fitted well.
    pub(super) fn derived(profile: &Profile, step: f64) -> Option<Fit> {
        Fit::new(profile, step, 12)
    }

    /// Chance gives few witnesses more contrast than many.
    pub(super) fn strength(&self) -> f64 {
        self.contrast * self.witnesses.sqrt()
    }

    /// The axis: drifting if the fit is likely and that fits clearly better; exactly divided if
    /// that is as good, as most pictures have whole cells.
    fn axis(self, profile: &Profile, is_likely: bool) -> Axis {
        if !is_likely {
            return self.regular(profile);
        }
        let fine = self.refined(profile);
        if fine.contrast < FITS
            && profile.lines.coherence_of(fine.step, profile.len) < ONE_PHASE
            && let Some(axis) = lattice::drifting(profile, fine.step, fine.spread)
        {
            return axis;
        }
        fine.regular(profile)
    }

    /// The best of many grids that differ from this one by less than a cell over the whole axis,
    /// and by less than a pixel in its middle: a cropped picture has no whole number of cells.
    fn refined(self, profile: &Profile) -> Fit {
        let len = profile.len as f64;
        let cells = len / self.step;
        let whole = self.step.round();
        let steps = (-7..=7).map(|change| len / (cells + 0.1 * f64::from(change))).chain([whole]);
        // The border nearest to the middle stays; the ends turn around it.
        let middle = self.phase + ((0.5 * len - self.phase) / self.step).round() * self.step;
        let mut tried = vec![(self.spread, self.step, middle)];
        let as_good = 1e-6 * profile.total();
        let mut least = self.spread;
        for step in steps.filter(|step| (len / step - cells).abs() < 0.75) {
            for shift in -3..=3 {
                let at = middle + 0.25 * f64::from(shift);
                let phase = at - (at / step).floor() * step;
                let spread = lattice::spread_up_to(profile, step, phase, least + as_good);
                least = least.min(spread);
                tried.push((spread, step, at));
            }
        }
        // Borders are rounded, so several are as good: the one in the middle of them, or cells of
        // whole pixels.
        tried.retain(|(spread, ..)| *spread <= least + as_good);
        if tried.iter().any(|(_, step, _)| *step == whole) {
            tried.retain(|(_, step, _)| *step == whole);
        }
        let mean =
            |value: fn(&(f64, f64, f64)) -> f64| tried.iter().map(value).sum::<f64>() / tried.len() as f64;
        let (step, at) = (mean(|tried| tried.1), mean(|tried| tried.2));
        let off = |tried: &&(f64, f64, f64)| (tried.1 - step).abs() * cells + (tried.2 - at).abs();
        let (spread, step, at) = *tried.iter().min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(&tried[0]);
        let best = Fit { step, phase: at - (at / step).floor() * step, spread, ..self };
        Fit { contrast: 1.0 - (1.0 - self.contrast) * best.spread / self.spread.max(1e-9), ..best }
    }

    pub(super) fn regular(self, profile: &Profile) -> Axis {
        let len = profile.len as f64;
        let whole = len / (len / self.step).round();
        let exact = lattice::spread(profile, whole, 0.0);
        if exact <= 1.05 * self.spread + 1e-6 * profile.total() {
            return Axis::regular(profile.len, whole, 0.0);
        }
        Axis::regular(profile.len, self.step, self.phase)
    }
}

impl Judged for Fit {
    fn step(&self) -> f64 {
        self.step
    }

    fn gain(&self) -> f64 {
        let chance = (CHANCE / self.witnesses.sqrt()).min(0.9);
        (self.contrast - chance) / (1.0 - chance)
    }

    // A few strong lines of the content can make as much contrast as a soft grid, but no bends.
    fn standing(&self) -> f64 {
        self.strength() + BENDS * self.bend_power.sqrt()
    }

    fn bends(&self) -> f64 {
        self.bend_power
    }
}

/// Both axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    pub(super) x: Fit,
    pub(super) y: Fit,
}

impl Pair {
    pub(super) fn new(
        profiles: &[Profile; 2],
        step: f64,
        fit: fn(&Profile, f64) -> Option<Fit>,
    ) -> Option<Pair> {
        Some(Pair { x: fit(&profiles[0], step)?, y: fit(&profiles[1], step)? })
    }

    pub(super) fn strength(&self) -> f64 {
        self.x.strength() + self.y.strength()
    }

    /// The same steps with the cells of `grid`.
    pub(super) fn of(&self, profiles: &[Profile; 2], grid: &Grid) -> Pair {
        let with = |fit: Fit, profile: &Profile, axis: &Axis| {
            let spread = (0..axis.cells()).map(|i| axis.span(i)).map(|(from, to)| profile.spread(from, to));
            let spread: f64 = spread.sum();
            let contrast = 1.0 - (1.0 - fit.contrast) * spread / fit.spread.max(1e-9);
            Fit { step: axis.step, contrast: contrast.clamp(0.0, 1.0), spread, ..fit }
        };
        Pair { x: with(self.x, &profiles[0], &grid.x), y: with(self.y, &profiles[1], &grid.y) }
    }

    /// Both axes' cells, of no confidence yet; measured closely if the pair is likely.
    pub(super) fn grid(&self, profiles: &[Profile; 2], is_likely: bool) -> Grid {
        let (x, y) = (self.x.axis(&profiles[0], is_likely), self.y.axis(&profiles[1], is_likely));
        Grid { x, y, contrast: 0.5 * (self.x.contrast + self.y.contrast), confidence: 0.0 }
    }

    /// `true` if the steps are those of JPEG's own blocks, and the picture does not bend in the
    /// middle of them, as what was enlarged smoothly does.
    pub(super) fn is_block(&self, profiles: &[Profile; 2]) -> bool {
        let is_block = |step: f64| [4.0, 8.0, 16.0].iter().any(|block| (step / block - 1.0).abs() < 0.02);
        let steps = [self.x.step, self.y.step];
        let bends_inside = profiles.iter().zip(steps).all(|(profile, step)| profile.bends_inside(step));
        steps.into_iter().all(is_block) && !bends_inside
    }

    /// Power of the bends at this step, but none at JPEG's own blocks: there it bends whatever the
    /// picture.
    pub(super) fn bends_beside_blocks(&self, profiles: &[Profile; 2]) -> f64 {
        if self.is_block(profiles) { 0.0 } else { self.x.bend_power + self.y.bend_power }
    }
}

impl Judged for Pair {
    fn step(&self) -> f64 {
        0.5 * (self.x.step + self.y.step)
    }

    fn gain(&self) -> f64 {
        0.5 * (self.x.gain() + self.y.gain())
    }

    fn standing(&self) -> f64 {
        self.x.standing() + self.y.standing()
    }

    fn bends(&self) -> f64 {
        self.x.bend_power + self.y.bend_power
    }
}
