//! The evidence for a grid and against it, and the confidence that follows from it.
//!
//! A grid is measured alone first: how flat its cells are, which distances between edges it
//! explains, where edges lie in its cells, and what a finer or a coarser grid would gain. Then it
//! is compared with the other candidates of its picture. Trees that are fitted on many kinds of
//! pictures weigh all of it. A few rules keep them from being sure of what is known to mislead:
//! blocks of lossy files, few cells, and pictures that are turned.

use super::edges::{Edges, OnBorders, comb, longest};
use super::fit::{Judged as _, Pair};
use super::folds::Folds;
use super::forest::{ALL, ANY, FIRST, NONE};
use super::profile::Profile;
use super::{Axis, Grid};

/// The steps that the distances between edges have in common.
pub(super) struct Combs {
    /// The longest step that explains them, and how well: of both axes together, and of each.
    both: (f64, f64),
    axes: [(f64, f64); 2],
}

/// From here on distances are multiples of a step beyond doubt.
const CLEAR: f64 = 0.8;
const BEYOND_DOUBT: f64 = 0.97;
/// A longer step that explains this share as much is right: what a finer one adds it would need no
/// less.
const AS_MUCH: f64 = 0.85;
/// Below this a step does not explain distances.
const POOR: f64 = 0.4;
/// A multiple of the step explains no more than this of what has cells that stand alone.
const MULTIPLE: f64 = 0.75;
/// From this root of the power of bends on a picture was enlarged linearly.
const LINEAR: f64 = 8.0;
/// Edges that fringe or ring are doubled at a distance of some two pixels.
const FRINGE: f64 = 3.0;
/// Steps of the axes that differ by more than this factor are not those of cells, but of content.
const OFF_SQUARE: f64 = 1.4;
/// Up to this factor they may be, if both explain distances beyond doubt.
const MOST_OFF_SQUARE: f64 = 1.7;

impl Combs {
    pub(super) fn new(lines: [&Edges; 2], most: f64) -> Combs {
        let of = |lines| longest(lines, most).unwrap_or((0.0, 0.0));
        Combs { both: of(lines), axes: lines.map(|axis| of([axis, axis])) }
    }

    /// Steps worth a look.
    pub(super) fn steps(&self) -> impl Iterator<Item = f64> {
        [self.both.0, self.axes[0].0, self.axes[1].0].into_iter().filter(|step| *step > 1.75)
    }

    /// The steps of both axes, square or nearly.
    pub(super) fn best(&self, lines: [&Edges; 2]) -> ([f64; 2], f64) {
        let [x, y] = self.axes;
        let apart = [x.0, y.0];
        let ratio = if y.0 > 0.0 { x.0 / y.0 } else { 0.0 };
        if (1.0 / OFF_SQUARE..OFF_SQUARE).contains(&ratio) && !(0.97..1.03).contains(&ratio) {
            let value = comb(lines, apart).0;
            if value > 1.1 * self.both.1 {
                return (apart, value);
            }
        }
        ([self.both.0; 2], self.both.1)
    }

    /// `true` if a much longer step explains distances as well as these.
    pub(super) fn explains_more(&self, lines: [&Edges; 2], steps: [f64; 2]) -> bool {
        let (best, value) = self.best(lines);
        let longer = best[0] > OFF_SQUARE * steps[0] && best[1] > OFF_SQUARE * steps[1];
        longer && value >= CLEAR && value >= AS_MUCH * comb(lines, steps).0
    }

    /// The share of distances that are one step, of both axes.
    pub(super) fn single(&self, lines: [&Edges; 2], steps: [f64; 2]) -> f64 {
        0.5 * (lines[0].single(steps[0]) + lines[1].single(steps[1]))
    }

    /// The longer step, where along one axis all distances are multiples of one that is three or
    /// more times the other's: the rows of scan lines are parts of cells. Twice the other's is
    /// double-wide art, whose cells are the other's.
    pub(super) fn without_scan_lines(&self, steps: [f64; 2]) -> Option<f64> {
        let axis = usize::from(steps[1] * self.axes[0].0 < steps[0] * self.axes[1].0);
        let (longer, value) = self.axes[axis];
        let times = longer / steps[1 - axis];
        let is_whole = times > 2.5 && (times - times.round()).abs() < 0.03 * times;
        (self.disagrees_with_axis(steps) && value > BEYOND_DOUBT && is_whole).then(|| longer.max(2.0))
    }

    /// `true` if along one axis all distances are multiples of a step that is much longer than
    /// along the other: one of them is not the cells', but of scan lines or of text.
    pub(super) fn disagrees_with_axis(&self, steps: [f64; 2]) -> bool {
        let longer =
            [0, 1].map(|axis| if self.axes[axis].1 > 0.95 { self.axes[axis].0 / steps[axis] } else { 1.0 });
        (longer[0] / longer[1]).max(longer[1] / longer[0]) > 1.5
    }

    /// Better steps than `steps`, if there are any.
    pub(super) fn instead_of(&self, lines: [&Edges; 2], steps: [f64; 2]) -> Option<[f64; 2]> {
        if self.explains_more(lines, steps) {
            return Some(self.best(lines).0);
        }
        if let Some(step) = self.without_scan_lines(steps) {
            return Some([step; 2]);
        }
        let value = comb(lines, steps).0;
        let (best, best_value) = self.best(lines);
        let times = 0.5 * (steps[0] / best[0] + steps[1] / best[1]);
        let is_other = times < 1.9 && !(0.98..1.02).contains(&times);
        let is_better =
            best_value >= CLEAR && value < POOR || best_value >= BEYOND_DOUBT && value < 0.9 * best_value;
        if is_other && best[0] >= FRINGE && is_better {
            return Some(best);
        }
        let (fine, coarse) = (steps[0].min(steps[1]), steps[0].max(steps[1]));
        let is_meant = coarse < MOST_OFF_SQUARE * fine
            && (0..2).all(|axis| f64::from(lines[axis].comb(steps[axis]).0) >= CLEAR);
        if coarse < OFF_SQUARE * fine || is_meant {
            return None;
        }
        let [fine_value, coarse_value] = [fine, coarse].map(|step| comb(lines, [step; 2]).0);
        let step = if coarse_value > 0.0 && coarse_value >= AS_MUCH * fine_value { coarse } else { fine };
        Some([step; 2])
    }
}

/// The measures of one grid, for and against it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    pub(super) values: [f64; Evidence::COUNT],
    /// The steps are those of a lossy file's own blocks.
    is_block: bool,
    /// Every pixel lies on the grid, of a picture with changes enough.
    pub(super) is_enlarged: bool,
}

/// The picture that a grid is judged in.
#[derive(Clone, Copy)]
pub(super) struct Circumstances<'a> {
    /// The steps that distances between edges have in common.
    pub(super) combs: &'a Combs,
    /// The strength that any step has in this picture.
    pub(super) usual: f64,
    /// The most by which a part of a sheet lies off the grid, in cells.
    pub(super) apart: f64,
    /// Every pixel lies on the grid.
    pub(super) is_exact: bool,
}

/// The values that are compared between the candidates of one picture.
const COMPARED: [usize; 5] = [0, 1, 2, 3, 4];
impl Evidence {
    /// The number of measures of one grid alone.
    pub(super) const ALONE: usize = 53;
    /// The number of measures, those that compare it with others last.
    pub(super) const COUNT: usize = Self::ALONE + 2 * COMPARED.len();

    pub(super) fn of(
        profiles: &[Profile; 2],
        grid: &Grid,
        pair: &Pair,
        circumstances: Circumstances,
    ) -> Evidence {
        let Circumstances { combs, usual, apart, is_exact } = circumstances;
        let lines = [&profiles[0].lines, &profiles[1].lines];
        let axes = [&grid.x, &grid.y];
        let steps = axes.map(|axis| axis.step);
        let (explained, covered) = comb(lines, steps);
        let borders = [0, 1].map(|axis| lines[axis].on_borders(axes[axis]));
        let folds = [0, 1].map(|axis| Folds::of(&profiles[axis], axes[axis]));
        let cells = axes.map(Axis::cells);
        let columns_off = (0..2).filter_map(|axis| {
            let mean = lines[axis].mean_step(steps[axis])?;
            Some((mean / steps[axis] - 1.0).abs() * cells[axis] as f64)
        });
        let columns_off = columns_off.fold(0.0, f64::max);
        let bends = pair.bends_beside_blocks(profiles).sqrt().min(40.0);
        let (mut off, mut better) = (0.0f64, 0.0f64);
        for axis in 0..2 {
            let (best, value) = combs.axes[axis];
            let times = best / steps[axis];
            // What is enlarged linearly changes along the whole of a cell, so that edges lie in the
            // middle of it too.
            let is_half = (2.0 * times - 1.0).abs() < 0.03 && pair.bends().sqrt() >= LINEAR;
            // Where many distances are twice the step and some are not, the step is right: lines of
            // isometric art.
            let is_multiple = times > 1.9 && (times - times.round()).abs() < 0.03 * times && value < MULTIPLE;
            if value > 0.0 && !is_half && !is_multiple && (times - 1.0).abs() > 0.03 {
                off = off.max(times.ln().abs().min(1.0) * value);
                better = better.max(value - f64::from(lines[axis].comb(steps[axis]).0));
            }
        }
        let coherence = (0..2).map(|axis| lines[axis].coherence(axes[axis])).fold(1.0, f64::min);
        let flag = |holds: bool| f64::from(u8::from(holds));
        let edges = (lines[0].count() + lines[1].count()) as f64;
        let least = |value: fn(&OnBorders) -> f64| borders.iter().map(value).fold(1.0, f64::min);
        let smaller = |value: fn(&Folds) -> f64| folds.iter().map(value).fold(f64::INFINITY, f64::min);
        let larger = |value: fn(&Folds) -> f64| folds.iter().map(value).fold(f64::NEG_INFINITY, f64::max);
        let off_block = |step: f64| {
            let times = step / 8.0;
            (times - times.round().max(1.0)).abs().min((1.0 / times - (1.0 / times).round().max(1.0)).abs())
        };
        let off_whole = |step: f64| (step - step.round()).abs();
        let slower = |times: f64| [0, 1].map(|axis| profiles[axis].slower(steps[axis], times));
        let (twice, thrice, half) = (slower(2.0), slower(3.0), slower(0.5));
        let alone: [f64; Self::ALONE] = [
            pair.strength(),
            explained,
            pair.gain(),
            bends,
            pair.standing(),
            usual,
            (steps[0] / steps[1]).ln().abs(),
            (cells[0].min(cells[1]) as f64).ln(),
            (steps[0] * steps[1]).ln(),
            pair.x.contrast.min(pair.y.contrast),
            pair.x.contrast.max(pair.y.contrast),
            least(|axis| axis.near),
            least(|axis| axis.halves),
            least(|axis| axis.thirds),
            least(|axis| axis.filled),
            better,
            combs.single(lines, steps),
            covered,
            off,
            edges / (lines[0].pixels() + lines[1].pixels()).max(1.0),
            coherence,
            columns_off.min(9.0),
            flag(combs.disagrees_with_axis(steps)),
            larger(|axis| axis.every_second),
            smaller(|axis| axis.every_second),
            larger(|axis| axis.every_third),
            smaller(|axis| axis.every_third),
            larger(|axis| axis.halves),
            smaller(|axis| axis.halves),
            larger(|axis| axis.thirds),
            smaller(|axis| axis.thirds),
            larger(|axis| axis.residual),
            smaller(|axis| axis.finer),
            smaller(|axis| axis.finest),
            smaller(|axis| axis.coarser),
            steps.map(off_block).into_iter().fold(0.0, f64::max),
            steps.map(off_whole).into_iter().fold(0.0, f64::max),
            flag(grid.x.drifts() || grid.y.drifts()),
            profiles[0].weakest.max(profiles[1].weakest).ln(),
            apart,
            flag(grid.x.is_in_parts()),
            flag(is_exact),
            combs.both.1,
            combs.axes[0].1.min(combs.axes[1].1),
            combs.axes[0].1.max(combs.axes[1].1),
            twice[0].min(twice[1]),
            twice[0].max(twice[1]),
            thrice[0].min(thrice[1]),
            thrice[0].max(thrice[1]),
            half[0].min(half[1]),
            half[0].max(half[1]),
            (1.0 + edges).ln(),
            lines[0].busy().min(lines[1].busy()),
        ];
        let mut values = [0.0; Evidence::COUNT];
        values[..Self::ALONE].copy_from_slice(&alone);
        Evidence {
            values,
            is_block: pair.is_block(profiles),
            is_enlarged: is_exact && grid.confidence == 1.0,
        }
    }

    /// Adds how each compares with the best of the others: of all, and of those with longer steps.
    pub(super) fn compare(all: &mut [&mut Evidence]) {
        let rows: Vec<_> = all.iter().map(|one| one.values).collect();
        for (i, one) in all.iter_mut().enumerate() {
            for (k, at) in COMPARED.into_iter().enumerate() {
                let others = rows.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, row)| row);
                let longer = others.clone().filter(|row| row[8] > rows[i][8] + 0.1);
                let best = others.map(|row| row[at]).fold(0.0, f64::max);
                let best_longer = longer.map(|row| row[at]).fold(0.0, f64::max);
                one.values[Self::ALONE + 2 * k] = rows[i][at] - best;
                one.values[Self::ALONE + 2 * k + 1] = rows[i][at] - best_longer;
            }
        }
    }

    /// The confidence that the grid has the right columns and rows, before others were looked at.
    pub(super) fn first_confidence(&self) -> f64 {
        FIRST.confidence(&self.values).min(self.most())
    }

    /// The confidence that the picture has any grid, before others were looked at.
    pub(super) fn first_any_confidence(&self) -> f64 {
        NONE.confidence(&self.values)
    }

    /// The confidence that the grid has the right columns and rows.
    pub(super) fn confidence(&self) -> f64 {
        ALL.confidence(&self.values).min(self.most())
    }

    /// The most that the confidence may be, whatever the trees say: less than sure for what looks
    /// like a grid and is known to be something else.
    fn most(&self) -> f64 {
        let [explained, bends, contrast] = [1, 3, 9].map(|i| self.values[i]);
        let [cells, near, coherence, columns_off] = [7, 11, 20, 21].map(|i| self.values[i]);
        let is_block = self.is_block && contrast < FAINT;
        let is_few = cells < FEW_CELLS && near < ON_BORDERS;
        let is_bent =
            explained < NOISY && columns_off > COLUMNS_OFF && coherence < COHERENT && bends < LINEAR_BENDS;
        if is_block || is_few || is_bent { DOUBTFUL } else { 1.0 }
    }

    /// The confidence that the picture has some grid, this one or another, if this is the likeliest
    /// one and `second` the confidence of the next.
    pub(super) fn any_confidence(&self, second: f64) -> f64 {
        let mut values = self.values.to_vec();
        values.extend([self.confidence(), second]);
        ANY.confidence(&values)
    }
}

/// The most that a doubtful grid may have.
const DOUBTFUL: f64 = 0.75;
/// Blocks of a lossy file have less contrast than this.
const FAINT: f64 = 0.15;
/// The logarithm of so few cells that chance may have made them: edges have to lie on all borders.
const FEW_CELLS: f64 = 2.5;
const ON_BORDERS: f64 = 0.9;
/// Below this, distances between edges speak against the step: of a picture that is turned or bent,
/// whose columns are off by this much, whose parts are less coherent, and that has fewer bends than
/// linear enlarging makes.
const NOISY: f64 = -0.2;
const COLUMNS_OFF: f64 = 0.5;
const COHERENT: f64 = 0.965;
const LINEAR_BENDS: f64 = 9.0;

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use crate::pixel::grid;

    /// Art of 36x26 cells of `step` pixels, each drawn by `shows` from -0.5 to 0.5 around its
    /// middle, on black.
    fn shaped(step: u32, shows: impl Fn(f32, f32) -> bool) -> RgbaImage {
        let hash = |x: u32, y: u32| ((x * 73_856_093) ^ (y * 19_349_663)).wrapping_mul(2_654_435_761);
        let at = |pixel: u32| (pixel % step) as f32 / step as f32 + 0.5 / step as f32 - 0.5;
        RgbaImage::from_fn(36 * step, 26 * step, |x, y| {
            let [r, g, b, _] = (hash(x / step, y / step) | 0x4040_4000).to_be_bytes();
            if shows(at(x), at(y)) { Rgba([r, g, b, 255]) } else { Rgba([0, 0, 0, 255]) }
        })
    }

    #[test]
    fn cells_of_a_shape_are_not_taken_for_parts_of_them() {
        let shapes: [fn(f32, f32) -> bool; 5] = [
            |x, y| x.hypot(y) < 0.47,
            |x, y| x.hypot(y) < 0.36,
            |x, y| (0.15..0.48).contains(&x.hypot(y)),
            |x, y| x.abs().max(y.abs()) < 0.38,
            |x, y| x.abs() + y.abs() < 0.52,
        ];
        let mut right = 0;
        for step in [7, 9, 12] {
            for (i, shape) in shapes.iter().enumerate() {
                let picture = shaped(step, shape);
                let found = grid::find(&picture).swap_remove(0);
                let is_right = (found.x.cells(), found.y.cells()) == (36, 26);
                assert!(is_right || found.confidence < grid::SURE, "{step} {i}: {found:?}");
                right += usize::from(is_right);
            }
        }
        assert!(right >= 8, "{right} of 15");
    }

    /// `benches/pixel_bench/fit.py` runs it, and fits the weights to what it prints.
    #[test]
    #[ignore = "prints the evidence of the pictures of a folder, for the fit of the weights"]
    fn evidence_of_a_folder() {
        let folder = std::env::var("DGX_PIXELS_TEST_PICTURES").expect("a folder of PNG files");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|end| end == "png")) {
            let image = image::open(file).unwrap().into_rgba8();
            let name = file.file_name().unwrap().to_string_lossy();
            let started = std::time::Instant::now();
            let grids = grid::search(&image, true).grids;
            let ms = started.elapsed().as_secs_f64() * 1e3;
            for (grid, evidence) in grids {
                let Some(evidence) = evidence else { continue };
                let (cells, step) = ([grid.x.cells(), grid.y.cells()], [grid.x.step, grid.y.step]);
                println!(
                    "{}",
                    serde_json::json!({
                        "file": name, "cells": cells, "step": step, "values": evidence.values.to_vec(),
                        "ms": ms, "parts": [grid.x.is_in_parts(), grid.y.is_in_parts()],
                    })
                );
            }
        }
    }
}
