//! Finding the grid: how large the cells of a picture of pixel art are, and where they begin.
//!
//! Two signals of each axis, how much changes at a position and how much the change changes there
//! (Gallagher 2005: what was enlarged smoothly bends at its old samples), give candidate steps from
//! their spectra. Each is judged by what a grid is for: cells are flatter when the grid lies right
//! than when it is shifted. Both axes are judged together, as most pixels are square; among steps
//! that explain the picture as well, the largest is right, as a finer one explains everything that
//! a coarser one does.

mod edges;
mod enlarged;
mod evidence;
mod fit;
mod folds;
mod forest;
mod lattice;
mod parts;
mod profile;
mod spectrum;

use image::RgbaImage;

pub(crate) use enlarged::coarser;
use enlarged::{enlarged, filled};
use evidence::{Circumstances, Combs, Evidence};
use fit::{AS_GOOD, Fit, Judged as _, Pair, STANDS, coarsest, is_overtone};
pub use lattice::Axis;
use parts::Parts;
use profile::Profile;
use spectrum::Spectrum;

/// A grid that was found.
///
/// Its cells cover the image: the product of `x.cells()` and `y.cells()` is the number of pixels of
/// the sprite that [`sample`](super::sample) makes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Columns.
    pub x: Axis,
    /// Rows.
    pub y: Axis,
    /// The degree to which the cells are flatter than those of shifted grids, 0 to 1, the mean of
    /// both axes.
    pub contrast: f64,
    /// The confidence that this is the grid, 0 to 1; 1 for one that was given.
    pub confidence: f64,
}

impl Grid {
    /// The grid whose cells are those that `coarser` makes of this one's.
    pub(super) fn of(&self, coarser: &Grid) -> Grid {
        Grid { x: self.x.of(&coarser.x), y: self.y.of(&coarser.y), ..self.clone() }
    }

    /// `true` if every cell has one color: the image is pixel art already, enlarged or as it is.
    pub(crate) fn is_exact(&self, image: &RgbaImage) -> bool {
        (0..self.y.cells()).all(|row| {
            let (top, bottom) = self.y.span(row);
            (0..self.x.cells()).all(|column| {
                let (left, right) = self.x.span(column);
                let first = image.get_pixel(left as u32, top as u32);
                let rows = top as u32..bottom as u32;
                rows.into_iter().all(|y| (left as u32..right as u32).all(|x| image.get_pixel(x, y) == first))
            })
        })
    }
}

/// Peaks of each spectrum that are looked at.
const PEAKS: usize = 8;
/// A spectrum's highest peak may be a harmonic of the grid's frequency, up to this one.
const HARMONICS: u32 = 5;
/// Steps that are looked at closely, by each of four measures.
const FINALISTS: usize = 8;
/// Shorter steps are not fitted.
const SHORTEST_STEP: f64 = 1.75;
/// Fewer cells than this along an axis are no grid.
const FEWEST_CELLS: f64 = 8.0;
/// From this confidence on no other grid is looked for.
pub(super) const SURE: f64 = 0.8;
/// From this contrast on a grid may be right though the image looks as if it were at its own size.
const DOUBTFUL: f64 = 0.15;
/// Tiles of native art are so large, or a part of it. What repeats at a part of them is the
/// content.
const TILES: f64 = 96.0;
/// Sides of tiles, in pixels.
const TILE_SIDES: [f64; 5] = [8.0, 12.0, 16.0, 24.0, 32.0];
/// Grids that are named where none is sure.
const CANDIDATES: usize = 3;
/// Axes may differ where each alone is this much better.
const NOT_SQUARE: f64 = 1.35;

/// The most likely grids of `image`, however unlikely, best first: one where that is sure, else up
/// to three; none if the picture is too small to have one.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::grid;
/// use image::RgbaImage;
/// assert!(grid::find(&RgbaImage::new(4, 4)).is_empty());
/// ```
pub fn find(image: &RgbaImage) -> Vec<Grid> {
    look(image).grids
}

/// The likeliest grids, and the confidence that the picture has any.
pub(super) struct Found {
    pub(super) grids: Vec<Grid>,
    /// The confidence that the picture has a grid, one of these or another.
    pub(super) any: f64,
}

/// Looks for the grids of `image` as [`find`] does.
///
/// A picture may surely have a grid while none of the candidates is sure, for example a sheet of
/// two pitches. Then it must not be said that it has none, so that question is answered apart.
pub(super) fn look(image: &RgbaImage) -> Found {
    let Searched { grids: mut found, any } = search(image, false);
    // Every change lies on cells of 2 pixels or more: no chance, whatever the right multiple.
    let is_enlarged =
        found.iter().any(|(_, evidence)| evidence.as_ref().is_some_and(|evidence| evidence.is_enlarged));
    let second = found.get(1).map_or(0.0, |(grid, _)| grid.confidence);
    let any = match found.first() {
        Some((grid, None)) => grid.confidence,
        _ if is_enlarged => 1.0,
        _ if let Some(any) = any => any,
        Some((grid, Some(evidence))) if grid.confidence < SURE_AT_ONCE => evidence.any_confidence(second),
        Some((grid, Some(_))) => grid.confidence,
        None => 0.0,
    };
    // No grid is likelier than any.
    for (grid, _) in &mut found {
        grid.confidence = grid.confidence.min(any);
    }
    Found { grids: found.into_iter().map(|(grid, _)| grid).collect(), any }
}

/// The outcome of a search.
struct Searched {
    /// Best first, each with its evidence unless every pixel lies on it.
    grids: Vec<(Grid, Option<Evidence>)>,
    /// The confidence that the picture has any grid, if the first one told enough of that.
    any: Option<f64>,
}

impl Searched {
    /// A search that ended with one grid.
    fn with(grid: Grid, evidence: Option<Evidence>) -> Searched {
        Searched { grids: vec![(grid, evidence)], any: None }
    }

    /// A search that found nothing.
    fn nothing() -> Searched {
        Searched { grids: vec![], any: None }
    }
}

/// Searches for the grids that the picture may have.
///
/// The likeliest is measured first. If it is sure, or surely there is none, the search ends; else
/// multiples and parts of the strongest steps, the steps of distances between edges, and grids with
/// a phase for each part of a sheet are measured too. A search that is `thorough` measures them
/// always.
fn search(image: &RgbaImage, thorough: bool) -> Searched {
    let exact = enlarged(image);
    let profiles = Profile::both(image);
    let lines = [&profiles[0].lines, &profiles[1].lines];
    let shortest = profiles[0].len.min(profiles[1].len) as f64;
    let comb = Combs::new(lines, (shortest / FEWEST_CELLS).min(LONGEST_STEP));
    let steps_of = |grid: &Grid| [grid.x.step, grid.y.step];
    if let Some(grid) = exact.as_ref().filter(|grid| grid.confidence == 1.0) {
        let steps = steps_of(grid);
        let is_explained = !comb.explains_more(lines, steps) && comb.without_scan_lines(steps).is_none();
        let is_art = comb.single(lines, steps) >= FEWEST_EXACT && !comb.disagrees_with_axis(steps);
        if is_explained && is_art && filled(image, grid) >= FEWEST_FILLED {
            return Searched::with(grid.clone(), None);
        }
    }
    let mut steps = vec![];
    for profile in &profiles {
        steps.extend(candidate_steps(profile));
    }
    steps.extend(comb.steps());
    // 1. a first look at all of them
    let rough = steps.iter().filter_map(|step| Pair::new(&profiles, *step, Fit::rough));
    let mut rough: Vec<_> = rough.collect();
    let mut finalists: Vec<f64> = vec![];
    for strength in [
        Pair::strength,
        |pair: &Pair| 2.0 * pair.x.strength(),
        |pair: &Pair| 2.0 * pair.y.strength(),
        Pair::gain,
    ] {
        rough.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
        finalists.extend(rough.iter().take(FINALISTS).map(|pair| pair.x.step));
    }
    // Sorted by gain now. The largest of those that gain much: a coarse step is not to be lost
    // among its parts.
    let enough = rough.first().map_or(0.0, |pair| 0.6 * pair.gain());
    let mut coarse: Vec<_> =
        rough.iter().filter(|pair| pair.gain() >= enough).map(|pair| pair.x.step).collect();
    coarse.sort_by(|a, b| b.total_cmp(a));
    finalists.extend(coarse.iter().take(FINALISTS));
    finalists.sort_by(f64::total_cmp);
    // Closer ones have the same best grid.
    let longest = profiles[0].len.max(profiles[1].len) as f64;
    finalists.dedup_by(|larger, step| (*larger - *step) * longest < 0.15 * *step * *step);
    // What any step seems to explain, in this picture: half the candidates have nothing to do with
    // its grid.
    rough.sort_by(|a, b| a.strength().total_cmp(&b.strength()));
    let usual = rough.get(rough.len() / 2).map_or(0.0, Pair::strength);
    // 2. square cells
    let pairs: Vec<_> = finalists.iter().filter_map(|step| Pair::new(&profiles, *step, Fit::best)).collect();
    let overtone = |pair: &Pair| is_overtone([&pair.x, &pair.y].into_iter().zip(&profiles));
    let own: Vec<_> = pairs.iter().filter(|pair| !overtone(pair)).copied().collect();
    let pairs = if own.is_empty() { pairs } else { own };
    let Some(mut pair) = coarsest(&pairs).copied() else { return Searched::nothing() };
    // 3. each axis alone
    let alone = [|pair: &Pair| pair.x, |pair: &Pair| pair.y].map(|axis| {
        let fits: Vec<_> = pairs.iter().map(axis).collect();
        coarsest(&fits).copied()
    });
    if let [Some(x), Some(y)] = alone {
        let apart = Pair { x, y };
        let coarser = x.step > 1.5 * pair.x.step && y.step > 1.5 * pair.y.step;
        let enough = if coarser { AS_GOOD } else { NOT_SQUARE };
        if apart.gain() > enough * pair.gain()
            && apart.standing() > STANDS * pair.standing()
            && (x.step / y.step).max(y.step / x.step) < 3.0
        {
            pair = apart;
        }
    }
    // 4. what the distances between edges say of it
    let fitted = |steps: [f64; 2]| {
        let [x, y] = [0, 1].map(|axis| Fit::best(&profiles[axis], steps[axis]));
        Some(Pair { x: x?, y: y? })
    };
    let steps = |pair: &Pair| [pair.x.step, pair.y.step];
    if let Some(other) = comb.instead_of(lines, steps(&pair)).and_then(fitted) {
        pair = other;
    }
    let parts = Parts::of(image);
    let describe = |grid: &Grid, pair: &Pair, is_exact: bool| {
        let apart = parts.as_ref().map_or(0.0, |parts| parts.off(&profiles, grid));
        Evidence::of(&profiles, grid, pair, Circumstances { combs: &comb, usual, apart, is_exact })
    };
    let mut found: Vec<(Grid, Evidence)> = vec![];
    let cells = |grid: &Grid| [grid.x.cells(), grid.y.cells()];
    if let Some(grid) = exact {
        let Some(pair) = fitted(steps_of(&grid)) else { return Searched::with(grid, None) };
        let evidence = describe(&grid, &pair.of(&profiles, &grid), true);
        found.push((grid, evidence));
    } else {
        let grid = pair.grid(&profiles, true);
        let evidence = describe(&grid, &pair, false);
        let confidence = evidence.first_confidence();
        let in_parts = parts.as_ref().is_some_and(|parts| parts.off(&profiles, &grid) > IN_PARTS);
        let any = evidence.first_any_confidence();
        let is_settled = confidence >= SURE_AT_ONCE || any <= NONE_AT_ONCE;
        if is_settled && !in_parts && !thorough {
            let any = (any <= NONE_AT_ONCE).then_some(any);
            return Searched { grids: vec![(Grid { confidence, ..grid }, Some(evidence))], any };
        }
        found.push((grid, evidence));
    }
    // 5. all that it may be
    let mut ranked: Vec<_> = pairs.iter().collect();
    ranked.sort_by(|a, b| b.standing().total_cmp(&a.standing()));
    let mut likely = vec![pair];
    likely.extend(ranked.iter().take(MOST_LIKELY).copied());
    let strong: Vec<Pair> = likely.iter().take(STRONGEST).copied().collect();
    let related = strong.iter().flat_map(|pair| RELATED.map(|times| steps(pair).map(|step| times * step)));
    let apart = comb.best(lines).0;
    let derived = |steps: [f64; 2]| {
        let [x, y] = [0, 1].map(|axis| Fit::derived(&profiles[axis], steps[axis]));
        Some(Pair { x: x?, y: y? })
    };
    likely.extend(related.filter_map(derived));
    let of_distances = likely.len();
    likely.extend(comb.steps().map(|step| [step; 2]).chain([apart]).filter_map(fitted));
    let best = likely.iter().map(Pair::standing).fold(0.0, f64::max);
    let lens = [profiles[0].len as f64, profiles[1].len as f64];
    let cells_of = |pair: &Pair| [lens[0] / pair.x.step, lens[1] / pair.y.step];
    // The first look measured the pair, unless every pixel lies on another grid.
    let mut measured: Vec<[f64; 2]> =
        found.iter().filter(|(grid, _)| grid.confidence == 0.0).map(|_| cells_of(&pair)).collect();
    for pair in &likely {
        // Multiples and parts of several steps are often the same one.
        let near = |other: &[f64; 2]| other.iter().zip(cells_of(pair)).all(|(a, b)| (a - b).abs() < ONE_GRID);
        if measured.iter().any(near) {
            continue;
        }
        measured.push(cells_of(pair));
        let grid = pair.grid(&profiles, pair.standing() >= LIKELY * best);
        if !found.iter().any(|(other, _)| cells(other) == cells(&grid)) {
            let evidence = describe(&grid, pair, false);
            found.push((grid, evidence));
        }
    }
    // Distances between edges know no phases, so their steps come first.
    let strong = likely[..of_distances].iter().filter(|pair| pair.standing() >= LIKELY * best);
    for pair in likely[of_distances..].iter().chain(strong).take(MOST_IN_PARTS) {
        let Some(grid) = parts.as_ref().and_then(|parts| parts.grid(&profiles, steps(pair))) else {
            continue;
        };
        if !found.iter().any(|(other, _)| cells(other) == cells(&grid) && other.x.is_in_parts()) {
            let pair = pair.of(&profiles, &grid);
            let grid = Grid { contrast: 0.5 * (pair.x.contrast + pair.y.contrast), ..grid };
            let evidence = describe(&grid, &pair, false);
            found.push((grid, evidence));
        }
    }
    Evidence::compare(&mut found.iter_mut().map(|found| &mut found.1).collect::<Vec<_>>());
    let sure = |(grid, evidence): (Grid, Evidence)| {
        (Grid { confidence: evidence.confidence(), ..grid }, Some(evidence))
    };
    let mut grids: Vec<_> = found.into_iter().map(sure).collect();
    if !thorough {
        grids.sort_by(|a, b| b.0.confidence.total_cmp(&a.0.confidence));
        grids.truncate(CANDIDATES);
    }
    Searched { grids, any: None }
}

/// Steps that differ by less than this many cells over a whole axis have one best grid.
const ONE_GRID: f64 = 0.2;
/// Up to this confidence that the picture has any grid the first look is enough.
const NONE_AT_ONCE: f64 = 0.03;

/// Steps that are looked at in each part of a sheet.
const MOST_IN_PARTS: usize = 6;
/// From this confidence on the first look is enough.
const SURE_AT_ONCE: f64 = 0.95;
/// Parts of a sheet that lie this much of a cell off the grid may have phases of their own.
const IN_PARTS: f64 = 0.04;
/// A grid that stands worse than this share of the best is measured roughly.
const LIKELY: f64 = 0.5;

/// Steps of which multiples and parts are looked at.
const STRONGEST: usize = 3;
/// Multiples and parts of a step that is mistaken for another.
const RELATED: [f64; 6] = [0.5, 2.0, 1.0 / 3.0, 3.0, 1.5, 2.0 / 3.0];
/// Steps that are looked at beside them.
const MOST_LIKELY: usize = 8;

/// Longer steps are looked for by the other measures alone.
const LONGEST_STEP: f64 = 90.0;
/// Share of the lines that have changes, of art on which every change lies on the grid.
const FEWEST_FILLED: f64 = 0.5;
/// Share of distances that are one cell, of art on which every change lies on the grid.
const FEWEST_EXACT: f64 = 0.12;

/// The grid of cells of `step` pixels, where it fits best; exactly divided and from the corner
/// where that is as good.
pub(crate) fn with_step(image: &RgbaImage, step: f64) -> Grid {
    if step < SHORTEST_STEP {
        let axis = |len: u32| Axis::regular(len as usize, step.min(f64::from(len)), 0.0);
        return Grid { x: axis(image.width()), y: axis(image.height()), contrast: 1.0, confidence: 1.0 };
    }
    let axis = |profile: &Profile| match Fit::new(profile, step, 24) {
        Some(fit) => (fit.regular(profile), fit.contrast),
        None => (Axis::regular(profile.len, step.min(profile.len as f64), 0.0), 1.0),
    };
    let [(x, x_contrast), (y, y_contrast)] = Profile::both(image).each_ref().map(axis);
    Grid { x, y, contrast: 0.5 * (x_contrast + y_contrast), confidence: 1.0 }
}

/// The grid of cells of `step` pixels from the corner, if each has one colour: what a generator
/// that draws on it made.
pub(crate) fn exactly(image: &RgbaImage, step: f64) -> Option<Grid> {
    let axis = |len: u32| (f64::from(len) % step == 0.0).then(|| Axis::regular(len as usize, step, 0.0));
    let grid = Grid { x: axis(image.width())?, y: axis(image.height())?, contrast: 1.0, confidence: 1.0 };
    grid.is_exact(image).then_some(grid)
}

/// `true` if a sure grid of an image that looks as if it were at its own size may be right after
/// all, as in a GIF that was enlarged and then dithered.
pub(crate) fn rivals_native(grid: &Grid) -> bool {
    let parts = TILES / grid.x.step;
    grid.contrast >= DOUBTFUL || (parts - parts.round()).abs() > 0.05
}

/// `true` for cells of the size that tiles of native art have.
pub(crate) fn is_of_tiles(grid: &Grid) -> bool {
    [&grid.x, &grid.y].iter().any(|axis| TILE_SIDES.iter().any(|side| (axis.step / side - 1.0).abs() < 0.005))
}

/// Steps at which the profile repeats, in pixels.
fn candidate_steps(profile: &Profile) -> Vec<f64> {
    let len = profile.len as f64;
    let mut steps: Vec<f64> = vec![];
    for values in [&profile.edges, &profile.bends] {
        let spectrum = Spectrum::new(values, FEWEST_CELLS / len);
        for peak in spectrum.peaks(PEAKS) {
            for harmonic in 1..=HARMONICS {
                let step = f64::from(harmonic) / peak.frequency;
                let known = |other: &f64| (other - step).abs() * len < 0.2 * step * step;
                if step * FEWEST_CELLS <= len && !steps.iter().any(known) {
                    steps.push(step);
                }
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use image::Rgba;
    use image::imageops::{FilterType, resize};

    use super::*;

    fn art() -> RgbaImage {
        RgbaImage::from_fn(40, 28, |x, y| {
            let hash = ((x * 73_856_093) ^ (y * 19_349_663)).wrapping_mul(2_654_435_761);
            Rgba([(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8, 255])
        })
    }

    fn cells(image: &RgbaImage) -> (usize, usize) {
        let grid = find(image).swap_remove(0);
        assert!(grid.confidence >= SURE, "{grid:?}");
        (grid.x.cells(), grid.y.cells())
    }

    #[test]
    fn whole_and_broken_steps_are_found_however_it_was_enlarged() {
        for filter in
            [FilterType::Nearest, FilterType::Triangle, FilterType::CatmullRom, FilterType::Lanczos3]
        {
            for (width, height) in [(160, 112), (233, 163), (400, 280), (613, 429)] {
                assert_eq!(
                    cells(&resize(&art(), width, height, filter)),
                    (40, 28),
                    "{filter:?} {width}x{height}"
                );
            }
        }
    }

    #[test]
    fn cells_need_not_be_square() {
        assert_eq!(cells(&resize(&art(), 250, 260, FilterType::Nearest)), (40, 28));
    }

    #[test]
    fn a_cut_picture_has_the_cells_whose_larger_half_it_shows() {
        let whole = resize(&art(), 320, 224, FilterType::Nearest);
        let cut = image::imageops::crop_imm(&whole, 2, 5, 313, 214).to_image();
        let grid = find(&cut).swap_remove(0);
        assert_eq!((grid.x.cells(), grid.y.cells()), (39, 26));
        assert!((grid.x.phase + 2.0).abs() < 0.01 && (grid.y.phase - 3.0).abs() < 0.01, "{grid:?}");
    }

    /// The likeliest grid's columns and rows, and its confidence.
    fn likeliest(image: &RgbaImage) -> (usize, usize, f64) {
        let grid = find(image).swap_remove(0);
        (grid.x.cells(), grid.y.cells(), grid.confidence)
    }

    #[test]
    fn blur_of_whole_cells_does_not_make_thirds_of_them() {
        for sigma in [0.7, 1.2, 1.8] {
            let large = resize(&art(), 320, 224, FilterType::Nearest);
            assert_eq!(cells(&image::imageops::blur(&large, sigma)), (40, 28), "{sigma}");
        }
    }

    #[test]
    fn parts_of_two_steps_and_parts_that_lie_half_a_row_apart_are_doubted() {
        let large = |step: u32| resize(&art(), 40 * step, 28 * step, FilterType::Nearest);
        let mut steps = RgbaImage::from_pixel(600, 168, Rgba([255; 4]));
        image::imageops::replace(&mut steps, &large(6), 0, 0);
        image::imageops::replace(&mut steps, &large(9), 240, 0);
        let mut phases = RgbaImage::from_pixel(660, 230, Rgba([255; 4]));
        image::imageops::replace(&mut phases, &large(8), 0, 0);
        image::imageops::replace(&mut phases, &large(8), 325, 4);
        for picture in [steps, phases] {
            let (.., confidence) = likeliest(&picture);
            assert!(confidence < SURE, "{confidence}");
        }
    }

    #[test]
    fn each_part_of_a_sheet_has_its_own_phase() {
        let large = resize(&art(), 320, 224, FilterType::Nearest);
        let mut sheet = RgbaImage::from_pixel(1003, 487, Rgba([250, 250, 250, 255]));
        for (left, top) in [(13, 11), (346, 11), (679, 11), (13, 254), (346, 254), (679, 254)] {
            image::imageops::replace(&mut sheet, &large, left, top);
        }
        let grid = find(&sheet).swap_remove(0);
        assert!(grid.confidence >= SURE && (grid.x.step, grid.y.step) == (8.0, 8.0), "{grid:?}");
        let begins = |axis: &Axis, at: usize| (0..axis.cells()).any(|i| axis.span(i).0 == at);
        assert!([13, 346, 679].iter().all(|at| begins(&grid.x, *at)), "{:?}", grid.x);
        assert!([11, 254].iter().all(|at| begins(&grid.y, *at)), "{:?}", grid.y);
    }

    #[test]
    fn scan_lines_are_no_rows() {
        let mut lined = resize(&art(), 240, 168, FilterType::Nearest);
        for (_, y, pixel) in lined.enumerate_pixels_mut() {
            let [r, g, b, a] = pixel.0;
            let shade = if y % 6 >= 4 { 2 } else { 1 };
            *pixel = Rgba([r / shade, g / shade, b / shade, a]);
        }
        assert_eq!((likeliest(&lined).0, likeliest(&lined).1), (40, 28));
    }

    #[test]
    fn a_plain_icon_is_found_and_doubted() {
        let cross = RgbaImage::from_fn(8, 8, |x, y| {
            let is_bar = |across: u32, along: u32| (3..5).contains(&across) && (1..7).contains(&along);
            if is_bar(x, y) || is_bar(y, x) { Rgba([200, 30, 30, 255]) } else { Rgba([240, 240, 240, 255]) }
        });
        let (columns, rows, confidence) = likeliest(&resize(&cross, 256, 256, FilterType::Nearest));
        assert_eq!((columns, rows), (8, 8));
        assert!(confidence < SURE, "{confidence}");
    }

    #[test]
    fn a_smooth_picture_has_none() {
        let smooth = RgbaImage::from_fn(400, 300, |x, y| {
            let wave = |value: f32| (127.0 + 120.0 * value.sin()) as u8;
            let (x, y) = (x as f32, y as f32);
            Rgba([wave(x / 61.0 + y / 97.0), wave(x / 143.0 - y / 59.0), wave((x * y).sqrt() / 71.0), 255])
        });
        assert!(find(&smooth).first().is_none_or(|grid| grid.confidence < SURE));
    }

    #[test]
    fn any_size_is_survived() {
        for (width, height) in [(1, 1), (1, 300), (7, 9), (16, 16), (300, 2)] {
            let image = resize(&art(), width, height, FilterType::Nearest);
            let _ = find(&image);
            let _ = with_step(&image, 8.0);
        }
    }
}
