//! The verdict on an image: whether it has a grid, which one, and how its sprite is made.

use std::collections::HashSet;

use image::RgbaImage;

use super::grid::{self, Axis, Found, Grid};
use super::native::{BEYOND_DOUBT, LIMIT, Native};
use super::verdict::{PixelError, Verdict};
use super::{GridChoice, PixelOptions, Unsure, cells, texture};
use crate::request::ImageSize;

/// Pixels of a cell of a painted image. A smaller image than that many cells is not made better by
/// fewer.
const LEAST_REDUCTION: f64 = 2.0;
/// From this confidence on the likeliest grid is drawn where none is sure; below, what an image
/// without a grid becomes.
const LIKELY: f64 = 0.3;
/// Below this confidence of the likeliest grid, that there is none is sure.
const UNLIKELY: f64 = 1.0 - grid::SURE;
/// Images with a shorter side may be sprites already.
const SMALL: u32 = 100;
/// Contrast of cells that are nearly of one color.
const FLAT: f64 = 0.8;
/// Dithering that spreads errors has no more texture in the mean over this many pixels.
const SPREADS: usize = 4;
/// Pixels along a side of the longest mean over a texture: longer ones blur the cells of most art
/// away.
const LONGEST_MEAN: usize = 8;
/// A mean over a pixel for each 1.5 of a cell leaves the cell's middle as it was, a longer one not.
const CELLS_REMAIN: f64 = 1.5;
/// Pixels of a cell of dithering that was enlarged, at most.
const LARGEST_DITHERED: f64 = 4.0;
/// The least doubt that a dithered image is at its own size: enlarged art looks the same if its
/// cells are soft.
const TEXTURED: f64 = 0.4;
/// The confidence that an image is at its own size where a grid explains some of it: not sure.
const NATIVE_BESIDE_GRID: f64 = 0.7;
/// Longest side of a picture that, without a grid, may be a sprite, and not a painting.
const LARGEST_SPRITE: f64 = 256.0;
/// A small greyscale photograph has more.
const FEW_COLORS: usize = 128;

/// `true` if an artist could have chosen the colors: an image without a grid is a sprite then, and
/// no photograph.
fn has_few_colors(image: &RgbaImage) -> bool {
    let mut seen = HashSet::new();
    image.pixels().all(|pixel| {
        seen.insert(pixel.0);
        seen.len() <= FEW_COLORS
    })
}

/// The way from the image to the sprite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// A cell has the color of its middle.
    Sample,
    /// A cell has the color of most of it.
    Reduce,
    /// A cell is a pixel.
    Keep,
}

/// The grid of an image, and what is to be said of it.
pub(super) struct Choice {
    pub(super) grid: Grid,
    pub(super) verdict: Verdict,
    pub(super) method: Method,
    pub(super) confidence: f64,
    pub(super) others: Vec<Grid>,
}

/// Chooses the grid of `image`; one that was cleared of a drawn checkerboard is `on_board`.
pub(super) fn choose(
    image: &RgbaImage,
    options: &PixelOptions,
    on_board: bool,
) -> Result<Choice, PixelError> {
    let (width, height) = image.dimensions();
    let given = |grid| {
        let (verdict, method) = (Verdict::Grid, Method::Sample);
        Ok(Choice { grid, verdict, method, confidence: 1.0, others: vec![] })
    };
    match options.grid {
        GridChoice::Cells(ImageSize { width: columns, height: rows }) => {
            if columns > width || rows > height {
                return Err(PixelError::Grid { columns, rows, width, height });
            }
            return given(Grid {
                x: Axis::regular(width as usize, f64::from(width) / f64::from(columns), 0.0),
                y: Axis::regular(height as usize, f64::from(height) / f64::from(rows), 0.0),
                contrast: 1.0,
                confidence: 1.0,
            });
        }
        GridChoice::Step(step) => return given(grid::with_step(image, step)),
        GridChoice::Auto => {}
    }
    if let Some(step) = options.expected_step
        && let Some(grid) = grid::exactly(image, step)
    {
        return given(grid);
    }
    let Found { grids: mut found, any } = grid::look(image);
    let confidence = found.first().map_or(0.0, |grid| grid.confidence);
    let comes_first = confidence >= LIMIT;
    // What a generator made is enlarged, as is what a program showed on a board, and frames divide
    // the width.
    let may_be_native = options.expected_step.is_none()
        && !on_board
        && options.strip.is_none_or(|frames| width % frames.max(1) == 0);
    let contrast = found.first().filter(|_| confidence >= UNLIKELY).map_or(0.0, |grid| grid.contrast);
    let is_of_tiles = found.first().is_some_and(grid::is_of_tiles);
    let texture = if may_be_native && confidence < BEYOND_DOUBT { texture::period(image) } else { None };
    let beneath = texture.map(|period| beneath_texture(image, period));
    if let Some(beneath) =
        beneath.as_ref().filter(|grids| is_sure(grids) && grids[0].confidence >= confidence)
    {
        let (grid, others) = (beneath[0].clone(), beneath[1..].to_vec());
        let (verdict, method, confidence) = (Verdict::Grid, Method::Sample, grid.confidence);
        return Ok(Choice { grid, verdict, method, confidence, others });
    }
    let native = if may_be_native { Native::of(image) } else { None };
    if let Some(native) = native.filter(|native| native.outweighs(contrast, confidence, is_of_tiles)) {
        if let Some(beneath) = beneath {
            return may_be_dithered(image, options.unsure, beneath);
        }
        // Dithering that does not repeat is like art: a grid beneath it raises doubt and no more.
        if native.is_dithered() {
            let beneath = grid::look(&texture::without(image, SPREADS)).grids;
            if is_sure(&beneath) && !may_be_of_texture(&beneath[0], SPREADS) {
                let confidence = beneath[0].confidence;
                return in_doubt(image, options.unsure, beneath, confidence);
            }
        }
        let doubted = found.first().is_some_and(|grid| any >= UNLIKELY && grid::rivals_native(grid));
        let (confidence, others) =
            if doubted { (NATIVE_BESIDE_GRID, found) } else { (1.0 - any.min(UNLIKELY), vec![]) };
        return Ok(kept(image, Verdict::Native, confidence, others));
    }
    if comes_first {
        // What a generator made has a grid, whatever became of it.
        if confidence < grid::SURE && options.expected_step.is_none() {
            return in_doubt(image, options.unsure, found, confidence);
        }
        if options.expected_step.is_none() && may_be_dithered_cells(image, &found[0]) {
            return in_doubt(image, options.unsure, found, NATIVE_BESIDE_GRID);
        }
        let grid = found.remove(0);
        let (verdict, method) = (Verdict::Grid, Method::Sample);
        return Ok(Choice { grid, verdict, method, confidence, others: found });
    }
    if let Some(step) = options.expected_step {
        let (grid, confidence) = match confidence >= 0.5 {
            true => (found.remove(0), confidence),
            false => (grid::with_step(image, step), 0.5),
        };
        let (verdict, method) = (Verdict::Grid, Method::Sample);
        return Ok(Choice { grid, verdict, method, confidence, others: found });
    }
    // A sprite already, or as coarse as a painting becomes.
    let longer = f64::from(width.max(height));
    let step = longer / options.detail.cells();
    let is_sprite = step <= LEAST_REDUCTION || longer <= LARGEST_SPRITE && has_few_colors(image);
    // A small image may be a sprite already, and has few witnesses: the cells of one that is
    // enlarged are flat.
    let is_flat = found.first().is_some_and(|grid| grid.contrast >= FLAT);
    let is_small = width.min(height) < SMALL && !is_flat;
    if is_sprite && (confidence < LIKELY || is_small) && may_be_native {
        if let Some(beneath) = beneath {
            return may_be_dithered(image, options.unsure, beneath);
        }
        // There surely is some grid, and none is likely: nothing is reduced by a guess.
        let is_doubted = any >= grid::SURE;
        if is_doubted && options.unsure == Unsure::Fail {
            return in_doubt(image, options.unsure, found, confidence);
        }
        let verdict = if is_doubted { Verdict::Unsure } else { Verdict::Native };
        let others = if any < UNLIKELY { vec![] } else { found };
        return Ok(kept(image, verdict, 1.0 - any, others));
    }
    let reduced = || Grid {
        x: Axis::regular(width as usize, step, 0.0),
        y: Axis::regular(height as usize, step, 0.0),
        contrast: 0.0,
        confidence: 0.0,
    };
    if any < UNLIKELY {
        // A texture may hide cells.
        let (verdict, confidence) = match texture {
            Some(_) => (Verdict::Unsure, 1.0 - any.max(TEXTURED)),
            None => (Verdict::NoGrid, 1.0 - any),
        };
        let method = Method::Reduce;
        return Ok(Choice { grid: reduced(), verdict, method, confidence, others: vec![] });
    }
    // Where there surely is a grid, the likeliest is nearer to it than a reduction.
    if confidence < LIKELY && any < grid::SURE && options.unsure == Unsure::Best {
        let (verdict, method) = (Verdict::Unsure, Method::Reduce);
        return Ok(Choice { grid: reduced(), verdict, method, confidence: 1.0 - any, others: found });
    }
    in_doubt(image, options.unsure, found, confidence)
}

/// The answer to an image that may have the first grid of `found`, another one, or none.
fn in_doubt(
    image: &RgbaImage,
    unsure: Unsure,
    mut found: Vec<Grid>,
    confidence: f64,
) -> Result<Choice, PixelError> {
    match unsure {
        Unsure::Fail => {
            let (columns, rows) = found.first().map_or((0, 0), |grid| (grid.x.cells(), grid.y.cells()));
            Err(PixelError::Unsure { columns, rows, confidence })
        }
        Unsure::Keep => Ok(kept(image, Verdict::Unsure, confidence, found)),
        Unsure::Best => {
            let grid = found.remove(0);
            let (verdict, method) = (Verdict::Unsure, Method::Sample);
            Ok(Choice { grid, verdict, method, confidence, others: found })
        }
    }
}

/// `true` if the first of these grids is sure.
fn is_sure(grids: &[Grid]) -> bool {
    grids.first().is_some_and(|grid| grid.confidence >= grid::SURE)
}

/// The grids of the mean of `image` over one period of its texture, or over a few if only that has
/// a sure one: a longer mean keeps less of the texture, and blurs cells.
fn beneath_texture(image: &RgbaImage, period: usize) -> Vec<Grid> {
    let mut first = None;
    for side in [1, 2, 4].map(|times| times * period).into_iter().filter(|side| *side <= LONGEST_MEAN) {
        let Found { mut grids, any } = grid::look(&texture::without(image, side));
        for grid in grids.iter_mut().filter(|grid| may_be_of_texture(grid, side)) {
            grid.confidence = grid.confidence.min(NATIVE_BESIDE_GRID);
        }
        if is_sure(&grids) {
            return grids;
        }
        first.get_or_insert(grids);
        if any < UNLIKELY {
            break;
        }
    }
    first.unwrap_or_default()
}

/// `true` if a grid of the mean over `side` pixels may be what is left of the texture, or the tiles
/// of art that was dithered at its own size.
fn may_be_of_texture(grid: &Grid, side: usize) -> bool {
    grid.x.step.min(grid.y.step) < CELLS_REMAIN * side as f64 || grid::is_of_tiles(grid)
}

/// The answer to an image whose changes at single pixels are those of a texture, and whose mean has
/// no sure grid among `beneath`: art at its own size, or any picture that was dithered.
fn may_be_dithered(image: &RgbaImage, unsure: Unsure, beneath: Vec<Grid>) -> Result<Choice, PixelError> {
    let confidence = beneath.first().map_or(0.0, |grid| grid.confidence);
    if confidence >= LIMIT || unsure == Unsure::Fail {
        return in_doubt(image, unsure, beneath, confidence);
    }
    Ok(kept(image, Verdict::Unsure, 1.0 - confidence.max(TEXTURED), beneath))
}

/// `true` if `grid` is exact and its sprite is a picture that was enlarged, then dithered: the
/// pixels of the dithering were enlarged once more.
fn may_be_dithered_cells(image: &RgbaImage, grid: &Grid) -> bool {
    if grid.contrast < 1.0 || grid.x.step.max(grid.y.step) > LARGEST_DITHERED || !grid.is_exact(image) {
        return false;
    }
    let sprite = cells::sample(image, grid);
    let has_grid = |period| is_sure(&grid::look(&texture::without(&sprite, period)).grids);
    texture::period(&sprite).is_some_and(has_grid)
}

/// The image as it is.
fn kept(image: &RgbaImage, verdict: Verdict, confidence: f64, others: Vec<Grid>) -> Choice {
    Choice { grid: grid::with_step(image, 1.0), verdict, method: Method::Keep, confidence, others }
}
