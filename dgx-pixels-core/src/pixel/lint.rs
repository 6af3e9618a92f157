//! The faults that a pixel artist would point at.
//!
//! The four faults and their names are the craft's own; that a jaggy is a break in the order of run
//! lengths is how spritebox tells it.

use image::RgbaImage;
use serde::{Deserialize, Serialize};

use super::Wrap;
use super::neighbours::{AROUND, Cells, Run, SIDES};

/// Neighbours this near in Oklab agree.
const AGREE: f32 = 0.05;
/// From this distance in Oklab on, a cell stands out.
const STANDS_OUT: f32 = 0.03;
/// Lightness in Oklab up to which an outline is dark.
const DARK: f32 = 0.35;
/// The least by which the inside of an outline is lighter, in Oklab.
const LIGHTER: f32 = 0.12;

/// Faults of a sprite: each list holds cells, as column and row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lint {
    /// Visible cells unlike all 8 neighbours, which agree among themselves, and visible parts of at
    /// most 1 in 200 visible cells that touch nothing else. Eyes and glints count too. Dither does
    /// not.
    pub orphans: Vec<(u32, u32)>,
    /// The cells where the silhouette's stairs break their order (for example in runs of 3, 1, 3 or
    /// 1, 4, 1 cells; the run's first cell), and corners that thicken a diagonal line of one cell's
    /// width.
    pub jaggies: Vec<(u32, u32)>,
    /// Second cells of a dark outline that is two cells thick, with something lighter inside.
    pub double_outline: Vec<(u32, u32)>,
    /// First cells of three or more bands of a ramp, each 3 cells or longer, that begin and end
    /// side by side.
    pub banding: Vec<(u32, u32)>,
}

/// Finds the faults of `sprite`. Cells of alpha below 128 are invisible.
///
/// # Example
/// ```
/// use dgx_pixels_core::pixel::{Wrap, lint};
/// use image::{Rgba, RgbaImage};
/// let mut sprite = RgbaImage::from_pixel(8, 8, Rgba([200, 40, 40, 255]));
/// sprite.put_pixel(3, 4, Rgba([40, 200, 40, 255]));
/// assert_eq!(lint(&sprite, Wrap::default()).orphans, [(3, 4)]);
/// ```
pub fn lint(sprite: &RgbaImage, wrap: Wrap) -> Lint {
    let cells = Cells::new(sprite, wrap);
    let points =
        |found: Vec<usize>| found.into_iter().map(|cell| cells.field.point(cell)).collect::<Vec<_>>();
    let doubled = (0..cells.field.len()).filter(|&cell| cells.doubles_outline(cell));
    Lint {
        orphans: points(cells.orphans()),
        jaggies: points(cells.jaggies()),
        double_outline: points(doubled.collect()),
        banding: points(once_each(cells.bands())),
    }
}

/// Counts the [`orphans`](Lint::orphans) and the [`jaggies`](Lint::jaggies) of `sprite`.
pub(super) fn orphans_and_jaggies(sprite: &RgbaImage, wrap: Wrap) -> (usize, usize) {
    let cells = Cells::new(sprite, wrap);
    (cells.orphans().len(), cells.jaggies().len())
}

/// The cells in order, each once.
fn once_each(mut found: Vec<usize>) -> Vec<usize> {
    found.sort_unstable();
    found.dedup();
    found
}

impl Cells {
    fn orphans(&self) -> Vec<usize> {
        let lone = (0..self.field.len()).filter(|&cell| self.lone(cell).is_some());
        once_each(lone.chain(self.specks()).collect())
    }

    fn jaggies(&self) -> Vec<usize> {
        let corners = (0..self.field.len()).filter(|&cell| self.spare_corner(cell).is_some());
        once_each(corners.chain(self.broken_stairs()).collect())
    }

    /// A neighbour that has what most neighbours have, if this cell stands out alone among
    /// neighbours that agree.
    pub(super) fn lone(&self, cell: usize) -> Option<usize> {
        let unlike = |other: usize| self.is_visible(other) && self.distance(cell, other) > STANDS_OUT;
        if !self.is_visible(cell) || !self.field.around(cell).all(unlike) {
            return None;
        }
        let near: Vec<usize> = self.field.around(cell).collect();
        if near.len() < 5 {
            return None;
        }
        let agreeing = |one: usize| near.iter().filter(move |&&other| self.distance(one, other) <= AGREE);
        let same = |one: usize| near.iter().filter(move |&&other| self.rgb[one] == self.rgb[other]).count();
        // max_by_key takes the last of equals, so the walk is backwards.
        let model = near.iter().rev().copied().max_by_key(|&one| (agreeing(one).count(), same(one)))?;
        let spread = agreeing(model).map(|&other| self.distance(model, other)).fold(0.0, f32::max);
        let agree = agreeing(model).count() + 1 >= near.len() && self.distance(cell, model) > 1.5 * spread;
        (agree && !self.is_dither(cell)).then_some(model)
    }

    /// `true` if the cell's color comes back two cells further: a pattern, not a fault.
    fn is_dither(&self, cell: usize) -> bool {
        let ring = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dx, dy)));
        let ring = ring.filter(|(dx, dy): &(i32, i32)| dx.abs().max(dy.abs()) == 2);
        let alike = |&other: &usize| self.is_visible(other) && self.distance(cell, other) <= STANDS_OUT;
        ring.filter_map(|step| self.field.step(cell, step)).filter(|&far| far != cell).filter(alike).count()
            >= 2
    }

    /// Cells of visible parts that are tiny beside the rest, and touch nothing.
    pub(super) fn specks(&self) -> Vec<usize> {
        // All of it is one part.
        if !self.is_open {
            return Vec::new();
        }
        let visible: Vec<bool> = self.rgb.iter().map(Option::is_some).collect();
        let count = visible.iter().filter(|&&visible| visible).count();
        let parts = self.field.regions(AROUND, &visible);
        if parts.len() < 2 {
            return Vec::new();
        }
        let largest = parts.iter().map(Vec::len).max().unwrap_or(0);
        let tiny = |part: &Vec<usize>| part.len() <= (count / 200).max(1) && part.len() * 20 <= largest;
        parts.into_iter().filter(tiny).flatten().collect()
    }

    /// The color that a corner of a line should have, if the line is one cell wide, runs diagonally
    /// on both sides, and would run on diagonally without the corner. The inner `None` is
    /// invisible.
    pub(super) fn spare_corner(&self, cell: usize) -> Option<Option<[u8; 3]>> {
        let color = self.rgb[cell]?;
        let has = |cell: usize| self.rgb[cell] == Some(color);
        let like = |cell: usize| self.field.around(cell).filter(|&near| has(near)).count();
        let at = |from: usize, dx: i32, dy: i32| self.field.step(from, (dx, dy));
        if self.field.sides(cell).filter(|&near| has(near)).count() != 2 || like(cell) != 2 {
            return None;
        }
        [(-1, -1), (1, -1), (-1, 1), (1, 1)].into_iter().find_map(|(h, v)| {
            let (one, two) = (at(cell, h, 0)?, at(cell, 0, v)?);
            let line = [one, two, at(one, h, -v)?, at(two, -h, v)?];
            let outside = [at(cell, -h, 0)?, at(cell, 0, -v)?, at(cell, -h, -v)?].map(|cell| self.rgb[cell]);
            let is_line = line.into_iter().all(has) && like(one) == 3 && like(two) == 3;
            (is_line && outside.iter().all(|color| *color == outside[0])).then_some(outside[0])
        })
    }

    /// First cells of runs along the silhouette that are two cells or more off the runs before and
    /// after, which rise or fall the same way and are within one cell of each other.
    fn broken_stairs(&self) -> Vec<usize> {
        let mut broken = Vec::new();
        // No silhouette without invisible cells.
        for out in SIDES.into_iter().filter(|_| self.is_open) {
            let along = (out.1.abs(), out.0.abs());
            let faces_out = |cell: usize| {
                self.is_visible(cell) && self.field.step(cell, out).is_some_and(|next| !self.is_visible(next))
            };
            let faces_out: Vec<bool> = (0..self.field.len()).map(faces_out).collect();
            let runs = self.runs(along, |cell| faces_out[cell], |_, _| true);
            for way in [1, -1] {
                let step = (along.0 + way * out.0, along.1 + way * out.1);
                let next = |run: &Run| starting_at(&runs, self.field.step(run.end, step)?);
                for first in &runs {
                    let Some(middle) = next(first) else { continue };
                    let Some(last) = next(&middle) else { continue };
                    let off = middle.len + 2 <= first.len.min(last.len)
                        || middle.len >= first.len.max(last.len) + 2;
                    if off && first.len.abs_diff(last.len) <= 1 {
                        broken.push(middle.start);
                    }
                }
            }
        }
        broken
    }

    /// `true` if a visible cell is at the silhouette: it touches an invisible cell, or lies at an
    /// edge of a sprite that has invisible cells.
    pub(super) fn at_silhouette(&self, cell: usize) -> bool {
        let mut near = 0;
        let touches = self.field.around(cell).any(|other| {
            near += 1;
            !self.is_visible(other)
        });
        self.is_visible(cell) && (touches || near < AROUND.len() && self.is_open)
    }

    /// `true` if a cell is part of a dark outline: at the silhouette, dark, and touching something
    /// clearly lighter.
    pub(super) fn is_outline(&self, cell: usize) -> bool {
        self.oklab[cell].l <= DARK
            && self.at_silhouette(cell)
            && self.field.around(cell).any(|near| self.is_visible(near) && self.is_lighter(near, cell))
    }

    fn is_lighter(&self, cell: usize, than: usize) -> bool {
        self.oklab[cell].l >= self.oklab[than].l + LIGHTER
    }

    fn doubles_outline(&self, cell: usize) -> bool {
        let inside = self.is_visible(cell) && self.oklab[cell].l <= DARK && !self.at_silhouette(cell);
        inside
            && SIDES.into_iter().any(|(dx, dy)| {
                let (outer, inner) = (self.field.step(cell, (dx, dy)), self.field.step(cell, (-dx, -dy)));
                let same = |outer: usize| self.at_silhouette(outer) && self.distance(outer, cell) <= AGREE;
                outer.is_some_and(same) && inner.is_some_and(|inner| self.is_lighter(inner, cell))
            })
    }

    /// First cells of the bands that [`Lint::banding`] tells of.
    fn bands(&self) -> Vec<usize> {
        let mut found = Vec::new();
        for (along, down) in [((1, 0), (0, 1)), ((0, 1), (1, 0))] {
            let runs = self.runs(along, |cell| self.is_visible(cell), |a, b| self.rgb[a] == self.rgb[b]);
            let before = (-along.0, -along.1);
            let within = |run: &Run| {
                let ends = [self.field.step(run.start, before), self.field.step(run.end, along)];
                run.len >= 3 && ends.iter().all(|end| end.is_some_and(|end| self.is_visible(end)))
            };
            let runs: Vec<Run> = runs.into_iter().filter(within).collect();
            let rise = |band: &Run| {
                let next = starting_at(&runs, self.field.step(band.start, down)?)?;
                let ramp = (STANDS_OUT..0.25).contains(&self.distance(band.start, next.start));
                let lighter = self.oklab[next.start].l > self.oklab[band.start].l;
                (ramp && next.len == band.len).then_some((next, lighter))
            };
            let third = |band: &Run| {
                let (next, lighter) = rise(band)?;
                rise(&next).filter(|(_, still)| *still == lighter)
            };
            found.extend(runs.iter().filter(|band| third(band).is_some()).map(|band| band.start));
        }
        found
    }
}

/// The run whose first cell this is; `runs` in the order of theirs.
fn starting_at(runs: &[Run], cell: usize) -> Option<Run> {
    runs.binary_search_by_key(&cell, |run| run.start).ok().map(|i| runs[i])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixel::ascii::draw;

    fn found(art: &str) -> Lint {
        lint(&draw(art), Wrap::default())
    }

    #[test]
    fn a_lone_cell_is_an_orphan_and_dither_is_not() {
        assert_eq!(found("rrrrr\nrrrrr\nrrRrr\nrrrrr").orphans, [(2, 2)]);
        assert_eq!(found("rrrrrrr\nrRrRrRr\nrrrrrrr\nrRrRrRr\nrrrrrrr").orphans, []);
        assert_eq!(found("rrrrr\nrrggg\nrrRgg\nrrrgg").orphans, []);
    }

    #[test]
    fn a_lone_cell_over_the_edge_counts_if_the_edge_wraps() {
        let sprite = draw("Rrrr\nrrrr\nrrrr\nrrrR");
        assert_eq!(lint(&sprite, Wrap::default()).orphans, []);
        assert_eq!(lint(&draw("Rrrr\nrrrr\nrrrr\nrrrr"), Wrap { x: true, y: true }).orphans, [(0, 0)]);
        assert_eq!(lint(&sprite, Wrap { x: true, y: true }).orphans, []);
    }

    #[test]
    fn stairs_in_order_are_no_jaggies() {
        assert_eq!(found("...........\nrr.........\nrrrr.......\nrrrrrr.....\nrrrrrrrr...").jaggies, []);
        assert_eq!(
            found("............\nrrr.........\nrrrr........\nrrrrrrr.....\nrrrrrrr.....").jaggies,
            [(3, 2)]
        );
    }

    #[test]
    fn a_corner_in_a_diagonal_line_is_a_jaggy() {
        assert_eq!(found("k.....\n.kk...\n..k...\n...k..\n......").jaggies, [(2, 1)]);
        assert_eq!(found("kk....\n.kk...\n..kk..\n...kk.\n......").jaggies, []);
    }

    #[test]
    fn only_the_second_of_two_dark_rows_doubles_an_outline() {
        assert_eq!(found("......\n.kkkk.\n.kkkk.\n.krrk.\n.krrk.\n......").double_outline, [(2, 2), (3, 2)]);
        assert_eq!(found("......\n.kkkk.\n.krrk.\n.krrk.\n......").double_outline, []);
    }

    #[test]
    fn three_bands_side_by_side_are_banding() {
        assert_eq!(found("eeeeeee\neKKKKe.\neKKKKee\neeeeeee").banding, []);
        assert_eq!(found("wwwwwww\nwkkkkww\nwRRRRww\nwrrrrww\nwwwwwww").banding, [(1, 1)]);
        assert_eq!(found("wwwwwww\nwkkkkww\nwwRRRRw\nwwwrrrr\nwwwwwww").banding, []);
    }

    #[test]
    fn the_smallest_sprites_are_clean() {
        for (width, height) in [(0, 0), (1, 1), (2, 1)] {
            for wrap in [Wrap::default(), Wrap { x: true, y: true }] {
                assert_eq!(lint(&RgbaImage::new(width, height), wrap), Lint::default());
            }
        }
    }
}
