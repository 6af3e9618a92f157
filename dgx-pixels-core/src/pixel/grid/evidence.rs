//! The evidence for a grid and against it, and the confidence that follows from it.

use super::Grid;
use super::edges::{Edges, comb, longest};
use super::fit::{Judged as _, Pair};

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
/// Above this, distances have a step in common.
const IN_COMMON: f64 = 0.5;
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

    /// `true` if distances have a step in common, whichever it is: this is pixel art.
    pub(super) fn has_steps(&self) -> bool {
        let [x, y] = self.axes.map(|axis| axis.1);
        self.both.1 > IN_COMMON || x.min(y) > IN_COMMON || x.max(y) > CLEAR
    }

    /// Steps worth a look.
    pub(super) fn steps(&self) -> impl Iterator<Item = f64> {
        [self.both.0, self.axes[0].0, self.axes[1].0].into_iter().filter(|step| *step > 1.75)
    }

    /// The steps of both axes, square or nearly.
    fn best(&self, lines: [&Edges; 2]) -> ([f64; 2], f64) {
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

/// The measures that the confidence is computed from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    values: [f64; Evidence::COUNT],
    is_strange: bool,
    is_noisy: bool,
    is_linear: bool,
}

impl Evidence {
    const COUNT: usize = 16;

    pub(super) fn of(grid: &Grid, pair: &Pair, lines: [&Edges; 2], combs: &Combs, usual: f64) -> Evidence {
        let steps = [grid.x.step, grid.y.step];
        let (explained, covered) = comb(lines, steps);
        let borders = [lines[0].on_borders(&grid.x), lines[1].on_borders(&grid.y)];
        let (on_borders, filled) = (borders[0].0.min(borders[1].0), borders[0].1.min(borders[1].1));
        let cells = [grid.x.cells(), grid.y.cells()];
        let columns_off = (0..2).filter_map(|axis| {
            let mean = lines[axis].mean_step(steps[axis])?;
            Some((mean / steps[axis] - 1.0).abs() * cells[axis] as f64)
        });
        let columns_off = columns_off.fold(0.0, f64::max);
        let bends = pair.bends_beside_blocks().sqrt().min(40.0);
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
        let lens = [&grid.x, &grid.y].map(|axis| axis.span(axis.cells() - 1).1);
        let coherence = (0..2).map(|axis| lines[axis].coherence(steps[axis], lens[axis])).fold(1.0, f64::min);
        let flag = |holds: bool| f64::from(u8::from(holds));
        let ratio = steps[0] / steps[1];
        let few = grid.x.cells().min(grid.y.cells()) < FEW_CELLS;
        let single = combs.single(lines, steps);
        let edges = (lines[0].count() + lines[1].count()) as f64;
        let drifts = grid.x.drifts() || grid.y.drifts();
        let is_strange = coherence < COHERENT
            || off > OFF
            || single < FEWEST_SINGLE
            || few
            || !(1.0 / WIDEST..WIDEST).contains(&ratio) && explained < CLEAR
            || drifts && explained > DRIFTS_LITTLE
            || filled < FILLED
            || explained > DRIFTS_LITTLE && columns_off > COLUMNS_OFF
            || combs.disagrees_with_axis(steps);
        let is_noisy = explained < NOISY;
        let is_square = (0.97..1.03).contains(&ratio);
        let is_linear = bends >= LINEAR_BENDS
            && grid.contrast >= LINEAR_CONTRAST
            && explained < POOR
            && is_square
            && !few;
        let values = [
            pair.strength().max(1e-2).ln(),
            usual.max(1e-2).ln(),
            bends,
            flag(!is_square),
            flag(few),
            grid.contrast,
            on_borders,
            better,
            single,
            covered,
            off,
            (edges / (lines[0].pixels() + lines[1].pixels()).max(1.0)).min(1.0),
            coherence,
            (-explained).max(0.0),
            filled,
            explained.max(0.0),
        ];
        Evidence { values, is_strange, is_noisy, is_linear }
    }

    /// The confidence that the grid has the right columns and rows. What is strange to the pictures
    /// that it was fitted on is never sure.
    pub(super) fn confidence(&self) -> f64 {
        let evidence: f64 = WEIGHTS.iter().zip(&self.values).map(|((_, weight), value)| weight * value).sum();
        let confidence = 1.0 / (1.0 + (-(evidence + BIAS)).exp());
        if self.is_linear {
            return confidence.max(LINEAR_SURE);
        }
        match (self.is_strange, self.is_noisy) {
            (true, _) => confidence.min(STRANGE),
            (false, true) => confidence.min(NEARLY_SURE),
            (false, false) => confidence,
        }
    }
}

/// A logistic regression over damaged pictures of pixel art and pictures without a grid:
/// benches/pixel_bench/fit.py.
const WEIGHTS: [(&str, f64); Evidence::COUNT] = [
    ("contrast above chance", 1.196),
    ("what any step has of it in this picture", -1.123),
    ("bends", 0.079),
    ("not square", -1.741),
    ("few cells", -1.247),
    ("contrast", 1.407),
    ("edges on borders", 1.508),
    ("a step that explains distances better", -1.100),
    ("distances of one cell", 0.925),
    ("distances that are looked at", 4.991),
    ("steps of the axes off by", -0.890),
    ("edges a pixel", -17.417),
    ("parts have one phase", 3.514),
    ("distances that speak against it", 0.005),
    ("borders that have edges", 1.773),
    ("distances that the step explains", 0.193),
];
const BIAS: f64 = -10.121;

/// Below this, parts of the picture have phases of their own: a sheet, or a picture that is turned
/// or drifts.
const COHERENT: f64 = 0.84;
/// Above this, distances along an axis are multiples of quite another step.
const OFF: f64 = 0.3;
/// So few cells are no sprite, but a gradient's bands.
const FEW_CELLS: usize = 14;
/// Cells are hardly wider than this factor of their height.
const WIDEST: f64 = 1.28;
/// A picture whose borders drift does not have distances that are such good multiples of a step; a
/// sheet has.
const DRIFTS_LITTLE: f64 = 0.84;
/// Share of distances that are one cell: art has cells that stand alone. Two pictures of 6 and of 9
/// pixels a cell lie on a grid of 3 pixels, and have none.
const FEWEST_SINGLE: f64 = 0.04;
/// Share of borders, between the first and the last that have edges, that have some. Bars of a
/// chart leave many out.
const FILLED: f64 = 0.72;
/// Columns or rows that the grid would have more or fewer with the mean distance between edges as
/// its step.
const COLUMNS_OFF: f64 = 0.5;
/// Below this, distances between edges speak against the step: the picture is full of noise, or of
/// something else.
const NOISY: f64 = -0.2;
const NEARLY_SURE: f64 = 0.75;
/// A picture that was enlarged linearly changes all along its cells, so it has no edges to measure
/// between. Of those that bend so much at the step, in cells so flat, while edges say nothing, none
/// was wrong.
const LINEAR_BENDS: f64 = 9.0;
const LINEAR_CONTRAST: f64 = 0.2;
const LINEAR_SURE: f64 = 0.9;
/// Of strange pictures, about this share is right.
const STRANGE: f64 = 0.55;

#[cfg(test)]
mod tests {
    use crate::pixel::grid;

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
            for (grid, evidence) in grid::search(&image).into_iter().take(1) {
                let Some(evidence) = evidence else { continue };
                let (cells, step) = ([grid.x.cells(), grid.y.cells()], [grid.x.step, grid.y.step]);
                println!(
                    "{}",
                    serde_json::json!({
                        "file": name, "cells": cells, "step": step,
                        "values": evidence.values, "strange": evidence.is_strange, "noisy": evidence.is_noisy,
                    })
                );
            }
        }
    }
}
