//! Pictures that are nothing but enlarged pixel art: where they change tells the grid, and there is
//! no doubt.

use image::RgbaImage;

use super::{Axis, Grid};

/// Fewer changes along an axis may lie on a grid by chance: in one of 32 pictures, these few on one
/// of 2 pixels.
const FEWEST_CHANGES: usize = 6;

/// The grid that all changes of `image` lie on, of cells of 2 pixels or more, also where the
/// picture's edges cut cells.
pub(super) fn enlarged(image: &RgbaImage) -> Option<Grid> {
    let (columns, rows) = changes(image);
    let (Some(x), Some(y)) = (step(&columns), step(&rows)) else { return few(&columns, &rows) };
    // Content that is coarse along one axis; the finer grid explains both.
    let (x, y) = if x % y == 0 || y % x == 0 { (x.min(y), x.min(y)) } else { (x, y) };
    (x > 1 && y > 1).then(|| grid(&columns, &rows, x, y))
}

/// The share of an exact grid's lines that the picture changes at, of those between its first and
/// its last change; of the axis where it is less.
///
/// Most lines of art have changes. Gaps between larger cells have few lines, and leave out the
/// others.
pub(super) fn filled(image: &RgbaImage, grid: &Grid) -> f64 {
    let (columns, rows) = changes(image);
    let share = |changes: &[bool], step: f64| {
        let places = places(changes);
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return 0.0 };
        places.len() as f64 / ((last - first) as f64 / step + 1.0)
    };
    share(&columns, grid.x.step).min(share(&rows, grid.y.step))
}

/// Square cells that fill a picture of few changes, as of a plain icon: all changes and both sides
/// are multiples of the step. It is sure if a cell stands alone somewhere; a flag of stripes has
/// places as round, and no cells.
fn few(columns: &[bool], rows: &[bool]) -> Option<Grid> {
    let (across, down) = (places(columns), places(rows));
    let count = across.len() + down.len();
    if across.len().min(down.len()) < 2 || count < FEWEST_CHANGES {
        return None;
    }
    let sides = [columns.len(), rows.len()];
    let step = across.iter().chain(&down).chain(&sides).fold(0, |a, b| gcd(a, *b));
    let cells = sides.map(|side| side / step.max(1));
    if step < FEWEST_PIXELS || !cells.iter().all(|cells| FEW_CELLS.contains(cells)) {
        return None;
    }
    let is_alone = |places: &[usize]| places.windows(2).any(|pair| pair[1] - pair[0] == step);
    let sure = is_alone(&across) && is_alone(&down) && count >= 2 * FEWEST_CHANGES - 2;
    let axis = |len: usize| Axis::regular(len, step as f64, 0.0);
    let confidence = if sure { FEW_SURE } else { FEW_UNSURE };
    Some(Grid { x: axis(columns.len()), y: axis(rows.len()), contrast: 1.0, confidence })
}

/// A step below this is met by chance.
const FEWEST_PIXELS: usize = 4;
/// Cells of an icon along a side.
const FEW_CELLS: std::ops::RangeInclusive<usize> = 5..=64;
/// Confidence of such a grid, by whether a cell stands alone along both axes.
const FEW_SURE: f64 = 0.9;
const FEW_UNSURE: f64 = 0.55;

/// The right grid instead of `found` if `sprite`, drawn on it, is enlarged itself: along both axes,
/// or along one where that makes its cells squarer.
pub(crate) fn coarser(sprite: &RgbaImage, found: &Grid) -> Option<Grid> {
    if let Some(both) = enlarged(sprite) {
        return Some(both);
    }
    let (columns, rows) = changes(sprite);
    let (x, y) = (step(&columns)?, step(&rows)?);
    let off_square = |x: usize, y: usize| (found.x.step * x as f64 / (found.y.step * y as f64)).ln().abs();
    ((x > 1 || y > 1) && off_square(x, y) < off_square(1, 1)).then(|| grid(&columns, &rows, x, y))
}

/// The columns that differ from the one before, and the rows.
fn changes(image: &RgbaImage) -> (Vec<bool>, Vec<bool>) {
    let width = image.width() as usize;
    let rows = || image.as_raw().chunks_exact(4 * width).map(|row| row.as_chunks::<4>().0);
    let mut columns_change = vec![false; width];
    for row in rows() {
        for (x, pair) in row.windows(2).enumerate() {
            columns_change[x + 1] |= pair[0] != pair[1];
        }
    }
    let pairs = rows().zip(rows().skip(1));
    (columns_change, [false].into_iter().chain(pairs.map(|(a, b)| a != b)).collect())
}

fn grid(columns: &[bool], rows: &[bool], x: usize, y: usize) -> Grid {
    let axis = |changes: &[bool], step: usize| {
        let phase = changes.iter().position(|changes| *changes).unwrap_or(0) % step;
        Axis::regular(changes.len(), step as f64, phase as f64)
    };
    Grid { x: axis(columns, x), y: axis(rows, y), contrast: 1.0, confidence: 1.0 }
}

/// The greatest common divisor of the distances between changes; `None` of too few.
fn step(changes: &[bool]) -> Option<usize> {
    let places = places(changes);
    (places.len() >= FEWEST_CHANGES).then(|| places.windows(2).map(|pair| pair[1] - pair[0]).fold(0, gcd))
}

fn places(changes: &[bool]) -> Vec<usize> {
    (0..changes.len()).filter(|i| changes[*i]).collect()
}

fn gcd(mut a: usize, mut b: usize) -> usize {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use image::Rgba;
    use image::imageops::{FilterType, crop_imm, resize};

    use super::*;

    fn art() -> RgbaImage {
        RgbaImage::from_fn(12, 10, |x, y| {
            Rgba([(x * 97 % 256) as u8, (y * 61 % 256) as u8, (x * y) as u8, 255])
        })
    }

    #[test]
    fn any_whole_factors_are_told_and_cut_cells_too() {
        for (x, y) in [(2, 2), (3, 3), (16, 16), (3, 5)] {
            let large = resize(&art(), 12 * x, 10 * y, FilterType::Nearest);
            let grid = enlarged(&large).unwrap();
            assert_eq!((grid.x.step, grid.y.step, grid.x.phase), (x.into(), y.into(), 0.0));
            assert_eq!((grid.x.cells(), grid.y.cells()), (12, 10));
        }
        let large = resize(&art(), 60, 50, FilterType::Nearest);
        let cut = crop_imm(&large, 1, 3, 57, 45).to_image();
        let grid = enlarged(&cut).unwrap();
        assert_eq!((grid.x.phase, grid.y.phase, grid.x.cells(), grid.y.cells()), (-1.0, 2.0, 12, 9));
    }

    #[test]
    fn columns_that_stand_twice_are_one_where_that_makes_cells_squarer() {
        let doubled = resize(&art(), 24, 10, FilterType::Nearest);
        let found = |x: usize, y: usize| grid(&vec![true; 24 * x], &vec![true; 10 * y], x, y);
        let mended = coarser(&doubled, &found(4, 7)).unwrap();
        assert_eq!((mended.x.cells(), mended.y.cells()), (12, 10));
        assert_eq!(coarser(&doubled, &found(4, 4)), None);
    }

    #[test]
    fn pixel_art_as_it_is_and_anything_else_has_none() {
        assert_eq!(enlarged(&art()), None);
        assert_eq!(enlarged(&resize(&art(), 60, 50, FilterType::Triangle)), None);
        assert_eq!(enlarged(&RgbaImage::new(40, 40)), None);
        assert_eq!(enlarged(&RgbaImage::new(1, 1)), None);
    }
}
