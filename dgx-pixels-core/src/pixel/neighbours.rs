//! The cells of a sprite that touch, and the parts that are connected.

use image::{Rgba, RgbaImage};

use super::{Oklab, Wrap};

/// Steps to the cells that share a side.
pub(super) const SIDES: [(i32, i32); 4] = [(0, -1), (-1, 0), (1, 0), (0, 1)];
/// Steps to the cells that share a side or a corner, row by row.
pub(super) const AROUND: [(i32, i32); 8] =
    [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)];

/// Steps of up to this many cells leave no edge behind where it is as far.
const FARTHEST: u32 = 2;

/// The cells of a sprite as indices, row by row.
#[derive(Clone, Copy)]
pub(super) struct Field {
    width: usize,
    height: usize,
    wrap: Wrap,
}

impl Field {
    pub(super) fn new(sprite: &RgbaImage, wrap: Wrap) -> Field {
        Field { width: sprite.width() as usize, height: sprite.height() as usize, wrap }
    }

    pub(super) fn len(self) -> usize {
        self.width * self.height
    }

    /// Column and row of a cell.
    pub(super) fn point(self, cell: usize) -> (u32, u32) {
        let (cell, width) = (cell as u32, self.width as u32);
        (cell % width, cell / width)
    }

    /// The cell that lies `dx` columns and `dy` rows on; `None` past an edge that does not wrap.
    pub(super) fn step(self, cell: usize, step: (i32, i32)) -> Option<usize> {
        self.steps(cell, [step]).next()
    }

    /// Up to 4 cells that share a side with this one.
    pub(super) fn sides(self, cell: usize) -> impl Iterator<Item = usize> {
        self.steps(cell, SIDES)
    }

    /// Up to 8 cells that touch this one.
    pub(super) fn around(self, cell: usize) -> impl Iterator<Item = usize> {
        self.steps(cell, AROUND)
    }

    fn steps<const N: usize>(self, cell: usize, steps: [(i32, i32); N]) -> impl Iterator<Item = usize> {
        let (x, y) = self.point(cell);
        let is_within = |at: u32, len: usize| at >= FARTHEST && (at + FARTHEST) < len as u32;
        let near = steps.iter().all(|(dx, dy)| dx.unsigned_abs().max(dy.unsigned_abs()) <= FARTHEST);
        let is_inside = near && is_within(x, self.width) && is_within(y, self.height);
        steps.into_iter().filter_map(move |(dx, dy)| {
            if is_inside {
                return cell.checked_add_signed(dy as isize * self.width as isize + dx as isize);
            }
            let x = along(x, dx, self.width as u32, self.wrap.x)?;
            let y = along(y, dy, self.height as u32, self.wrap.y)?;
            Some(y as usize * self.width + x as usize)
        })
    }

    /// The cells along the edges that do not wrap.
    pub(super) fn border(self) -> impl Iterator<Item = usize> {
        (0..self.len()).filter(move |&cell| self.sides(cell).count() < SIDES.len())
    }

    /// The cells that `steps` reach from `start`, through cells that `enter` lets in.
    pub(super) fn flood<const N: usize>(
        self,
        start: impl IntoIterator<Item = usize>,
        steps: [(i32, i32); N],
        enter: impl Fn(usize) -> bool,
    ) -> Vec<bool> {
        let mut reached = vec![false; self.len()];
        let mut waiting: Vec<usize> = start.into_iter().filter(|&cell| enter(cell)).collect();
        waiting.iter().for_each(|&cell| reached[cell] = true);
        while let Some(cell) = waiting.pop() {
            for next in self.steps(cell, steps) {
                if !reached[next] && enter(next) {
                    reached[next] = true;
                    waiting.push(next);
                }
            }
        }
        reached
    }

    /// The parts that the cells which are `members` fall into, each connected by `steps`.
    pub(super) fn regions<const N: usize>(self, steps: [(i32, i32); N], members: &[bool]) -> Vec<Vec<usize>> {
        let mut seen = vec![false; self.len()];
        let mut regions = Vec::new();
        for first in 0..self.len() {
            if seen[first] || !members[first] {
                continue;
            }
            seen[first] = true;
            let mut region = vec![first];
            let mut done = 0;
            while let Some(&cell) = region.get(done) {
                done += 1;
                for next in self.steps(cell, steps) {
                    if members[next] && !seen[next] {
                        seen[next] = true;
                        region.push(next);
                    }
                }
            }
            regions.push(region);
        }
        regions
    }
}

fn along(from: u32, by: i32, len: u32, wraps: bool) -> Option<u32> {
    match from.checked_add_signed(by).filter(|&to| to < len) {
        None if wraps => Some((i64::from(from) + i64::from(by)).rem_euclid(i64::from(len)) as u32),
        to => to,
    }
}

/// `true` for each cell that is visible: of alpha 128 or more.
pub(super) fn visible(sprite: &RgbaImage) -> Vec<bool> {
    sprite.pixels().map(|pixel| pixel[3] >= 128).collect()
}

/// Each cell's colour, whatever its alpha.
pub(super) fn oklabs(sprite: &RgbaImage) -> Vec<Oklab> {
    // Flat art repeats itself: most cells are spared the cube roots.
    let mut last = ([0; 3], Oklab::from_rgb([0; 3]));
    let oklab = |pixel: &Rgba<u8>| {
        let rgb = [pixel[0], pixel[1], pixel[2]];
        if rgb != last.0 {
            last = (rgb, Oklab::from_rgb(rgb));
        }
        last.1
    };
    sprite.pixels().map(oklab).collect()
}

/// A sprite for rules that look from cell to cell.
pub(super) struct Cells {
    pub(super) field: Field,
    /// Colour of the visible cells.
    pub(super) rgb: Vec<Option<[u8; 3]>>,
    /// The same in Oklab; what invisible cells have means nothing.
    pub(super) oklab: Vec<Oklab>,
    /// `true` if any cell is invisible.
    pub(super) is_open: bool,
}

impl Cells {
    pub(super) fn new(sprite: &RgbaImage, wrap: Wrap) -> Cells {
        let rgb = sprite.pixels().map(|pixel| (pixel[3] >= 128).then_some([pixel[0], pixel[1], pixel[2]]));
        let rgb: Vec<Option<[u8; 3]>> = rgb.collect();
        let is_open = rgb.iter().any(Option::is_none);
        Cells { field: Field::new(sprite, wrap), rgb, oklab: oklabs(sprite), is_open }
    }

    pub(super) fn is_visible(&self, cell: usize) -> bool {
        self.rgb[cell].is_some()
    }

    pub(super) fn distance(&self, a: usize, b: usize) -> f32 {
        self.oklab[a].distance(self.oklab[b])
    }

    /// Gives a cell another colour, or none.
    pub(super) fn paint(&mut self, cell: usize, color: Option<[u8; 3]>) {
        self.rgb[cell] = color;
        self.is_open |= color.is_none();
        self.oklab[cell] = Oklab::from_rgb(color.unwrap_or_default());
    }

    /// Maximal straight runs along `step` of member cells that are the `same` as the one before, in
    /// the order of their first cells. A run that closes a circle is none.
    pub(super) fn runs(
        &self,
        step: (i32, i32),
        member: impl Fn(usize) -> bool,
        same: impl Fn(usize, usize) -> bool,
    ) -> Vec<Run> {
        let next = |from: usize| self.field.step(from, step).filter(|&to| member(to) && same(from, to));
        let mut is_start: Vec<bool> = (0..self.field.len()).map(&member).collect();
        (0..self.field.len())
            .filter(|&cell| member(cell))
            .filter_map(next)
            .for_each(|cell| is_start[cell] = false);
        let run = |start| {
            let (len, end) = std::iter::successors(Some(start), |&cell| next(cell)).enumerate().last()?;
            Some(Run { start, end, len: len + 1 })
        };
        (0..self.field.len()).filter(|&cell| is_start[cell]).filter_map(run).collect()
    }
}

/// Cells in a row or a column.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) len: usize,
}
